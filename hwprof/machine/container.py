"""Linux: what a container, a control group or a hypervisor leaves of the machine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hwprof.machine.files import SystemFiles

MOUNT = "sys/fs/cgroup"
HYPERVISOR_NAMES = ("qemu", "kvm", "vmware", "virtualbox", "virtual machine", "bochs", "xen")


def cpu_limit(files: SystemFiles) -> float | None:
    """CPU quota in CPUs, the tightest of this process's control group and its parents; None for none."""
    limits = []
    for folder in _folders(files, "cpu"):
        quota, _, period = (files.text(f"{folder}/cpu.max") or "").partition(" ")
        quota = quota or files.text(f"{folder}/cpu.cfs_quota_us") or ""
        period = period or files.text(f"{folder}/cpu.cfs_period_us") or ""
        # "max" and -1 mean no limit.
        if quota.isdecimal() and period.isdecimal() and int(period):
            limits.append(int(quota) / int(period))
    return min(limits, default=None)


def cores_of_group(files: SystemFiles, online: tuple[int, ...]) -> tuple[int, ...]:
    """The online cores that this process's control group may use, whatever its own affinity is."""
    for folder in _folders(files, "cpuset"):
        for name in ("cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus"):
            if cores := files.cores(f"{folder}/{name}"):
                return tuple(core for core in online if core in cores)
    return online


def virtualised(files: SystemFiles, blocks: Iterable[Mapping[str, str]]) -> bool | None:
    """Whether a hypervisor is underneath; None if nothing here tells."""
    for block in blocks:
        if "flags" in block:
            return "hypervisor" in block["flags"].split()
    if files.text("sys/hypervisor/type") or files.names("proc/device-tree/hypervisor"):
        return True
    if "dummy-virt" in (files.text("proc/device-tree/compatible") or ""):
        return True
    for name in ("sys_vendor", "product_name"):
        told = (files.text(f"sys/class/dmi/id/{name}") or "").lower()
        if any(hypervisor in told for hypervisor in HYPERVISOR_NAMES):
            return True
    return None


def _folders(files: SystemFiles, controller: str) -> list[str]:
    """Folders of a controller, from this process's own group up to the mounted root.

    Inside a container the path of /proc/self/cgroup may lead outside of what is mounted; then only
    the root exists, which is the container's own group.
    """
    folders = []
    for line in (files.text("proc/self/cgroup") or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        reversed_names = ",".join(reversed(controllers.split(",")))
        mounts = [f"{MOUNT}/{name}" for name in dict.fromkeys((controllers, reversed_names, controller))]
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for mount in mounts if controllers else (MOUNT, f"{MOUNT}/unified"):
            folders += ["/".join((mount, *parts[:depth])) for depth in range(len(parts), -1, -1)]
    return folders
