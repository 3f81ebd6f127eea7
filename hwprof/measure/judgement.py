"""Has a row enough visits, what is its value, and how far can it be trusted? Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hwprof import stats
from hwprof.measure.messages import Visit
from hwprof.measure.protocol import Protocol

LEAST_CLEAN_VISITS = 6
UNSTABLE_FACTOR = 3.0


@dataclass(frozen=True)
class RecordedVisit:
    """A visit with its place in the build: worker process, shuffled round, first or second pass."""

    process: int
    round: int
    phase: int
    visit: Visit

    @cached_property
    def p10_ms(self) -> float:
        """Kept once computed: every round asks again for every visit."""
        return stats.visit_p10_ms(self.visit.calls_ns, self.visit.group)


@dataclass(frozen=True)
class Verdict:
    """`state` is one of converged, budget, unstable; `reason` says why measuring stopped."""

    estimate: stats.Estimate
    state: str
    reason: str


def clean_mask(
    visits: Sequence[RecordedVisit], dense: bool
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which visits are clean, judged by the sentinel of the op's class."""
    sentinel = [v.visit.dense_ms if dense else v.visit.memory_ms for v in visits]
    share = [v.visit.cpu_share for v in visits]
    return stats.clean_visits(share, sentinel, [v.process for v in visits])


def disagreement(protocol: Protocol, visits: Sequence[RecordedVisit], dense: bool) -> str:
    """Empty when the row's visits agree, else what does not agree yet.

    They agree when, over clean visits, the floors of two halves lie within `rel_precision` of each
    other and so do the floors of the `protocol.agreeing` lowest worker processes.
    """
    clean = clean_mask(visits, dense)
    if clean.sum() < LEAST_CLEAN_VISITS:
        return f"only {int(clean.sum())} clean visits of {len(visits)}"
    p10_ms = np.array([v.p10_ms for v in visits])[clean]
    process = np.array([v.process for v in visits])[clean]
    halves = stats.halves_gap(p10_ms, np.array([v.round for v in visits])[clean])
    if halves > protocol.rel_precision:
        return f"the floors of two halves of the visits lie {halves:.1%} apart"
    processes = stats.processes_gap(p10_ms, process, protocol.agreeing)
    if processes > protocol.rel_precision:
        return f"the floors of the lowest processes lie {processes:.1%} apart"
    return ""


def judge(
    protocol: Protocol, visits: Sequence[RecordedVisit], dense: bool, stopped: str = ""
) -> Verdict:
    """Value and trust of a row that gets no more visits.

    `stopped` names an outer cause (interrupted, time budget). Rows that do not agree are `budget`
    while their interval is within three times the wanted precision, else `unstable`.

    Raises:
        ValueError: no visits.
    """
    why = disagreement(protocol, visits, dense)
    clean = clean_mask(visits, dense)
    enough_clean = clean.sum() >= LEAST_CLEAN_VISITS
    used = [v for v, ok in zip(visits, clean, strict=True) if ok or not enough_clean]
    sentinel = [v.visit.dense_ms if dense else v.visit.memory_ms for v in used]
    estimate = stats.estimate([v.p10_ms for v in used], sentinel)
    if not why and not stopped:
        return Verdict(estimate, "converged", "visits and processes agree")
    reason = "; ".join(part for part in (stopped, why) if part)
    wide = estimate.relative_half_width > UNSTABLE_FACTOR * protocol.rel_precision
    return Verdict(estimate, "unstable" if wide or not enough_clean else "budget", reason)
