"""The environment of a device, made of what run.py read there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hwprof.environment import Environment
from hwprof.errors import LutError
from hwprof.machine import linux
from hwprof.machine.fields import CONDITIONS, IDENTITY, filled
from hwprof.machine.files import SystemFiles
from hwprof.machine.processor import CPU
from hwprof.offline.plan import OfflinePlan

LINUX_SYSTEMS = ("Linux", "Android")
# What the readers of hwprof.machine look at, as globs; control groups are found by run.py itself.
FACT_FILES = (
    "proc/cpuinfo", "proc/loadavg", "proc/meminfo", "proc/stat", "proc/self/cgroup",
    "proc/device-tree/model", "proc/device-tree/compatible", "proc/device-tree/hypervisor/*",
    "sys/hypervisor/type", "sys/class/dmi/id/sys_vendor", "sys/class/dmi/id/product_name",
    "sys/devices/cpu_*/cpus",
    f"{CPU}/online", f"{CPU}/smt/active", f"{CPU}/intel_pstate/no_turbo", f"{CPU}/cpufreq/boost",
    f"{CPU}/cpu[0-9]*/cpu_capacity", f"{CPU}/cpu[0-9]*/topology/core_cpus_list",
    f"{CPU}/cpu[0-9]*/topology/thread_siblings_list",
    f"{CPU}/cpu[0-9]*/cache/index*/type", f"{CPU}/cpu[0-9]*/cache/index*/level",
    f"{CPU}/cpu[0-9]*/cache/index*/size",
    f"{CPU}/cpu[0-9]*/cpufreq/scaling_*r*", f"{CPU}/cpu[0-9]*/cpufreq/cpuinfo_m*_freq",
    f"{CPU}/cpu[0-9]*/cpufreq/energy_performance_preference", f"{CPU}/cpu[0-9]*/cpufreq/boost",
    f"{CPU}/cpu[0-9]*/thermal_throttle/*_count",
    "sys/class/thermal/thermal_zone*/type", "sys/class/thermal/thermal_zone*/temp",
    "sys/class/hwmon/hwmon*/name", "sys/class/hwmon/hwmon*/temp*_input",
    "sys/class/power_supply/*/type", "sys/class/power_supply/*/online",
    "sys/class/power_supply/*/status", "sys/class/power_supply/*/scope",
    linux.HUGE_PAGES, linux.CLOCK_SOURCE,
)  # fmt: skip


@dataclass(frozen=True)
class TakenFiles(SystemFiles):
    """Files of another machine: path to text."""

    texts: Mapping[str, str] = field(default_factory=dict)

    def text(self, path: str) -> str | None:
        return self.texts.get(path, "").strip("\0 \n\t") or None

    def names(self, folder: str) -> tuple[str, ...]:
        below = (path[len(folder) + 1 :] for path in self.texts if path.startswith(f"{folder}/"))
        return tuple(sorted({path.partition("/")[0] for path in below}))


def device_environment(plan: OfflinePlan, told: Mapping[str, Any], name: str) -> Environment:
    """The environment that the plan's models ran in. Its identity is the one that hwprof itself would
    give this machine and runtime.

    Args:
        told: the `device` of a start line of the results.
        name: replaces the device's own name, where given.

    Raises:
        LutError: nothing tells which device it is, and no name is given.
    """
    known: dict[str, Any] = {"system": told["system"], "architecture": _architecture(told)}
    past: dict[str, Any] = {
        "time": told["time"],
        "host_name": told["host_name"] or None,
        "kernel": told["kernel"] or None,
        "python": told["python"],
        "hwprof_version": plan.hwprof_version,
        "affinity": told["affinity"],
    }
    if told["system"] in LINUX_SYSTEMS:
        files = TakenFiles(texts=told["files"])
        known |= linux.identity(tuple(told["affinity"]), files)
        past |= linux.conditions(tuple(told["affinity"]), files)
    else:
        known |= {"device": told["processor"] or None, "logical_cores": told["cpu_count"]}
    known["device"] = name or _android_device(told["properties"]) or known["device"]
    if not known["device"]:
        raise LutError(
            "the results do not tell which device they were measured on; pass --device NAME, a name of "
            "its model"
        )
    identity = {
        **filled(IDENTITY, known),
        "target": plan.target,
        "threads": plan.threads,
        **plan.environment,
        "runtime_version": told["runtime_version"],
    }
    if "compiler_version" in plan.environment:
        # Exported models are not optimised: the device's own runtime does it as it loads them.
        identity["compiler_version"] = told["runtime_version"]
    conditions = {
        **filled(CONDITIONS, past),
        "measuring_cores": told["measuring_cores"],
        "android": dict(told["properties"]) or None,
    }
    return Environment(identity, conditions)


def _architecture(told: Mapping[str, Any]) -> str:
    """A 32-bit process on a 64-bit system runs other kernels: `aarch64, 32-bit process`."""
    machine = str(told["machine"])
    return f"{machine}, 32-bit process" if told["bits"] == 32 and "64" in machine else machine


def _android_device(properties: Mapping[str, str]) -> str | None:
    """`samsung SM-G991B (Exynos 2100)`; None off Android. /proc tells the kinds of cores there, not the
    phone."""
    names = [properties.get(f"ro.product.{part}", "") for part in ("manufacturer", "model")]
    if not names[1]:
        return None
    maker, model = (properties.get(f"ro.soc.{part}", "") for part in ("manufacturer", "model"))
    chip = " ".join(part for part in (maker, model) if part) or properties.get("ro.board.platform", "")
    phone = " ".join(part for part in names if part)
    return f"{phone} ({chip})" if chip else phone
