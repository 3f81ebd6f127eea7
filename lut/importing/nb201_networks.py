"""Whole networks of NAS-Bench-201 (Dong and Yang 2020) by their architecture strings."""

from __future__ import annotations

from dataclasses import replace

from hwprof.errors import LutError, SpaceError
from hwprof.lut.importing.entries import Network
from hwprof.ops import OpSpec
from hwprof.space import load_space
from hwprof.space.nb201 import point_from_string
from hwprof.space.space import Space

SPACE = "nb201"
SHIPPED = "cifar10"
DATASETS = {"cifar10": (10, 1), "cifar100": (100, 1), "ImageNet16-120": (120, 2)}
"""Classes, and what the side of 32 pixels is divided by."""


class Nb201:
    """The networks of one data set and batch."""

    def __init__(self, dataset: str, batch: int) -> None:
        """
        Raises:
            LutError: NAS-Bench-201 has no such data set.
        """
        if dataset not in DATASETS:
            raise LutError(
                f"dataset {dataset[:60]!r} is none of {', '.join(DATASETS)}; give --dataset NAME"
            )
        self._space = _sized(load_space(SPACE).with_options(batch, "float32"), *DATASETS[dataset])
        self.space = SPACE if dataset == SHIPPED and batch == 1 else None
        """Name of the shipped space that the networks are of, None for none."""

    def network(self, text: str) -> Network:
        """The network of an architecture string.

        Raises:
            SpaceError: another form, an unknown op, or no path from the cell's input to its output.
        """
        point = point_from_string(self._space, text)
        try:
            graph = self._space.network(point)
        except SpaceError:
            raise SpaceError("no path leads from the cell's input to its output") from None
        return Network.of(self._space.point_ops(point), graph)


def _sized(space: Space, classes: int, divisor: int) -> Space:
    def sized(op: OpSpec) -> OpSpec:
        shape = (*op.shape[:2], *(side // divisor for side in op.shape[2:]))
        return replace(op, shape=shape, out_channels=classes if op.kind == "head" else op.out_channels)

    positions = tuple(
        replace(
            position,
            choices=tuple(
                replace(choice, ops=tuple(map(sized, choice.ops))) for choice in position.choices
            ),
        )
        for position in space.positions
    )
    return replace(space, positions=positions)
