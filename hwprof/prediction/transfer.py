"""Transfer: a predictor of a new device, from a few networks measured there and what others cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hwprof.prediction.device_prior import DevicePrior
from hwprof.prediction.encoding import Floats, Integers
from hwprof.prediction.errors import PredictionError
from hwprof.prediction.intervals import check_level, log_errors
from hwprof.prediction.posterior import Posterior, posterior, reduced
from hwprof.prediction.predictor import Interval, Origin, Predictor, Tried
from hwprof.prediction.references import choose_references
from hwprof.prediction.scores import scores_of
from hwprof.prediction.transferred import Transferred

LEAST_NETWORKS = 3
FURTHER = (0, 1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100)
WORTH_WITHIN = 1.05
"""Further networks are worth it until the error is within this factor of what 100 more would bring."""
LOOKED_AT, CANDIDATES = 300, 500
"""Networks of the pool that foreseen errors are means over, and that references are chosen of."""
MEAN_OF_NORMAL = float(np.sqrt(2.0 / np.pi))
DRAWS = 50


@dataclass(frozen=True)
class Foreseen:
    """Mean relative error of a new network's prediction once `further` more are measured.

    Attributes:
        error: against one measurement of it, noise included.
    """

    further: int
    error: float


@dataclass(frozen=True)
class Transfer:
    """A transferred predictor and what it may be believed.

    Attributes:
        predictor: its `tried` holds the errors of the measured networks, each left out in turn.
        foreseen: for each of `FURTHER` that there are networks for.
        noise: mean relative distance of a measurement from the function's value, as far as it can be
            told: no prediction is better than that for long.
        worth: how many further networks are worth measuring.
        next_points: those, as choice indices, the most telling first.
    """

    predictor: Predictor
    sources: tuple[str, ...]
    foreseen: tuple[Foreseen, ...]
    noise: float
    worth: int
    next_points: tuple[tuple[int, ...], ...]

    def summary(self) -> dict[str, Any]:
        return {
            **self.predictor.summary(),
            "sources": list(self.sources),
            "foreseen": [asdict(each) for each in self.foreseen],
            "noise": self.noise,
            "worth": self.worth,
            "next_points": [list(point) for point in self.next_points],
        }


def fit_transfer(
    prior: DevicePrior,
    points: ArrayLike,
    values: ArrayLike,
    *,
    origin: Origin | None = None,
    level: float = 0.9,
    seed: int = 0,
) -> Transfer:
    """
    Args:
        points: measured on the new device, (networks, positions). values: (networks,), above 0.
        level: share of truths that the interval holds.

    Raises:
        PredictionError: fewer than 3 different networks, values that are all alike or not above 0, or a
            point outside the encoding.
    """
    check_level(level)
    features = prior.features
    one_hot = features.encoding.one_hot(points)
    truth = _checked(one_hot, values, "latency_ms" if origin is None else origin.metric)
    found = posterior(prior, one_hot, truth)
    weights, live_weights = features.folded(found.weights)
    member = Transferred(
        features.encoding, features.liveness, weights, live_weights,
        found.level - float(features.middle @ found.weights), 0.5 * float(truth.min()),
    )  # fmt: skip
    looked_at = features.pool[_some(len(features.pool), LOOKED_AT)]
    value = member.predict(looked_at)
    columns = features.of_networks(looked_at)
    noise = _noise(found, value)
    order = next_references(prior, one_hot, FURTHER[-1])
    foreseen = _foreseen(found, one_hot, features.pool[order], columns, value)
    worth = next(each.further for each in foreseen if each.error <= WORTH_WITHIN * foreseen[-1].error)
    spread = np.sqrt(found.variance(columns) + found.noise) / value
    factor = _factor(spread, len(truth) - 1, level, seed)
    left_out = np.maximum(found.left_out(), member.floor)
    coverage = float((log_errors(left_out, truth) <= np.log(factor)).mean())
    predictor = Predictor(
        encoding=features.encoding,
        member=member,
        interval=Interval(level, factor, coverage),
        origin=origin or Origin("latency_ms", "ms", len(truth)),
        tried=(Tried(member.name, scores_of(left_out, truth, coverage)),),
    )
    return Transfer(
        predictor,
        tuple(source.name for source in prior.sources),
        foreseen,
        noise,
        worth,
        points_of(prior, order[:worth].tolist()),
    )


def points_of(prior: DevicePrior, places: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Networks of the pool as choice indices."""
    encoding = prior.features.encoding
    found = np.zeros((len(places), len(encoding.positions)), dtype=np.int64)
    for start, place in zip(encoding.starts, encoding.chosen, strict=True):
        part = prior.features.pool[places, start : start + encoding.widths[place]]
        found[:, place] = part.argmax(-1) if len(places) else 0
    return tuple(tuple(point) for point in found.tolist())


def first_references(prior: DevicePrior, count: int) -> tuple[tuple[int, ...], ...]:
    """Networks to measure first on a device of which nothing is measured, the most telling first; fewer
    where the space has no more."""
    return points_of(prior, next_references(prior, prior.features.pool[:0], count).tolist())


def next_points(prior: DevicePrior, points: ArrayLike, count: int) -> tuple[tuple[int, ...], ...]:
    """Networks to measure beside these, the most telling first; fewer where the space has no more.

    Raises:
        PredictionError: a point lies outside the encoding.
    """
    measured = prior.features.encoding.one_hot(points)
    return points_of(prior, next_references(prior, measured, count).tolist())


def next_references(prior: DevicePrior, measured: Floats, count: int) -> Integers:
    """Places in the pool of networks that are not measured yet, the most telling first; fewer than asked
    for where there are no more.

    Args:
        measured: (networks, columns) one-hot.
    """
    pool = prior.features.pool
    taken = {row.tobytes() for row in np.ascontiguousarray(measured)}
    new = [place for place in _some(len(pool), CANDIDATES) if pool[place].tobytes() not in taken]
    places = np.array(new, dtype=np.int64)
    count = min(count, len(places))
    return places[choose_references(prior, pool[places], count, measured=measured)]


def _foreseen(
    found: Posterior, measured: Floats, following: Floats, columns: Floats, value: Floats
) -> tuple[Foreseen, ...]:
    """The variance of a linear model does not depend on what will be measured, only on where."""
    features = found.prior.features
    known = np.vstack([features.of_networks(measured), features.of_networks(following)])
    errors = []
    for further in (count for count in FURTHER if count <= len(following)):
        error, weight = 0.0, 0.0
        for setting in found.likely():
            covariance = found.prior.covariance(setting.own)
            first = known[: len(measured) + further]
            left = reduced(covariance, first, columns, setting.noise) + setting.noise
            error += setting.weight * float((np.sqrt(left) * setting.scale / value).mean())
            weight += setting.weight
        errors.append(Foreseen(further, MEAN_OF_NORMAL * error / weight))
    return tuple(errors)


def _noise(found: Posterior, value: Floats) -> float:
    """What stays of the foreseen error however many networks are measured."""
    likely = list(found.likely())
    spread = sum(s.weight * np.sqrt(s.noise) * s.scale for s in likely) / sum(s.weight for s in likely)
    return MEAN_OF_NORMAL * float((spread / value).mean())


def _factor(spread: Floats, freedom: int, level: float, seed: int) -> float:
    """What relative deviations of Student's t with this spread stay within, as a factor."""
    rng = np.random.default_rng([seed, 5])
    drawn = np.abs(rng.standard_t(freedom, (DRAWS, len(spread))) * spread)
    return float(np.exp(np.quantile(drawn, level)))


def _some(count: int, most: int) -> Integers:
    """So many places of `count`, evenly spaced."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).astype(np.int64))


def _checked(one_hot: Floats, values: ArrayLike, metric: str) -> Floats:
    truth = np.asarray(values, dtype=np.float64)
    if truth.shape != (len(one_hot),):
        raise PredictionError(f"{len(one_hot)} networks have {len(one_hot)} values, got {truth.shape}")
    different = len(np.unique(one_hot, axis=0))
    if different < LEAST_NETWORKS:
        raise PredictionError(
            f"{different} different measured networks of the new device are too few to transfer to, "
            f"{LEAST_NETWORKS} is the least; measure those that tell the most: hwprof transfer ... "
            "--measure 10"
        )
    bad = ~np.isfinite(truth) | ~(truth > 0.0)
    if bad.any():
        place = int(np.argmax(bad))
        raise PredictionError(f"{metric} of network {place} is {truth[place]:g}, not above 0 and finite")
    if np.ptp(truth) <= 1e-12 * truth.max():
        raise PredictionError(
            f"{metric} is {truth[0]:g} for all {len(truth)} networks: there is nothing to transfer; "
            "give another --metric, or networks that differ"
        )
    return truth
