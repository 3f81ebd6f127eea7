"""Picks the reader of the operating system that runs."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import hwprof
from hwprof.machine.fields import CONDITIONS, IDENTITY, filled


def affinity() -> tuple[int, ...]:
    """Cores that this process may run on; all of the machine's where the system has no affinity."""
    if sys.platform == "linux":
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def identity() -> dict[str, Any]:
    """Fields of `fields.IDENTITY`."""
    import platform

    known: dict[str, Any] = {"system": platform.system(), "architecture": platform.machine()}
    if known["system"] == "Linux":
        from hwprof.machine import linux

        known |= linux.identity(affinity())
    elif known["system"] == "Darwin":
        from hwprof.machine import darwin

        known |= darwin.identity(darwin.read_sysctl())
    elif known["system"] == "Windows":
        from hwprof.machine import windows

        known |= windows.identity()
    return filled(IDENTITY, known)


def conditions() -> dict[str, Any]:
    """Fields of `fields.CONDITIONS`."""
    import platform

    system = platform.system()
    known: dict[str, Any] = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "host_name": platform.node() or None,
        "kernel": platform.release() or None,
        "python": platform.python_version(),
        "hwprof_version": hwprof.__version__,
        "affinity": list(affinity()) if sys.platform == "linux" else None,
    }
    if system == "Linux":
        from hwprof.machine import linux

        known |= linux.conditions(affinity())
    elif system == "Darwin":
        from hwprof.machine import darwin

        known |= darwin.conditions(darwin.read_sysctl(), list(os.getloadavg()))
    return filled(CONDITIONS, known)


def cache_levels() -> dict[int, int]:
    """Cache level to bytes of one data or unified cache of that level, the largest kind of core's."""
    told = identity()
    sizes = {level: told[f"cache_l{level}_bytes"] for level in (1, 2, 3)}
    return {level: size for level, size in sizes.items() if size is not None}
