"""Edges of a chain space as tensors: what neighbouring choices cost together, differentiable.

What a choice adds depends on the kind of the op that ran before it. Neighbours are the nearest positions
that run something, so what is carried along the positions is how likely each kind ran last: exact for
independent positions, also across skips.
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
    """What each choice adds because of what ran before it.

    Args:
        costs: (positions, kinds, max choices), what a choice adds after each kind; 0 in position 0 and
            for choices that run nothing.
        kinds: (positions, max choices), the kind that a choice leaves behind; -1: it runs nothing.
    """

    _costs: Tensor
    _kinds: Tensor
    _ends: Tensor
    _stays: Tensor

    def __init__(self, costs: Tensor, kinds: Tensor) -> None:
        super().__init__()
        self.skips = bool((kinds < 0).any())
        if not self.skips:
            # Each choice a kind of its own: fewer operators, and more numbers, than sums over kinds.
            own = torch.arange(kinds.shape[1]).expand(kinds.shape)
            costs = costs[torch.arange(len(kinds))[:, None], kinds.roll(1, 0)]
            kinds = own
        ends = nn.functional.one_hot(kinds.clamp_min(0), costs.shape[1]) * (kinds >= 0)[..., None]
        buffers = {
            "_costs": costs.double(),
            "_kinds": kinds.contiguous(),
            "_ends": ends.double(),
            "_stays": (kinds < 0).double(),
        }
        for name, buffer in buffers.items():
            self.register_buffer(name, buffer, persistent=False)

    def forward(self, whole: Tensor) -> Tensor:
        """Of shape (..., positions, max choices), from probabilities as `Gates.whole` gives them."""
        last = whole
        if self.skips:
            ends = (whole.unsqueeze(-1) * self._ends).sum(-2)
            last = _run_last(ends, (self._stays * whole).sum(-1, keepdim=True))
        # What comes round to position 0 meets costs of 0 there.
        before = last.roll(1, -2)
        return (self._costs * before.unsqueeze(-1)).sum(-2)

    def price(self, points: Tensor) -> Tensor:
        """Sum over the positions, of shape (...), from checked choice indices (..., positions)."""
        places = torch.arange(points.shape[-1], device=points.device)
        _, kinds, width = self._costs.shape
        last = points
        if self.skips:
            last = looked_up(self._kinds, points + places * width)
            last = last.gather(-1, torch.where(last >= 0, places, 0).cummax(-1).values)
        before = last.roll(1, -1)
        costs = looked_up(self._costs, (places * kinds + before.clamp_min(0)) * width + points)
        if self.skips:
            costs = torch.where(before >= 0, costs, 0.0)
        return costs.sum(-1)


def looked_up(values: Tensor, places: Tensor) -> Tensor:
    """Elements of the flattened `values`, of the shape of `places`: three times as fast as indexing with
    several tensors."""
    return values.flatten().index_select(0, places.flatten()).view(places.shape)


def _run_last(ends: Tensor, stays: Tensor) -> Tensor:
    """Weights of the kinds that the last op up to each position may be of: w_t = ends_t + stays_t
    w_(t-1), in log2(positions) steps of doubling reach (Hillis and Steele 1986): a third of the
    time of one step a position for 29 positions, forward and backward."""
    reach = 1
    while reach < ends.shape[-2]:
        later = ends[..., reach:, :] + stays[..., reach:, :] * ends[..., :-reach, :]
        ends = torch.cat([ends[..., :reach, :], later], -2)
        stays = torch.cat([stays[..., :reach, :], stays[..., reach:, :] * stays[..., :-reach, :]], -2)
        reach *= 2
    return ends


def edges_of(pricer: Pricer, space: Space) -> Edges:
    """The edges of a space by a composition that has them.

    Raises:
        SpaceError: the space is no chain.
        MissingRow: the table lacks an edge of the space.
    """
    if space.family != "chain":
        raise SpaceError(f"{space.name} is no chain: a composition with edges says nothing on it")
    pricer.require(space_edges(space))
    names = sorted({op.kind for op in space.ops()})
    shape = (len(space.positions), max(len(position.choices) for position in space.positions))
    costs = torch.zeros(shape[0], len(names), shape[1], dtype=torch.float64)
    kinds = torch.zeros(shape, dtype=torch.long)
    before: dict[str, OpSpec] = {}
    for place, position in enumerate(space.positions):
        last: dict[str, OpSpec] = {}
        for number, choice in enumerate(position.choices):
            if not choice.ops:
                kinds[place, number] = -1
                continue
            for kind, op in before.items():
                costs[place, names.index(kind), number] = pricer.edge_ms(op, choice.ops[0])
            end = choice.ops[-1]
            kinds[place, number] = names.index(end.kind)
            last[end.kind] = end
        passed = any(not choice.ops for choice in position.choices)
        before = {**before, **last} if passed else last
    return Edges(costs, kinds)
