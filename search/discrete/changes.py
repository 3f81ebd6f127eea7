"""Changes: what measuring a shortlist changed in what was predicted of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from hwprof.search.discrete.hypervolume import front_mask
from hwprof.search.discrete.objectives import Floats


@dataclass(frozen=True)
class Changes:
    """Of the networks that were measured.

    Attributes:
        measured: how many.
        mean_error, worst_error: of |measured / predicted - 1|.
        swapped: pairs whose order by measured latency is the opposite of that by predicted latency.
        pairs: of networks whose predictions differ.
        fastest_before, fastest_after: index in the shortlist, by prediction and as measured.
    """

    measured: int
    mean_error: float
    worst_error: float
    swapped: int
    pairs: int
    fastest_before: int
    fastest_after: int

    def summary(self) -> dict[str, Any]:
        return asdict(self)

    def text(self) -> str:
        fastest = (
            "the fastest is the same"
            if self.fastest_before == self.fastest_after
            else f"the fastest is number {self.fastest_after + 1}, predicted was number "
            f"{self.fastest_before + 1}"
        )
        return (
            f"{self.measured} measured: mean error {self.mean_error:.1%}, worst {self.worst_error:.1%}; "
            f"{self.swapped} of {self.pairs} pairs changed order; {fastest}"
        )


def changes(predicted: Sequence[float], measured: Sequence[float | None]) -> Changes | None:
    """None where nothing was measured."""
    known = [
        (place, guess, truth)
        for place, (guess, truth) in enumerate(zip(predicted, measured, strict=True))
        if truth is not None
    ]
    if not known:
        return None
    errors = [abs(truth / guess - 1.0) for _, guess, truth in known]
    pairs = [(a, b) for a, b in combinations(known, 2) if a[1] != b[1]]
    return Changes(
        measured=len(known),
        mean_error=float(np.mean(errors)),
        worst_error=max(errors),
        swapped=sum((a[1] - b[1]) * (a[2] - b[2]) < 0 for a, b in pairs),
        pairs=len(pairs),
        fastest_before=min(known, key=lambda one: one[1])[0],
        fastest_after=min(known, key=lambda one: one[2])[0],
    )


def dropped(values: Floats, column: int, measured: Sequence[float | None]) -> tuple[int, ...]:
    """Networks that leave the front of their like once what was measured stands in the place of what was
    predicted.

    Args:
        values: (networks, objectives), smaller is better.
        column: the objective that was measured.
        measured: None keeps the prediction.
    """
    now = values.copy()
    for place, truth in enumerate(measured):
        if truth is not None:
            now[place, column] = truth
    gone = front_mask(values) & ~front_mask(now)
    return tuple(np.flatnonzero(gone).tolist())
