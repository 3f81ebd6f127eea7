"""Checks of what else goes on, of the timer, of memory, and the short noise test."""

from __future__ import annotations

from hwprof.machine.facts import Facts
from hwprof.machine.finding import Finding, count_of_cores, finding, unknown

GIB = 1 << 30
BUSY_CORES = 0.1
LOAD_WARN_SHARE = 0.25
LOAD_BAD_SHARE = 1.0
STEAL_WARN_SHARE = 0.01
STEAL_BAD_SHARE = 0.05
TICK_WARN_NS = 1_000
TICK_BAD_NS = 15_000
MEMORY_WARN_BYTES = GIB
MEMORY_BAD_BYTES = GIB // 4
SWAP_WARN_BYTES = 64 << 20
NOISE_WARN_RATIO = 1.05
NOISE_BAD_RATIO = 1.2


def check_neighbours(facts: Facts) -> Finding:
    """Bad once others leave less than one whole core, or keep half of them."""
    seen, cores = facts.neighbours, len(facts.cores)
    name, threshold = "busy neighbours", f"below {BUSY_CORES:g} cores"
    if seen is None:
        return unknown(name, threshold)
    noisy = seen.busy_cores >= BUSY_CORES
    crowded = cores - seen.busy_cores < 1 or seen.busy_cores > cores / 2
    who = ", ".join(f"{process} {share:.2f}" for process, share in seen.processes)
    return finding(
        name,
        seen.busy_cores,
        f"{seen.busy_cores:.2f} of {count_of_cores(cores)}" + (f" ({who})" if who and noisy else ""),
        threshold,
        "two passes of two-thread ops beside a neighbour differed by 7 % (median) and 55 % (p95)",
        "stop them, or wait; top shows who: top -o %CPU",
        bad=noisy and crowded,
        warn=noisy,
    )


def check_load(facts: Facts) -> Finding:
    load, cores = facts.load_1min, len(facts.cores)
    name, threshold = "load average", f"below {LOAD_WARN_SHARE * cores:g} on {count_of_cores(cores)}"
    if load is None:
        return unknown(name, threshold)
    return finding(
        name,
        load,
        f"{load:.2f} over the last minute",
        threshold,
        "work that comes and goes disturbs some rows and not others",
        "stop other work and look again in a minute: uptime",
        bad=load / cores >= LOAD_BAD_SHARE,
        warn=load / cores >= LOAD_WARN_SHARE,
    )


def check_steal(facts: Facts) -> Finding:
    name, threshold = "steal", f"below {STEAL_WARN_SHARE:.0%}"
    if facts.neighbours is None:
        return unknown(name, threshold)
    share = facts.neighbours.steal_share
    return finding(
        name,
        share,
        f"{share:.1%} of processor time",
        threshold,
        "the host runs other guests in the middle of timed calls",
        "use an instance with dedicated CPUs or a quieter hour; watch the column st: vmstat 1",
        bad=share >= STEAL_BAD_SHARE,
        warn=share >= STEAL_WARN_SHARE,
    )


def check_timer(facts: Facts) -> Finding:
    tick = facts.timer_tick_ns
    source = f", clock source {facts.clock_source}" if facts.clock_source else ""
    return finding(
        "timer",
        tick,
        f"smallest step {tick} ns{source}",
        f"{TICK_WARN_NS} ns or less",
        "ops of a few microseconds are timed in steps as long as the op",
        "choose tsc (x86) or arch_sys_counter (Arm) of: "
        "cat /sys/devices/system/clocksource/clocksource0/available_clocksource",
        bad=tick > TICK_BAD_NS,
        warn=tick > TICK_WARN_NS,
    )


def check_memory(facts: Facts) -> Finding:
    name, threshold = "free memory", f"{_gib(MEMORY_WARN_BYTES)} or more"
    free = facts.memory.available_bytes if facts.memory else None
    if free is None:
        return unknown(name, threshold)
    return finding(
        name,
        free,
        _gib(free),
        threshold,
        "workers may be killed or wait for the disk",
        "close programs; this shows who holds memory: ps aux --sort -rss | head",
        bad=free < MEMORY_BAD_BYTES,
        warn=free < MEMORY_WARN_BYTES,
    )


def check_swap(facts: Facts) -> Finding:
    name, threshold = "swap in use", f"below {_gib(SWAP_WARN_BYTES)}"
    used = facts.memory.swap_used_bytes if facts.memory else None
    if used is None:
        return unknown(name, threshold)
    return finding(
        name,
        used,
        _gib(used),
        threshold,
        "a page that comes back from disk in the middle of a call costs milliseconds",
        "close programs; on Linux this empties it: sudo swapoff -a && sudo swapon -a",
        warn=used >= SWAP_WARN_BYTES,
    )


def check_huge_pages(facts: Facts) -> Finding:
    """For the record only: huge pages for malloc did not steady numbers where that was tried."""
    name, threshold = "transparent huge pages", "any, but the same for tables you compare"
    if facts.huge_pages is None:
        return unknown(name, threshold)
    return Finding(name, "ok", facts.huge_pages, facts.huge_pages, threshold)


def check_noise(facts: Facts) -> Finding:
    low_ms, high_ms = facts.noise.p10_ms, facts.noise.p90_ms
    ratio = high_ms / low_ms
    return finding(
        "noise self-test",
        ratio,
        f"equal work took {low_ms:.2f} ms (p10) to {high_ms:.2f} ms (p90), ratio {ratio:.2f}",
        f"{NOISE_WARN_RATIO:g} or less",
        "calls will scatter at least as much; rows need more visits and more end up unstable",
        "mend what is named above and look again; else build with --effort rigorous",
        bad=ratio > NOISE_BAD_RATIO,
        warn=ratio > NOISE_WARN_RATIO,
    )


def _gib(size: int) -> str:
    return f"{size / GIB:.2f} GiB"
