"""Shrinking: how many choices of each decision a search still offers as it goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil

from hwprof.errors import HwprofError


@dataclass(frozen=True)
class Stage:
    """From the share `after` of the queries on, the share `keep` of each decision's choices, rounded up,
    at least two."""

    after: float
    keep: float


class Shrinking:
    """The stages of one search.

    Raises:
        HwprofError: stages that do not lie between 0 and 1, or do not go down.
    """

    def __init__(self, stages: Sequence[Stage], queries: int) -> None:
        for stage in stages:
            if not (0.0 < stage.after < 1.0 and 0.0 < stage.keep < 1.0):
                raise HwprofError(f"a stage has shares between 0 and 1, got {stage}")
        for before, after in pairwise(stages):
            if after.after <= before.after or after.keep >= before.keep:
                raise HwprofError(f"each stage is later than the one before and keeps less, got {after}")
        self._left = list(stages)
        self._queries = queries

    def due(self, done: int) -> float | None:
        """The share to keep, when a stage begins by `done` queries; each stage once."""
        due = None
        while self._left and done >= self._left[0].after * self._queries:
            due = self._left.pop(0).keep
        return due


def choices_left(widths: Sequence[int], share: float) -> tuple[int, ...]:
    """How many choices of each decision a share is: rounded up, at least two."""
    return tuple(max(2, ceil(share * width)) for width in widths)


# Neither the paper's stages nor the ops that it keeps are published: see docs/tnd-nas.md for these.
DEFAULT_STAGES = (Stage(0.7, 0.8),)
