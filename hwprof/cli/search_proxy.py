"""`hwprof search --proxy`: a search that trains nothing."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwprof.cli.searching import MeasuredTable, about, latencies, shortlist_of
from hwprof.errors import HwprofError, SpaceError

if TYPE_CHECKING:
    from hwprof.search.discrete.journal import Journal
    from hwprof.search.discrete.objectives import Objectives
    from hwprof.search.engine.settings import SearchSettings

Point = tuple[int, ...]
PARAMS = "params"
JOURNAL = "journal.jsonl"


def search_by_proxy(
    proxy: str, measured: MeasuredTable, settings: SearchSettings, folder: Path
) -> dict[str, Any]:
    """The largest network, or evolution by a user's function; its shortlist is measured."""
    from hwprof.graph.onnx_emitter import to_onnx
    from hwprof.search.discrete.journal import Journal
    from hwprof.search.discrete.objectives import Objectives
    from hwprof.search.discrete.quantities import user_objective
    from hwprof.search.discrete.sources import objective_sha256
    from hwprof.search.engine.choice import choose
    from hwprof.search.engine.folder import SearchFolder
    from hwprof.search.engine.outcome import ONNX, write_measuring, write_outcome
    from hwprof.search.supernet.files import replace_file

    if proxy != PARAMS and ":" not in proxy:
        raise HwprofError(f"proxy {proxy!r} is neither {PARAMS} nor MODULE:FUNCTION, such as mine:score")
    measured.check(settings.target_ms)
    score, function = None, None
    if proxy != PARAMS:
        score = Objectives([user_objective(proxy, measured.space, larger_is_better=True)])
        function = objective_sha256(proxy)
    asked = {
        "proxy": proxy, "function": function, **asdict(settings), "schedule": None,
        "space_hash": measured.space.space_hash, **measured.sources(),
    }  # fmt: skip
    own = SearchFolder(folder)
    own.check(asked)
    told: dict[str, Any] = {"proxy": proxy, "accuracy": None, **about(measured, settings)}
    if score is None:
        points, told["largest"] = _largest(measured, settings)
    else:
        points = _evolved(score, measured, settings, Journal(folder / JOURNAL, asked))
    own.claim(asked)
    shortlist = measured.measure(points)
    chosen = choose([entry["measured_ms"] for entry in shortlist], settings)
    point = points[chosen]
    model = to_onnx(measured.space.network(point))
    replace_file(folder / ONNX, model.SerializeToString())
    write_measuring(folder, measured.space)
    told |= {**shortlist_of(shortlist, chosen), "trained": False, **latencies(shortlist[chosen])}
    out = write_outcome(folder, measured.source, measured.space, point, told)
    content: dict[str, Any] = json.loads(out.read_text())
    return content


def _largest(
    measured: MeasuredTable, settings: SearchSettings
) -> tuple[list[Point], list[dict[str, float]]]:
    """The largest network at or below the target, then the largest that is faster than the one before,
    and so on; with each its parameters, and the bound on those of any network as fast."""
    from hwprof.search.largest import choice_parameters, largest_network

    scores, costs = choice_parameters(measured.space), measured.costs()
    networks: dict[object, Point] = {}
    told = []
    below_ms = settings.target_ms
    while len(networks) < settings.shortlist and below_ms >= costs.fastest_ms:
        found = largest_network(measured.space, costs, scores, below_ms)
        ops = measured.space.point_ops(found.point)
        if ops not in networks:
            networks[ops] = found.point
            told.append({"parameters": found.score, "at_most": found.score_bound})
        # By more than the last bits of a sum.
        below_ms = found.latency_ms * (1 - 1e-9)
    return list(networks.values()), told


def _evolved(
    score: Objectives, measured: MeasuredTable, settings: SearchSettings, journal: Journal
) -> list[Point]:
    """The best of an evolution by a function of the user's; what was answered is not asked again."""
    from hwprof.search.evolution import evolve

    space, known = measured.space, journal.answers(1)

    def answer(point: Point) -> float:
        if point not in known:
            known[point] = score.values(point)
            journal.add([(point, known[point])])
        return known[point][0]

    least_ms = settings.least_share * settings.target_ms
    scored = sorted(
        evolve(
            space,
            answer,
            lambda points: measured.latency.price(points).tolist(),
            settings.target_ms,
            least=least_ms,
            seed=settings.seed,
        ),
        key=lambda one: -one.score,
    )
    if not scored:
        raise SpaceError(
            f"evolution found no network of {least_ms:.4g} to {settings.target_ms:.4g} ms in "
            f"{space.name}; give another target"
        )
    # Points that skip one or the other of two equal blocks are one network.
    networks: dict[object, Point] = {}
    for one in scored:
        networks.setdefault(space.point_ops(one.point), one.point)
    return list(networks.values())[: settings.shortlist]
