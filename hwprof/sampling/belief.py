"""Belief: what each op is thought to cost inside a network, from rows and from measured networks.

A network costs constant + sum of its ops' costs. An op that has a row is believed to cost it, give or
take what a network does to it; one without is guessed from its FLOPs and bytes by those that have. All
ops may be off by one factor together. Measured networks then move the costs (Gaussian linear model;
Rasmussen and Williams 2006, section 2.1). Errors are relative: each network is divided by its latency.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hwprof.graph import cost
from hwprof.ops import OpSpec
from hwprof.prediction.encoding import Encoding, Floats
from hwprof.prediction.knowledge import knowledge_of
from hwprof.prediction.liveness import Liveness, has_network
from hwprof.space import Space

IN_NETWORK = (0.003, 0.01, 0.03, 0.1, 0.3)
NOISES = (0.002, 0.005, 0.01, 0.02, 0.05)
"""What a network does to an op's cost, and a measurement's noise: relative standard deviations. Which of
them hold is told by how likely they make what was measured."""
BEFORE = (0.03, 0.01)
"""Taken while no network is measured; `s3nas` on ONNX Runtime has less than that of both
(docs/composition.md), runtimes that fuse across ops more of the first."""
TOGETHER, CONSTANT = 0.3, 0.1
"""Standard deviations of the factor that all ops share, and of the constant over a network."""
LEAST_GUESS, FIRST_GUESS = 0.1, 0.7
"""Relative standard deviation of a guess: at least the first; with few rows to learn from the second."""
ROWS_TO_LEARN_FROM = 8
NOMINAL_FLOPS_PER_MS, NOMINAL_BYTES_PER_MS = 5e7, 1e7


@dataclass(frozen=True)
class OpCounts:
    """How networks are made of ops.

    Attributes:
        of_columns: (columns, ops): how often a choice runs an op. fixed: (ops,) those of every network.
    """

    ops: tuple[OpSpec, ...]
    encoding: Encoding
    liveness: Liveness | None
    of_columns: Floats
    fixed: Floats

    @classmethod
    def of(cls, space: Space) -> OpCounts:
        """Raises PredictionError where the space has nothing to predict."""
        knowledge = knowledge_of(space)
        encoding = knowledge.encoding
        ops = space.ops()
        place_of = {op: place for place, op in enumerate(ops)}
        fixed = np.zeros(len(ops))
        for position in space.positions:
            if len(position.choices) == 1:
                for op in position.choices[0].ops:
                    fixed[place_of[op]] += 1.0
        return cls(ops, encoding, Liveness.of(space, encoding), knowledge.counts, fixed)

    def of_points(self, points: Sequence[Sequence[int]]) -> Floats:
        """(networks, ops). Ops on edges that a network leaves out are not counted.

        Raises:
            PredictionError: a point lies outside the encoding.
        """
        one_hot = self.encoding.one_hot(points)
        if self.liveness is not None:
            one_hot = self.liveness.live(one_hot)
        found: Floats = one_hot @ self.of_columns + self.fixed
        return found

    def with_network(self, points: Sequence[Sequence[int]]) -> list[Sequence[int]]:
        """Those of the points that are a network: in a cell, the input reaches the output."""
        kept = has_network(self.liveness, self.encoding.one_hot(points))
        return [points[place] for place in kept.tolist()]


@dataclass(frozen=True)
class Belief:
    """Mean and covariance of (ops' costs in a network in ms, constant in ms).

    Attributes:
        in_network, noise: the likeliest of `IN_NETWORK` and `NOISES`.
        guesses: (ops,) what an op would be believed to cost without networks, ms.
        guess_spread: (ops,) relative standard deviation of that; 0 where the op has a row.
        errors: relative, of each measured network predicted from the others.
    """

    mean: Floats
    covariance: Floats
    in_network: float
    noise: float
    guesses: Floats
    guess_spread: Floats
    errors: Floats

    def predict(self, counts: Floats) -> Floats:
        """(networks,) ms from (networks, ops)."""
        found: Floats = counts @ self.mean[:-1] + self.mean[-1]
        return found


def believe(
    ops: Sequence[OpSpec], rows_ms: Mapping[OpSpec, float], counts: Floats, values: Floats
) -> Belief:
    """
    Args:
        rows_ms: of the ops that have a row, one at least.
        counts: (networks, ops) of the measured ones; values: (networks,) ms, above 0.
    """
    guesses, spread = _guess(ops, rows_ms)
    design = np.hstack([counts, np.ones((len(counts), 1))])
    typical = float(np.median(values)) if len(values) else float(guesses.sum())
    before = np.append(guesses, 0.0)
    relative = design / values[:, None] if len(values) else design
    missed = 1.0 - relative @ before
    best: tuple[float, Belief] | None = None
    settings = [(i, n) for i in IN_NETWORK for n in NOISES] if len(values) else [BEFORE]
    for in_network, noise in settings:
        covariance = _before(guesses, spread, in_network, CONSTANT * typical)
        across = covariance @ relative.T
        kernel = relative @ across + noise**2 * np.eye(len(values))
        inverse = np.linalg.inv(kernel)
        dual = inverse @ missed
        likelihood = -0.5 * float(np.linalg.slogdet(kernel)[1]) - 0.5 * float(missed @ dual)
        if best is None or likelihood > best[0]:
            left = covariance - across @ inverse @ across.T
            errors = dual / np.diag(inverse) if len(values) else dual
            mean = before + across @ dual
            best = likelihood, Belief(mean, left, in_network, noise, guesses, spread, errors)
    assert best is not None
    return best[1]


def _before(guesses: Floats, spread: Floats, in_network: float, constant_ms: float) -> Floats:
    made = np.zeros((len(guesses) + 1,) * 2)
    made[:-1, :-1] = TOGETHER**2 * np.outer(guesses, guesses)
    own = (in_network**2 + spread**2) * guesses**2
    made[np.arange(len(guesses)), np.arange(len(guesses))] += own
    made[-1, -1] = constant_ms**2
    return made


def _guess(ops: Sequence[OpSpec], rows_ms: Mapping[OpSpec, float]) -> tuple[Floats, Floats]:
    """The row of each op, or a guess from its analytic costs, and how far it may be off."""
    costs = np.array([[c.flops, c.bytes_moved] for c in (cost(op.lower()) for op in ops)])
    nominal = np.log(costs[:, 0] / NOMINAL_FLOPS_PER_MS + costs[:, 1] / NOMINAL_BYTES_PER_MS + 1e-6)
    known = np.array([op in rows_ms for op in ops])
    rows = np.log([rows_ms[op] for op in ops if op in rows_ms])
    columns = np.stack(
        [np.ones(len(ops)), nominal, np.log(costs[:, 0] + 1.0), np.log(costs[:, 1] + 1.0)], 1
    )
    fallback = nominal + float(np.median(rows - nominal[known]))
    spread = FIRST_GUESS
    guessed = fallback
    if known.sum() >= ROWS_TO_LEARN_FROM:
        centred = columns - columns[known].mean(0)
        centred[:, 0] = 1.0
        penalty = np.diag([0.0, 0.1, 0.1, 0.1])
        inverse = np.linalg.inv(centred[known].T @ centred[known] + penalty)
        aim = rows - fallback[known]
        weights = inverse @ centred[known].T @ aim
        guessed = fallback + centred @ weights
        leverage = np.einsum("ij,jk,ik->i", centred[known], inverse, centred[known])
        left_out = (rows - guessed[known]) / np.maximum(1.0 - leverage, 1e-3)
        spread = float(np.clip(np.sqrt((left_out**2).mean()), LEAST_GUESS, FIRST_GUESS))
    made = np.exp(guessed)
    made[known] = np.exp(rows)
    return made, np.where(known, 0.0, spread)
