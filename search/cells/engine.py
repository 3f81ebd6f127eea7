"""The whole of LA-DARTS: search, shortlist that is measured, training of the network found. Resumable:
each part leaves a file in the folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from hwprof.search.cells.network import CellNetwork
from hwprof.search.cells.search import CellSearch, cell_recipe
from hwprof.search.cells.shortlist import Point, best_candidates
from hwprof.search.cells.supernet import CellSupernet
from hwprof.search.data import Batches, Images, Splits, evaluation_batches
from hwprof.search.engine.choice import choose
from hwprof.search.engine.folder import SearchFolder
from hwprof.search.engine.retraining import NetworkTraining, network_recipe
from hwprof.search.engine.search import RECALIBRATION_BATCHES
from hwprof.search.engine.settings import Schedule, SearchSettings, described
from hwprof.search.engine.sources import learned_from
from hwprof.search.engine.watcher import Watcher
from hwprof.search.losses import make_loss
from hwprof.search.supernet import correct_predictions, recalibrate
from hwprof.search.supernet.checkpoint import searched_space_hash
from hwprof.space import Space

CELLS, TRAINED = "cells.safetensors", "network.safetensors"
SAVE_EVERY_S = 60.0
REPORTS_AN_EPOCH = 5
# DARTS: half of the training images train the weights, half the architecture parameters.
VALIDATION_SHARE = 0.5

CELL_SCHEDULES = {
    # DARTS: 50 epochs of search, 600 of the network found; here 200 of these, as of S3NAS' networks.
    "full": Schedule(None, 64, 0, 50, 0, 0, 200),
    "reduced": Schedule(5_000, 64, 1, 6, 0, 0, 30),
    "smoke": Schedule(200, 32, 0, 1, 0, 0, 1),
}


class Latency(Protocol):
    """What a search knows of latency."""

    def expected(self, probabilities: Tensor) -> Tensor:
        """Of probabilities (positions, most choices of one), differentiable."""

    def price(self, points: Sequence[Point]) -> Sequence[float]:
        """Of networks."""


@dataclass(frozen=True)
class FoundCells:
    """What a search ends with.

    Attributes:
        shortlist: networks in order of preference, as the caller measured them.
        chosen: index of the trained one in it.
        right: of each test image, whether the trained network is right.
        minutes: of each part, over all runs in the folder; what `kill -9` cut short is not in it.
    """

    point: Point
    shortlist: tuple[Mapping[str, Any], ...]
    chosen: int
    network: CellNetwork
    right: Tensor
    minutes: Mapping[str, float]

    @property
    def accuracy(self) -> float:
        return float(self.right.float().mean())


class LatencyAwareDarts:
    """A search of a DARTS space for the network whose latency is at the target.

    Args:
        space: whose networks are timed and trained.
        latency: see `Latency`.
        splits: validation images are half of those that are not for the test (`VALIDATION_SHARE`).
        weight: of the latency in the loss, per ms, where `settings.loss` is `weighted` (LA-DARTS).
        folder: of this search; one that was stopped goes on there.
        device: that trains.
        sources: hashes and the like of what `latency` comes from: what must be equal for a search to go
            on, beside settings, schedule, space and images.

    Raises:
        HwprofError: the folder is of another search; a loss that is unknown or lacks its weight.
    """

    def __init__(
        self, space: Space, latency: Latency, splits: Splits, settings: SearchSettings,
        schedule: Schedule, folder: Path, watcher: Watcher, *, weight: float | None = None,
        device: str = "cpu", sources: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self.space, self.latency, self.splits = space, latency, splits
        self.settings, self.schedule, self.watcher, self.device = settings, schedule, watcher, device
        # Made before the folder is claimed: it refuses what no search can have.
        self.constraint = make_loss(
            settings.loss, settings.target_ms, **({} if weight is None else {"weight": weight})
        ).to(device)
        self.folder = SearchFolder(folder)
        learns_from = {"weight": weight, **learned_from(splits), **(sources or {})}
        self.folder.claim(described(settings, schedule, searched_space_hash(space), learns_from))

    def run(self, measure: Callable[[Sequence[Point]], Sequence[Mapping[str, Any]]]) -> FoundCells:
        """Search, measure, train.

        Args:
            measure: gives for each point a mapping with `predicted_ms` and `measured_ms` (None where it
                cannot be measured).

        Raises:
            HwprofError: no network is at the target, or a part failed; what is done stays.
        """
        with self.folder.timed("search"):
            points = [
                tuple(entry["point"]) for entry in self.folder.part("candidates", self._candidates)
            ]
        with self.folder.timed("measure"):
            shortlist = self.folder.part("shortlist", lambda: measure(points))
        # The weight of LA-DARTS knows no target: its likeliest network is the one it found.
        chosen = 0
        if self.settings.loss != "weighted":
            chosen = choose([entry["measured_ms"] for entry in shortlist], self.settings)
        point = tuple(shortlist[chosen]["point"])
        with self.folder.timed("train"):
            network = self._train(point)
        test = evaluation_batches(self.splits.test, self.splits.normalisation)
        right = correct_predictions(network, test)
        return FoundCells(point, tuple(shortlist), chosen, network, right, self.folder.spent("minutes"))

    def _candidates(self) -> list[dict[str, Any]]:
        search = self._search()
        settings = self.settings
        bounded = settings.loss != "weighted"
        points = best_candidates(
            search.relaxation, search.parameters, settings.shortlist,
            latency=self.latency.price if bounded else None,
            target=settings.target_ms if bounded else None,
            least=settings.least_share * settings.target_ms, seed=settings.seed,
        )  # fmt: skip
        return [{"point": list(point)} for point in points]

    def _search(self) -> CellSearch:
        settings, schedule = self.settings, self.schedule
        training, validation = (
            self._batches(images, settings.seed + number)
            for number, images in enumerate((self.splits.train, self.splits.validation))
        )
        epoch = training.steps_per_epoch
        recipe = cell_recipe(
            max(1, round(schedule.search_epochs * epoch)), round(schedule.warm_epochs * epoch),
            bfloat16=self.device == "cuda",
        )  # fmt: skip
        supernet = CellSupernet(self.space, seed=settings.seed).to(self.device)
        search = CellSearch(
            supernet, training, validation, recipe, latency=self.latency.expected,
            constraint=self.constraint, seed=settings.seed,
        )  # fmt: skip
        path = self.folder.path / CELLS
        if path.exists():
            search.load(path)
            self.watcher.note(f"search: going on from step {search.step}")
        saved = time.monotonic()
        for progress in search.run(report_every=max(1, epoch // REPORTS_AN_EPOCH)):
            for name, value in asdict(progress).items():
                if value is not None and name != "step":
                    self.watcher.scalar(f"search/{name}", value, progress.step)
            shown = "" if progress.latency is None else f", latency {progress.latency:.4g}"
            self.watcher.note(
                f"search: step {progress.step} of {recipe.warm_steps + recipe.steps}, "
                f"cross entropy {progress.cross_entropy:.3f}{shown}"
            )
            if time.monotonic() - saved > SAVE_EVERY_S:
                search.save(path)
                saved = time.monotonic()
        search.save(path)
        return search

    def _train(self, point: Point) -> CellNetwork:
        settings, schedule = self.settings, self.schedule
        network = CellNetwork(self.space.with_options(1, "float32"), point, seed=settings.seed)
        network = network.to(self.device)
        batches = self._batches(self.splits.whole_train().train, settings.seed)
        steps = max(1, round(schedule.train_epochs * batches.steps_per_epoch))
        recipe = network_recipe(steps, schedule.batch_size, bfloat16=self.device == "cuda")
        training = NetworkTraining(network, batches, recipe, seed=settings.seed)
        path = self.folder.path / TRAINED
        if path.exists():
            training.load(path)
        saved = time.monotonic()
        every = max(1, batches.steps_per_epoch // REPORTS_AN_EPOCH)
        for loss in training.run(report_every=every):
            self.watcher.scalar("train/loss", loss, training.step)
            self.watcher.note(f"train: step {training.step} of {steps}, loss {loss:.3f}")
            if time.monotonic() - saved > SAVE_EVERY_S:
                training.save(path)
                saved = time.monotonic()
        training.save(path)
        # A running mean with momentum 0.01 lags a short training.
        recalibrate(network, [batches.at(step) for step in range(RECALIBRATION_BATCHES)])
        return network

    def _batches(self, images: Images, seed: int) -> Batches:
        size = min(self.schedule.batch_size, len(images))
        return Batches(images, self.splits.normalisation, size, seed=seed)
