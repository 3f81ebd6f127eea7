"""Running a search: its questions answered by the objectives until the queries are spent."""

from __future__ import annotations

from collections.abc import Callable

from hwprof.errors import HwprofError
from hwprof.search.discrete.archive import Archive
from hwprof.search.discrete.interface import Search
from hwprof.search.discrete.journal import Journal
from hwprof.search.discrete.objectives import Objectives

# Rounds without a new network after which a search is over.
IDLE_ROUNDS = 100


def run_search(
    search: Search,
    objectives: Objectives,
    queries: int,
    *,
    journal: Journal | None = None,
    note: Callable[[Archive], None] | None = None,
) -> Archive:
    """Evaluate networks as the search asks for them. A query is a network that was not evaluated before.

    Ends with fewer than `queries` where the search knows of no more.

    Args:
        journal: answers what it knows, at no cost in time; new answers are added after each round.
        note: called after each round.

    Raises:
        HwprofError: fewer than one query, or the journal's networks have another number of values.
        ObjectiveError: an objective raised, gave no finite number, or never changes. What was evaluated
            in earlier rounds is in the journal.
    """
    if queries < 1:
        raise HwprofError(f"queries must be 1 or more, got {queries}")
    archive = Archive(objectives)
    known = {} if journal is None else journal.answers(len(objectives))
    idle = 0
    while len(archive) < queries and idle < IDLE_ROUNDS:
        asked = search.ask()
        if not asked:
            break
        before = len(archive)
        fresh = []
        for point in asked:
            if point in archive:
                continue
            if len(archive) == queries:
                break
            values = known.get(point)
            if values is None:
                values = objectives.values(point)
                fresh.append((point, values))
            archive.add(point, values)
        objectives.check_vary([entry.values for entry in archive.entries])
        if journal is not None and fresh:
            journal.add(fresh)
        if note is not None:
            note(archive)
        idle = idle + 1 if len(archive) == before else 0
        if all(point in archive for point in asked):
            search.tell(objectives.minimised([archive.values_of(point) for point in asked]))
    return archive
