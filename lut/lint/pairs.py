"""Pairs of rows of which one does all that the other does, and more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hwprof.lut.lint.view import Indices

ALIGNMENT = 32
"""Vectors and blocked layouts of a runtime hold up to so many channels: 24 may take longer than 32."""
# Of 2,000 pairs of neighbours in rows of 22 environments (two phones, an accelerator's simulator, four
# runtimes on a CPU) the smaller op took 6 % longer at most; of 1,200 where the larger one has something
# added, 1 %. A part timed alone also pays for changing the layout of a tensor that never leaves its
# block: of 241 one came to 96 % of its block.
ALONG_AXIS, ADDED, INSIDE = 0.1, 0.05, 0.25


@dataclass(frozen=True)
class Pairs:
    """Row `larger[i]` does all that row `smaller[i]` does and more; `what` says what more. Beyond both
    intervals, the smaller one may take longer by `margin` (relative)."""

    what: str
    margin: float
    smaller: Indices
    larger: Indices


def as_pairs(what: str, margin: float, found: Sequence[tuple[int, int]]) -> Pairs:
    """Of (smaller, larger)."""
    small, large = np.array(found, np.int64).reshape(-1, 2).T
    return Pairs(what, margin, small, large)
