"""Search over DARTS cells: the supernet, what its parameters stand for, first-order DARTS with a
latency, and the whole of LA-DARTS."""

from hwprof.search.cells.engine import CELL_SCHEDULES, FoundCells, LatencyAwareDarts
from hwprof.search.cells.network import CellNetwork
from hwprof.search.cells.relaxation import Relaxation
from hwprof.search.cells.search import CellProgress, CellRecipe, CellSearch, cell_recipe
from hwprof.search.cells.shortlist import best_candidates
from hwprof.search.cells.supernet import CellSupernet

__all__ = [
    "CELL_SCHEDULES", "CellNetwork", "CellProgress", "CellRecipe", "CellSearch", "CellSupernet",
    "FoundCells", "LatencyAwareDarts", "Relaxation", "best_candidates", "cell_recipe",
]  # fmt: skip
