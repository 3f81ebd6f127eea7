"""Unit: what a runtime compiles and runs as one, and the terms that its time is made of."""

from __future__ import annotations

from dataclasses import dataclass

from hwprof.models.model import Model


@dataclass(frozen=True)
class Term:
    """A part of a unit's time that depends on its kind and its sizes alone.

    Attributes:
        kind: rows with this kind tell its time, such as `conv_pointwise`.
        sizes: numbers of 1 or more; nearness between rows is their distance in octaves.
        flops, moved_bytes: the work that its time is compared with.
    """

    kind: str
    sizes: tuple[float, ...]
    flops: float
    moved_bytes: float


@dataclass(frozen=True)
class Unit:
    """One kernel of the runtime.

    Attributes:
        name: the model's operators in it, joined by ` + `.
        kind: what it is, such as `Conv+Relu` or `ReorderInput`.
        tensor: what it gives.
        terms: the first is the unit's own; the others are what is fused into it. None: it only gives
            memory another name.
        weight_bytes: of the weights that it reads.
    """

    name: str
    kind: str
    tensor: str
    terms: tuple[Term, ...]
    weight_bytes: float = 0.0


@dataclass(frozen=True)
class Split:
    """A model as its runtime runs it."""

    model: Model
    units: tuple[Unit, ...]

    @property
    def weight_bytes(self) -> float:
        """Of all weights that the units read."""
        return sum(unit.weight_bytes for unit in self.units)

    def cached_weight_bytes(self, cache_bytes: float) -> float:
        """Weights of the units that find theirs in a cache of this size when they run alone; inside a
        network they may be further away. Larger ones come from memory in either case."""
        return sum(unit.weight_bytes for unit in self.units if unit.weight_bytes <= cache_bytes)
