"""Intervals around predictions, by cross-conformal prediction (Vovk 2015, arXiv 1208.0806).

The score of a network is |log(measured / predicted)|, predicted by a fit on the folds without it. The
interval multiplies and divides a prediction by exp of the scores' quantile, with the correction for
their finite number. How many truths it holds is counted on each fold with the quantile of the others.
"""

from __future__ import annotations

from math import ceil, exp, inf

import numpy as np

from hwprof.prediction.encoding import Floats, Integers
from hwprof.prediction.errors import PredictionError
from hwprof.prediction.predictor import Interval


def log_errors(predicted: Floats, measured: Floats) -> Floats:
    """|log(measured / predicted)|; infinite where a prediction is not above 0."""
    found = np.full(len(measured), inf)
    good = predicted > 0
    found[good] = np.abs(np.log(measured[good] / predicted[good]))
    return found


def conformal(errors: Floats, folds: Integers, level: float) -> Interval:
    """The interval of scores whose networks lie in these folds.

    Raises:
        PredictionError: too few networks for the level, or no finite interval holds so many.
    """
    factor = exp(_quantile(errors, level))
    inside = [
        errors[folds == fold] <= _quantile(errors[folds != fold], level, strict=False)
        for fold in np.unique(folds)
    ]
    if factor == inf:
        raise PredictionError(f"no finite interval holds {level:.0%} of the networks")
    return Interval(level, factor, float(np.concatenate(inside).mean()))


def least_networks(level: float) -> int:
    """So many networks an interval of this level takes."""
    return ceil(level / (1.0 - level) - 1e-9)


def check_level(level: float) -> None:
    """Raises PredictionError where it is no level of an interval."""
    if not 0.5 <= level <= 0.99:
        raise PredictionError(f"level must be 0.5 to 0.99, got {level}")


def _quantile(errors: Floats, level: float, strict: bool = True) -> float:
    """The smallest score with so many at or below it, one counted as above all."""
    rank = ceil((len(errors) + 1) * level - 1e-9)
    if rank > len(errors):
        if strict:
            raise PredictionError(
                f"an interval of {level:.0%} takes {least_networks(level)} networks or more, got "
                f"{len(errors)}; lower --level"
            )
        rank = len(errors)
    return float(np.sort(errors)[rank - 1])
