"""One reduced LA-DARTS run on CIFAR-10: a search with a latency target beside the same search without.

    python benchmarks/la_darts_cifar.py --data cifar10.parquet --lut FOLDER/darts.parquet \\
        --predictor FOLDER/predictor --work FOLDER/cifar \\
        --out benchmarks/results/la_darts_cifar.json

Both searches train the same supernet from the same seed: three cells (normal, reduction, normal) of
`--search-channels` channels at 16 px, on half of `--images` images, the architecture parameters on the
other half. The
blind one ends at its likeliest genotype; the other one is asked for 22 % less than that network's
predicted latency. What is timed and trained is the `darts` network of both, 8 cells of 16 channels, from
scratch on all `--images` for `--train-epochs`, alike. Reported: both latencies as predicted and as
measured, both accuracies on all test images, and the 95 % interval of their difference, paired over
the images. FOLDER keeps each part: a killed run goes on with the next one.

The published DARTS has 50 epochs of 50,000 images in the search and 600 epochs of 20 cells and 36
channels after it; accuracies here are far below and say only which of two networks learns more in as
many steps. Images are JPEGs.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from common import print_table, write_result

from hwprof.build.progress import Progress
from hwprof.prediction import load_predictor
from hwprof.search import PredictedLatency, make_loss
from hwprof.search.cells import CellNetwork, CellSearch, CellSupernet, best_candidates, cell_recipe
from hwprof.search.data import Batches, Splits, evaluation_batches, load_images
from hwprof.search.engine.retraining import NetworkTraining, network_recipe
from hwprof.search.supernet import correct_predictions, recalibrate
from hwprof.space import Space, load_space
from hwprof.space.load import CATALOG
from hwprof.validation.setting import Wanted
from hwprof.validation.shortlist import measure_shortlist

SAVED = 0.22
LEAST = 0.95
SEARCH_SIDE = 16
# Of the darts space -> of the one that is searched.
CHANGES = (
    ("name: darts\n", "name: darts-search\n"),
    ("input: [3, 32, 32]", "input: [3, {side}, {side}]"),
    ("channels: 48", "channels: {stem}"),
    ("cells: 2, channels: 16", "cells: 1, channels: {first}"),
    ("cells: 3, channels: 32", "cells: 2, channels: {second}"),
    ("  - {cells: 3, channels: 64, stride: 2}\n", ""),
)
RECALIBRATION_BATCHES = 20

Point = tuple[int, ...]


def search_space(channels: int, folder: Path) -> Space:
    """A normal, a reduction and a normal cell of the `darts` space at half its image."""
    text = (CATALOG / "darts.yaml").read_text()
    widths = {"side": SEARCH_SIDE, "stem": 3 * channels, "first": channels, "second": 2 * channels}
    for known, new in CHANGES:
        assert known in text
        text = text.replace(known, new.format(**widths))
    path = folder / "search.yaml"
    path.write_text(text)
    return load_space(path)


def find(
    name: str,
    splits: Splits,
    chosen: argparse.Namespace,
    latency: PredictedLatency,
    target_ms: float | None,
) -> Mapping[str, Any]:
    """The genotype that a search ends with; blind without a target."""
    path = chosen.work / f"{name}.json"
    if path.exists():
        kept: Mapping[str, Any] = json.loads(path.read_text())
        return kept
    start = time.monotonic()
    space = search_space(chosen.search_channels, chosen.work)
    supernet = CellSupernet(space, seed=chosen.seed).to(chosen.device)
    training, validation = (
        Batches(images, splits.normalisation, chosen.batch, seed=chosen.seed + number)
        for number, images in enumerate((splits.train, splits.validation))
    )
    steps = round(chosen.search_epochs * training.steps_per_epoch)
    warm = round(chosen.warm_epochs * training.steps_per_epoch)
    constraint = None if target_ms is None else make_loss("multiplier", target_ms)
    search = CellSearch(
        supernet, training, validation, cell_recipe(steps, warm),
        latency=None if target_ms is None else lambda p: latency(p.cpu()).to(p),
        constraint=None if constraint is None else constraint.to(chosen.device),
        space=latency.space, seed=chosen.seed,
    )  # fmt: skip
    reports = []
    for progress in search.run(report_every=max(1, training.steps_per_epoch // 2)):
        reports.append(vars(progress))
        print(name, progress, f"{time.monotonic() - start:.0f} s", flush=True)
    (point,) = best_candidates(
        search.relaxation, search.parameters, 1, latency=lambda p: latency.price(p).tolist(),
        target=target_ms, least=LEAST * (target_ms or 0.0), seed=chosen.seed,
    )  # fmt: skip
    told = {
        "point": list(point),
        "target_ms": target_ms,
        "argmax": list(search.point),
        "argmax_predicted_ms": float(latency.price([search.point])[0]),
        "predicted_ms": float(latency.price([point])[0]),
        "reports": reports,
        "minutes": (time.monotonic() - start) / 60,
    }
    path.write_text(json.dumps(told))
    return told


def train(
    name: str, point: Point, space: Space, splits: Splits, chosen: argparse.Namespace
) -> dict[str, Any]:
    """Whether the trained network is right, for each test image."""
    path = chosen.work / f"{name}.trained.json"
    if path.exists():
        kept: dict[str, Any] = json.loads(path.read_text())
        return kept
    start = time.monotonic()
    network = CellNetwork(space, point, seed=chosen.seed).to(chosen.device)
    batches = Batches(splits.whole_train().train, splits.normalisation, chosen.batch, seed=chosen.seed)
    steps = max(1, round(chosen.train_epochs * batches.steps_per_epoch))
    training = NetworkTraining(network, batches, network_recipe(steps, chosen.batch), seed=chosen.seed)
    losses = []
    for loss in training.run(report_every=batches.steps_per_epoch):
        losses.append(loss)
        print(
            name,
            training.step,
            "of",
            steps,
            f"loss {loss:.3f}, {time.monotonic() - start:.0f} s",
            flush=True,
        )
    recalibrate(network, [batches.at(step) for step in range(RECALIBRATION_BATCHES)])
    test = splits.test
    right = correct_predictions(network, evaluation_batches(test, splits.normalisation))
    told = {"right": right.int().tolist(), "losses": losses, "minutes": (time.monotonic() - start) / 60}
    path.write_text(json.dumps(told))
    return told


def paired(first: list[int], second: list[int]) -> dict[str, float]:
    """Second minus first, in points, with its 95 % interval by bootstrap over the images."""
    gaps = 100.0 * (np.array(second) - np.array(first))
    rng = np.random.default_rng(0)
    means = [gaps[rng.integers(len(gaps), size=len(gaps))].mean() for _ in range(4000)]
    low, high = np.quantile(means, [0.025, 0.975])
    return {"mean": float(gaps.mean()), "low": float(low), "high": float(high)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--lut", type=Path, required=True)
    parser.add_argument("--predictor", type=Path, required=True)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--search-channels", type=int, default=8)
    parser.add_argument("--warm-epochs", type=float, default=1)
    parser.add_argument("--search-epochs", type=float, default=5)
    parser.add_argument("--train-epochs", type=float, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    chosen.work.mkdir(parents=True, exist_ok=True)
    space = load_space("darts")
    latency = PredictedLatency(load_predictor(chosen.predictor), space)
    small, splits = (
        load_images(
            chosen.data, (side, side), classes=10, limit=chosen.images, validation_share=0.5,
            seed=chosen.seed,
        ).to(chosen.device)
        for side in (SEARCH_SIDE, space.input_shape[2])
    )  # fmt: skip
    blind = find("blind", small, chosen, latency, None)
    target_ms = (1.0 - SAVED) * blind["predicted_ms"]
    aware = find("aware", small, chosen, latency, target_ms)
    points = [tuple(each["point"]) for each in (blind, aware)]
    measured = measure_shortlist(chosen.lut, Wanted(space="darts"), points, progress=Progress())
    trained = [
        train(name, point, space, splits, chosen)
        for name, point in zip(("blind", "aware"), points, strict=True)
    ]
    gap = paired(trained[0]["right"], trained[1]["right"])
    networks = {
        name: {
            **told,
            "measured": one.summary(),
            "accuracy": float(np.mean(result["right"])),
            "losses": result["losses"],
            "train_minutes": result["minutes"],
        }
        for name, told, one, result in zip(
            ("blind", "aware"), (blind, aware), measured, trained, strict=True
        )
    }
    floors = [one.measured_floor_ms for one in measured]
    saved = None if None in floors else 1.0 - floors[1] / floors[0]
    settings = {
        name: value for name, value in vars(chosen).items()
        if name not in ("data", "lut", "predictor", "work", "out")
    }  # fmt: skip
    result = {"settings": settings, "networks": networks, "latency_saved": saved, "accuracy_gap": gap}
    write_result(chosen.out, result)
    lines = [
        (
            name,
            f"{100 * each['accuracy']:.2f} %",
            f"{each['predicted_ms']:.3f} ms, measured {each['measured']['measured_floor_ms']}",
        )
        for name, each in networks.items()
    ]
    lines.append(("latency saved", "not measured" if saved is None else f"{saved:.1%}", "goal 20 %"))
    interval = f"{gap['mean']:+.2f} ({gap['low']:+.2f} to {gap['high']:+.2f})"
    print_table("CIFAR-10, reduced", [*lines, ("accuracy gap", interval, "goal -0.30")])


if __name__ == "__main__":
    main()
