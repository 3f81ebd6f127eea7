"""Which cores timed work is pinned to."""

from __future__ import annotations

from collections.abc import Sequence

from hwprof.machine.files import SystemFiles
from hwprof.machine.processor import CPU


def measuring_cores(
    usable: Sequence[int], threads: int, files: SystemFiles | None = None
) -> tuple[int, ...]:
    """`threads` cores of the fastest kind, one a physical core where there are enough, the last ones.

    The last ones, because core 0 serves most interrupts and the pipeline itself runs elsewhere. On a
    hybrid chip the last cores are the slow ones, so kinds are told apart first: by capacity (Arm) or
    by highest frequency. Where the system tells neither, all cores count as one kind.
    """
    files = files or SystemFiles()
    speeds = {core: _speed(files, core) for core in usable}
    fastest = [core for core in usable if speeds[core] == max(speeds.values())]
    physical: dict[tuple[int, ...], int] = {}
    for core in fastest:
        folder = f"{CPU}/cpu{core}/topology"
        siblings = files.cores(f"{folder}/core_cpus_list")
        siblings = siblings or files.cores(f"{folder}/thread_siblings_list") or (core,)
        physical[siblings] = core
    for candidates in (sorted(physical.values()), fastest, list(usable)):
        if len(candidates) >= threads:
            return tuple(candidates[-threads:])
    return tuple(usable)


def _speed(files: SystemFiles, core: int) -> int:
    folder = f"{CPU}/cpu{core}"
    capacity = files.integer(f"{folder}/cpu_capacity")
    return capacity or files.integer(f"{folder}/cpufreq/cpuinfo_max_freq") or 0
