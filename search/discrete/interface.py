"""What every search over whole networks is: it asks for networks and is told their values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from hwprof.search.discrete.objectives import Floats, Point


class Search(Protocol):
    """A search with all its random numbers from one seed: the same answers give the same questions. That
    is how one that was stopped goes on."""

    @property
    def name(self) -> str: ...

    def ask(self) -> Sequence[Point]:
        """Networks to evaluate next; those that were evaluated before cost no query. Empty where the
        search knows of no more."""
        ...

    def tell(self, values: Floats) -> None:
        """Their objectives (networks, objectives), smaller is better, in the order asked."""
        ...
