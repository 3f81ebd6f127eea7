"""What tells this device from others, raw: `hwprof import-results` makes the environment of it."""

from __future__ import annotations

import glob
import os
import platform
import shutil
import struct
import subprocess
import time
from typing import Any

LARGEST_FILE = 1 << 20
CPU_FOLDER = "sys/devices/system/cpu"
ANDROID_PROPERTIES = (
    "ro.product.manufacturer", "ro.product.model", "ro.soc.manufacturer", "ro.soc.model",
    "ro.board.platform", "ro.build.version.release", "ro.build.fingerprint",
)  # fmt: skip


def describe_device(patterns: list[str], runtime_version: str, cores: list[int]) -> dict[str, Any]:
    """System, processor, versions, cores, Android properties and the small files of /proc and /sys that
    the patterns name."""
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "system": platform.system(),
        "machine": platform.machine(),
        "bits": struct.calcsize("P") * 8,
        "kernel": platform.release(),
        "host_name": platform.node(),
        "processor": platform.processor(),
        "cpu_count": os.cpu_count(),
        "python": platform.python_version(),
        "runtime_version": runtime_version,
        "affinity": usable_cores(),
        "measuring_cores": cores,
        "properties": android_properties(),
        "files": read_files("/", patterns),
    }


def difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    """Empty, or how this device differs from the one that the results were begun on."""
    for name in ("system", "machine", "bits", "runtime_version", "affinity", "properties"):
        if before[name] != now[name]:
            return f"{name} was {before[name]}, is {now[name]}"
    then, here = (
        sorted({text for path, text in seen["files"].items() if path.endswith("scaling_governor")})
        for seen in (before, now)
    )
    return f"frequency governor was {then}, is {here}" if then != here else ""


def read_files(root: str, patterns: list[str]) -> dict[str, str]:
    """Path under the root to text, of all readable files that a pattern fits, and of the limits of this
    process's control groups."""
    found = [path for pattern in patterns for path in glob.glob(os.path.join(root, pattern))]
    groups = read_text(os.path.join(root, "proc/self/cgroup")) or ""
    for line in groups.splitlines():
        parts = [part for part in line.split(":", 2)[-1].split("/") if part not in ("", "..")]
        for depth in range(len(parts) + 1):
            for mount in ("sys/fs/cgroup", "sys/fs/cgroup/*"):
                folder = os.path.join(root, mount, *map(glob.escape, parts[:depth]))
                for name in ("cpu.max", "cpu.cfs_*_us", "cpuset*cpus*"):
                    found += glob.glob(os.path.join(folder, name))
    texts = ((os.path.relpath(path, root), read_text(path)) for path in sorted(set(found)))
    return {path: text for path, text in texts if text is not None}


def read_text(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(LARGEST_FILE)
    except OSError:
        return None


def android_properties() -> dict[str, str]:
    """What `getprop` tells; empty where there is no such command."""
    # A Linux distribution inside Termux sees the command without having it in its path.
    command = shutil.which("getprop") or "/system/bin/getprop"
    told = {}
    for name in ANDROID_PROPERTIES:
        try:
            done = subprocess.run([command, name], stdout=subprocess.PIPE, timeout=5, check=False)
        except (OSError, subprocess.SubprocessError):
            return {}
        told[name] = done.stdout.decode(errors="replace").strip()
    return {name: value for name, value in told.items() if value}


def usable_cores() -> list[int]:
    """Cores that this process may run on; all of them where the system has no affinity."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def measuring_cores(usable: list[int], threads: int, root: str = "/") -> list[int]:
    """`threads` cores of the fastest kind, one a physical core where there are enough, the last ones,
    because core 0 serves most interrupts. hwprof picks them by the same rule (hwprof.machine.measuring).
    """

    def told(core: int, name: str) -> str:
        return (read_text(os.path.join(root, CPU_FOLDER, f"cpu{core}", name)) or "").strip()

    def speed(core: int) -> int:
        text = told(core, "cpu_capacity") or told(core, "cpufreq/cpuinfo_max_freq")
        return int(text) if text.isdigit() else 0

    speeds = {core: speed(core) for core in usable}
    fastest = [core for core in usable if speeds[core] == max(speeds.values())]
    physical: dict[str, int] = {}
    for core in fastest:
        siblings = told(core, "topology/core_cpus_list") or told(core, "topology/thread_siblings_list")
        physical[siblings or str(core)] = core
    for candidates in (sorted(physical.values()), fastest, usable):
        if len(candidates) >= threads:
            return candidates[-threads:]
    return usable
