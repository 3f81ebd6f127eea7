"""Regret of a search on predicted latencies, before and after its shortlist is measured (replay)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hwprof.prediction import Predictor, fit_family
from hwprof.prediction.knowledge import Knowledge, knowledge_of
from hwprof.search.discrete.archive import Archive, Evaluated
from hwprof.search.discrete.objectives import Floats, Objective, Objectives
from hwprof.search.discrete.replay import Replay
from hwprof.search.discrete.run import run_search
from hwprof.search.discrete.tnd_nas import TndNas

TARGET_QUANTILES = (0.25, 0.5, 0.75)
"""Of the latencies of all networks of a device."""
MEASURED = 100
"""Networks that the predictor is fitted on."""
SHORTLIST = (4, 3, 3)
"""Networks that surely, probably and perhaps meet the target."""
MEMBERS = ("additive", "pairwise")


def shortlist_regret(
    replay: Replay, devices: Sequence[str], accuracy: str, seeds: int, queries: int
) -> dict[str, list[dict[str, Any]]]:
    """For each device and target: accuracy that is lost, in points, to the best network that is no
    slower than the target, or than the one taken where that is over it; and the share of seeds whose
    network is over the target as measured."""
    found: dict[str, list[dict[str, Any]]] = {}
    knowledge = knowledge_of(replay.space)
    for device in devices:
        latency, accuracies = replay.columns[device], replay.columns[accuracy]
        targets = np.quantile(latency, TARGET_QUANTILES)
        best = [_best(accuracies, latency, float(target)) for target in targets]
        picks: list[list[tuple[int, int]]] = [[] for _ in targets]
        for seed in range(seeds):
            archive, predictor = _search(replay, knowledge, device, accuracy, seed, queries)
            for place, target in enumerate(targets):
                picks[place].append(_picks(replay, archive, predictor, latency, float(target)))
        found[device] = [
            {
                "target_ms": float(target),
                "best_accuracy": top,
                "before": _told([pair[0] for pair in pairs], latency, accuracies, float(target)),
                "after": _told([pair[1] for pair in pairs], latency, accuracies, float(target)),
            }
            for target, top, pairs in zip(targets, best, picks, strict=True)
        ]
    return found


def _search(
    replay: Replay, knowledge: Knowledge, device: str, accuracy: str, seed: int, queries: int
) -> tuple[Archive, Predictor]:
    """TND-NAS on accuracy and a latency that is predicted from random measured networks."""
    rng = np.random.default_rng([seed, 7])
    drawn = rng.choice(len(replay.points), MEASURED, replace=False)
    predictor = fit_family(
        knowledge, [replay.points[n] for n in drawn], replay.columns[device][drawn],
        members=MEMBERS, seed=seed,
    )  # fmt: skip
    values = predictor.member.predict(predictor.encoding.one_hot(replay.points))
    predicted = dict(zip(replay.points, values.tolist(), strict=True))
    objectives = Objectives(
        [
            replay.objective(accuracy, larger_is_better=True),
            Objective("predicted", predicted.__getitem__, unit="ms"),
        ]
    )
    search = TndNas(replay.decisions(), 2, queries=queries, seed=seed)
    return run_search(search, objectives, queries), predictor


def _picks(
    replay: Replay, archive: Archive, predictor: Predictor, latency: Floats, target: float
) -> tuple[int, int]:
    """The network that is taken by prediction alone, and the one after the shortlist was measured, as
    places in the table. The shortlist has the most accurate of those that meet the target by the upper
    end of the predictor's interval, by its value, and by the lower end."""
    place_of = {point: place for place, point in enumerate(replay.points)}
    ranked = sorted(archive.entries, key=lambda entry: -entry.values[0])
    ends = [target / predictor.interval.factor, target, target * predictor.interval.factor]
    meeting = [entry for entry in ranked if entry.values[1] <= target]
    if not meeting:
        meeting = sorted(archive.entries, key=lambda entry: entry.values[1])[:1]
    shortlist: list[Evaluated] = []
    for end, count in zip(ends, SHORTLIST, strict=True):
        left = [one for one in ranked if one.values[1] <= end and one not in shortlist]
        shortlist += left[:count]
    places = [place_of[entry.point] for entry in shortlist]
    within = [entry for entry, n in zip(shortlist, places, strict=True) if latency[n] <= target]
    if within:
        after = place_of[max(within, key=lambda entry: entry.values[0]).point]
    else:
        after = min(places, key=lambda n: float(latency[n]))
    return place_of[meeting[0].point], after


def _told(
    places: Sequence[int], latency: Floats, accuracies: Floats, target: float
) -> Mapping[str, Any]:
    picked = np.array(places)
    over = latency[picked] > target
    allowed = np.maximum(target, latency[picked])
    best = np.array([_best(accuracies, latency, float(limit)) for limit in allowed])
    regret = best - accuracies[picked]
    return {
        "regret": {"mean": float(regret.mean()), "seeds": regret.tolist()},
        "over": float(over.mean()),
        "mean_excess": float((latency[picked][over] / target - 1.0).mean()) if over.any() else 0.0,
    }


def _best(accuracies: Floats, latency: Floats, limit: float) -> float:
    return float(accuracies[latency <= limit].max())
