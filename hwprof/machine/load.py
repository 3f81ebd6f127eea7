"""Linux: who else uses the processor and the memory."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from hwprof.machine.files import SystemFiles


@dataclass(frozen=True)
class Activity:
    """Ticks since boot: of `cores` cores together (busy, steal, all) and of every process seen.

    `busy` leaves out this process's own.
    """

    cores: int
    busy: int
    steal: int
    total: int
    processes: dict[int, tuple[str, int]]


@dataclass(frozen=True)
class Neighbours:
    """What others did between two `Activity` readings, in cores (1.0 keeps one core busy)."""

    busy_cores: float
    processes: tuple[tuple[str, float], ...]
    steal_share: float


@dataclass(frozen=True)
class Memory:
    """Bytes; None where not told."""

    total_bytes: int | None
    available_bytes: int | None
    swap_used_bytes: int | None


def load_average(files: SystemFiles) -> list[float] | None:
    """Runnable and waiting tasks, averaged over 1, 5 and 15 minutes."""
    try:
        values = [float(word) for word in (files.text("proc/loadavg") or "").split()[:3]]
    except ValueError:
        return None
    return values if len(values) == 3 else None


def read_memory(files: SystemFiles) -> Memory:
    told = files.pairs("proc/meminfo")

    def size(name: str) -> int | None:
        number, _, unit = told.get(name, "").partition(" ")
        return int(number) * 1024 if number.isdecimal() and unit == "kB" else None

    swap, free = size("SwapTotal"), size("SwapFree")
    used = None if swap is None or free is None else swap - free
    return Memory(size("MemTotal"), size("MemAvailable"), used)


def steal_share_since_boot(files: SystemFiles) -> float | None:
    """Share of all processor time that the hypervisor gave to others while this machine wanted it."""
    ticks = _core_ticks(files, None)
    total = sum(sum(core) for core in ticks)
    return sum(core[7] for core in ticks) / total if total else None


def read_activity(files: SystemFiles, cores: Collection[int], own_pid: int) -> Activity | None:
    """One reading for `neighbours`. None without /proc/stat."""
    ticks = _core_ticks(files, cores)
    if not ticks:
        return None
    processes = {}
    for name in files.names("proc"):
        if name.isdecimal() and int(name) != own_pid and (seen := _process(files, name)):
            processes[int(name)] = seen
    own = _process(files, str(own_pid))
    # user, nice, system, irq, softirq; guest time is part of user. Idle and waiting cores are not busy.
    busy = sum(core[0] + core[1] + core[2] + core[5] + core[6] for core in ticks)
    steal = sum(core[7] for core in ticks)
    total = sum(sum(core) for core in ticks)
    return Activity(len(ticks), busy - (own[1] if own else 0), steal, total, processes)


def neighbours(before: Activity, after: Activity, top: int = 3) -> Neighbours | None:
    """Others' use of the cores between two readings, with the busiest processes that can be seen.

    The ticks of the cores themselves are the clock; None if they stand still, as where a sandbox fakes
    the file. In a container or virtual machine the work of others shows up without a name.
    """
    ticks = after.total - before.total
    if ticks <= 0:
        return None
    ticks_per_core = ticks / after.cores
    used = []
    for pid, (name, spent) in after.processes.items():
        new = spent - before.processes.get(pid, (name, 0))[1]
        if new > 0:
            used.append((name, new / ticks_per_core))
    used.sort(key=lambda entry: -entry[1])
    return Neighbours(
        busy_cores=max(0.0, (after.busy - before.busy) / ticks_per_core),
        processes=tuple(used[:top]),
        steal_share=max(0.0, (after.steal - before.steal) / ticks),
    )


def on_battery(files: SystemFiles) -> bool | None:
    """False without a battery; None where the system does not tell."""
    if "power_supply" not in files.names("sys/class"):
        return None
    mains, batteries = [], []
    for name in files.names("sys/class/power_supply"):
        folder = f"sys/class/power_supply/{name}"
        kind = files.text(f"{folder}/type")
        if kind in ("Mains", "USB") and (online := files.integer(f"{folder}/online")) is not None:
            mains.append(online)
        if kind == "Battery" and files.text(f"{folder}/scope") != "Device":
            batteries.append(files.text(f"{folder}/status"))
    if any(mains) or not batteries:
        return False
    if not set(batteries) - {None, "Unknown"}:
        return None
    return "Discharging" in batteries


def chosen_word(text: str | None) -> str | None:
    """`always [madvise] never` is madvise."""
    _, _, rest = (text or "").partition("[")
    return rest.partition("]")[0] or None


def _core_ticks(files: SystemFiles, cores: Collection[int] | None) -> list[list[int]]:
    """user, nice, system, idle, iowait, irq, softirq, steal of each chosen core (None: all)."""
    ticks = []
    for line in (files.text("proc/stat") or "").splitlines():
        name, *values = line.split()
        number = name.removeprefix("cpu")
        if not name.startswith("cpu") or not number.isdecimal() or len(values) < 8:
            continue
        if cores is None or int(number) in cores:
            ticks.append([int(value) for value in values[:8]])
    return ticks


def _process(files: SystemFiles, pid: str) -> tuple[str, int] | None:
    """Name and used ticks (user and system, threads included)."""
    before, bracket, after = (files.text(f"proc/{pid}/stat") or "").rpartition(")")
    values = after.split()
    if not bracket or len(values) < 13:
        return None
    return before.partition("(")[2], int(values[11]) + int(values[12])
