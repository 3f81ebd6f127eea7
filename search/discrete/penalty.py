"""The differentiable penalty: gradient descent on relaxed architectures under task loss + weight x cost,
one run for each weight, as ProxylessNAS, FBNet and LA-DARTS have it, where no supernet is trained.

A supernet gives such a search the gradient of its loss by the gates, an additive picture of the space.
Where accuracies come from a table, an additive ridge fit to the networks that were queried so far
stands for it, and another one for each cost.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from hwprof.search.discrete.decisions import Decisions, Genome
from hwprof.search.discrete.drawing import Drawing, uniform
from hwprof.search.discrete.objectives import Floats, Point
from hwprof.search.discrete.policy import Policies
from hwprof.search.discrete.scalarise import normalised, weightings

WEIGHTS = 10
WARM = 0.12
STEPS = 20
RATE = 2.0
RIDGE = 1.0


class DifferentiablePenalty:
    """See `hwprof.search.discrete.interface.Search`. Each weight's run asks for the network that its
    relaxation is nearest to, or where that was asked for a draw from the relaxation.

    Args:
        objectives: how many there are; any may be the task.
        rate: of the gradient descent on the logits.
    """

    name = "penalty"

    def __init__(
        self, decisions: Decisions, objectives: int, *, queries: int, seed: int, rate: float = RATE
    ) -> None:
        self._decisions, self._rate = decisions, rate
        self._drawing = Drawing(decisions, np.random.default_rng(seed))
        self._weights = weightings(objectives, WEIGHTS)
        self._runs = Policies(len(self._weights), decisions.widths)
        self._warm = round(WARM * queries)
        self._asked: list[Genome] = []
        self._genomes: list[Genome] = []
        self._values: Floats = np.empty((0, objectives))

    def ask(self) -> list[Point]:
        if len(self._genomes) < max(self._warm, 2):
            flat = uniform(self._decisions)
            drawn = [self._drawing.new(lambda _: flat, 1.0) for _ in range(len(self._weights))]
        else:
            self._descend()
            drawn = [self._nearest(run) for run in range(len(self._weights))]
        found = [one for one in drawn if one is not None]
        self._asked = [genome for genome, _ in found]
        return [point for _, point in found]

    def tell(self, values: Floats) -> None:
        self._genomes += self._asked
        self._values = np.vstack([self._values, values])

    def _descend(self) -> None:
        # The loss is linear in the probabilities of each decision: its gradient is the costs.
        costs = np.einsum("ko,odc->kdc", self._weights, self._additive())
        for _ in range(STEPS):
            probabilities = self._runs.probabilities()
            mean = (probabilities * costs).sum(-1, keepdims=True)
            self._runs.alpha = self._runs.alpha - self._rate * probabilities * (costs - mean)

    def _additive(self) -> Floats:
        """(objectives, decisions, choices): what each choice adds to each objective, normalised."""
        shape = self._runs.offered.shape
        chosen = np.eye(shape[1])[np.array(self._genomes)].reshape(len(self._genomes), -1)
        values = normalised(self._values)
        mean = chosen.mean(0)
        centred = chosen - mean
        gram = centred.T @ centred + RIDGE * np.eye(centred.shape[1])
        fitted = np.linalg.solve(gram, centred.T @ (values - values.mean(0)))
        found: Floats = fitted.T.reshape(-1, *shape)
        return found

    def _nearest(self, run: int) -> tuple[Genome, Point] | None:
        probabilities = self._runs.probabilities()[run]
        genome = tuple(probabilities.argmax(-1).tolist())
        point = self._decisions.point(genome)
        if point is not None and point not in self._drawing.seen:
            self._drawing.seen.add(point)
            return genome, point
        return self._drawing.new(partial(self._runs.explored, probabilities), 0.0)
