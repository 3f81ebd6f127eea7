"""macOS: identity and conditions from one call of sysctl."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SPEED_FEATURES = (
    "neon", "FEAT_FP16", "FEAT_DotProd", "FEAT_FHM", "FEAT_BF16", "FEAT_I8MM", "FEAT_SME", "FEAT_SME2",
    "avx1_0", "avx2_0", "fma", "f16c", "avx512f", "avx512vnni",
)  # fmt: skip


def read_sysctl() -> dict[str, str]:
    """Name to value of the groups used here; empty if sysctl does not answer."""
    import subprocess

    command = ["sysctl", "hw", "machdep.cpu", "vm.swapusage", "kern.hv_vmm_present"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return parse_sysctl(answer.stdout)


def parse_sysctl(text: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in text.splitlines())
    return {name.strip(): value.strip() for name, colon, value in pairs if colon}


def identity(values: Mapping[str, str]) -> dict[str, Any]:
    levels = range(_integer(values, "hw.nperflevels") or 0)
    kinds = [values.get(f"hw.perflevel{level}.name", "").lower() for level in levels]
    features = [name for name in SPEED_FEATURES if _has(values, name)]
    guest = _integer(values, "kern.hv_vmm_present")
    return {
        "device": values.get("machdep.cpu.brand_string"),
        "vendor": values.get("machdep.cpu.vendor"),
        "family": _integer(values, "machdep.cpu.family"),
        "model": _integer(values, "machdep.cpu.model"),
        "stepping": _integer(values, "machdep.cpu.stepping"),
        "instruction_sets": sorted(features) or None,
        "logical_cores": _integer(values, "hw.logicalcpu"),
        "physical_cores": _integer(values, "hw.physicalcpu"),
        "core_kinds": sorted(kind for kind in kinds if kind) or None,
        "cache_l1_bytes": _largest(values, "l1dcachesize"),
        "cache_l2_bytes": _largest(values, "l2cachesize"),
        "cache_l3_bytes": _largest(values, "l3cachesize"),
        "virtualised": None if guest is None else guest == 1,
    }


def conditions(values: Mapping[str, str], load_average: list[float]) -> dict[str, Any]:
    hertz = [_integer(values, f"hw.cpufrequency{suffix}") for suffix in ("", "_min", "_max")]
    now, low, high = (None if value is None else value / 1e6 for value in hertz)
    return {
        "load_average": load_average,
        "frequency_now_mhz": now,
        "frequency_min_mhz": low,
        "frequency_max_mhz": high,
        "memory_total_bytes": _integer(values, "hw.memsize"),
        "swap_used_bytes": _swap_used_bytes(values.get("vm.swapusage", "")),
    }


def _has(values: Mapping[str, str], feature: str) -> bool:
    return "1" in (values.get(f"hw.optional.arm.{feature}"), values.get(f"hw.optional.{feature}"))


def _largest(values: Mapping[str, str], name: str) -> int | None:
    """Of the kinds of cores (performance levels), or the machine's."""
    sizes = [_integer(values, f"hw.perflevel{level}.{name}") for level in range(4)]
    found = [size for size in (*sizes, _integer(values, f"hw.{name}")) if size]
    return max(found, default=None)


def _swap_used_bytes(usage: str) -> int | None:
    """From `total = 2048.00M  used = 512.00M  free = 1536.00M`."""
    number = usage.partition("used =")[2].strip().partition("M")[0]
    try:
        return int(float(number) * (1 << 20))
    except ValueError:
        return None


def _integer(values: Mapping[str, str], name: str) -> int | None:
    text = values.get(name, "")
    return int(text) if text.isdecimal() else None
