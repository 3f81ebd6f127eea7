"""Few-shot transfer on NAS-Bench-201, HELP's split: how well are four unseen devices ranked?

    python benchmarks/nb201_transfer.py --nb201 nb201.parquet \\
        --out benchmarks/results/nb201_transfer.json

Nine devices are known by 900 cells each (the same 900 for all, drawn by the seed), nothing else. On each
of four others 3, 10, 30 and 100 cells are measured, chosen before any of them is seen; scored is
Spearman's correlation over all remaining cells, those without a path from input to output included (none
of them is chosen). The constants were chosen with `--protocol`, which looks at the sources alone: each
of them left out in turn is the target, its references and its test cells are of its 900. The liveness
columns were not: how the targets' latencies depend on dead edges was looked at before they were made.
Goal: mean over the four 0.957 with 10 and 0.960 with 100.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from common import print_table, write_result

from hwprof.prediction.device_prior import DevicePrior, device_prior, source_of_networks
from hwprof.prediction.encoding import Floats, Integers
from hwprof.prediction.features import Features
from hwprof.prediction.liveness import Liveness, has_network
from hwprof.prediction.posterior import posterior
from hwprof.prediction.references import OWN, QUIETER, choose_references
from hwprof.prediction.transfer import CANDIDATES
from hwprof.space import load_space, point_from_string
from hwprof.validation.scores import spearman

SOURCES = (
    "1080ti_1", "1080ti_32", "1080ti_256", "silver_4114", "silver_4210r", "samsung_a50", "pixel3",
    "essential_ph_1", "samsung_s7",
)  # fmt: skip
TARGETS = ("titan_rtx_256", "gold_6226", "pixel2", "raspi4")
COUNTS = (3, 10, 30, 100)
GOALS = {10: 0.957, 100: 0.960}
OF_A_SOURCE = 900
VARIANTS = ("all", "without liveness", "without shared ops and costs", "choices alone")
OWNS, QUIETERS = (0.003, 0.03), (0.1, 1.0)

Scores = dict[tuple[str, int], list[float]]


@dataclass(frozen=True)
class Cells:
    """All cells: one-hot, those that have a network, and each device's latency (ms)."""

    one_hot: Floats
    networks: Integers
    latency_ms: dict[str, Floats]


def read(path: Path) -> tuple[Features, Cells]:
    table = pq.read_table(path, columns=["arch", *SOURCES, *TARGETS])
    space = load_space("nb201")
    points = [point_from_string(space, text) for text in table.column("arch").to_pylist()]
    features = Features.of(space)
    one_hot = features.encoding.one_hot(points)
    networks = has_network(Liveness.of(space, features.encoding), one_hot)
    latency_ms = {
        name: table.column(name).to_numpy().astype(np.float64) for name in (*SOURCES, *TARGETS)
    }
    features = replace(features, pool=one_hot[networks])
    return features, Cells(one_hot, networks, latency_ms)


def of_variant(features: Features, variant: str) -> Features:
    bare = np.zeros((features.encoding.columns, 0))
    if variant == "without liveness":
        return replace(features, liveness=None)
    if variant == "without shared ops and costs":
        return replace(features, shared=bare)
    if variant == "choices alone":
        return replace(features, shared=bare, liveness=None)
    return features


def known(features: Features, cells: Cells, names: tuple[str, ...], drawn: Integers) -> DevicePrior:
    sources = [
        source_of_networks(features, name, cells.one_hot[drawn], cells.latency_ms[name][drawn])
        for name in names
    ]
    return device_prior(features, sources)


def rank(
    prior: DevicePrior, cells: Cells, name: str, chosen: Integers, among: Integers
) -> Iterator[tuple[int, float, float, float]]:
    """For each count: Spearman over the cells of `among` that were not chosen, and the root mean squared
    error there, as it is and as it was foreseen."""
    truth = cells.latency_ms[name]
    for count in COUNTS:
        first = chosen[:count]
        found = posterior(prior, cells.one_hot[first], truth[first])
        rest = np.setdiff1d(among, first)
        columns = prior.features.of_networks(cells.one_hot[rest])
        predicted = found.predict(columns)
        score = spearman(predicted, truth[rest])
        assert score is not None
        foreseen = np.sqrt(found.variance(columns[:: max(1, len(columns) // 500)]).mean() + found.noise)
        missed = np.sqrt(((predicted - truth[rest]) ** 2).mean())
        yield count, score, float(missed), float(foreseen)


def targets(features: Features, cells: Cells, seeds: int, choice: str) -> tuple[Scores, Scores]:
    """Spearman, and foreseen over true error, of each target and count: one number a seed."""
    scores: Scores = defaultdict(list)
    foresight: Scores = defaultdict(list)
    everything = np.arange(len(cells.one_hot))
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        prior = known(features, cells, SOURCES, rng.choice(everything, OF_A_SOURCE, replace=False))
        pool = rng.choice(cells.networks, CANDIDATES, replace=False)
        chosen = pool[: max(COUNTS)]
        if choice == "chosen":
            chosen = pool[choose_references(prior, cells.one_hot[pool], max(COUNTS))]
        for name in TARGETS:
            for count, score, missed, foreseen in rank(prior, cells, name, chosen, everything):
                scores[name, count].append(score)
                foresight[name, count].append(foreseen / missed)
    return scores, foresight


def left_out(features: Features, cells: Cells, seeds: int, own: float, quieter: float) -> Scores:
    """The same of each source, known by the others; its own 900 are all that is looked at."""
    scores: Scores = defaultdict(list)
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        drawn = rng.choice(len(cells.one_hot), OF_A_SOURCE, replace=False)
        pool = np.intersect1d(drawn, cells.networks)
        for name in SOURCES:
            prior = known(features, cells, tuple(n for n in SOURCES if n != name), drawn)
            chosen = choose_references(prior, cells.one_hot[pool], max(COUNTS), own=own, quieter=quieter)
            for count, score, _, _ in rank(prior, cells, name, pool[chosen], drawn):
                scores[name, count].append(score)
    return scores


def summary(scores: Scores) -> dict[str, Any]:
    """Means over seeds, the mean over devices, and its standard error over seeds."""
    found: dict[str, Any] = {}
    for count in COUNTS:
        devices = {name: values for (name, k), values in scores.items() if k == count}
        of_seeds = np.mean(list(devices.values()), axis=0)
        found[str(count)] = {
            "mean": float(of_seeds.mean()),
            "standard_error": float(of_seeds.std(ddof=1) / np.sqrt(len(of_seeds)))
            if len(of_seeds) > 1
            else None,
            "devices": {name: float(np.mean(values)) for name, values in devices.items()},
        }
    return found


def source_error(features: Features, cells: Cells, seeds: int) -> float:
    """Error of each source's fit on the cells that it left out, over their spread: geometric mean."""
    errors = []
    for seed in range(seeds):
        drawn = np.random.default_rng(seed).choice(len(cells.one_hot), OF_A_SOURCE, replace=False)
        errors += [np.log(source.noise) / 2 for source in known(features, cells, SOURCES, drawn).sources]
    return float(np.exp(np.mean(errors)))


def protocol(features: Features, cells: Cells, seeds: int) -> dict[str, Any]:
    """Each variant and setting; the best mean over the four counts is what the library has."""
    tried = [(variant, OWN, QUIETER) for variant in VARIANTS]
    tried += [("all", o, q) for o in OWNS for q in QUIETERS if (o, q) != (OWN, QUIETER)]
    results = {}
    for variant, own, quieter in tried:
        changed = of_variant(features, variant)
        found = summary(left_out(changed, cells, seeds, own, quieter))
        overall = float(np.mean([found[str(count)]["mean"] for count in COUNTS]))
        error = source_error(changed, cells, seeds)
        name = f"{variant}, own {own:g}, noise x {quieter:g}"
        results[name] = {"overall": overall, "source_error": error, "counts": found}
        means = " ".join(f"{found[str(count)]['mean']:.4f}" for count in COUNTS)
        print(f"  {name:55} {means}  overall {overall:.4f}, source error {error:.4f}", flush=True)
    return {"left_out": results}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nb201", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--protocol", action="store_true", help="what was chosen, on the sources alone")
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    features, cells = read(chosen.nb201)
    if chosen.protocol:
        write_result(chosen.out, {"seeds": chosen.seeds, **protocol(features, cells, chosen.seeds)})
        return
    scores, foresight = targets(features, cells, chosen.seeds, "chosen")
    blind = of_variant(features, "without liveness")
    others = {
        "random references": targets(features, cells, chosen.seeds, "random")[0],
        "without liveness": targets(blind, cells, chosen.seeds, "chosen")[0],
    }
    found = summary(scores)
    result = {
        "seeds": chosen.seeds,
        "source_networks": f"the same {OF_A_SOURCE} cells for all sources, drawn by the seed",
        "test": "all cells but the references, those without a path included",
        "spearman": found,
        "foreseen_over_true_error": summary(foresight),
        "instead": {name: summary(other) for name, other in others.items()},
        "goals": {str(count): goal for count, goal in GOALS.items()},
        "met": all(found[str(count)]["mean"] >= goal for count, goal in GOALS.items()),
    }
    write_result(chosen.out, result)
    rows = []
    for count in COUNTS:
        of = found[str(count)]
        devices = ", ".join(f"{name} {value:.3f}" for name, value in of["devices"].items())
        goal = f"{GOALS[count]:.3f} or more; " if count in GOALS else ""
        rows.append((f"{count} references", f"{of['mean']:.4f}", goal + devices))
    for name, other in result["instead"].items():
        rows += [(f"{count}, {name}", f"{other[str(count)]['mean']:.4f}", "") for count in COUNTS]
    print_table(f"mean Spearman over {len(TARGETS)} devices, {chosen.seeds} seeds", rows)


if __name__ == "__main__":
    main()
