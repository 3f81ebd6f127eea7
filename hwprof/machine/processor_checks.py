"""Checks of the processor: which cores there are to use, and what sets their clock."""

from __future__ import annotations

from hwprof.machine.facts import Facts
from hwprof.machine.files import format_core_list
from hwprof.machine.finding import Finding, count_of_cores, finding, unknown
from hwprof.machine.processor import kind_name

CLOCK_WARN_SHARE = 0.8
CLOCK_BAD_SHARE = 0.5


def check_cores(facts: Facts) -> Finding:
    count = len(facts.machine_cores)
    return finding(
        "cores",
        count,
        count_of_cores(count),
        "2 or more",
        "compiling, the kernel and the timed calls share one core, so calls are cut short",
        "give the container or virtual machine 2 CPUs: docker run --cpuset-cpus 0,1 ...",
        bad=count < 2,
    )


def check_affinity(facts: Facts) -> Finding:
    """Being pinned is often wise, unless it leaves a single core."""
    return finding(
        "affinity",
        len(facts.cores),
        f"{format_core_list(facts.cores)} of {count_of_cores(len(facts.machine_cores))}",
        "2 or more of them",
        "compiling and timing share the one core that this process is pinned to",
        f"pin to more: taskset -c {format_core_list(facts.machine_cores)} hwprof ...",
        warn=len(facts.cores) < 2 <= len(facts.machine_cores),
    )


def check_cpu_limit(facts: Facts) -> Finding:
    limit = facts.cpu_limit
    return finding(
        "cpu limit",
        limit,
        "none" if limit is None else f"{limit:g} CPUs",
        "none, or 2 CPUs or more",
        "once the quota of a period (often 100 ms) is used up, calls stand still until the next",
        "raise it (docker run --cpus 2 ...) or give whole cores (docker run --cpuset-cpus 0,1 ...)",
        bad=limit is not None and limit < 1,
        warn=limit is not None and limit < 2,
    )


def check_siblings(facts: Facts) -> Finding:
    name, threshold = "SMT siblings", "one usable thread per physical core"
    if facts.core_groups is None:
        return unknown(name, threshold)
    shared = [group for group in facts.core_groups if len(group) > 1]
    first = tuple(sorted(group[0] for group in facts.core_groups))
    return finding(
        name,
        len(shared),
        f"{len(shared)} of {len(facts.core_groups)} physical cores have several usable threads",
        threshold,
        "work on the sibling takes part of the core, and two threads of an op may land on one core",
        f"use one thread of each core: taskset -c {format_core_list(first)} hwprof ...",
        warn=bool(shared),
    )


def check_core_kinds(facts: Facts) -> Finding:
    name, threshold = "kinds of cores", "1"
    if not facts.core_kinds:
        return Finding(name, "ok", None, "not told apart here", threshold)
    by_kind: dict[str, list[int]] = {}
    for core in facts.cores:
        if core in facts.core_kinds:
            by_kind.setdefault(kind_name(facts.core_kinds[core]), []).append(core)
    choices = [f"taskset -c {format_core_list(tuple(cores))} ({k})" for k, cores in by_kind.items()]
    return finding(
        name,
        len(by_kind),
        ", ".join(by_kind),
        threshold,
        "an op that lands on a slow core takes several times as long",
        f"choose one kind, before hwprof ...: {' or '.join(choices)}",
        bad=len(by_kind) > 1,
    )


def check_virtual(facts: Facts) -> Finding:
    name, threshold = "virtual machine", "no"
    if facts.virtualised is None:
        return unknown(name, threshold)
    return finding(
        name,
        facts.virtualised,
        _yes(facts.virtualised),
        threshold,
        "the host's speed changes underneath: dense ops were seen at two speeds 10 to 12 % apart",
        "prefer bare metal; else build with --effort rigorous and compare two builds",
        warn=facts.virtualised,
    )


def check_governor(facts: Facts) -> Finding:
    name, threshold = "governor", "performance"
    group = facts.clock.governor_class if facts.clock else None
    if facts.clock is None or group is None:
        return unknown(name, threshold)
    if group == "none":
        return Finding(name, "ok", group, "no frequency control here", threshold)
    effects = {
        "powersave": "the clock stays at its lowest, so numbers are not those of a device in use",
        "dynamic": "the clock rises only after some ms of work, so a visit starts on a slow clock",
    }
    return finding(
        name,
        group,
        f"{facts.clock.governor} ({group})",
        threshold,
        effects.get(group, "the clock may change between visits"),
        "set it: sudo cpupower frequency-set -g performance",
        warn=group != "performance",
    )


def check_turbo(facts: Facts) -> Finding:
    turbo, name, threshold = facts.turbo, "turbo", "off"
    if turbo is None:
        return unknown(name, threshold)
    return finding(
        name,
        turbo.on,
        "on" if turbo.on else "off",
        threshold,
        "the clock follows heat and the number of busy cores, so early rows come out faster than late",
        f"switch it off: echo {turbo.off_value} | sudo tee {turbo.switch}",
        warn=turbo.on,
    )


def check_clock(facts: Facts) -> Finding:
    """Read right after the noise test, when a governor has had time to raise the clock."""
    name, threshold = "clock under load", f"{CLOCK_WARN_SHARE:.0%} of the maximum or more"
    now = facts.clock.now_mhz if facts.clock else None
    most = facts.clock.max_mhz if facts.clock else None
    if now is None or most is None:
        return unknown(name, threshold)
    share = now / most
    return finding(
        name,
        share,
        f"{now:.0f} of {most:.0f} MHz ({share:.0%})",
        threshold,
        "power or heat holds the clock down, and latency grows as it falls",
        "check cooling, power supply and power profile: cpupower frequency-info",
        bad=share < CLOCK_BAD_SHARE,
        warn=share < CLOCK_WARN_SHARE,
    )


def check_throttling(facts: Facts) -> Finding:
    name, threshold = "thermal throttling", "0 events"
    if facts.throttled is None:
        return unknown(name, threshold)
    since_boot, now = facts.throttled
    return finding(
        name,
        since_boot,
        f"{since_boot} events since boot, {now} just now",
        threshold,
        "heat forces the clock down in the middle of a build",
        "let it cool, improve the airflow, then look again: hwprof doctor",
        bad=now > 0,
        warn=since_boot > 0,
    )


def check_battery(facts: Facts) -> Finding:
    name, threshold = "battery power", "no"
    if facts.on_battery is None:
        return unknown(name, threshold)
    return finding(
        name,
        facts.on_battery,
        _yes(facts.on_battery),
        threshold,
        "firmware lowers clocks on battery, the more so as it empties",
        "plug it in, then look again: hwprof doctor",
        warn=facts.on_battery,
    )


def _yes(value: bool) -> str:
    return "yes" if value else "no"
