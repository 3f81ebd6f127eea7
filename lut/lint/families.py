"""Families: ops that differ along one axis alone, and blocks with and without one of their parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from hwprof.lut.lint.pairs import ADDED, ALIGNMENT, ALONG_AXIS, Pairs
from hwprof.lut.lint.view import Indices, View

SAME = (
    "environment_id", "cache", "dtype", "pool", "groups", "kind", "batch", "in_channels",
    "out_channels", "height", "width", "stride", "activation", "se_channels", "residual",
)  # fmt: skip
TIED = ("conv", "depthwise", "relu_conv", "basic_block", "pool")
"""Kinds whose mix has the width of the output: it says a kernel and nothing else."""
EXPANDING = ("mbconv", "mixconv")
DEPTHWISE = ("depthwise", *EXPANDING)
WIDTHS = ("in_channels", "out_channels", "hidden")


def families(view: View) -> Iterator[Pairs]:
    """Neighbours along one axis, all else equal, and ops with and without one part."""
    ops = Ops(view)
    yield ops.along("kernel", "kernel")
    yield ops.along("expansion", "hidden")
    yield ops.along("input channels", "in_channels")
    yield ops.along("output channels", "out_channels")
    yield ops.scaled("channels")
    yield ops.along("resolution", "height", "width")
    yield ops.along("batch", "batch")
    yield ops.along("squeeze-and-excitation", "se_channels", margin=ADDED)
    yield ops.along("residual", "residual", margin=ADDED)
    yield ops.along("activation", "active", "activation", margin=ADDED)


class Ops:
    """The attributes of a table's ops, one array each."""

    def __init__(self, view: View) -> None:
        self.rows = np.flatnonzero(view.priced & ~view.is_in("kind", ["subgraph"]))
        kernel, single = view.codes("kernel_min"), view.codes("kernel_min") == view.codes("kernel_max")
        hidden = view.codes("hidden_channels")
        columns = {name: view.codes(name) for name in SAME} | {
            "kernel": np.where(single, kernel, -1),
            "mix": np.where(single, -1, view.codes("kernel_mix")),
            "hidden": np.where(view.is_in("kind", TIED), -1, hidden),
            "active": (~view.is_in("activation", ["none"])).astype(np.int64),
        }
        self.columns = {name: column[self.rows] for name, column in columns.items()}
        narrow = view.is_in("kind", EXPANDING) & (hidden == view.codes("in_channels"))
        plain = view.is_in("kind", ["basic_block"])
        plain &= view.codes("out_channels") == view.codes("in_channels")
        # A block without its expansion convolution, or the one in its shortcut, does less for its width.
        self.lacks = (narrow | plain)[self.rows]
        self.pointwise = (view.is_in("kind", DEPTHWISE) & single & (kernel == 1))[self.rows]

    def along(self, what: str, axis: str, *follows: str, margin: float = ALONG_AXIS) -> Pairs:
        """Neighbours along an axis that agree in all else but in what `follows`."""
        keys = [column for name, column in self.columns.items() if name not in (axis, *follows)]
        return self._pairs(what, margin, keys, axis, [n for n in follows if n != "activation"])

    def scaled(self, what: str) -> Pairs:
        """Neighbours whose widths all grow by one factor."""
        follows = ("out_channels", "hidden", "se_channels")
        keys = [c for name, c in self.columns.items() if name not in ("in_channels", *follows)]
        keys.append((self.columns["se_channels"] > 0).astype(np.int64))
        for name in ("out_channels", "hidden"):
            ratio = self.columns[name] / self.columns["in_channels"]
            keys.append(np.unique(np.where(self.columns[name] < 0, -1, ratio), return_inverse=True)[1])
        return self._pairs(what, ALONG_AXIS, keys, "in_channels", follows)

    def _pairs(
        self, what: str, margin: float, keys: list[Indices], axis: str, follows: Sequence[str]
    ) -> Pairs:
        """Rows next to each other on the axis among those of equal keys, the larger one not smaller in
        what follows, and in no width a better multiple."""
        value = self.columns[axis]
        order = np.lexsort([value, *keys])
        same = np.all([np.diff(key[order]) == 0 for key in keys], axis=0)
        adjacent = same & (np.diff(value[order]) > 0)
        small, large = order[:-1][adjacent], order[1:][adjacent]
        kept = ~(self.lacks[large] & ~self.lacks[small])
        if (
            axis == "kernel"
        ):  # a runtime was seen to take six times as long for a depthwise 1x1 as for 3x3
            kept &= ~self.pointwise[small]
        for name in (axis, *follows):
            before, after = self.columns[name][small], self.columns[name][large]
            kept &= before <= after
            if name in WIDTHS:
                kept &= np.gcd(after, ALIGNMENT) <= np.gcd(before, ALIGNMENT)
        return Pairs(what, margin, self.rows[small[kept]], self.rows[large[kept]])
