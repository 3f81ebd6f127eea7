"""Edges of a chain space as tensors: what neighbouring choices cost together, differentiable.

An edge depends on the kinds of two neighbouring ops and the tensor between them. Neighbours are the
nearest positions that run something, so what a scan over the positions carries is how likely each kind
ran last: exact for independent positions, also across skips.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hwprof.composition.edges import space_edges
from hwprof.composition.price import Pricer
from hwprof.errors import SpaceError
from hwprof.ops import OpSpec
from hwprof.space import Space


class Edges(nn.Module):
    """Expected sum of the edges between positions.

    Args:
        pricer: of a composition with edges.
        shape: (positions, max choices) of the probabilities.

    Raises:
        SpaceError: the space is no chain.
        MissingRow: the table lacks an edge of the space.
    """

    _costs: Tensor
    _ends: Tensor
    _skips: Tensor

    def __init__(self, pricer: Pricer, space: Space, shape: tuple[int, int], dtype: torch.dtype) -> None:
        super().__init__()
        if space.family != "chain":
            raise SpaceError(f"{space.name} is no chain: a composition with edges says nothing on it")
        pricer.require(space_edges(space))
        ops = space.ops()
        kinds = sorted({op.kind for op in ops})
        costs = torch.zeros(shape[0], len(kinds), shape[1], dtype=torch.float64)
        ends = torch.zeros(shape[0], shape[1], len(kinds), dtype=torch.float64)
        skips = torch.zeros(shape, dtype=torch.float64)
        before: dict[str, OpSpec] = {}
        for place, position in enumerate(space.positions):
            passed = any(not choice.ops for choice in position.choices)
            last: dict[str, OpSpec] = {}
            for number, choice in enumerate(position.choices):
                if not choice.ops:
                    skips[place, number] = 1.0
                    continue
                for kind, op in before.items():
                    costs[place, kinds.index(kind), number] = pricer.edge_ms(op, choice.ops[0])
                ends[place, number, kinds.index(choice.ops[-1].kind)] = 1.0
                last[choice.ops[-1].kind] = choice.ops[-1]
            before = {**before, **last} if passed else last
        self.skips = bool(skips.any())
        for name, values in (("_costs", costs), ("_ends", ends), ("_skips", skips)):
            self.register_buffer(name, values.to(dtype), persistent=False)

    def forward(self, probabilities: Tensor) -> Tensor:
        """Of shape (...), from probabilities (..., positions, max choices) that are 0 in the padding."""
        ends = (probabilities.unsqueeze(-1) * self._ends).sum(-2)
        if not self.skips:
            pairs = ends[..., :-1, :, None] * self._costs[1:] * probabilities[..., 1:, None, :]
            return pairs.sum((-1, -2, -3))
        # Weights of the kinds that the op before may be of, one step a position.
        costs = (self._costs * probabilities.unsqueeze(-2)).sum(-1)
        stays = (self._skips * probabilities).sum(-1)
        before = torch.zeros_like(ends[..., 0, :])
        total = torch.zeros_like(stays[..., 0])
        for place in range(ends.shape[-2]):
            total = total + (before * costs[..., place, :]).sum(-1)
            before = before * stays[..., place, None] + ends[..., place, :]
        return total
