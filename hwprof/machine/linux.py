"""Linux: identity and conditions from /proc and /sys, whose root folder is a parameter."""

from __future__ import annotations

from typing import Any

from hwprof.machine import container, frequency, load, processor
from hwprof.machine.files import SystemFiles

MACHINE = SystemFiles()
HUGE_PAGES = "sys/kernel/mm/transparent_hugepage/enabled"
CLOCK_SOURCE = "sys/devices/system/clocksource/clocksource0/current_clocksource"


def group_cores(files: SystemFiles) -> tuple[int, ...]:
    """Online cores that the control group allows: the machine's size, however this process is pinned."""
    online = processor.online_cores(files, processor.processor_blocks(files))
    return container.cores_of_group(files, online)


def identity(affinity: tuple[int, ...], files: SystemFiles = MACHINE) -> dict[str, Any]:
    """What decides a number. Affinity counts only where it decides which kinds of cores are used."""
    blocks = processor.processor_blocks(files)
    cores = group_cores(files)
    kinds = processor.core_kinds(files, blocks)
    physical = processor.physical_cores(files, cores)
    caches = processor.cache_bytes(files, processor.one_core_per_kind(cores, kinds))
    return {
        **processor.model_fields(files, blocks),
        "instruction_sets": processor.speed_flags(blocks),
        "logical_cores": len(cores) or None,
        "physical_cores": len(physical) if physical else None,
        "core_kinds": sorted({kinds[core] for core in affinity if core in kinds}) or None,
        "cache_l1_bytes": caches.get(1),
        "cache_l2_bytes": caches.get(2),
        "cache_l3_bytes": caches.get(3),
        "governor_class": frequency.read_frequency(files, cores).governor_class,
        "cpu_limit": container.cpu_limit(files),
        "virtualised": container.virtualised(files, blocks),
    }


def conditions(affinity: tuple[int, ...], files: SystemFiles = MACHINE) -> dict[str, Any]:
    """What changes from hour to hour; frequencies are those of the cores this process may use."""
    blocks = processor.processor_blocks(files)
    clock = frequency.read_frequency(files, affinity)
    turbo = frequency.read_turbo(files, affinity)
    memory = load.read_memory(files)
    smt = files.integer(f"{processor.CPU}/smt/active")
    return {
        "microcode": blocks[0].get("microcode") if blocks else None,
        "load_average": load.load_average(files),
        "frequency_now_mhz": clock.now_mhz,
        "frequency_min_mhz": clock.min_mhz,
        "frequency_max_mhz": clock.max_mhz,
        "governor": clock.governor,
        "frequency_driver": clock.driver,
        "energy_preference": clock.energy_preference,
        "turbo": turbo.on if turbo else None,
        "smt": None if smt is None else smt == 1,
        "temperature_c": frequency.temperature_c(files),
        "throttle_count": frequency.throttle_count(files, affinity),
        "steal_share_since_boot": load.steal_share_since_boot(files),
        "memory_total_bytes": memory.total_bytes,
        "memory_available_bytes": memory.available_bytes,
        "swap_used_bytes": memory.swap_used_bytes,
        "transparent_huge_pages": load.chosen_word(files.text(HUGE_PAGES)),
        "clock_source": files.text(CLOCK_SOURCE),
        "on_battery": load.on_battery(files),
    }
