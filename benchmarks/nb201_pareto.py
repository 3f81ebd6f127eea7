"""Accuracy against latency on NAS-Bench-201, by replay: how much of the front do 500 queries find?

    python benchmarks/nb201_pareto.py --nb201 nb201.parquet --out benchmarks/results/nb201_pareto.json
    python benchmarks/nb201_pareto.py --nb201 nb201.parquet --protocol \\
        --out benchmarks/results/nb201_pareto_protocol.json

A query tells a network's accuracy and its latency on one device. Each search has 500 queries, on each of
three devices, with 20 seeds. Scored is the hypervolume of what it found, as a share of that of the true
front, with the reference point a tenth of the front's extent beyond its worst values.

The three devices are targets of HELP's split, one of each kind, chosen before any result was looked at:
a board, a server's CPU and a GPU (the fourth target, pixel2, has latencies of whole ms). Settings
were chosen on four other devices, sources of that split, and other seeds, with unequal effort: TND-NAS
got about a hundred settings, NSGA-II five populations, penalty and REINFORCE four rates each.
`--protocol` runs the last grid of each; the best setting of each search is its default. Goals:
mean hypervolume of TND-NAS above that of random search and of NSGA-II, and with shrinking above without.

Then the same search with latencies of a predictor that has seen 100 networks: regret at three latency
targets when the best network by prediction is taken, and when ten are measured first.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from common import print_table, write_result
from nb201_shortlist import TARGET_QUANTILES, shortlist_regret

from hwprof.search.discrete.archive import reference_of
from hwprof.search.discrete.hypervolume import front_mask, hypervolume
from hwprof.search.discrete.interface import Search
from hwprof.search.discrete.nsga2 import Nsga2
from hwprof.search.discrete.objectives import Floats, Objectives
from hwprof.search.discrete.penalty import DifferentiablePenalty
from hwprof.search.discrete.random_search import RandomSearch
from hwprof.search.discrete.replay import Replay, read_replay
from hwprof.search.discrete.run import run_search
from hwprof.search.discrete.shrinking import Stage
from hwprof.search.discrete.tnd_nas import TndNas, TndSettings
from hwprof.space import load_space

ACCURACY = "cifar100_accuracy"
DEVICES = ("raspi4", "gold_6226", "titan_rtx_256")
TUNING_DEVICES = ("1080ti_1", "silver_4114", "samsung_a50", "pixel3")
TUNING_SEED = 1000
COUNTS = (100, 200, 300, 400, 500)
RESAMPLES = 10_000
TND, WITHOUT = "TND-NAS", "TND-NAS without shrinking"
REINFORCE, REINFORCE_WITHOUT = "plain REINFORCE", "plain REINFORCE without shrinking"

Make = Callable[[int, int], Search]
"""A search from queries and seed."""


class Device:
    """One device of the table as a pair of objectives, with its true front."""

    def __init__(self, replay: Replay, name: str) -> None:
        self.name = name
        self.objectives = Objectives(
            [replay.objective(ACCURACY, larger_is_better=True), replay.objective(name, unit="ms")]
        )
        values = np.stack([-replay.columns[ACCURACY], replay.columns[name]], -1)
        front = values[front_mask(values)]
        self.networks, self.front = len(values), len(front)
        self.reference = reference_of(front)
        self.whole = hypervolume(front, self.reference)

    def shares(self, make: Make, seed: int, queries: int) -> dict[int, float]:
        """Share of the true hypervolume after some numbers of queries."""
        archive = run_search(make(queries, seed), self.objectives, queries)
        values = archive.minimised
        return {
            count: hypervolume(values[:count], self.reference) / self.whole
            for count in sorted({*(c for c in COUNTS if c < queries), queries})
        }


def searches(replay: Replay) -> dict[str, Make]:
    """Those that are compared, with their defaults."""
    decisions = replay.decisions()

    def tnd(settings: TndSettings) -> Make:
        return lambda queries, seed: TndNas(decisions, 2, queries=queries, seed=seed, settings=settings)

    return {
        "random search": lambda queries, seed: RandomSearch(decisions, seed=seed),
        "NSGA-II (pymoo)": lambda queries, seed: Nsga2(decisions, 2, seed=seed),
        "differentiable penalty": lambda queries, seed: DifferentiablePenalty(
            decisions, 2, queries=queries, seed=seed
        ),
        TND: tnd(TndSettings()),
        WITHOUT: tnd(TndSettings().without_shrinking()),
        REINFORCE: tnd(PLAIN),
        REINFORCE_WITHOUT: tnd(replace(PLAIN, rate=30.0).without_shrinking()),
    }


PLAIN = TndSettings(update="reinforce", rate=10.0, sharing=0.0, exploration=0.05)
"""The published form: nothing but the last round's own rewards teaches a policy."""


def interval(values: Floats) -> tuple[float, float]:
    """95 % of bootstrap means over the seeds."""
    rng = np.random.default_rng(0)
    means = values[rng.integers(len(values), size=(RESAMPLES, len(values)))].mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def compare(replay: Replay, seeds: int, queries: int) -> dict[str, Any]:
    """Every search on every device with every seed."""
    devices = [Device(replay, name) for name in DEVICES]
    found: dict[str, Any] = {}
    last: dict[str, Floats] = {}
    for name, make in searches(replay).items():
        began = time.perf_counter()
        runs = [[device.shares(make, seed, queries) for seed in range(seeds)] for device in devices]
        shares = np.array([[run[queries] for run in row] for row in runs])
        last[name] = shares.mean(0)
        found[name] = {
            "mean": float(shares.mean()),
            "interval": interval(shares.mean(0)),
            "devices": {
                device.name: {
                    "mean": float(row.mean()),
                    "interval": interval(row),
                    "seeds": row.tolist(),
                }
                for device, row in zip(devices, shares, strict=True)
            },
            "by_queries": {
                str(count): float(np.mean([[run[count] for run in row] for row in runs]))
                for count in runs[0][0]
            },
            "seconds_a_search": (time.perf_counter() - began) / shares.size,
        }
    pairs = [(TND, other) for other in found if other not in (TND, REINFORCE, REINFORCE_WITHOUT)]
    differences = {}
    for one, other in [*pairs, (REINFORCE, REINFORCE_WITHOUT)]:
        gap = last[one] - last[other]
        differences[f"{one} - {other}"] = {
            "mean": float(gap.mean()),
            "interval": interval(gap),
            "seeds_above": int((gap > 0).sum()),
        }
    fronts = {d.name: {"networks": d.networks, "front": d.front} for d in devices}
    return {"devices": fronts, "searches": found, "differences": differences}


def candidates() -> dict[str, Mapping[str, Callable[[Replay], Make]]]:
    """For each search the settings that the protocol compares."""

    def nsga2(population: int) -> Callable[[Replay], Make]:
        return lambda replay: (
            lambda queries, seed: Nsga2(replay.decisions(), 2, seed=seed, population=population)
        )

    def penalty(rate: float) -> Callable[[Replay], Make]:
        return lambda replay: (
            lambda queries, seed: DifferentiablePenalty(
                replay.decisions(), 2, queries=queries, seed=seed, rate=rate
            )
        )

    def tnd(settings: TndSettings) -> Callable[[Replay], Make]:
        return lambda replay: (
            lambda queries, seed: TndNas(
                replay.decisions(), 2, queries=queries, seed=seed, settings=settings
            )
        )

    base = TndSettings()
    natural = {
        f"elite {elite}, sharing {sharing}, exploration {exploration}": replace(
            base, elite=elite, sharing=sharing, exploration=exploration
        )
        for elite in (5, 8)
        for sharing in (0.0, 0.2)
        for exploration in (0.0, 0.02, 0.05)
    }
    stages = {
        "no stages": (),
        **{f"{a}: {k}": (Stage(a, k),) for a in (0.3, 0.5, 0.7, 0.8) for k in (0.8, 0.6)},
        "0.5: 0.8, 0.7: 0.6": (Stage(0.5, 0.8), Stage(0.7, 0.6)),
    }
    plain = {f"rate {rate}": replace(PLAIN, rate=rate) for rate in (1.0, 3.0, 10.0, 30.0)}
    return {
        "NSGA-II": {f"population {n}": nsga2(n) for n in (10, 14, 20, 30, 40)},
        "differentiable penalty": {f"rate {r}": penalty(r) for r in (0.1, 0.5, 2.0, 8.0)},
        WITHOUT: {name: tnd(one.without_shrinking()) for name, one in natural.items()},
        "stages": {name: tnd(replace(base, stages=each)) for name, each in stages.items()},
        REINFORCE: {name: tnd(one) for name, one in plain.items()},
        REINFORCE_WITHOUT: {name: tnd(one.without_shrinking()) for name, one in plain.items()},
    }


def protocol(replay: Replay, seeds: int, queries: int, only: Sequence[str]) -> dict[str, Any]:
    """Every setting on the tuning devices and seeds."""
    devices = [Device(replay, name) for name in TUNING_DEVICES]
    found: dict[str, Any] = {}
    for name, settings in candidates().items():
        if only and name not in only:
            continue
        found[name] = {}
        for setting, make in settings.items():
            shares = np.array(
                [
                    [
                        device.shares(make(replay), TUNING_SEED + seed, queries)[queries]
                        for device in devices
                    ]
                    for seed in range(seeds)
                ]
            ).mean(1)
            found[name][setting] = {"mean": float(shares.mean()), "interval": interval(shares)}
            print(f"{name:44} {setting:44} {shares.mean():.4f}", flush=True)
    return {"devices": TUNING_DEVICES, "first_seed": TUNING_SEED, "seeds": seeds, "settings": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nb201", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument(
        "--protocol", action="store_true", help="Compare settings on the tuning devices."
    )
    parser.add_argument("--only", default="", help="With --protocol: searches, comma-separated.")
    chosen = parser.parse_args()
    replay = read_replay(chosen.nb201, load_space("nb201"))
    if chosen.protocol:
        only = [name for name in chosen.only.split(",") if name]
        write_result(chosen.out, protocol(replay, chosen.seeds, chosen.queries, only))
        return
    result = compare(replay, chosen.seeds, chosen.queries)
    result["regret"] = shortlist_regret(replay, DEVICES, ACCURACY, chosen.seeds, chosen.queries)
    settings = asdict(TndSettings())
    write_result(
        chosen.out,
        {
            "protocol": {
                "devices": TUNING_DEVICES,
                "seeds": f"from {TUNING_SEED} on",
                "result": "nb201_pareto_protocol.json",
            },
            "queries": chosen.queries, "seeds": chosen.seeds, "settings": settings,
            "reference_point": "a tenth of the true front's extent beyond its worst values",
            "target_quantiles": TARGET_QUANTILES, **result,
        },
    )  # fmt: skip
    print_table(f"Settings chosen on {', '.join(TUNING_DEVICES)} and other seeds", _rows(result))


def _rows(result: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    rows = []
    for name, one in result["searches"].items():
        low, high = one["interval"]
        rows.append((name, f"{one['mean']:.4f} [{low:.4f}, {high:.4f}]", "share of the hypervolume"))
    goals = {f"{TND} - {other}": "above 0" for other in ("random search", "NSGA-II (pymoo)", WITHOUT)}
    for name, one in result["differences"].items():
        low, high = one["interval"]
        text = f"{one['mean']:+.4f} [{low:+.4f}, {high:+.4f}]"
        rows.append((name, text, goals.get(name, "")))
    for device, targets in result["regret"].items():
        for target in targets:
            for when in ("before", "after"):
                told = target[when]
                rows.append(
                    (
                        f"regret {when}, {device} {target['target_ms']:.3g} ms",
                        f"{told['regret']['mean']:.2f} points",
                        f"{told['over']:.0%} over the target",
                    )
                )
    return rows


if __name__ == "__main__":
    main()
