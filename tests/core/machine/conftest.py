"""Made-up machines: small /proc and /sys trees with what the readers look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from hwprof.machine.files import SystemFiles

CPU = "sys/devices/system/cpu"
Tree = dict[str, str]


def cpuinfo(count: int, **fields: str) -> str:
    named = {name.replace("_", " ") if name != "vendor_id" else name: v for name, v in fields.items()}
    blocks = [{"processor": str(core), **named} for core in range(count)]
    return "\n".join("".join(f"{n}\t: {v}\n" for n, v in block.items()) for block in blocks)


def caches(core: int, l1: str, l2: str, l3: str | None = None) -> Tree:
    folder = f"{CPU}/cpu{core}/cache"
    sizes = [("1", "Data", l1), ("1", "Instruction", "64K"), ("2", "Unified", l2)]
    if l3:
        sizes.append(("3", "Unified", l3))
    tree = {}
    for index, (level, kind, size) in enumerate(sizes):
        tree |= {
            f"{folder}/index{index}/level": level,
            f"{folder}/index{index}/type": kind,
            f"{folder}/index{index}/size": size,
        }
    return tree


def siblings(groups: list[str]) -> Tree:
    """One entry per core: the list of threads of its physical core."""
    return {f"{CPU}/cpu{n}/topology/core_cpus_list": group for n, group in enumerate(groups)}


def cpufreq(core: int, governor: str, driver: str, now: int, low: int, high: int) -> Tree:
    folder = f"{CPU}/cpu{core}/cpufreq"
    return {
        f"{folder}/scaling_governor": governor,
        f"{folder}/scaling_driver": driver,
        f"{folder}/scaling_cur_freq": str(now),
        f"{folder}/cpuinfo_min_freq": str(low),
        f"{folder}/cpuinfo_max_freq": str(high),
    }


def intel_laptop() -> Tree:
    """4 cores, 8 threads, intel_pstate with powersave and turbo, on battery."""
    tree = {
        "proc/cpuinfo": cpuinfo(
            8,
            vendor_id="GenuineIntel",
            cpu_family="6",
            model="142",
            model_name="Intel(R) Core(TM) i7-8550U  CPU @ 1.80GHz",
            stepping="10",
            microcode="0xf4",
            flags="fpu vme sse2 ssse3 sse4_1 sse4_2 fma avx f16c avx2 bmi2 smep",
        ),
        "proc/loadavg": "0.42 0.30 0.25 1/900 4242\n",
        "proc/meminfo": (
            "MemTotal: 16000000 kB\nMemAvailable: 8000000 kB\n"
            "SwapTotal: 2000000 kB\nSwapFree: 1500000 kB\n"
        ),
        f"{CPU}/online": "0-7\n",
        f"{CPU}/smt/active": "1",
        f"{CPU}/intel_pstate/no_turbo": "0",
        f"{CPU}/cpu0/cpufreq/energy_performance_preference": "balance_power",
        "sys/class/thermal/thermal_zone0/type": "acpitz",
        "sys/class/thermal/thermal_zone0/temp": "99000",
        "sys/class/thermal/thermal_zone1/type": "x86_pkg_temp",
        "sys/class/thermal/thermal_zone1/temp": "51500",
        "sys/class/power_supply/AC/type": "Mains",
        "sys/class/power_supply/AC/online": "0",
        "sys/class/power_supply/BAT0/type": "Battery",
        "sys/class/power_supply/BAT0/status": "Discharging",
        "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never",
        "sys/devices/system/clocksource/clocksource0/current_clocksource": "tsc",
        **siblings(["0,4", "1,5", "2,6", "3,7"] * 2),
    }
    for core in range(8):
        tree |= cpufreq(core, "powersave", "intel_pstate", 800_000 + core * 100_000, 400_000, 4_000_000)
        tree |= caches(core, "32K", "256K", "8192K")
        tree[f"{CPU}/cpu{core}/thermal_throttle/core_throttle_count"] = str(core)
        tree[f"{CPU}/cpu{core}/thermal_throttle/package_throttle_count"] = "100"
    return tree


def amd_server() -> Tree:
    """8 cores without SMT, acpi-cpufreq with the performance governor, boost off, no battery."""
    tree = {
        "proc/cpuinfo": cpuinfo(
            8,
            vendor_id="AuthenticAMD",
            cpu_family="25",
            model="17",
            model_name="AMD EPYC 9354P",
            stepping="1",
            flags="fpu sse4_2 avx avx2 fma f16c sme sev avx512f avx512_vnni avx512_bf16",
        ),
        f"{CPU}/online": "0-7",
        f"{CPU}/smt/active": "0",
        f"{CPU}/cpufreq/boost": "0",
        "sys/class/power_supply/ups/type": "UPS",
        "sys/class/hwmon/hwmon0/name": "k10temp",
        "sys/class/hwmon/hwmon0/temp1_input": "44125",
        "sys/class/hwmon/hwmon1/name": "nvme",
        "sys/class/hwmon/hwmon1/temp1_input": "88000",
        **siblings([str(core) for core in range(8)]),
    }
    for core in range(8):
        tree |= cpufreq(core, "performance", "acpi-cpufreq", 3_250_000, 1_500_000, 3_250_000)
        tree |= caches(core, "32K", "1024K", "32M")
    return tree


def arm_board() -> Tree:
    """big.LITTLE: 4 x Cortex-A53 and 2 x Cortex-A72, schedutil and ondemand."""
    little = cpuinfo(4, Features="fp asimd aes", CPU_implementer="0x41", CPU_part="0xd03")
    big = cpuinfo(2, Features="fp asimd aes", CPU_implementer="0x41", CPU_part="0xd08")
    big = big.replace("processor\t: 1", "processor\t: 5").replace("processor\t: 0", "processor\t: 4")
    tree = {
        "proc/cpuinfo": f"{little}\n{big}",
        "proc/device-tree/model": "Pine64 RockPro64 v2.1\0",
        f"{CPU}/online": "0-5",
        **siblings([str(core) for core in range(6)]),
    }
    for core in range(6):
        tree |= cpufreq(
            core, "schedutil" if core < 4 else "ondemand", "cpufreq-dt", 408_000, 408_000, 1_800_000
        )
        tree |= caches(core, *(("32K", "512K") if core < 4 else ("48K", "1024K")))
    return tree


def container() -> Tree:
    """The AMD server seen from a container: cgroup v2, 1.5 CPUs, cores 2 to 5."""
    return amd_server() | {
        "proc/self/cgroup": "0::/\n",
        "sys/fs/cgroup/cpu.max": "150000 100000\n",
        "sys/fs/cgroup/cpuset.cpus.effective": "2-5\n",
    }


def virtual_machine() -> Tree:
    """2 cores, no cpufreq, no power supply folder."""
    return {
        "proc/cpuinfo": cpuinfo(
            2,
            vendor_id="GenuineIntel",
            cpu_family="6",
            model="143",
            model_name="Intel Xeon Processor (SapphireRapids)",
            stepping="unknown",
            cpu_MHz="2100.000",
            flags="fpu avx2 avx512f amx_tile amx_int8 amx_bf16 avx_vnni hypervisor smep",
        ),
        f"{CPU}/online": "0-1",
        **siblings(["0", "1"]),
        **caches(0, "48K", "2048K", "260M"),
    }


MACHINES: Mapping[str, Callable[[], Tree]] = {
    "intel_laptop": intel_laptop,
    "amd_server": amd_server,
    "arm_board": arm_board,
    "container": container,
    "virtual_machine": virtual_machine,
    "nothing": dict,
}


@pytest.fixture
def machine(tmp_path: Path) -> Callable[..., SystemFiles]:
    """`machine("arm_board", {"path": "content", "gone": None})`: a tree with some files changed."""

    def make(name: str, changes: Mapping[str, str | None] | None = None) -> SystemFiles:
        for path, content in {**MACHINES[name](), **(changes or {})}.items():
            file = tmp_path / path
            file.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                file.unlink(missing_ok=True)
            else:
                file.write_text(content)
        return SystemFiles(str(tmp_path))

    return make
