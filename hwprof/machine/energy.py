"""Energy counters: cumulative ones that are read before and after a stretch of work."""

from __future__ import annotations

import re
from typing import Protocol

from hwprof.errors import BackendError
from hwprof.machine.files import SystemFiles
from hwprof.machine.nvml import Gpu, open_gpu

POWERCAP = "sys/class/powercap"


class EnergyMeter(Protocol):
    """A cumulative counter.

    Attributes:
        source: what it counts and how it is read.
        window_ms: how long a stretch of work must last for a resolution of about 1 %.
    """

    @property
    def source(self) -> str: ...

    @property
    def window_ms(self) -> float: ...

    def read_mj(self) -> float:
        """Millijoules since the meter was opened. One that has not moved over `window_ms` stands still:
        then the energy is unknown, not 0.

        Raises:
            BackendError: the counter can no longer be read.
        """
        ...


class PackageMeter:
    """The processor's own counters (RAPL) through powercap, all packages added up: cores, caches and
    memory controllers of the whole machine, idle power and other processes included."""

    # The counters move about once in a millisecond.
    window_ms = 100.0

    def __init__(self, files: SystemFiles, zones: tuple[str, ...]) -> None:
        """Args: zones: folders of powercap, relative to the root of `files`."""
        self.source = f"RAPL of {len(zones)} processor package{'s' if len(zones) != 1 else ''}"
        self._files = files
        self._last_uj = {zone: self._read(zone, "energy_uj") for zone in zones}
        self._range_uj = {zone: self._read(zone, "max_energy_range_uj") for zone in zones}
        self._total_uj = 0

    def read_mj(self) -> float:
        for zone, last in self._last_uj.items():
            now = self._read(zone, "energy_uj")
            # It starts again from 0 at its range: at 100 W after about 45 minutes.
            self._total_uj += now - last if now >= last else now - last + self._range_uj[zone]
            self._last_uj[zone] = now
        return self._total_uj / 1e3

    def _read(self, zone: str, name: str) -> int:
        value = self._files.integer(f"{zone}/{name}")
        if value is None:
            raise BackendError(f"the energy counter /{zone}/{name} cannot be read")
        return value


class GpuMeter:
    """A GPU's own counter through NVML, its memory and idle power included."""

    # The driver refreshes it every 20 to 100 ms, so that this is good for some percent.
    window_ms = 1000.0
    source = "NVML total energy of the GPU"

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        self._start_mj = self._total_mj()

    def read_mj(self) -> float:
        return float(self._total_mj() - self._start_mj)

    def _total_mj(self) -> int:
        total = self._gpu.energy_mj()
        if total is None:
            raise BackendError("this GPU or its driver tells no energy (Volta and later do)")
        return total


def open_gpu_meter(index: int) -> EnergyMeter | str:
    """The energy meter of `cuda:index`, or why there is none."""
    gpu, reason = open_gpu(index)
    if gpu is None:
        return f"no energy counter: {reason}"
    try:
        return GpuMeter(gpu)
    except BackendError as error:
        return f"no energy counter: {error}"


def open_package_meter(files: SystemFiles | None = None) -> EnergyMeter | str:
    """The processor's energy meter, or why there is none here."""
    files = files or SystemFiles()
    zones = []
    for name in files.names(POWERCAP):
        # Not the parts of a package (`intel-rapl:0:0`), nor `psys`, which holds the packages and more,
        # nor the second way to the same counters (`intel-rapl-mmio:0`). AMD's have these names too.
        if not re.fullmatch(r"intel-rapl:\d+", name):
            continue
        if (files.text(f"{POWERCAP}/{name}/name") or "").startswith("package"):
            zones.append(f"{POWERCAP}/{name}")
    if not zones:
        return (
            f"no energy counter: /{POWERCAP} has no processor package; virtual machines, containers "
            "and some processors have none"
        )
    for zone in zones:
        if files.integer(f"{zone}/energy_uj") is None:
            if "energy_uj" not in files.names(zone):
                return f"no energy counter: /{zone} has no energy_uj"
            return (
                f"/{zone}/energy_uj cannot be read by this user (often only root may); "
                f"run: sudo chmod a+r /{POWERCAP}/intel-rapl:*/energy_uj"
            )
        if files.integer(f"{zone}/max_energy_range_uj") is None:
            return f"/{zone}/max_energy_range_uj cannot be read, so the counter cannot be trusted"
    return PackageMeter(files, tuple(zones))


def open_energy_meter(device: str, files: SystemFiles | None = None) -> EnergyMeter | str:
    """The energy meter of a device (`Backend.device`), or why there is none."""
    if device == "host":
        return open_package_meter(files)
    if device.startswith("cuda:"):
        return open_gpu_meter(int(device.removeprefix("cuda:")))
    return f"no energy counter is known for the device {device!r}"
