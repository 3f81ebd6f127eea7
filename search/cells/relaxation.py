"""Between architecture parameters and networks of a DARTS space: what a relaxed architecture stands for,
and the network that a search ends at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor

from hwprof.errors import SpaceError
from hwprof.search.cells.supernet import darts_layout
from hwprof.space import Space
from hwprof.space.darts import OPEN_EDGES

# A parameter whose gate is exactly 0. Infinity would leave an edge without any op undefined.
CLOSED = -1e9


class Relaxation:
    """Architecture parameters (edges, choices) of a DARTS space, in the order of its edge positions.

    DARTS' gates, `softmax(parameters)`, are no distribution over its networks: all 14 edges of a cell
    are open in the relaxation, 8 of them in a network. A latency of the gates is therefore one of a
    network that is never built. `probabilities` are of networks: each node draws its pair of edges in
    proportion to the product of their strengths (the largest gate that is not `none`, by which DARTS
    ranks edges), and each of the two an op in proportion to its gates without `none`. Of each edge that
    gives the probability to be open, exactly: there are at most ten pairs. Where the strengths are far
    apart it is the network of `discretise`.

    Raises:
        SpaceError: a space of another family.
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        self.layout = darts_layout(space)
        self.places = tuple(self.layout.edge_places())
        first = space.positions[self.places[0]].choices
        self.none = next(n for n, choice in enumerate(first) if choice.cut)
        self.shape = (len(self.places), len(first))
        widest = max(len(position.choices) for position in space.positions)
        self._whole = torch.zeros(len(space.positions), widest)
        self._whole[:, 0] = 1.0

    def probabilities(self, parameters: Tensor, temperature: float = 1.0) -> Tensor:
        """Of each choice of each position, (positions, most choices of one): what
        `Predictor.expected` and `ExpectedLatency` take. Differentiable.

        Args:
            parameters: (edges, choices); `CLOSED` for an op that is not on offer.
            temperature: of the pairs and ops; small values sharpen towards `discretise`.

        Raises:
            SpaceError: parameters of another shape, or a temperature that is not above 0.
        """
        self._check(parameters)
        if not temperature > 0:
            raise SpaceError(f"temperature must be above 0, got {temperature}")
        logs = parameters.log_softmax(-1)
        opened = torch.cat([logs[:, : self.none], logs[:, self.none + 1 :]], -1)
        ops = (opened / temperature).softmax(-1)
        strengths = opened.amax(-1) / temperature
        inclusion = torch.cat([self._inclusion(strengths[rows]) for rows in self._nodes()])
        ops = ops * inclusion[:, None]
        closed = 1.0 - inclusion[:, None]
        edges = torch.cat([ops[:, : self.none], closed, ops[:, self.none :]], -1)
        whole = self._whole.to(parameters)
        first, last = self.places[0], self.places[-1] + 1
        edges = torch.nn.functional.pad(edges, (0, whole.shape[1] - edges.shape[1]))
        return torch.cat([whole[:first], edges, whole[last:]])

    def discretise(self, parameters: Tensor) -> tuple[int, ...]:
        """The genotype (Liu et al. 2019, section 2.4): of each node the two edges whose largest gate
        other than `none` is largest, each with that op.

        Raises:
            SpaceError: parameters of another shape.
        """
        self._check(parameters)
        gates = parameters.detach().softmax(-1).cpu()
        gates[:, self.none] = -1.0
        strengths, ops = gates.max(-1)
        point = [0] * len(self.space.positions)
        for place in self.places:
            point[place] = self.none
        for rows in self._nodes():
            for row in strengths[rows].topk(OPEN_EDGES).indices.tolist():
                place = rows.start + row
                point[self.places[place]] = int(ops[place])
        return tuple(point)

    def sample(
        self, parameters: Tensor, count: int, *, temperature: float = 1.0, seed: int = 0
    ) -> list[tuple[int, ...]]:
        """Different genotypes drawn from the distribution of `probabilities`, at most `count`."""
        self._check(parameters)
        generator = torch.Generator().manual_seed(seed)
        logs = parameters.detach().double().cpu().log_softmax(-1)
        logs[:, self.none] = -torch.inf
        strengths, shares = logs.amax(-1) / temperature, (logs / temperature).softmax(-1)
        ops = torch.multinomial(shares, count, replacement=True, generator=generator)
        drawn = torch.full((count, len(self.space.positions)), 0)
        drawn[:, list(self.places)] = self.none
        for rows in self._nodes():
            pairs = self._pairs(rows.stop - rows.start)
            which = strengths[rows][pairs].sum(-1).softmax(-1)
            chosen = rows.start + pairs[torch.multinomial(which, count, True, generator=generator)]
            for row in chosen.T:
                every = torch.arange(count)
                drawn[every, row + self.places[0]] = ops[row, every]
        return list(dict.fromkeys(tuple(point) for point in drawn.tolist()))

    def log_probability(self, parameters: Tensor, point: Sequence[int]) -> float:
        """Of a genotype under the distribution of `probabilities` at temperature 1; -inf where it is
        none."""
        self._check(parameters)
        logs = parameters.detach().double().cpu().log_softmax(-1)
        logs[:, self.none] = -torch.inf
        strengths, ops = logs.amax(-1), logs.log_softmax(-1)
        total = 0.0
        for rows in self._nodes():
            edges = range(rows.start, rows.stop)
            taken = [row for row in edges if point[self.places[row]] != self.none]
            if len(taken) != OPEN_EDGES:
                return -math.inf
            pairs = strengths[rows][self._pairs(len(edges))].sum(-1)
            total += float(strengths[taken].sum() - pairs.logsumexp(0))
            total += sum(float(ops[row, point[self.places[row]]]) for row in taken)
        return total

    def _nodes(self) -> list[slice]:
        """Rows of the edges into each node."""
        first = self.places[0]
        return [slice(e.start - first, e.stop - first) for e in self.layout.node_edges()]

    @staticmethod
    def _pairs(edges: int) -> Tensor:
        """(pairs, 2) of all pairs of a node's edges."""
        return torch.tensor(list(combinations(range(edges), OPEN_EDGES)))

    def _inclusion(self, strengths: Tensor) -> Tensor:
        """Probability of each edge to be one of the pair; strengths are logarithms."""
        pairs = self._pairs(len(strengths)).to(strengths.device)
        shares = strengths[pairs].sum(-1).softmax(-1)
        flat = shares[:, None].expand_as(pairs).reshape(-1)
        return torch.zeros_like(strengths).index_add(0, pairs.reshape(-1), flat)

    def _check(self, parameters: Tensor) -> None:
        if parameters.shape != self.shape:
            raise SpaceError(
                f"architecture parameters of {self.space.name} have shape {self.shape} (edges, "
                f"choices), got {tuple(parameters.shape)}"
            )
