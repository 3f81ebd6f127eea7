"""Search spaces: what can be chosen, read from YAML, and the ops that it takes to price it."""

from hwprof.space.cell import CellLayout
from hwprof.space.choice import Choice, Position
from hwprof.space.darts import DartsLayout
from hwprof.space.load import list_spaces, load_space
from hwprof.space.nb201 import point_from_string, string_from_point
from hwprof.space.space import Space

__all__ = [
    "CellLayout", "Choice", "DartsLayout", "Position", "Space", "list_spaces", "load_space",
    "point_from_string", "string_from_point",
]  # fmt: skip
