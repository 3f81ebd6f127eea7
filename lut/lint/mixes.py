"""MixConv blocks that differ in their kernel mix alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import permutations
from math import gcd

from hwprof.lut.lint.pairs import ADDED, ALIGNMENT, ALONG_AXIS, Pairs, as_pairs
from hwprof.lut.lint.view import View

KINDS = ("mbconv", "mixconv")
SAME = (
    "environment_id", "cache", "dtype", "batch", "in_channels", "out_channels", "height", "width",
    "stride", "activation", "se_channels", "residual",
)  # fmt: skip
Mix = dict[int, int]


def mixes(view: View) -> Iterator[Pairs]:
    """Blocks, one of them a mix, that differ in the mix alone: with larger kernels or more channels in
    as many parts, and with a part more."""
    larger: list[tuple[int, int]] = []
    added: list[tuple[int, int]] = []
    blocks = view.priced & view.is_in("kind", KINDS)
    mixed = view.codes("kernel_min") != view.codes("kernel_max")
    for values, rows in view.groups(blocks, *SAME):
        if not mixed[rows].any():
            continue
        known = zip(rows.tolist(), map(_read, view.texts("kernel_mix", rows)), strict=True)
        for (small, less), (large, more) in permutations(known, 2):
            width = sum(more.values())
            if len(more) == 1 or width == values[SAME.index("in_channels")]:
                continue  # no mix, or no expansion convolution
            if gcd(*more.values(), ALIGNMENT) > gcd(*less.values(), ALIGNMENT):
                continue
            if len(less) < len(more) and less.items() < more.items():
                added.append((small, large))
            elif len(less) == len(more) and _grows(less, more):
                larger.append((small, large))
    yield as_pairs("kernel mix", ALONG_AXIS, larger)
    yield as_pairs("a part of the mix", ADDED, added)


def _read(text: str) -> Mix:
    """Channels of each kernel side, of `3:64,5:32`; empty where it says something else."""
    pairs = re.findall(r"(\d+):(\d+)", text)
    return {int(kernel): int(channels) for kernel, channels in pairs}


def _grows(less: Mix, more: Mix) -> bool:
    """Whether at equal width channels move to larger kernels, or at equal kernels parts widen."""
    if less.keys() == more.keys() and sum(less.values()) < sum(more.values()):
        return all(less[kernel] <= more[kernel] for kernel in less)
    if sum(less.values()) != sum(more.values()) or less == more:
        return False
    return all(_from(less, side) <= _from(more, side) for side in less.keys() | more.keys())


def _from(mix: Mix, side: int) -> int:
    """Channels of kernels of that side or more."""
    return sum(channels for kernel, channels in mix.items() if kernel >= side)
