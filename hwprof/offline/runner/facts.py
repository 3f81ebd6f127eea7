"""What tells this device from others, raw: `hwprof import-results` makes the environment of it."""

from __future__ import annotations

import fnmatch
import glob
import os
import platform
import re
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
# What makes two starts one environment to the import (hwprof.machine): fields that are told, files, and
# lines of /proc/cpuinfo. What moves by itself (clock, load, temperature, microcode) is not among them.
FIXED_FIELDS = (
    "system", "machine", "bits", "processor", "cpu_count", "runtime_version", "affinity", "properties",
)  # fmt: skip
FIXED_FILES = (
    "proc/device-tree/*", "sys/hypervisor/type", "sys/class/dmi/id/*", "sys/devices/cpu_*/cpus",
    f"{CPU_FOLDER}/online", f"{CPU_FOLDER}/cpu*/topology/*", f"{CPU_FOLDER}/cpu*/cache/*",
    f"{CPU_FOLDER}/cpu*/scaling_governor", f"{CPU_FOLDER}/cpu*/scaling_driver",
)  # fmt: skip
FIXED_LINES = (
    "model name", "Model", "Hardware", "cpu", "uarch", "vendor_id", "CPU implementer", "cpu family",
    "CPU architecture", "model", "stepping", "CPU part", "flags", "Features", "isa",
)  # fmt: skip
GROUP_CORES = ("cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus")


def describe_device(
    patterns: list[str], runtime_version: str, pinned: list[int] | None
) -> dict[str, Any]:
    """System, processor, versions, cores, Android properties and the small files of /proc and /sys that
    the patterns name. `pinned`: the cores that measure; None where the system chooses them."""
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
        "measuring_cores": pinned,
        "properties": android_properties(),
        "files": read_files("/", patterns),
    }


def difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    """Empty, or how this device differs from the one that the results were begun on."""
    for name in FIXED_FIELDS:
        if before[name] != now[name]:
            return f"{name} was {before[name]}, is {now[name]}"
    then, here = fixed_facts(before["files"]), fixed_facts(now["files"])
    for name in sorted({*then, *here}):
        gone, come = then.get(name, set()), here.get(name, set())
        if gone != come:
            lost, new = (", ".join(sorted(words)) or "none" for words in (gone - come, come - gone))
            return f"{name} was {lost}, is {new}"
    return ""


def fixed_facts(files: dict[str, str]) -> dict[str, set[str]]:
    """What the files tell that stays while a device stays as it is, as sets of values: cores of a kind
    tell the same, and another login is another path of control groups, but of the same limits."""
    facts: dict[str, set[str]] = {}
    for path, text in files.items():
        folder, _, name = path.rpartition("/")
        if any(fnmatch.fnmatchcase(path, pattern) for pattern in FIXED_FILES):
            told = facts.setdefault(re.sub(r"/cpu\d+/", "/cpu*/", path), set())
            told.add(text.replace("\0", " ").strip())
        elif name == "cpu.max" or name == "cpu.cfs_quota_us":
            period = files.get(f"{folder}/cpu.cfs_period_us", "")
            quota = f"{text} {period}".split()
            if quota and quota[0].isdigit():  # "max" and -1 are no limit
                facts.setdefault("CPU quota and period in us", set()).add(" ".join(quota))
        elif name in GROUP_CORES and text.strip():
            facts.setdefault("cores of the control group", set()).add(text.strip())
    for line in files.get("proc/cpuinfo", "").splitlines():
        name, _, value = (part.strip() for part in line.partition(":"))
        if name in FIXED_LINES:
            words = value.split() if name in ("flags", "Features", "isa") else [value]
            facts.setdefault(f"cpuinfo {name}", set()).update(words)
    return facts


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
