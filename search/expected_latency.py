"""Expected latency of a distribution over networks, differentiable: ProxylessNAS (Cai et al. 2019),
FBNet (Wu et al. 2019), on rows of one table and the composition that they were calibrated with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hwprof.composition.price import Pricer
from hwprof.composition.pricing import (
    choice_latencies,
    composed_costs,
    space_border_ms,
    table_composition,
    uncalibrated,
)
from hwprof.errors import SpaceError
from hwprof.lut import Lut
from hwprof.ops import OpSpec
from hwprof.search.edges import Edges
from hwprof.space import Space


class ExpectedLatency(nn.Module):
    """Sum over positions and choices of probability x latency, in the unit of `column` (ms), put
    together by the table's composition: what an op costs inside a network, edges between neighbours,
    and the network's own borders. A table that is uncalibrated for the space gives the plain sum.

    Linear in each position's probabilities (without edges in all of them), so the gradient by a
    probability is the latency that its choice adds. A position of one choice always counts fully,
    whatever its probability says. A choice without ops (skip, none) costs exactly 0. The buffers follow
    `.to()` but are not in the `state_dict`: weights trained against one table load into a module of
    another.

    Args:
        table: a table with a row for each op of the space.
        space: its positions and choices give the order of every tensor here.
        environment: environment id, where the table holds several.
        column: a numeric column of the table.
        cache: cache state of the rows.
        allow_unstable: also use rows in state `unstable`.
        calibrated: True wants the table's composition, False the plain sum; None takes the composition
            where there is one.
        dtype: of the buffers; None takes PyTorch's default. float64 reproduces the table exactly.

    Attributes:
        composition: what the rows are put together by; None: the plain sum ("uncalibrated").
        latencies: (positions, max choices), 0 where `mask` is False.
        mask: (positions, max choices), True where the position has such a choice.

    Raises:
        MissingRow: ops without a usable row, all of them named; or rows of several environments.
        LutError: an argument is not one of its allowed values; or `calibrated` and the table is not.
    """

    latencies: Tensor
    mask: Tensor
    _widths: Tensor
    _searched: Tensor
    _searched_latencies: Tensor
    _fixed_latency: Tensor
    _certain: Tensor

    def __init__(
        self,
        table: Lut,
        space: Space,
        *,
        environment: str | None = None,
        column: str = "latency_ms",
        cache: str = "warm",
        allow_unstable: bool = False,
        calibrated: bool | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.space = space
        self.column = column
        self._exact = choice_latencies(
            table, space,
            environment=environment, column=column, cache=cache, allow_unstable=allow_unstable,
        )  # fmt: skip
        dtype = dtype or torch.get_default_dtype()
        self.composition = None
        if calibrated is not False:
            self.composition = table_composition(
                table, space, environment=environment, column=column, cache=cache
            )
        if calibrated and self.composition is None:
            raise uncalibrated(table, space, column)
        self._border = 0.0
        self._pricer: Pricer | None = None
        if self.composition is not None:
            scope = self.composition.scope
            pricer = Pricer(table, scope, space.ops(), self.composition, allow_unstable=allow_unstable)
            self._pricer = pricer
            self._exact = composed_costs(pricer, space)
            self._border = space_border_ms(pricer, space)
        self.widths = tuple(len(choices) for choices in self._exact)
        self.shape = (len(self.widths), max(self.widths))
        widths = torch.tensor(self.widths)
        mask = torch.arange(self.shape[1]) < widths[:, None]
        exact = torch.zeros(self.shape, dtype=torch.float64)
        exact[mask] = torch.tensor([value for row in self._exact for value in row], dtype=torch.float64)
        searched = (mask & (widths > 1)[:, None]).flatten().nonzero().flatten()
        self._edges: Edges | None = None
        if self._pricer is not None and self.composition is not None and self.composition.uses_edges:
            self._edges = Edges(self._pricer, space, self.shape, dtype)
        certain = torch.zeros(self.shape, dtype=dtype)
        certain[:, 0] = (widths == 1).to(dtype)
        buffers = {
            "latencies": exact.to(dtype),
            "mask": mask,
            "_widths": widths,
            "_searched": searched,
            "_searched_latencies": exact.flatten()[searched].to(dtype),
            "_fixed_latency": (exact[widths == 1].sum() + self._border).to(dtype),
            "_certain": certain.flatten(),
        }
        for name, buffer in buffers.items():
            self.register_buffer(name, buffer, persistent=False)

    def forward(self, probabilities: Tensor | Sequence[Tensor]) -> Tensor:
        """Expected latency of shape (...).

        Args:
            probabilities: of shape (..., positions, max choices), or one tensor (..., choices) per
                position. Values need not sum to one: hard and straight-through gates pass as they
                are. Padding is never read and gets zero gradient.

        Raises:
            SpaceError: the shape does not fit the space.
        """
        if isinstance(probabilities, Tensor):
            self._check_shape("probabilities", probabilities)
            searched = probabilities.flatten(-2).index_select(-1, self._searched)
        else:
            searched = self._join(probabilities)
        # A product and a sum, not a matrix product: autocast would round that one to bfloat16.
        total = (searched * self._searched_latencies).sum(-1) + self._fixed_latency
        if self._edges is None:
            return total
        whole = self._certain.expand(*searched.shape[:-1], -1).to(searched.dtype)
        whole = whole.index_copy(-1, self._searched, searched)
        edges: Tensor = self._edges(whole.reshape(*whole.shape[:-1], *self.shape))
        return total + edges

    def probabilities(self, logits: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
        """Softmax over the choices of each position; padding gets exactly 0 and no gradient.

        Args:
            logits: of shape (..., positions, max choices).
            temperature: above 0; small values sharpen.

        Raises:
            SpaceError: the shape does not fit the space, or the temperature is not above 0.
        """
        self._check_shape("logits", logits)
        if not isinstance(temperature, Tensor) and not temperature > 0:
            raise SpaceError(f"temperature must be above 0, got {temperature}")
        return (logits / temperature).masked_fill(~self.mask, -torch.inf).softmax(-1)

    def price(self, points: Tensor | Sequence[Sequence[int]]) -> Tensor:
        """Latency of whole networks, of shape (...).

        Args:
            points: choice indices of shape (..., positions).

        Raises:
            SpaceError: a wrong length, a type other than integer, or an index that is no choice.
        """
        points = torch.as_tensor(points, device=self.latencies.device)
        count, width = self.shape
        if points.is_floating_point() or points.is_complex() or points.dtype == torch.bool:
            raise SpaceError(f"choice indices are integers, got {points.dtype}")
        if points.ndim == 0 or points.shape[-1] != count:
            raise SpaceError(
                f"{self.space.name} has {count} positions; points of shape {tuple(points.shape)} do not "
                f"end in {count}"
            )
        points = points.long()
        wrong = (points < 0) | (points >= self._widths)
        if wrong.any():
            place = wrong.nonzero()[0]
            position = self.space.positions[int(place[-1])]
            raise SpaceError(
                f"{self.space.name} {position.name}: choice {int(points[tuple(place)])} is not one of "
                f"0 to {len(position.choices) - 1}"
            )
        flat = points + torch.arange(0, count * width, width, device=points.device)
        # index_select on flat memory: three times as fast as indexing with two tensors
        total = self.latencies.flatten().index_select(0, flat.flatten()).view(flat.shape).sum(-1)
        total = total + self._border
        if self._edges is None:
            return total
        hard = nn.functional.one_hot(points, width).to(total.dtype)
        edges: Tensor = self._edges(hard)
        return total + edges

    def breakdown(self, point: Sequence[int]) -> list[tuple[str, str, float]]:
        """(position, choice label, latency) for each position of one network, exactly as tabled; with a
        composition each with its edge to the one before, and last what the network's borders add.

        Raises:
            SpaceError: the point does not fit the space.
        """
        chosen = self.space.choices_of(point)
        parts = []
        last: OpSpec | None = None
        for position, choice, latencies, index in zip(
            self.space.positions, chosen, self._exact, point, strict=True
        ):
            edge_ms = 0.0
            if choice.ops:
                if last is not None and self._edges is not None and self._pricer is not None:
                    edge_ms = self._pricer.edge_ms(last, choice.ops[0])
                last = choice.ops[-1]
            parts.append((position.name, choice.label, latencies[index] + edge_ms))
        if self.composition is not None:
            parts.append(("network", "input and output", self._border))
        return parts

    def extra_repr(self) -> str:
        sizes = f"positions={self.shape[0]}, choices={sum(self.widths)}"
        model = self.composition.model if self.composition else "uncalibrated"
        return f"space={self.space.name}, {sizes}, column={self.column}, composition={model}"

    def _check_shape(self, name: str, tensor: Tensor) -> None:
        if tuple(tensor.shape[-2:]) != self.shape:
            raise SpaceError(
                f"{name} of {self.space.name} have shape (..., {self.shape[0]}, {self.shape[1]}) "
                f"(positions, most choices of one), got {tuple(tensor.shape)}"
            )

    def _join(self, parts: Sequence[Tensor]) -> Tensor:
        """The searched positions' probabilities side by side."""
        widths = tuple(int(part.shape[-1]) if part.ndim else 0 for part in parts)
        if widths != self.widths:
            raise SpaceError(self._why_not(widths))
        batches = {tuple(part.shape[:-1]) for part in parts}
        if len(batches) > 1:
            raise SpaceError(
                f"probabilities of the positions differ in their batch shapes: {sorted(batches)}"
            )
        searched = [part for part in parts if part.shape[-1] > 1]
        return torch.cat(searched, -1) if searched else parts[0][..., :0]

    def _why_not(self, widths: tuple[int, ...]) -> str:
        """The first position whose number of probabilities is wrong."""
        if len(widths) != len(self.widths):
            return (
                f"{self.space.name} has {len(self.widths)} positions, got probabilities of {len(widths)}"
            )
        index = next(i for i, width in enumerate(widths) if width != self.widths[i])
        where = f"{self.space.name} {self.space.positions[index].name}"
        return f"{where} has {self.widths[index]} choices, got {widths[index]} probabilities"
