"""Has a row enough visits, what is its value, and how far can it be trusted? Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf

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

    def sentinel_ms(self, dense: bool) -> float | None:
        """The reading of the dense or of the memory-bound sentinel beside this visit."""
        return self.visit.dense_ms if dense else self.visit.memory_ms

    @property
    def calls_ms(self) -> stats.Floats:
        """Milliseconds of a call, one value per timing."""
        return np.asarray(self.visit.calls_ns, dtype=np.float64) / self.visit.group / 1e6

    @cached_property
    def quantiles_ms(self) -> stats.Floats:
        """10th, 50th and 90th percentile of a call. Kept: every round asks again for every visit."""
        return stats.visit_quantiles_ms(self.calls_ms)

    @property
    def p10_ms(self) -> float:
        """The visit's value."""
        return float(self.quantiles_ms[0])


@dataclass(frozen=True)
class Verdict:
    """Value and trust of a row.

    Attributes:
        state: converged, budget or unstable.
        reason: why measuring stopped.
        used: the visits that the estimate, and every quantile of the row, is made from.
        clean: how many visits are clean.
    """

    estimate: stats.Estimate
    state: str
    reason: str
    used: tuple[RecordedVisit, ...]
    clean: int


# Floors of the dense and the memory-bound sentinel by worker process.
SentinelFloors = Mapping[int, tuple[float, float]]


def sentinel_floors(visits: Iterable[RecordedVisit]) -> SentinelFloors:
    """Each process's sentinel floors, from all visits that it made, of whatever row."""
    seen: dict[int, list[tuple[float, float]]] = {}
    for made in visits:
        if made.visit.dense_ms is not None and made.visit.memory_ms is not None:
            seen.setdefault(made.process, []).append((made.visit.dense_ms, made.visit.memory_ms))
    return {
        process: (
            stats.sentinel_floor([dense for dense, _ in looks]),
            stats.sentinel_floor([memory for _, memory in looks]),
        )
        for process, looks in seen.items()
    }


def clean_mask(visits: Sequence[RecordedVisit], dense: bool, floors: SentinelFloors) -> list[bool]:
    """Which visits are clean, judged by the sentinel of the op's class; on a GPU by its throttling."""
    which = 0 if dense else 1
    looks = [v.sentinel_ms(dense) for v in visits]
    usual = [floors[v.process][which] if v.process in floors else None for v in visits]
    clean = stats.clean_visits([v.visit.cpu_share for v in visits], looks, usual)
    return [
        bool(flag) and not _throttled(visit.visit.device_throttle)
        for flag, visit in zip(clean, visits, strict=True)
    ]


def _throttled(reasons: str | None) -> bool:
    """Held down by heat or by its supply. A power cap is how a loaded GPU lives, and one that is read
    after its last call is idle again."""
    return any(word in (reasons or "") for word in ("thermal", "slowdown", "brake"))


def disagreement(
    protocol: Protocol, visits: Sequence[RecordedVisit], dense: bool, floors: SentinelFloors
) -> str:
    """Empty when the row's visits agree, else what does not agree yet.

    They agree when, over clean visits, the floors of even and odd rounds lie within `rel_precision` of
    each other and so do the floors of the `protocol.agreeing` lowest worker processes.
    """
    clean = [v for v, ok in zip(visits, clean_mask(visits, dense, floors), strict=True) if ok]
    if len(clean) < LEAST_CLEAN_VISITS:
        return f"only {len(clean)} clean visits of {len(visits)}"
    p10_ms = [v.p10_ms for v in clean]
    halves = stats.halves_gap(p10_ms, [v.round for v in clean])
    if halves == inf:
        return f"too few rounds ({len(clean)} clean visits)"
    if halves > protocol.rel_precision:
        return f"the floors of two halves of the visits lie {halves:.1%} apart"
    processes = stats.processes_gap(p10_ms, [v.process for v in clean], protocol.agreeing)
    if processes == inf:
        return f"fewer than {protocol.agreeing} processes made three clean visits"
    if processes > protocol.rel_precision:
        return f"the floors of the lowest processes lie {processes:.1%} apart"
    return ""


def judge(
    protocol: Protocol,
    visits: Sequence[RecordedVisit],
    dense: bool,
    floors: SentinelFloors,
    stopped: str = "",
    host_drift: float = 0.0,
) -> Verdict:
    """Value and trust of a row that gets no more visits now.

    `stopped` names the outer cause where the row was not finished (interrupted, time budget): it is
    never called converged then. Rows that do not agree are `budget` while their interval is within
    three times the wanted precision, else `unstable`. `host_drift` widens the interval that is stated
    (see `stats.estimate`), not the one that decides the state.

    Raises:
        ValueError: no visits.
    """
    why = disagreement(protocol, visits, dense, floors)
    mask = clean_mask(visits, dense, floors)
    enough_clean = sum(mask) >= LEAST_CLEAN_VISITS
    used = tuple(v for v, ok in zip(visits, mask, strict=True) if ok or not enough_clean)
    looks = [v.sentinel_ms(dense) for v in used]
    p10_ms = [v.p10_ms for v in used]
    estimate = stats.estimate(p10_ms, looks, host_drift)
    if not why and not stopped:
        state, reason = "converged", f"visits and processes agree within {protocol.rel_precision:.1%}"
    else:
        wide = stats.interval_half_width(p10_ms, looks) > UNSTABLE_FACTOR * protocol.rel_precision
        state = "unstable" if wide or not enough_clean else "budget"
        reason = "; ".join(part for part in (stopped, why) if part)
    return Verdict(estimate, state, reason, used, sum(mask))
