"""CellSupernet: all ops of a DARTS space in one network, mixed by gates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

import torch
from torch import Tensor, nn

from hwprof.errors import SpaceError
from hwprof.ops import OpSpec
from hwprof.search.cells.operations import operation
from hwprof.space import Choice, DartsLayout, Space
from hwprof.space.darts import CELL_TYPES, INPUTS


class CellSupernet(nn.Module):
    """The network of a DARTS space (Liu et al. 2019) with every op on every edge.

    `forward(images, gates)` takes one row of gates for each edge and one column for each choice: the
    edges of the normal cell, then those of the reduction cell, in the order of the space's positions
    (`edge_places`). All cells of a type share their row. Gates are of any kind:

    * relaxed (DARTS): rows of a softmax; every op runs, times its gate, and gradients reach the gates;
    * one-hot, `point_gates(point)`: only the ops of that network run. `none` adds nothing;
    * one-hot with a gradient (straight-through): every op on offer runs, since a gate of 0 has one too.

    `offer(mask)` prunes: an op that is not on offer does not run, whatever its gate. Its weights stay.

    BatchNorm has no weights, and is that of the mixture: use `hwprof.search.supernet.recalibrate` with
    `run=` before a single network is judged by these weights.

    Args:
        space: of the family `darts`.
        seed: of the initial weights.

    Attributes:
        offered: bool (edges, choices), which ops may run.
        edge_places: places of the edges among the positions of the space.

    Raises:
        SpaceError: a space of another family.
    """

    offered: Tensor

    def __init__(self, space: Space, *, seed: int = 0) -> None:
        super().__init__()
        self.layout = darts_layout(space)
        self.space = space
        self.edge_places = tuple(self.layout.edge_places())
        count = len(self.layout.edges)
        edges = [space.positions[place] for place in self.edge_places]
        choices = len(edges[0].choices)
        self.register_buffer("offered", torch.ones(2 * count, choices, dtype=torch.bool))
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            stem, head = space.positions[0].choices[0].ops[0], space.positions[-1].choices[0].ops[0]
            kernel = stem.mix[0][0]
            self.stem = nn.Sequential(
                nn.Conv2d(
                    stem.in_channels, stem.out_channels, kernel, stem.stride, kernel // 2, bias=False
                ),
                nn.BatchNorm2d(stem.out_channels),
            )
            self.cells = nn.ModuleList()
            seen = dict.fromkeys(CELL_TYPES, 0)
            inputs = space.positions[1 + 2 * count : -1]
            for reduced, position in zip(self.layout.reduced, inputs, strict=True):
                name = CELL_TYPES[reduced]
                rows = edges[count * reduced : count * (reduced + 1)]
                offered = [[_op(choice, seen[name]) for choice in row.choices] for row in rows]
                cuts = [choice.cut for choice in rows[0].choices]
                self.cells.append(Cell(self.layout, reduced, position.choices[0].ops, offered, cuts))
                seen[name] += 1
            self.classifier = nn.Linear(head.in_channels, head.out_channels)

    def forward(self, images: Tensor, gates: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, channels, height, width), normalised.

        Args:
            gates: (edges, choices).

        Raises:
            SpaceError: gates of another shape.
        """
        if gates.shape != self.offered.shape:
            raise SpaceError(
                f"gates of {self.space.name} have shape {tuple(self.offered.shape)} (edges, choices), "
                f"got {tuple(gates.shape)}"
            )
        runs = self.offered
        if not gates.requires_grad:
            runs = runs & (gates != 0)
        wanted: list[list[bool]] = runs.tolist()
        count = len(self.layout.edges)
        before = last = self.stem(images.contiguous(memory_format=torch.channels_last))
        for reduced, cell in zip(self.layout.reduced, self.cells, strict=True):
            part = slice(count * reduced, count * (reduced + 1))
            before, last = last, cell(before, last, gates[part], wanted[part])
        logits: Tensor = self.classifier(last.mean((2, 3)))
        return logits

    def offer(self, mask: Tensor) -> None:
        """Let only these ops run.

        Args:
            mask: bool (edges, choices).

        Raises:
            SpaceError: another shape, or an edge without any choice.
        """
        if mask.shape != self.offered.shape or not bool(mask.any(1).all()):
            raise SpaceError(
                f"a mask of {self.space.name} has shape {tuple(self.offered.shape)} and one choice or "
                f"more on each edge, got shape {tuple(mask.shape)}"
            )
        self.offered.copy_(mask)

    def point_gates(self, point: Sequence[int]) -> Tensor:
        """One-hot gates (edges, choices) of a point of the space.

        Raises:
            SpaceError: the point does not fit the space.
        """
        self.space.choices_of(point)
        chosen = torch.tensor([point[place] for place in self.edge_places], device=self.offered.device)
        return nn.functional.one_hot(chosen, self.offered.shape[1]).to(self.classifier.weight.dtype)

    def weights_of(self, point: Sequence[int]) -> Iterator[nn.Parameter]:
        """The weights that a point's network uses."""
        wanted = (self.point_gates(point) != 0).tolist()
        count = len(self.layout.edges)
        used: list[nn.Module] = [self.stem, self.classifier]
        for reduced, cell in zip(self.layout.reduced, self.cells, strict=True):
            assert isinstance(cell, Cell)
            used += [*cell.inputs, *cell.running(wanted[count * reduced : count * (reduced + 1)])]
        return chain.from_iterable(module.parameters() for module in used)


class Cell(nn.Module):
    """One cell with all ops of its edges.

    Args:
        inputs: the ops that bring the two cells before to this one's width.
        offered: the op of each choice of each edge; None for `none` and for a skip that is an identity.
        cuts: which choices are `none`.
    """

    def __init__(
        self, layout: DartsLayout, reduced: bool, inputs: Sequence[OpSpec],
        offered: Sequence[Sequence[OpSpec | None]], cuts: Sequence[bool],
    ) -> None:  # fmt: skip
        super().__init__()
        self.edges, self.nodes, self.cuts = layout.edges, layout.nodes, tuple(cuts)
        self.inputs = nn.ModuleList(operation(op, affine=False) for op in inputs)
        self.ops = nn.ModuleList(
            nn.ModuleList(nn.Identity() if op is None else operation(op, affine=False) for op in row)
            for row in offered
        )
        self.width = inputs[1].out_channels
        self.sides = tuple(side // 2 if reduced else side for side in inputs[1].shape[2:])

    def forward(
        self, before: Tensor, last: Tensor, gates: Tensor, runs: Sequence[Sequence[bool]]
    ) -> Tensor:
        """Output (N, nodes x width, ...) from the outputs of the two cells before.

        Args:
            gates: (edges of the cell, choices).
            runs: of that shape, which ops to run.
        """
        values = [op(x) for op, x in zip(self.inputs, (before, last), strict=True)]
        for node in range(INPUTS, INPUTS + self.nodes):
            total: Tensor | None = None
            for place, (source, target) in enumerate(self.edges):
                if target != node:
                    continue
                for choice, op in enumerate(self._row(place)):
                    if self.cuts[choice] or not runs[place][choice]:
                        continue
                    part = op(values[source]) * gates[place, choice]
                    total = part if total is None else total + part
            if total is None:
                total = last.new_zeros(len(last), self.width, *self.sides)
            values.append(total)
        return torch.cat(values[INPUTS:], 1)

    def running(self, runs: Sequence[Sequence[bool]]) -> list[nn.Module]:
        """The ops that run."""
        return [
            op
            for place in range(len(self.edges))
            for choice, op in enumerate(self._row(place))
            if runs[place][choice] and not self.cuts[choice]
        ]

    def _row(self, place: int) -> nn.ModuleList:
        row = self.ops[place]
        assert isinstance(row, nn.ModuleList)
        return row


def darts_layout(space: Space) -> DartsLayout:
    """Raises SpaceError where the space is of another family."""
    if not isinstance(space.cell, DartsLayout):
        raise SpaceError(f"{space.name} is of family {space.family}; give a space of family darts")
    return space.cell


def _op(choice: Choice, cell: int) -> OpSpec | None:
    return choice.ops[cell] if choice.ops else None
