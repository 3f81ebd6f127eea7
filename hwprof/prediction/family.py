"""The family of members, fitted on one set of networks and chosen by held-out error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from numpy.typing import ArrayLike

from hwprof.errors import HwprofError
from hwprof.prediction.additive import fit_additive, fit_composition
from hwprof.prediction.boosted import fit_boosted
from hwprof.prediction.encoding import Encoding, Floats, Integers
from hwprof.prediction.errors import PredictionError
from hwprof.prediction.intervals import check_level, conformal, least_networks, log_errors
from hwprof.prediction.knowledge import Knowledge
from hwprof.prediction.pairwise import fit_pairwise
from hwprof.prediction.predictor import Interval, Member, Origin, Predictor, Tried
from hwprof.prediction.regressor import fit_priced, fit_regressor
from hwprof.prediction.relaxation import relaxation_gap
from hwprof.prediction.scores import Scores, scores_of

Fit = Callable[[Floats, Floats, Knowledge, int], Member]

MEMBERS: dict[str, Fit] = {
    "composition": fit_composition,
    "additive": fit_additive,
    "pairwise": fit_pairwise,
    "priced": fit_priced,
    "regressor": fit_regressor,
    "boosted": fit_boosted,
}
"""From the simplest on."""
LEAST_NETWORKS = 10
FOLDS = 5
SIMPLER_WITHIN, SIMPLER_BY = 1.02, 5e-4
"""A simpler member is preferred while its error is within this factor of the best one's, or above it by
less than that."""


@dataclass(frozen=True)
class Contender:
    """A member with what is known of it."""

    member: Member
    tried: Tried
    interval: Interval


def fit_family(
    knowledge: Knowledge,
    points: ArrayLike,
    values: ArrayLike,
    *,
    metric: str = "latency_ms",
    origin: Origin | None = None,
    members: Sequence[str] = (),
    seed: int = 0,
    level: float = 0.9,
    test: tuple[ArrayLike, ArrayLike] | None = None,
    progress: Callable[[str], object] = lambda name: None,
) -> Predictor:
    """Fit every member on the networks, each judged on folds that it has not seen, and keep the best.

    Args:
        points: choice indices (networks, positions). Copies of a point are in one fold.
        values: (networks,), above 0.
        members: of `MEMBERS`; empty for all that can be fitted.
        level: share of truths that the intervals hold.
        test: points and values that nothing is fitted on nor chosen by.
        progress: told each member before it is fitted.

    Raises:
        PredictionError: fewer than 10 different networks, values that are not above 0 and finite or all
            alike, a point outside the encoding, an unknown member, or none that could be fitted (each
            with its reason).
    """
    encoding = knowledge.encoding
    wanted = _checked_members(members)
    check_level(level)
    one_hot = encoding.one_hot(points)
    truth = _checked_values(values, len(one_hot), metric)
    folds = _folds(one_hot, seed, encoding.space, max(LEAST_NETWORKS, least_networks(level)))
    contenders, skipped = [], []
    for name in wanted:
        progress(name)
        try:
            contenders.append(_contend(name, one_hot, truth, folds, knowledge, seed, level))
        except HwprofError as error:
            skipped.append(Tried(name, skipped=str(error)))
    if not contenders:
        why = "; ".join(f"{one.member}: {one.skipped}" for one in skipped)
        raise PredictionError(f"no member could be fitted: {why}")
    best = _choose(contenders)
    by_name = {one.member: one for one in [*skipped, *(c.tried for c in contenders)]}
    return Predictor(
        encoding=encoding,
        member=best.member,
        interval=best.interval,
        origin=origin or Origin(metric, "", len(truth)),
        tried=tuple(by_name[name] for name in wanted),
        test=None if test is None else tested(best, encoding, *test, metric=metric),
    )


def tested(
    contender: Contender, encoding: Encoding, points: ArrayLike, values: ArrayLike, *, metric: str
) -> Scores:
    """On networks that it has not seen, its interval included."""
    one_hot = encoding.one_hot(points)
    truth = _checked_values(values, len(one_hot), metric, constant=True)
    predicted = contender.member.predict(one_hot)
    inside = log_errors(predicted, truth) <= np.log(contender.interval.factor)
    return scores_of(predicted, truth, float(inside.mean()))


def _contend(
    name: str, one_hot: Floats, truth: Floats, folds: Integers, knowledge: Knowledge, seed: int,
    level: float,
) -> Contender:  # fmt: skip
    fit = MEMBERS[name]
    predicted = np.empty(len(truth))
    for fold in np.unique(folds):
        rest = folds != fold
        fitted = fit(one_hot[rest], truth[rest], knowledge, seed)
        predicted[~rest] = fitted.predict(one_hot[~rest])
    if not np.isfinite(predicted).all():
        raise PredictionError("its predictions are not finite")
    interval = conformal(log_errors(predicted, truth), folds, level)
    began = perf_counter()
    member = fit(one_hot, truth, knowledge, seed)
    seconds = perf_counter() - began
    gap = relaxation_gap(member, knowledge.encoding, one_hot, seed) if member.differentiable else None
    scores = scores_of(predicted, truth, interval.coverage)
    return Contender(member, Tried(name, scores, None, gap, seconds), interval)


def _choose(contenders: Sequence[Contender]) -> Contender:
    errors = [one.tried.scores.mean for one in contenders if one.tried.scores is not None]
    return contenders[simplest_good(errors)]


def simplest_good(errors: Sequence[float]) -> int:
    """The first of those, in order of `MEMBERS`, that are about as good as the best."""
    good = max(SIMPLER_WITHIN * min(errors), min(errors) + SIMPLER_BY)
    return next(place for place, error in enumerate(errors) if error <= good)


def _folds(one_hot: Floats, seed: int, space: str, least: int) -> Integers:
    """A fold for each network; copies of a point share theirs."""
    _, which = np.unique(one_hot, axis=0, return_inverse=True)
    different = int(which.max()) + 1 if len(which) else 0
    if different < least:
        raise PredictionError(
            f"{different} different networks of {space} are too few to fit and judge a predictor on; it "
            f"takes {least}: measure more: hwprof validate TABLE --networks {4 * least}"
        )
    order = np.random.default_rng([seed, 1]).permutation(different)
    found: Integers = (order % FOLDS)[which.ravel()].astype(np.int64)
    return found


def _checked_members(members: Sequence[str]) -> list[str]:
    for name in members:
        if name not in MEMBERS:
            raise PredictionError(f"member {name!r} is unknown; choose of {', '.join(MEMBERS)}")
    return [name for name in MEMBERS if not members or name in members]


def _checked_values(values: ArrayLike, count: int, metric: str, *, constant: bool = False) -> Floats:
    truth = np.asarray(values, dtype=np.float64)
    if truth.shape != (count,):
        raise PredictionError(f"{count} networks have {count} values of {metric}, got {truth.shape}")
    bad = ~np.isfinite(truth) | ~(truth > 0)
    if bad.any():
        place = int(np.argmax(bad))
        raise PredictionError(
            f"{metric} of network {place} is {truth[place]:g}; a metric to predict is above 0 and finite"
        )
    if count and not constant and np.ptp(truth) <= 1e-12 * truth.max():
        raise PredictionError(
            f"{metric} is {truth[0]:g} for all {count} networks: there is nothing to predict; give "
            "another --metric, or networks that differ"
        )
    return truth
