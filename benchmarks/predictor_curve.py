"""How well each member of the predictor family does with 100 to 3,000 measured networks.

The networks of a table are drawn in several orders; of each, the first N are fitted on and the same last
ones, which no fit sees, are the test. Goal on DARTS cells (LA-DARTS, Xu et al. 2020, states below 10 %
with 80,000): a mean relative error of 5 % or less with 300 and 3 % or less with 1,000. `chosen` is the
member that the held-out errors of the networks of the fit choose.

    python benchmarks/predictor_curve.py --table darts.parquet --out predictor_curve.json
    python benchmarks/predictor_curve.py --nb201 nb201.parquet --device gold_6226 --out out.json
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from common import print_table, write_result

from hwprof.errors import HwprofError
from hwprof.lut import load_lut
from hwprof.prediction.family import MEMBERS, fit_family, simplest_good
from hwprof.prediction.knowledge import Knowledge, knowledge_of
from hwprof.prediction.measured import read_measured
from hwprof.space import load_space, point_from_string

NO_PATH = 1.0
"""Accuracy of the NB201 cells whose output no path reaches: they are no networks of ours."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--table", type=Path, help="table with measured networks")
    parser.add_argument("--points", type=Path, help="JSON of op_id -> choice indices")
    parser.add_argument("--space")
    parser.add_argument("--metric", default="latency_ms")
    parser.add_argument("--nb201", type=Path, help="in place of --table: NB201 with a column per device")
    parser.add_argument("--device", help="column of --nb201")
    parser.add_argument("--sizes", default="100,300,1000,3000")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--test", type=int, default=500, help="networks to test on")
    parser.add_argument("--members", default=",".join(MEMBERS))
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    data = from_nb201(given) if given.nb201 else from_table(given)
    knowledge, points, values = data.pop("knowledge"), data.pop("points"), data.pop("values")
    sizes = [int(size) for size in given.sizes.split(",")]
    left_out = [size for size in sizes if size + given.test > len(values)]
    names = [name for name in MEMBERS if name in given.members.split(",")]
    runs = []
    for size in sizes:
        for seed in range(given.seeds) if size not in left_out else ():
            tried = [one_run(knowledge, points, values, size, seed, given.test, name) for name in names]
            runs += [*tried, *chosen(tried)]
    result = {**data, "networks": len(values), "test": given.test, "too_large": left_out, "runs": runs}
    result["curve"] = curve(runs)
    write_result(given.out, result)
    print_table("mean relative error on networks not seen", shown(result["curve"]))


def from_table(given: argparse.Namespace) -> dict[str, Any]:
    table = load_lut(given.table)
    told = json.loads(given.points.read_text()) if given.points else None
    measured = read_measured(table, given.space, metric=given.metric, points=told)
    knowledge = knowledge_of(
        measured.space, table, metric=given.metric, environment=measured.environment_id
    )
    return {
        "space": measured.space.name,
        "metric": given.metric,
        "noise_floor": measured.noise_floor,
        "environment_of_rows": table.environments[measured.environment_id]["identity"],
        "knowledge": knowledge,
        "points": measured.points,
        "values": measured.values,
    }


def from_nb201(given: argparse.Namespace) -> dict[str, Any]:
    table = pq.read_table(given.nb201)
    space = load_space("nb201")
    kept = np.flatnonzero(table.column("cifar100_accuracy").to_numpy() > NO_PATH)
    strings = table.column("arch").to_pylist()
    return {
        "space": f"nb201, {given.device}",
        "metric": "latency_ms",
        "noise_floor": None,
        "knowledge": knowledge_of(space),
        "points": np.array([point_from_string(space, strings[place]) for place in kept]),
        "values": table.column(given.device).to_numpy()[kept].astype(np.float64),
    }


def one_run(
    knowledge: Knowledge,
    points: np.ndarray,
    values: np.ndarray,
    size: int,
    seed: int,
    test: int,
    member: str,
) -> dict[str, Any]:
    order = np.random.default_rng(seed).permutation(len(values))
    fit, held = order[:size], order[-test:]
    asked = {"networks": size, "seed": seed, "member": member}
    try:
        made = fit_family(
            knowledge, points[fit], values[fit], members=(member,), seed=seed,
            test=(points[held], values[held]),
        )  # fmt: skip
    except HwprofError as error:
        return {**asked, "refused": str(error)}
    (own,) = made.tried
    return {
        **asked,
        "held_out": asdict(own.scores),
        "interval": asdict(made.interval),
        "relaxation_gap": own.relaxation_gap,
        "fit_s": own.fit_s,
        "test": asdict(made.test),
    }


def chosen(tried: list[dict[str, Any]]) -> list[dict[str, Any]]:
    fitted = [run for run in tried if "test" in run]
    if not fitted:
        return []
    best = fitted[simplest_good([run["held_out"]["mean"] for run in fitted])]
    return [{**best, "member": "chosen", "took": best["member"]}]


def curve(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean over seeds."""
    found = []
    for member, size in dict.fromkeys((run["member"], run["networks"]) for run in runs):
        tests = [
            run["test"]
            for run in runs
            if (run["member"], run["networks"]) == (member, size) and "test" in run
        ]
        if tests:
            names = ("mean", "median", "spearman", "coverage")
            means = {name: float(np.mean([test[name] for test in tests])) for name in names}
            found.append({"member": member, "networks": size, "seeds": len(tests), **means})
    return found


def shown(points: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    goals = {300: "5 % or less", 1000: "3 % or less"}
    return [
        (
            f"{point['member']}, {point['networks']} networks",
            f"{point['mean']:.2%}",
            f"{goals.get(point['networks'], '')}  (Spearman {point['spearman']:.4f}, "
            f"{point['coverage']:.0%} inside 90 %)",
        )
        for point in points
    ]


if __name__ == "__main__":
    main()
