"""Features: an encoding's columns and, beside them, what choices share and what a cell leaves out.

A linear model with the same penalty on every column believes that choices which run the same op, or
cost alike on paper, cost alike on a device.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hwprof.prediction.encoding import Encoding, Floats
from hwprof.prediction.errors import PredictionError
from hwprof.prediction.knowledge import Knowledge, knowledge_of
from hwprof.prediction.liveness import Liveness, has_network
from hwprof.space import Space

POOL = 2000
"""Networks that stand for a space: predictive errors are means over them."""


@dataclass(frozen=True)
class Features:
    """What a network's columns are, and the networks that stand for the space.

    Attributes:
        shared: (columns, any): ops that a choice runs and its analytic costs, scaled like the choices.
        pool: (networks, columns) one-hot.
    """

    encoding: Encoding
    shared: Floats
    liveness: Liveness | None
    pool: Floats

    @classmethod
    def of(cls, space: Space, *, pool: Floats | None = None, seed: int = 0) -> Features:
        """
        Args:
            pool: one-hot networks that stand for the space; None: drawn uniformly.

        Raises:
            PredictionError: the space has nothing to predict.
        """
        knowledge = knowledge_of(space)
        encoding = knowledge.encoding
        liveness = Liveness.of(space, encoding)
        if pool is None:
            rng = np.random.default_rng([seed, 4])
            drawn = encoding.one_hot([space.sample(rng) for _ in range(POOL)])
            pool = np.unique(drawn[has_network(liveness, drawn)], axis=0)
        return cls(encoding, _shared(knowledge, pool), liveness, pool)

    @property
    def columns(self) -> int:
        added = 0 if self.liveness is None else self.liveness.columns
        return self.encoding.columns + int(self.shared.shape[1]) + added

    @cached_property
    def middle(self) -> Floats:
        """(columns,): mean over the pool."""
        return np.asarray(self._raw(self.pool).mean(0))

    @cached_property
    def metric(self) -> Floats:
        """G with w' G w the variance over the pool of the function with weights w."""
        centred = self.of_networks(self.pool)
        return np.asarray(centred.T @ centred / len(centred))

    def of_networks(self, one_hot: Floats) -> Floats:
        """(networks, columns), centred on the pool."""
        return np.asarray(self._raw(one_hot) - self.middle)

    def folded(self, weights: Floats) -> tuple[Floats, Floats]:
        """The same function as weights of the encoding's columns and of the liveness."""
        own, shared = self.encoding.columns, self.shared.shape[1]
        return weights[:own] + self.shared @ weights[own : own + shared], weights[own + shared :]

    def _raw(self, one_hot: Floats) -> Floats:
        parts = [one_hot, one_hot @ self.shared]
        if self.liveness is not None:
            parts.append(self.liveness.of_networks(one_hot))
        return np.hstack(parts)


def _shared(knowledge: Knowledge, pool: Floats) -> Floats:
    """Ops and costs, each with the variance of the choices themselves.

    Raises:
        PredictionError: the networks of the pool are all alike.
    """
    whole = float(pool.var(0).sum())
    if whole <= 0.0:
        raise PredictionError(f"the networks of {knowledge.encoding.space} do not differ")
    spread = (pool @ knowledge.costs).std(0)
    costs = knowledge.costs[:, spread > 0] / spread[spread > 0]
    parts = []
    for part in (knowledge.counts, costs):
        variance = float((pool @ part).var(0).sum())
        if variance > 0.0:
            parts.append(part * np.sqrt(whole / variance))
    return np.hstack(parts) if parts else np.zeros((knowledge.encoding.columns, 0))
