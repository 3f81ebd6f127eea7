"""Spread: how far a table's own uncertainty may carry a network's latency."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import log
from statistics import NormalDist

import torch
from torch import Tensor, nn

from hwprof.errors import LutError, MissingRow
from hwprof.lut import Lut
from hwprof.space import Space


class Spread(nn.Module):
    """`sigmas` standard deviations of a network's latency:

        sigma^2 = sum over rows r of (n_r w sigma_r)^2 + (s T)^2

    n_r: how often the network runs row r (each run repeats the same error, so runs add before the
    square; rows err independently); sigma_r: its standard deviation; w: the composition's factor of the
    rows; s: the composition's relative sigma; T: the network's latency. For a distribution over networks
    n_r and T are expectations. Where sigma is 0 its gradient is 0.

    Args:
        entries: (position, choice, row, ms) for each row that a choice runs, ms being n w sigma_r.
        shape: (positions, max choices).
        rows: how many rows there are.
        relative: s.
    """

    _places: Tensor
    _row_of: Tensor
    _sizes: Tensor

    def __init__(
        self,
        entries: Sequence[tuple[int, int, int, float]],
        shape: tuple[int, int],
        *,
        rows: int,
        relative: float,
        sigmas: float,
    ) -> None:
        super().__init__()
        self.rows, self.relative, self.sigmas = rows, relative, sigmas
        buffers = {
            "_places": torch.tensor([place * shape[1] + choice for place, choice, _, _ in entries]),
            "_row_of": torch.tensor([row for _, _, row, _ in entries]),
            "_sizes": torch.tensor([size for *_, size in entries], dtype=torch.float64),
        }
        for name, buffer in buffers.items():
            self.register_buffer(name, buffer, persistent=False)

    def forward(self, whole: Tensor, total: Tensor) -> Tensor:
        """Of the shape of `total`, the expected latencies, from probabilities as `Gates.whole` gives
        them."""
        runs = whole.flatten(-2).index_select(-1, self._places) * self._sizes
        per_row = runs.new_zeros(*runs.shape[:-1], self.rows).index_add(-1, self._row_of, runs)
        shared = self.relative * total.unsqueeze(-1)
        # The norm's gradient at 0 is 0, that of a square root is not.
        sigma: Tensor = torch.linalg.vector_norm(torch.cat([per_row, shared], -1), dim=-1)
        return self.sigmas * sigma


def row_spread(
    table: Lut,
    space: Space,
    *,
    weight: float,
    relative: float,
    sigmas: float,
    environment: str | None,
    cache: str,
    allow_unstable: bool,
) -> Spread:
    """The spread of a space's networks from the intervals around the rows' `latency_ms`: in logs
    sigma_r / latency_r = log(high / low) / 2z, z the normal quantile of the table's interval level.

    Raises:
        MissingRow: rows without an interval (imported ones).
        LutError: `sigmas` is negative or no number.
    """
    if not 0.0 <= sigmas < float("inf"):
        raise LutError(f"sigmas must be a number of 0 or more, got {sigmas}")
    ops = space.ops()
    try:
        value, low, high = (
            table.latencies_ms(
                ops, column, environment=environment, cache=cache, allow_unstable=allow_unstable
            ).tolist()
            for column in ("latency_ms", "latency_low_ms", "latency_high_ms")
        )
    except MissingRow as error:
        raise MissingRow(f"sigmas needs the rows' intervals: {error}; or leave sigmas out") from None
    quantile = NormalDist().inv_cdf((1.0 + table.metadata["interval_level"]) / 2.0)
    sigma_ms = [
        latency * log(above / below) / (2.0 * quantile)
        for latency, below, above in zip(value, low, high, strict=True)
    ]
    row_of = {op: row for row, op in enumerate(ops)}
    entries = [
        (place, number, row_of[op], count * weight * sigma_ms[row_of[op]])
        for place, position in enumerate(space.positions)
        for number, choice in enumerate(position.choices)
        for op, count in Counter(choice.ops).items()
    ]
    shape = (len(space.positions), max(len(position.choices) for position in space.positions))
    return Spread(entries, shape, rows=len(ops), relative=relative, sigmas=sigmas)
