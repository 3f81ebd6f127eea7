"""The searches by name."""

from __future__ import annotations

from hwprof.errors import HwprofError
from hwprof.search.discrete.decisions import Decisions
from hwprof.search.discrete.interface import Search
from hwprof.search.discrete.nsga2 import Nsga2
from hwprof.search.discrete.penalty import DifferentiablePenalty
from hwprof.search.discrete.random_search import RandomSearch
from hwprof.search.discrete.tnd_nas import TndNas

SEARCHES = ("tnd-nas", "random", "nsga2", "penalty")


def make_search(name: str, decisions: Decisions, objectives: int, *, queries: int, seed: int) -> Search:
    """A search with its default settings.

    Args:
        name: of `SEARCHES`.
        objectives: how many there are.

    Raises:
        HwprofError: an unknown name.
        BackendUnavailable: `nsga2` without pymoo.
    """
    match name:
        case "tnd-nas":
            return TndNas(decisions, objectives, queries=queries, seed=seed)
        case "random":
            return RandomSearch(decisions, seed=seed)
        case "nsga2":
            return Nsga2(decisions, objectives, seed=seed)
        case "penalty":
            return DifferentiablePenalty(decisions, objectives, queries=queries, seed=seed)
    raise HwprofError(f"search {name!r} is unknown; choose of {', '.join(SEARCHES)}")
