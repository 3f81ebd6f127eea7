"""Objectives: what a search trades against each other. Any function of a network will do."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwprof.errors import HwprofError
from hwprof.search.discrete.errors import ObjectiveError

Point = tuple[int, ...]
Floats = NDArray[np.float64]

# Networks after which an objective that never changed is taken to be constant.
CONSTANT_AFTER = 20


@dataclass(frozen=True)
class Objective:
    """One quantity of a network.

    Attributes:
        name: as it is asked for and reported.
        value: of a point; called once for each network.
        larger_is_better: as of an accuracy.
        unit: of the value; empty where it has none.
    """

    name: str
    value: Callable[[Point], float]
    larger_is_better: bool = False
    unit: str = ""


class Objectives:
    """The objectives of one search, in order.

    Raises:
        ObjectiveError: none, or two of one name.
    """

    def __init__(self, objectives: Sequence[Objective]) -> None:
        names = [objective.name for objective in objectives]
        if not names or len(set(names)) < len(names):
            raise ObjectiveError(f"objectives are one or more different ones, got {names}")
        self.all = tuple(objectives)
        self.names = tuple(names)
        self._signs = np.array([-1.0 if one.larger_is_better else 1.0 for one in objectives])

    def __len__(self) -> int:
        return len(self.all)

    def values(self, point: Point) -> tuple[float, ...]:
        """Of one network, each in its own unit.

        Raises:
            ObjectiveError: an objective raised, exited or gave no finite number; a `HwprofError` of its
                own passes as it is.
        """
        return tuple(_value(objective, point) for objective in self.all)

    def minimised(self, values: Sequence[Sequence[float]] | Floats) -> Floats:
        """(networks, objectives) where smaller is better for all: the sign of the others is turned."""
        found: Floats = np.asarray(values, dtype=np.float64).reshape(-1, len(self)) * self._signs
        return found

    def check_vary(self, values: Sequence[Sequence[float]]) -> None:
        """
        Raises:
            ObjectiveError: after 20 networks an objective has had one value only.
        """
        if len(values) < CONSTANT_AFTER:
            return
        for name, column in zip(self.names, np.asarray(values).T, strict=True):
            if (column == column[0]).all():
                raise ObjectiveError(
                    f"objective {name} is {column[0]:g} for all of the first {len(column)} networks: it "
                    "decides nothing; leave it out, or check where it comes from"
                )


def _value(objective: Objective, point: Point) -> float:
    try:
        value = objective.value(point)
        # float() would read text too.
        text = isinstance(value, str | bytes)
        found = math.nan if text else float(value)
    except HwprofError:
        raise
    except (Exception, SystemExit) as error:
        raise ObjectiveError(
            f"objective {objective.name} raised {type(error).__name__} for network {list(point)}: "
            f"{error}"
        ) from error
    if not math.isfinite(found):
        said = f"{value!r:.80}" if text else found
        raise ObjectiveError(
            f"objective {objective.name} is {said} for network {list(point)}; it must be a finite "
            "number for every network of the space"
        )
    return found
