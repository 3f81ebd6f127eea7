"""TND-NAS on CIFAR-10 with training: parameters against error.

    python benchmarks/tnd_cifar.py --data cifar10.parquet --work FOLDER \\
        --out benchmarks/results/tnd_cifar.json
    python benchmarks/tnd_cifar.py --data cifar10.parquet --work FOLDER --size full --device cuda \\
        --out benchmarks/results/tnd_cifar_full.json

A supernet of DARTS cells is trained in three stages with networks that the policies draw, on half of
the training images; after each the policies query it for accuracy on images of the other half, and
drop ops. Parameters are those of the network that is trained at the end. Some networks, spread over
the last stage's front, are trained from scratch on all training images; the error is that of all test
images, with its 95 % interval.

`reduced` (two CPU cores): 5,000 images, a supernet of 5 cells from 6 channels, networks of 8 cells from
8 channels, 20 epochs. `full` (a GPU): all 50,000 images, a supernet of 8 cells from 16 channels,
networks of 20 cells from 36 channels, 600 epochs with plain augmentation (shift and mirror). Published
(parameters / error): 1.09 M / 3.3 %, 2.4 M / 2.95 %, 9.57 M / 2.54 %, on the original images and with a
schedule that is not published; the images here are JPEGs of quality 75. FOLDER keeps each part: a killed
run goes on with the next one.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import print_table, write_result

from hwprof.graph import cost
from hwprof.search.cells import CellNetwork, CellSupernet, cell_recipe
from hwprof.search.data import Batches, Images, Splits, evaluation_batches, load_images
from hwprof.search.discrete.objectives import Objective, Point
from hwprof.search.discrete.outcome import front_summary, shortlist_of
from hwprof.search.discrete.supernet import SharedSupernet, StagePlan, search_supernet
from hwprof.search.engine.retraining import NetworkTraining, network_recipe
from hwprof.search.supernet import correct_predictions, recalibrate
from hwprof.space import Space, load_space
from hwprof.space.load import CATALOG

PUBLISHED = ((1.09, 3.3), (2.4, 2.95), (9.57, 2.54))
RECALIBRATION_BATCHES = 20
KEEP = (0.7, 0.45)
RESAMPLES = 10_000


@dataclass(frozen=True)
class Size:
    """How much of everything.

    Attributes:
        images: for training and validation together; None takes all.
        judged: validation images that a query looks at.
        search_cells, search_channels: of the supernet: cells of each of the three parts.
        cells, channels: of the networks that are trained.
        epochs: of the supernet's weights in each of three stages.
        queries: in each stage.
    """

    images: int | None
    judged: int
    batch: int
    search_cells: tuple[int, int, int]
    search_channels: int
    cells: tuple[int, int, int]
    channels: int
    epochs: float
    queries: int
    train_epochs: float


SIZES = {
    "smoke": Size(200, 50, 20, (1, 1, 1), 4, (1, 1, 1), 4, 1, 40, 1),
    "reduced": Size(5_000, 250, 64, (1, 2, 2), 6, (2, 3, 3), 8, 8, 120, 20),
    "full": Size(None, 5_000, 96, (2, 3, 3), 16, (6, 7, 7), 36, 25, 500, 600),
}


def darts_space(name: str, cells: tuple[int, int, int], channels: int, folder: Path) -> Space:
    """The shipped space with other cells and channels; the stem has three times the channels."""
    text = (CATALOG / "darts.yaml").read_text().replace("name: darts\n", f"name: {name}\n")
    text = text.replace("stem: {channels: 48", f"stem: {{channels: {3 * channels}")
    for known, count, factor in zip((16, 32, 64), cells, (1, 2, 4), strict=True):
        shipped = f"cells: {2 if known == 16 else 3}, channels: {known}"
        assert shipped in text
        text = text.replace(shipped, f"cells: {count}, channels: {channels * factor}")
    path = folder / f"{name}.yaml"
    path.write_text(text)
    return load_space(path)


def search(splits: Splits, size: Size, space: Space, chosen: argparse.Namespace) -> dict[str, Any]:
    """The last stage's front, and the networks of it that are trained."""
    path = chosen.work / "front.json"
    if path.exists():
        kept: dict[str, Any] = json.loads(path.read_text())
        return kept
    began = time.monotonic()
    searched = darts_space("searched", size.search_cells, size.search_channels, chosen.work)
    supernet = CellSupernet(searched, seed=chosen.seed).to(chosen.device)
    batches = Batches(splits.train, splits.normalisation, size.batch, seed=chosen.seed)
    steps = max(1, round(size.epochs * batches.steps_per_epoch))
    pixels, labels = splits.validation.pixels, splits.validation.labels
    judged = Images(pixels[: size.judged], labels[: size.judged], splits.classes)
    shared = SharedSupernet(
        supernet, batches, judged, splits.normalisation, cell_recipe(3 * steps), seed=chosen.seed
    )
    parameters = Objective("parameters", lambda point: cost(space.network(point)).parameters)
    plans = [StagePlan(steps, size.queries, keep) for keep in (*KEEP, None)]
    archive, reports = search_supernet(
        shared, space, [parameters], plans, note=lambda text: print(text, flush=True)
    )
    told = {
        **front_summary(archive, space),
        "shortlist": [list(one.point) for one in shortlist_of(archive.front(), chosen.networks)],
        "stages": [asdict(report) for report in reports],
        "steps_a_stage": steps,
        "minutes": (time.monotonic() - began) / 60,
    }
    path.write_text(json.dumps(told))
    return told


def train(
    number: int, point: Point, splits: Splits, size: Size, space: Space, chosen: argparse.Namespace
) -> Mapping[str, Any]:
    """Error on the test images of one network, trained from scratch."""
    path = chosen.work / f"trained{number}.json"
    if path.exists():
        kept: Mapping[str, Any] = json.loads(path.read_text())
        return kept
    began = time.monotonic()
    network = CellNetwork(space, point, seed=chosen.seed).to(chosen.device)
    batches = Batches(splits.whole_train().train, splits.normalisation, size.batch, seed=chosen.seed)
    steps = max(1, round(size.train_epochs * batches.steps_per_epoch))
    bfloat16 = chosen.device == "cuda"
    recipe = network_recipe(steps, size.batch, bfloat16=bfloat16)
    training = NetworkTraining(network, batches, recipe, seed=chosen.seed)
    saved = chosen.work / f"trained{number}.safetensors"
    if saved.exists():
        training.load(saved)
    for loss in training.run(report_every=batches.steps_per_epoch):
        training.save(saved)
        print(f"network {number}: step {training.step} of {steps}, loss {loss:.3f}", flush=True)
    recalibrate(network, [batches.at(step) for step in range(RECALIBRATION_BATCHES)])
    right = correct_predictions(network, evaluation_batches(splits.test, splits.normalisation))
    wrong = 1.0 - right.double().numpy()
    rng = np.random.default_rng(0)
    means = rng.binomial(len(wrong), wrong.mean(), size=RESAMPLES) / len(wrong)
    told = {
        "point": list(point),
        "parameters": cost(space.network(point)).parameters,
        "error": float(wrong.mean()),
        "interval": np.quantile(means, [0.025, 0.975]).tolist(),
        "test_images": len(wrong),
        "minutes": (time.monotonic() - began) / 60,
    }
    path.write_text(json.dumps(told))
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", choices=SIZES, default="reduced")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--networks", type=int, default=3, help="Of the front, to train from scratch.")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    chosen.work.mkdir(parents=True, exist_ok=True)
    size = SIZES[chosen.size]
    space = darts_space("trained", size.cells, size.channels, chosen.work)
    splits = load_images(
        chosen.data, (32, 32), classes=10, limit=size.images, seed=chosen.seed, validation_share=0.5
    ).to(chosen.device)
    found = search(splits, size, space, chosen)
    trained = [
        train(number, tuple(point), splits, size, space, chosen)
        for number, point in enumerate(found["shortlist"])
    ]
    published = [{"parameters_m": m, "error_percent": e} for m, e in PUBLISHED]
    result = {"size": chosen.size, "schedule": asdict(size), "published": published}
    write_result(chosen.out, {**result, "search": found, "trained": trained})
    rows = [(f"published, {m} M parameters", f"{e} %", "") for m, e in PUBLISHED]
    for one in trained:
        low, high = (100 * end for end in one["interval"])
        name = f"here, {one['parameters'] / 1e6:.3g} M parameters"
        rows.append(
            (name, f"{100 * one['error']:.2f} % [{low:.2f}, {high:.2f}]", "error on test images")
        )
    print_table(f"{chosen.size}: CIFAR-10 as JPEGs, {size.train_epochs:g} epochs", rows)


if __name__ == "__main__":
    main()
