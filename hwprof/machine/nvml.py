"""Linux and Windows: an NVIDIA GPU's clocks, temperature, power and energy, through NVML.

NVML comes with the driver; the package nvidia-ml-py (module `pynvml`) calls it. Without either, nothing
here fails: the reason is told instead. Reading takes no time on the GPU itself.
"""

from __future__ import annotations

import importlib
import os
import sys
from dataclasses import dataclass
from typing import Any

INSTALL = "pip install nvidia-ml-py"

# Bits of nvmlDeviceGetCurrentClocksEventReasons, as nvml.h documents them.
THROTTLE_WORDS = {
    0x001: "idle",
    0x002: "clocks set by the user",
    0x004: "power cap",
    0x008: "hardware slowdown",
    0x010: "sync boost",
    0x020: "thermal, by software",
    0x040: "thermal, by hardware",
    0x080: "power brake",
    0x100: "display clocks",
    0x200: "board limit",
    0x400: "reliability",
}


@dataclass(frozen=True)
class GpuConditions:
    """A GPU at one moment; a field is None where this GPU or driver does not tell.

    Attributes:
        sm_mhz: clock of the multiprocessors.
        throttle: why they run no faster: words joined by `; `, or `none`.
        temperature_c: of the chip.
        power_w: of the whole board; the driver averages over up to a second.
    """

    sm_mhz: int | None
    throttle: str | None
    temperature_c: int | None
    power_w: float | None


class Gpu:
    """One GPU, open for reading. Get it from `open_gpu`.

    Attributes:
        name: product name, as torch gives it too.
        driver: version of the driver.
    """

    def __init__(self, pynvml: Any, handle: Any) -> None:
        self._pynvml = pynvml
        self._handle = handle
        self.name: str = pynvml.nvmlDeviceGetName(handle)
        self.driver: str = pynvml.nvmlSystemGetDriverVersion()

    def conditions(self) -> GpuConditions:
        power_mw = self._read(("nvmlDeviceGetPowerUsage",))
        return GpuConditions(
            sm_mhz=self.clock_mhz("SM"),
            throttle=self._throttle(),
            temperature_c=self._temperature_c(),
            power_w=None if power_mw is None else power_mw / 1e3,
        )

    def clock_mhz(self, domain: str) -> int | None:
        """Clock of `SM` or `MEM` now."""
        return self._read(("nvmlDeviceGetClockInfo",), self._domain(domain))

    def max_clock_mhz(self, domain: str) -> int | None:
        """Highest clock of `SM` or `MEM`."""
        return self._read(("nvmlDeviceGetMaxClockInfo",), self._domain(domain))

    def energy_mj(self) -> int | None:
        """Energy since the driver was loaded; Volta and later."""
        return self._read(("nvmlDeviceGetTotalEnergyConsumption",))

    def _domain(self, name: str) -> int:
        return int(getattr(self._pynvml, f"NVML_CLOCK_{name}"))

    def _temperature_c(self) -> int | None:
        names = ("nvmlDeviceGetTemperatureV", "nvmlDeviceGetTemperature")
        return self._read(names, self._pynvml.NVML_TEMPERATURE_GPU)

    def _throttle(self) -> str | None:
        names = ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons")
        reasons = self._read(names)
        return None if reasons is None else throttle_words(reasons)

    def _read(self, names: tuple[str, ...], *arguments: int) -> int | None:
        """The first of these functions that package and driver both know and that this GPU supports."""
        for name in names:
            function = getattr(self._pynvml, name, None)
            if function is None:
                continue
            try:
                return int(function(self._handle, *arguments))
            except self._pynvml.NVMLError:
                continue
        return None


def throttle_words(reasons: int) -> str:
    """Bits in words; a bit without a word is shown as a number."""
    if reasons == 0:
        return "none"
    words = [word for bit, word in THROTTLE_WORDS.items() if reasons & bit]
    rest = reasons & ~sum(THROTTLE_WORDS)
    return "; ".join([*words, *([hex(rest)] if rest else [])])


def open_gpu(index: int) -> tuple[Gpu | None, str]:
    """The GPU that CUDA calls `cuda:index` in this process, or None and why it cannot be read.

    CUDA and NVML number GPUs differently. Where torch runs on CUDA in this process the GPU is found by
    the identifier that torch tells; else through CUDA_VISIBLE_DEVICES.
    """
    try:
        pynvml = importlib.import_module("pynvml")
    except ImportError:
        return None, f"the package nvidia-ml-py is not installed; run: {INSTALL}"
    try:
        pynvml.nvmlInit()
        handle, reason = _find(pynvml, index)
        return (Gpu(pynvml, handle), "") if handle is not None else (None, reason)
    except pynvml.NVMLError as error:
        return None, f"NVML says: {error}; is NVIDIA's driver installed?"


def gpu_identity(index: int) -> dict[str, str | None]:
    """Name and driver of `cuda:index`, which decide an op's time and no library states; null where they
    cannot be read."""
    gpu, _ = open_gpu(index)
    return {"gpu": gpu.name if gpu else None, "driver": gpu.driver if gpu else None}


def _find(pynvml: Any, index: int) -> tuple[Any, str]:
    """NVML's handle, or None and the reason."""
    known = _identifier_from_torch(index)
    handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if known is None and visible is not None:
        entries = [entry.strip() for entry in visible.split(",")]
        if index >= len(entries) or not entries[index]:
            return None, f"CUDA_VISIBLE_DEVICES={visible!r} leaves no cuda:{index}"
        known = entries[index]
    if known is not None and known.startswith("MIG-"):
        return pynvml.nvmlDeviceGetHandleByUUID(known), ""
    if known is not None and known.startswith("GPU-"):
        for handle in handles:
            # CUDA_VISIBLE_DEVICES may hold the beginning of an identifier.
            if pynvml.nvmlDeviceGetUUID(handle).startswith(known):
                return handle, ""
        return None, f"NVML knows no GPU {known}"
    place = index if known is None else int(known) if known.isdecimal() else -1
    if not 0 <= place < len(handles):
        return None, f"NVML lists {len(handles)} GPUs, none of them is cuda:{index}"
    by_bus = os.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
    if not by_bus and len({pynvml.nvmlDeviceGetName(handle) for handle in handles}) > 1:
        return None, (
            f"this machine has GPUs of several kinds, and which of them is cuda:{index} is not told; "
            "set CUDA_DEVICE_ORDER=PCI_BUS_ID"
        )
    return handles[place], ""


def _identifier_from_torch(index: int) -> str | None:
    """`GPU-...` or `MIG-...`; None where torch has not started CUDA in this process."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return None
    identifier = str(torch.cuda.get_device_properties(index).uuid)
    return identifier if identifier.startswith(("GPU-", "MIG-")) else f"GPU-{identifier}"
