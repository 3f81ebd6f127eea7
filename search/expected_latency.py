"""Expected latency of a distribution over networks, differentiable: ProxylessNAS (Cai et al. 2019),
FBNet (Wu et al. 2019), on rows of one table and the composition that they were calibrated with."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from hwprof.composition.price import Pricer
from hwprof.composition.pricing import (
    choice_latencies,
    composed_costs,
    space_border_ms,
    table_composition,
    uncalibrated,
)
from hwprof.errors import LutError
from hwprof.lut import Lut
from hwprof.ops import OpSpec
from hwprof.search.edges import edges_of
from hwprof.search.expectation import Expectation
from hwprof.search.spread import row_spread
from hwprof.space import Choice, Space


class ExpectedLatency(Expectation):
    """Sum over positions and choices of probability x latency, in the unit of `column` (ms), put
    together by the table's composition: what an op costs inside a network, edges between neighbours,
    and the network's own borders. A table that is uncalibrated for the space gives the plain sum.

    Linear in each position's probabilities (without edges in all of them), so the gradient by a
    probability is the latency that its choice adds. A position of one choice always counts fully,
    whatever its probability says. A choice without ops (skip, none) costs exactly 0. The buffers follow
    `.to()` but are not in the `state_dict`: weights trained against one table load into a module of
    another.

    With `sigmas` the result is T + sigmas x sigma, sigma^2 = sum_r (n_r w sigma_r)^2 + (s T)^2: see
    `hwprof.search.spread.Spread`. It is exact for one network; without edges it is convex in the
    probabilities and so never above its mean over the networks.

    Args:
        table: a table with a row for each op of the space.
        space: its positions and choices give the order of every tensor here.
        environment: environment id, where the table holds several.
        column: a numeric column of the table.
        cache: cache state of the rows.
        allow_unstable: also use rows in state `unstable`.
        calibrated: True wants the table's composition, False the plain sum; None takes the composition
            where there is one.
        sigmas: how many standard deviations of the table's own uncertainty to add; `latency_ms` only.
        dtype: of the buffers; None takes PyTorch's default. float64 reproduces the table exactly.

    Attributes:
        composition: what the rows are put together by; None: the plain sum ("uncalibrated").
        latencies: (positions, max choices), 0 where `mask` is False.
        mask: (positions, max choices), True where the position has such a choice.

    Raises:
        MissingRow: ops without a usable row, all of them named; rows of several environments; or, with
            `sigmas`, rows without an interval.
        LutError: an argument is not one of its allowed values; or `calibrated` and the table is not.
    """

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
        sigmas: float = 0.0,
        dtype: torch.dtype | None = None,
    ) -> None:
        exact = choice_latencies(
            table, space,
            environment=environment, column=column, cache=cache, allow_unstable=allow_unstable,
        )  # fmt: skip
        composition = None
        if calibrated is not False:
            composition = table_composition(
                table, space, environment=environment, column=column, cache=cache
            )
        if calibrated and composition is None:
            raise uncalibrated(table, space, column)
        pricer, edges, border = None, None, 0.0
        if composition is not None:
            pricer = Pricer(
                table, composition.scope, space.ops(), composition, allow_unstable=allow_unstable
            )
            exact = composed_costs(pricer, space)
            border = space_border_ms(pricer, space)
            edges = edges_of(pricer, space) if composition.uses_edges else None
        spread = None
        if sigmas != 0.0:
            if column != "latency_ms":
                raise LutError(f"sigmas is of the interval around latency_ms, not of {column}")
            spread = row_spread(
                table, space,
                weight=composition.row_weight if composition else 1.0,
                relative=composition.sigma if composition else 0.0,
                sigmas=sigmas, environment=environment, cache=cache, allow_unstable=allow_unstable,
            )  # fmt: skip
        positions = [position.name for position in space.positions]
        super().__init__(
            space.name, positions, exact, border=border, edges=edges, spread=spread, dtype=dtype
        )
        self.space = space
        self.column = column
        self.composition = composition
        self._exact = exact
        self._pricer = pricer

    def bounds(self) -> tuple[float, float]:
        """Latency of the fastest and of the slowest network, without `sigmas`."""
        ends = []
        for best in (min, max):
            # By what ran last: only an edge makes a choice depend on it.
            latencies: dict[OpSpec | None, float] = {None: 0.0}
            for position, exact in zip(self.space.positions, self._exact, strict=True):
                longer: dict[OpSpec | None, float] = {}
                for choice, own in zip(position.choices, exact, strict=True):
                    for last, before in latencies.items():
                        end = choice.ops[-1] if choice.ops else last
                        total = before + own + self._edge(last, choice)
                        key = end if self._edges is not None else None
                        longer[key] = best(total, longer.get(key, total))
                latencies = longer
            ends.append(self.border + best(latencies.values()))
        return ends[0], ends[1]

    def _edge(self, last: OpSpec | None, choice: Choice) -> float:
        if last is None or not choice.ops or self._edges is None or self._pricer is None:
            return 0.0
        return self._pricer.edge_ms(last, choice.ops[0])

    def breakdown(self, point: Sequence[int]) -> list[tuple[str, str, float]]:
        """(position, choice label, latency) for each position of one network, exactly as tabled; with a
        composition each with its edge to the one before, then what the network's borders add; with
        `sigmas` last what they add.

        Raises:
            SpaceError: the point does not fit the space.
        """
        chosen = self.space.choices_of(point)
        parts = []
        last: OpSpec | None = None
        for position, choice, latencies, index in zip(
            self.space.positions, chosen, self._exact, point, strict=True
        ):
            edge_ms = self._edge(last, choice)
            last = choice.ops[-1] if choice.ops else last
            parts.append((position.name, choice.label, latencies[index] + edge_ms))
        if self.composition is not None:
            parts.append(("network", "input and output", self.border))
        if self._spread is not None:
            mean = sum(latency for *_, latency in parts)
            above = float(self.price([point])) - mean
            parts.append(("network", f"{self._spread.sigmas:g} sigma", above))
        return parts

    def extra_repr(self) -> str:
        sizes = f"positions={self.shape[0]}, choices={sum(self.widths)}"
        model = self.composition.model if self.composition else "uncalibrated"
        return f"space={self.space.name}, {sizes}, column={self.column}, composition={model}"
