"""Doctor: what will make numbers poor on this machine, and what to do about it.

`examine` looks for about a second and changes nothing. Each check is a pure function from `Facts` to
one `Finding`: a number, a threshold, what it does to a latency, the command to run. Thresholds are
starting points; an effect given in percent was measured on a shared 2-core virtual machine.
"""

from __future__ import annotations

from collections.abc import Callable

from hwprof.machine import load_checks as load
from hwprof.machine import processor_checks as processor
from hwprof.machine.facts import Facts, gather_facts
from hwprof.machine.finding import SEVERITIES, Finding, Severity, verdict

__all__ = ["CHECKS", "Facts", "Finding", "Severity", "examine", "gather_facts", "verdict"]

CHECKS: tuple[Callable[[Facts], Finding], ...] = (
    processor.check_cores,
    processor.check_affinity,
    processor.check_cpu_limit,
    load.check_neighbours,
    load.check_load,
    load.check_steal,
    processor.check_virtual,
    processor.check_governor,
    processor.check_turbo,
    processor.check_clock,
    processor.check_throttling,
    processor.check_battery,
    processor.check_siblings,
    processor.check_core_kinds,
    load.check_timer,
    load.check_memory,
    load.check_swap,
    load.check_huge_pages,
    load.check_noise,
)


def examine(facts: Facts | None = None) -> list[Finding]:
    """Every check's finding, the worst first. Without `facts`, look at this machine."""
    seen = gather_facts() if facts is None else facts
    return sorted((check(seen) for check in CHECKS), key=lambda f: SEVERITIES.index(f.severity))
