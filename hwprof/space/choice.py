"""The decisions of a search space: a `Position` and the `Choice`s it offers."""

from __future__ import annotations

from dataclasses import dataclass

from hwprof.ops import OpSpec


@dataclass(frozen=True)
class Choice:
    """One alternative of a position.

    Attributes:
        label: readable name, unique within its position, e.g. `3:4+5:2 se0.25 hswish` (kernel size :
            expansion part, SE ratio, activation), `skip`, `nor_conv_3x3`.
        ops: the ops that this choice runs in a network, with repetition. Empty for a skip or a
            `none`: these cost exactly 0 and are never measured.
        cut: an edge that carries nothing (the `none` of a cell space). Without ops and without
            `cut`, the input passes unchanged.
    """

    label: str
    ops: tuple[OpSpec, ...]
    cut: bool = False


@dataclass(frozen=True)
class Position:
    """One decision: a `block` of a chain space, an `edge` of a cell space, or a `layer` around them
    (stem, reduction, head), which mostly has a single choice."""

    name: str
    choices: tuple[Choice, ...]
    kind: str = "block"
