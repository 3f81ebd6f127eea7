"""Scores: how well a member predicts networks that it has not seen."""

from __future__ import annotations

from dataclasses import dataclass

from hwprof.prediction.encoding import Floats
from hwprof.validation.scores import relative_errors, spearman, summarise_errors


@dataclass(frozen=True)
class Scores:
    """Errors are |predicted / measured - 1|, as fractions.

    Attributes:
        within: bound in percent -> share of networks whose error is at most that.
        spearman: rank correlation; None where all values are equal.
        coverage: share of measured values inside the stated interval.
    """

    networks: int
    mean: float
    median: float
    within: dict[str, float]
    spearman: float | None
    coverage: float


def scores_of(predicted: Floats, measured: Floats, coverage: float) -> Scores:
    errors = summarise_errors(relative_errors(predicted, measured))
    within = {f"{100 * bound:g}": share for bound, share in errors.within.items()}
    return Scores(
        len(measured), errors.mean, errors.median, within, spearman(predicted, measured), coverage
    )
