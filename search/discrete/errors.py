"""What can go wrong with an objective."""

from __future__ import annotations

from hwprof.errors import HwprofError


class ObjectiveError(HwprofError):
    """An objective raised, gave no finite number, is the same for every network, or is unknown."""
