"""Encoding: the points of a space as vectors, one column for each choice that is really one.

A point is one-hot at each position; a relaxed architecture has the choices' probabilities there. A
position of one choice has no column: it is in every network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hwprof.prediction.errors import PredictionError
from hwprof.space import Space

if TYPE_CHECKING:
    from torch import Tensor

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Encoding:
    """What the columns of a vector mean.

    Attributes:
        space: the space's name.
        space_hash: of the space with the batch size and dtype that its networks were measured at.
        positions: names of the positions.
        choices: labels of each position's choices.
    """

    space: str
    space_hash: str
    positions: tuple[str, ...]
    choices: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, space: Space) -> Encoding:
        """
        Raises:
            PredictionError: the space is a list of ops, or leaves nothing to choose.
        """
        if space.family == "ops":
            raise PredictionError(
                f"{space.name} is a list of ops: it has no networks to predict; give a space of family "
                "chain or cell"
            )
        made = cls(
            space.name,
            space.space_hash,
            tuple(position.name for position in space.positions),
            tuple(tuple(c.label for c in position.choices) for position in space.positions),
        )
        if not made.columns:
            raise PredictionError(f"{space.name} has one network: there is nothing to predict")
        return made

    @cached_property
    def widths(self) -> tuple[int, ...]:
        """Choices of each position."""
        return tuple(len(labels) for labels in self.choices)

    @cached_property
    def chosen(self) -> tuple[int, ...]:
        """Indices of the positions with two choices or more: those that have columns."""
        return tuple(place for place, width in enumerate(self.widths) if width > 1)

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """First column of each position of `chosen`."""
        ends = np.cumsum([self.widths[place] for place in self.chosen], dtype=np.int64).tolist()
        return (0, *ends[:-1])

    @cached_property
    def columns(self) -> int:
        return sum(self.widths[place] for place in self.chosen)

    @cached_property
    def position_of(self) -> Integers:
        """(columns,): which of `chosen` a column belongs to."""
        widths = [self.widths[place] for place in self.chosen]
        return np.repeat(np.arange(len(widths)), widths).astype(np.int64)

    def checked(self, points: ArrayLike) -> Integers:
        """Points as an array (networks, positions).

        Raises:
            PredictionError: a wrong length, a type other than integer, or an index that is no choice.
        """
        try:
            found = np.asarray(points)
        except ValueError:
            raise PredictionError(f"points of {self.space} differ in their lengths") from None
        if found.size == 0:
            found = np.zeros((0, len(self.positions)), dtype=np.int64)
        if found.ndim != 2 or found.shape[1] != len(self.positions):
            raise PredictionError(
                f"points of {self.space} have shape (networks, {len(self.positions)}), got {found.shape}"
            )
        if found.dtype.kind not in "iu":
            raise PredictionError(f"choice indices of {self.space} are integers, got {found.dtype}")
        wrong = (found < 0) | (found >= np.array(self.widths))
        if wrong.any():
            network, place = (int(i) for i in np.argwhere(wrong)[0])
            raise PredictionError(
                f"{self.space} {self.positions[place]}: choice {int(found[network, place])} of network "
                f"{network} is not one of 0 to {self.widths[place] - 1}"
            )
        return found.astype(np.int64)

    def one_hot(self, points: ArrayLike) -> Floats:
        """(networks, columns) of 0 and 1.

        Raises:
            PredictionError: as `checked`.
        """
        picked = self.checked(points)[:, list(self.chosen)] + np.array(self.starts)
        made = np.zeros((len(picked), self.columns))
        made[np.arange(len(picked))[:, None], picked] = 1.0
        return made

    def spread(self, values: Sequence[Sequence[float]]) -> tuple[Floats, float]:
        """A value of each choice of each position as (columns,), and the sum over positions of one
        choice: what a network costs is `one_hot @ columns + constant`."""
        columns = [value for place in self.chosen for value in values[place]]
        fixed = (values[place][0] for place, width in enumerate(self.widths) if width == 1)
        return np.array(columns, dtype=np.float64), float(sum(fixed))

    def relaxed(self, probabilities: Tensor | Sequence[Tensor]) -> Tensor:
        """Probabilities of the choices as (..., columns), differentiable.

        Args:
            probabilities: of shape (..., positions, most choices of one), whose padding is not read, or
                one tensor (..., choices) per position.

        Raises:
            PredictionError: the shape does not fit the space.
        """
        import torch

        if isinstance(probabilities, torch.Tensor):
            wanted = (len(self.positions), max(self.widths))
            if tuple(probabilities.shape[-2:]) != wanted:
                raise PredictionError(
                    f"probabilities of {self.space} have shape (..., {wanted[0]}, {wanted[1]}), got "
                    f"{tuple(probabilities.shape)}"
                )
            parts = [probabilities[..., place, : self.widths[place]] for place in self.chosen]
        else:
            widths = tuple(int(part.shape[-1]) if part.ndim else 0 for part in probabilities)
            if widths != self.widths:
                raise PredictionError(
                    f"probabilities of {self.space} are for {len(self.widths)} positions of "
                    f"{', '.join(map(str, self.widths))} choices, got {', '.join(map(str, widths))}"
                )
            parts = [probabilities[place] for place in self.chosen]
        return torch.cat(parts, -1)

    def sampled(self, relaxed: Floats, count: int, rng: np.random.Generator) -> Floats:
        """`count` networks drawn from each row of probabilities (mixes, columns), one-hot, of shape
        (mixes, count, columns). Each position's draws are spread evenly (a Latin hypercube, McKay et al.
        1979), so that means over them vary less."""
        mixes = len(relaxed)
        picked = np.zeros((mixes, count, self.columns))
        for start, place in zip(self.starts, self.chosen, strict=True):
            ends = relaxed[:, start : start + self.widths[place]].cumsum(-1)
            strata = rng.random((mixes, count)).argsort(-1) + rng.random((mixes, count))
            drawn = strata / count * ends[:, -1:]
            chosen = (ends[:, None, :-1] <= drawn[..., None]).sum(-1)
            np.put_along_axis(picked, (start + chosen)[..., None], 1.0, -1)
        return picked

    def require(self, space: Space) -> None:
        """Raises PredictionError where the space is not that of the encoding, or its positions and
        choices are others than the columns stand for."""
        if space.space_hash != self.space_hash:
            raise PredictionError(
                f"the predictor is of space {self.space} ({self.space_hash[:12]}), not of {space.name} "
                f"({space.space_hash[:12]}); give the space as it was measured, batch and dtype included"
            )
        ours = Encoding.of(space)
        if (ours.positions, ours.choices) != (self.positions, self.choices):
            raise PredictionError(
                f"the predictor is of other positions or choices than {space.name}, though it names the "
                "same space; its folder was changed: fit it anew with hwprof fit-predictor"
            )

    def to_dict(self) -> dict[str, Any]:
        return {
            "space": self.space,
            "space_hash": self.space_hash,
            "positions": list(self.positions),
            "choices": [list(labels) for labels in self.choices],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Encoding:
        return cls(
            data["space"],
            data["space_hash"],
            tuple(data["positions"]),
            tuple(tuple(labels) for labels in data["choices"]),
        )
