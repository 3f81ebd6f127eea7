"""The fields of a machine's identity and conditions: the same on every operating system."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

IDENTITY = (
    "device", "vendor", "family", "model", "stepping", "architecture", "system", "instruction_sets",
    "logical_cores", "physical_cores", "core_kinds", "cache_l1_bytes", "cache_l2_bytes",
    "cache_l3_bytes", "governor_class", "cpu_limit", "virtualised",
)  # fmt: skip

CONDITIONS = (
    "time", "host_name", "kernel", "microcode", "python", "hwprof_version", "affinity", "load_average",
    "frequency_now_mhz", "frequency_min_mhz", "frequency_max_mhz", "governor", "frequency_driver",
    "energy_preference", "turbo", "smt", "temperature_c", "throttle_count", "steal_share_since_boot",
    "memory_total_bytes", "memory_available_bytes", "swap_used_bytes", "transparent_huge_pages",
    "clock_source", "on_battery",
)  # fmt: skip


def filled(fields: Iterable[str], known: Mapping[str, Any]) -> dict[str, Any]:
    """Every field in order, None where `known` has nothing."""
    names = tuple(fields)
    if unknown := sorted(set(known) - set(names)):
        raise AssertionError(f"{unknown[0]!r} is not a field")
    return {name: known.get(name) for name in names}
