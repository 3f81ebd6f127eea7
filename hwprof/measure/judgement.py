"""Has a row enough visits, what is its value, and how far can it be trusted? Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hwprof import stats
from hwprof.measure.messages import Visit
from hwprof.measure.protocol import Protocol

LEAST_CLEAN_VISITS = 4
PATIENCE_VISITS = 8
SETTLED_DROP = 0.005
UNSTABLE_FACTOR = 3.0


@dataclass(frozen=True)
class RecordedVisit:
    """A visit with its place in the build: worker process, shuffled round, first or second pass."""

    process: int
    round: int
    phase: int
    visit: Visit

    @property
    def p10_ms(self) -> float:
        return stats.visit_p10_ms(self.visit.calls_ns, self.visit.group)


@dataclass(frozen=True)
class Verdict:
    """`state` is one of converged, budget, unstable; `reason` says why measuring stopped."""

    estimate: stats.Estimate
    state: str
    reason: str


def clean_mask(visits: Sequence[RecordedVisit], dense: bool) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which visits are clean, judged by the sentinel of the op's class."""
    sentinel = [v.visit.dense_ms if dense else v.visit.memory_ms for v in visits]
    share = [v.visit.cpu_share for v in visits]
    return stats.clean_visits(share, sentinel, [v.process for v in visits])


def disagreement(protocol: Protocol, visits: Sequence[RecordedVisit], dense: bool) -> str:
    """Empty when the row's visits agree, else what does not agree yet.

    They agree when, over clean visits, the four lowest lie within `rel_precision` and so do the
    floors of the lowest `protocol.processes` worker processes (after a second pass there are more:
    noise only adds, so a process with unlucky placement says nothing about the floor).
    """
    clean = clean_mask(visits, dense)
    if clean.sum() < LEAST_CLEAN_VISITS:
        return f"only {int(clean.sum())} clean visits of {len(visits)}"
    p10_ms = np.array([v.p10_ms for v in visits])[clean]
    process = np.array([v.process for v in visits])[clean]
    gap = stats.visit_gap(p10_ms)
    if gap > protocol.rel_precision:
        return f"the four lowest visits lie {gap:.1%} apart"
    floors = np.sort(stats.process_floors_ms(p10_ms, process))
    if len(floors) < protocol.processes:
        return f"only {len(floors)} of {protocol.processes} processes made clean visits"
    spread = float(floors[protocol.processes - 1] / floors[0] - 1.0)
    if spread > protocol.rel_precision:
        return f"the processes' floors lie {spread:.1%} apart"
    return ""


def settled(visits: Sequence[RecordedVisit]) -> bool:
    """Whether the last eight visits lowered the floor by 0.5 % or less: more of the same is useless."""
    if len(visits) < PATIENCE_VISITS + stats.AGREEING_VISITS:
        return False
    p10_ms = [v.p10_ms for v in visits]
    before, now = stats.floor_ms(p10_ms[:-PATIENCE_VISITS]), stats.floor_ms(p10_ms)
    return now >= before * (1.0 - SETTLED_DROP)


def judge(protocol: Protocol, visits: Sequence[RecordedVisit], dense: bool, stopped: str = "") -> Verdict:
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
    estimate = stats.estimate([v.p10_ms for v in used], [v.process for v in used])
    if not why and len(visits) >= protocol.least_visits:
        return Verdict(estimate, "converged", "visits and processes agree")
    reason = "; ".join(part for part in (stopped, why) if part)
    wide = estimate.relative_half_width > UNSTABLE_FACTOR * protocol.rel_precision
    return Verdict(estimate, "unstable" if wide or not enough_clean else "budget", reason)
