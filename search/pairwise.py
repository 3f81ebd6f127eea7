"""Pairwise costs given as tensors: for spaces in which a choice is priced together with the one before
it, such as widths, where a block's input is as wide as its neighbour's output."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hwprof.errors import SpaceError
from hwprof.search.edges import Edges
from hwprof.search.expectation import Expectation


class PairwiseLatency(Expectation):
    """Expected sum of costs[i, c_i] + pairs[i - 1, c_before, c_i], exact for independent positions, with
    the calls of `ExpectedLatency`.

    Args:
        costs: (positions, choices), what each choice costs wherever it stands.
        pairs: (positions - 1, choices, choices), what [i, a, b] adds where position i + 1 has chosen b
            and the nearest position before it that runs something has chosen a.
        skips: (positions, choices), True where a choice runs nothing: it costs nothing and is passed
            over. None: no choice is.
        widths: number of choices of each position, where they differ; entries beyond are padding.
        dtype: of the buffers; None takes PyTorch's default.

    Raises:
        SpaceError: shapes that do not fit each other, or costs that are not finite.
    """

    def __init__(
        self,
        costs: Tensor,
        pairs: Tensor,
        *,
        skips: Tensor | None = None,
        widths: Sequence[int] | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if costs.ndim != 2 or not costs.numel():
            raise SpaceError(f"costs have shape (positions, choices), got {tuple(costs.shape)}")
        count, width = costs.shape
        _require("pairs", pairs, (count - 1, width, width))
        if skips is None:
            skips = torch.zeros(costs.shape, dtype=torch.bool)
        _require("skips", skips, (count, width))
        widths = [width] * count if widths is None else list(widths)
        if len(widths) != count or not all(1 <= each <= width for each in widths):
            raise SpaceError(f"widths are {count} numbers from 1 to {width}, got {widths}")
        width = max(widths)
        passed = skips[:, :width].bool().cpu()
        used = (torch.arange(width) < torch.tensor(widths)[:, None]) & ~passed
        after = torch.zeros(count, width, width, dtype=torch.float64)
        after[1:] = pairs[:, :width, :width].detach()
        after = torch.where(used[:, None, :], after, 0.0)
        exact = torch.where(used, costs[:, :width].detach().cpu().double(), 0.0)
        kinds = torch.where(passed, -1, torch.arange(width))
        if not (after.isfinite().all() and exact.isfinite().all()):
            raise SpaceError("costs and pairs must be finite; give a forbidden pair a large cost")
        rows = [row[:each] for row, each in zip(exact.tolist(), widths, strict=True)]
        names = [f"position {place}" for place in range(count)]
        super().__init__("pairwise costs", names, rows, edges=Edges(after, kinds), dtype=dtype)


def _require(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != shape:
        raise SpaceError(f"{name} have shape {shape} here, got {tuple(tensor.shape)}")
