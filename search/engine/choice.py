"""Choice: which network of a measured shortlist is taken."""

from __future__ import annotations

from collections.abc import Sequence

from hwprof.search.engine.settings import SearchSettings

# A measured latency counts as on target up to so much above it, and below it.
TOLERANCE, MOST_BELOW = 0.03, 0.08


def choose(measured_ms: Sequence[float | None], settings: SearchSettings) -> int:
    """Of a shortlist in order of preference the first that meets the target as measured: at most 3 %
    above it and 8 % below. Where none does, the first that is faster; where there is none, the fastest.
    The first where nothing was measured."""
    most_ms, least_ms = (1.0 + TOLERANCE) * settings.target_ms, (1.0 - MOST_BELOW) * settings.target_ms
    known = {index: value for index, value in enumerate(measured_ms) if value is not None}
    for low_ms in (least_ms, 0.0):
        for index, value in known.items():
            if low_ms <= value <= most_ms:
                return index
    return min(known, key=lambda index: known[index], default=0)
