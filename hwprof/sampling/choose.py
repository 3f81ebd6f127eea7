"""Choose: which networks and ops lower the predictive error the most for each second of measuring."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hwprof.prediction.encoding import Floats, Integers
from hwprof.sampling.belief import Belief


@dataclass(frozen=True)
class Picked:
    """What to measure next.

    Attributes:
        networks: places among the candidates. ops: places among the ops.
        seconds: that it is expected to take.
    """

    networks: tuple[int, ...]
    ops: tuple[int, ...]
    seconds: float


def choose(
    belief: Belief,
    counts: Floats,
    seconds: Floats,
    op_seconds: Floats,
    budget_s: float,
    *,
    least_networks: int = 0,
    most_networks: int | None = None,
) -> Picked:
    """Greedily, until `budget_s` is spent: the largest fall of the mean relative predictive variance for
    each second.

    Args:
        counts: (networks, ops): those that stand for the space; the first len(seconds) are candidates.
        seconds: (candidates,) that measuring each takes. op_seconds: (ops,) the same of a row.
        least_networks: so many networks come first, whatever ops promise.
        most_networks: no more than these; None: as the budget allows.
    """
    predicted = np.maximum(belief.predict(counts), 1e-9)
    networks = np.hstack([counts, np.ones((len(counts), 1))]) / predicted[:, None]
    missing = np.flatnonzero(belief.guess_spread > 0.0)
    single = np.zeros((len(missing), networks.shape[1]))
    single[np.arange(len(missing)), missing] = 1.0
    vectors = np.vstack([networks, single])
    left = vectors @ belief.covariance @ vectors.T
    noise = np.concatenate([np.full(len(counts), belief.noise**2), _row_noise(belief, missing)])
    price = np.concatenate([seconds, np.full(len(counts) - len(seconds), np.inf), op_seconds[missing]])
    chosen: list[int] = []
    spent = 0.0
    while True:
        gain = (left[: len(counts)] ** 2).sum(0) / (left.diagonal() + noise) / price
        gain[chosen] = -np.inf
        networks_chosen = sum(place < len(counts) for place in chosen)
        if networks_chosen < least_networks:
            gain[len(counts) :] = -np.inf
        if networks_chosen == most_networks:
            gain[: len(counts)] = -np.inf
        affordable = np.isfinite(price) & (spent + price <= budget_s)
        gain[~affordable] = -np.inf
        place = int(gain.argmax())
        if not gain[place] > 0.0:
            break
        chosen.append(place)
        spent += float(price[place])
        shared = left[place].copy()
        left -= np.outer(shared, shared) / (shared[place] + noise[place])
    return Picked(
        tuple(place for place in chosen if place < len(counts)),
        tuple(int(missing[place - len(counts)]) for place in chosen if place >= len(counts)),
        spent,
    )


def _row_noise(belief: Belief, missing: Integers) -> Floats:
    """Variance (ms squared) with which a row tells an op's cost in a network: such that what is left of
    its variance is what a network does to it."""
    stays = (belief.in_network * belief.guesses[missing]) ** 2
    goes = (belief.guess_spread[missing] * belief.guesses[missing]) ** 2
    return np.asarray(stays * (stays + goes) / goes)
