"""Linux: clock frequency, governor, turbo, temperature and throttling."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hwprof.machine.files import SystemFiles
from hwprof.machine.processor import CPU

# With these drivers "powersave" follows the load; elsewhere it pins the lowest frequency.
LOAD_FOLLOWING_DRIVERS = ("intel_pstate", "amd-pstate-epp")
LOAD_FOLLOWING_GOVERNORS = ("ondemand", "conservative", "schedutil", "interactive")
PROCESSOR_SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal")


@dataclass(frozen=True)
class Frequency:
    """Frequencies in MHz. `now` is the fastest core's; None where the system does not tell."""

    governor: str | None
    governor_class: str | None
    driver: str | None
    energy_preference: str | None
    now_mhz: float | None
    min_mhz: float | None
    max_mhz: float | None


@dataclass(frozen=True)
class Turbo:
    """Whether the clock may rise above its base frequency, and the file and value that switch it off."""

    on: bool
    switch: str
    off_value: int


def read_frequency(files: SystemFiles, cores: Iterable[int]) -> Frequency:
    """Governor class: performance, powersave (lowest clock), dynamic (follows the load), userspace, any
    other governor's own name, classes joined by + where cores differ, or none without cpufreq."""
    cores = tuple(cores)
    folders = [f"{CPU}/cpu{core}/cpufreq" for core in cores]
    governors = [files.text(f"{folder}/scaling_governor") for folder in folders]
    drivers = [files.text(f"{folder}/scaling_driver") for folder in folders]
    classes = {_class(g, d) for g, d in zip(governors, drivers, strict=True) if g}
    group = "+".join(sorted(classes))
    if not classes and files.names(CPU):
        group = "none"
    return Frequency(
        governor=_joined(governors),
        governor_class=group or None,
        driver=_joined(drivers),
        energy_preference=_joined(files.text(f"{f}/energy_performance_preference") for f in folders),
        now_mhz=_now_mhz(files, folders),
        min_mhz=min(_mhz(files, folders, "cpuinfo_min_freq"), default=None),
        max_mhz=max(_mhz(files, folders, "cpuinfo_max_freq"), default=None),
    )


def read_turbo(files: SystemFiles, cores: Iterable[int]) -> Turbo | None:
    """None where the system does not tell."""
    path = f"{CPU}/intel_pstate/no_turbo"
    if (off := files.integer(path)) is not None:
        return Turbo(off == 0, f"/{path}", 1)
    for path in (f"{CPU}/cpufreq/boost", *(f"{CPU}/cpu{core}/cpufreq/boost" for core in cores)):
        if (on := files.integer(path)) is not None:
            return Turbo(on == 1, f"/{path}", 0)
    return None


def throttle_count(files: SystemFiles, cores: Iterable[int]) -> int | None:
    """How often heat has throttled the given cores or their package since boot; None if not counted."""
    counts: list[int] = []
    packages: list[int] = []
    for core in cores:
        folder = f"{CPU}/cpu{core}/thermal_throttle"
        if (count := files.integer(f"{folder}/core_throttle_count")) is not None:
            counts.append(count)
        if (count := files.integer(f"{folder}/package_throttle_count")) is not None:
            packages.append(count)
    if not counts and not packages:
        return None
    # Each core of a package repeats the package's count.
    return sum(counts) + max(packages, default=0)


def temperature_c(files: SystemFiles) -> float | None:
    """The hottest processor sensor in degrees Celsius."""
    readings = []
    for zone in files.names("sys/class/thermal"):
        kind = (files.text(f"sys/class/thermal/{zone}/type") or "").lower()
        if any(name in kind for name in ("cpu", "x86_pkg", "soc")):
            readings.append(files.integer(f"sys/class/thermal/{zone}/temp"))
    for sensor in files.names("sys/class/hwmon"):
        folder = f"sys/class/hwmon/{sensor}"
        if files.text(f"{folder}/name") in PROCESSOR_SENSORS:
            names = [n for n in files.names(folder) if n.startswith("temp") and n.endswith("_input")]
            readings += [files.integer(f"{folder}/{name}") for name in names]
    # A sensor that is off reads absolute zero or 0.
    degrees = [reading / 1000 for reading in readings if reading is not None and reading > 0]
    return max(degrees, default=None)


def _class(governor: str, driver: str | None) -> str:
    if governor in LOAD_FOLLOWING_GOVERNORS:
        return "dynamic"
    return "dynamic" if governor == "powersave" and driver in LOAD_FOLLOWING_DRIVERS else governor


def _joined(values: Iterable[str | None]) -> str | None:
    return "+".join(sorted({value for value in values if value})) or None


def _mhz(files: SystemFiles, folders: Iterable[str], name: str) -> list[float]:
    found = (files.integer(f"{folder}/{name}") for folder in folders)
    return [khz / 1000 for khz in found if khz]


def _now_mhz(files: SystemFiles, folders: Iterable[str]) -> float | None:
    if scaling := _mhz(files, folders, "scaling_cur_freq"):
        return max(scaling)
    told = []
    for line in (files.text("proc/cpuinfo") or "").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "cpu MHz":
            try:
                told.append(float(value))
            except ValueError:
                continue
    return max(told, default=None)
