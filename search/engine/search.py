"""The whole search of S3NAS: supernet, gates under a latency target, candidates, post-processing,
shortlist, training of the network found. Resumable: each part leaves a file in the folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from hwprof.errors import HwprofError, SpaceError
from hwprof.search.data import Batches, Images, Splits, evaluation_batches
from hwprof.search.engine.candidates import Point, score_candidates, slowest_searched
from hwprof.search.engine.choice import choose
from hwprof.search.engine.folder import SearchFolder
from hwprof.search.engine.postprocess import Step, has_features, postprocess
from hwprof.search.engine.retraining import NetworkTraining, network_recipe
from hwprof.search.engine.settings import Schedule, SearchSettings, described
from hwprof.search.engine.shortlist import dressed_networks
from hwprof.search.engine.sources import learned_from
from hwprof.search.engine.watcher import Watcher
from hwprof.search.expected_latency import ExpectedLatency
from hwprof.search.losses import make_loss
from hwprof.search.supernet import (
    Network,
    Phase,
    Supernet,
    Training,
    correct_predictions,
    inherit,
    recalibrate,
    s3nas_recipe,
    search_phase,
    warm_phase,
)
from hwprof.search.supernet.checkpoint import searched_space_hash

WARM, GATES = "warm.safetensors", "gates.safetensors"
TRAINED = "network.safetensors"
SAVE_EVERY_S = 60.0
REPORTS_AN_EPOCH = 5
RECALIBRATION_BATCHES = 20
# Fine-tuning begins at this share of the learning rate that a training from scratch has.
TUNE_RATE = 0.2

Result = TypeVar("Result")


@dataclass(frozen=True)
class FoundNetwork:
    """What a search ends with.

    Attributes:
        steps: of the post-processing.
        shortlist: networks in order of preference, as the caller measured them.
        chosen: index of the trained one in it.
        right: of each test image, whether the trained network is right.
        minutes: of each part, over all runs in the folder; what `kill -9` cut short is not in it.
    """

    point: Point
    steps: tuple[Step, ...]
    shortlist: tuple[Mapping[str, Any], ...]
    chosen: int
    network: Network
    right: Tensor
    minutes: Mapping[str, float]

    @property
    def accuracy(self) -> float:
        """On the test images."""
        return float(self.right.float().mean())


# Measures points: for each a mapping with `measured_ms` (None: not here) and whatever else is known.
Measure = Callable[[Sequence[Point]], Sequence[Mapping[str, Any]]]


class SuperkernelSearch:
    """One search in one folder.

    Args:
        supernet: of the space; on the device that trains.
        latency: of the same space, by the statistic that the target means.
        splits: images on that device.
        folder: made if it is not there; a search that stopped in it goes on.
        warm: a checkpoint of another search's warm phase, to skip it.
        sources: hashes and the like of what `latency` comes from: what must be equal for a search to go
            on, beside settings, schedule, space, images and `warm`.

    Raises:
        HwprofError: the folder holds another search (names the first setting that differs) or cannot be
            made; a loss that is unknown, or lacks a setting; `warm` cannot be read.
    """

    def __init__(
        self,
        supernet: Supernet,
        latency: ExpectedLatency,
        splits: Splits,
        settings: SearchSettings,
        schedule: Schedule,
        folder: Path,
        watcher: Watcher,
        *,
        warm: Path | None = None,
        sources: Mapping[str, Any] | None = None,
    ) -> None:
        self.supernet, self.latency, self.splits = supernet, latency, splits
        self.settings, self.schedule = settings, schedule
        self.watcher, self.warm = watcher, warm
        self.space = supernet.space
        # Made before the folder is claimed: it refuses what no search can have.
        self._constraint = make_loss(settings.loss, self._post_ms)
        learns_from = {**learned_from(splits, warm), **(sources or {})}
        self.folder = SearchFolder(folder)
        self.folder.claim(described(settings, schedule, searched_space_hash(self.space), learns_from))
        self._bfloat16 = splits.train.pixels.device.type == "cuda"

    def run(self, measure: Measure) -> FoundNetwork:
        """Search, measure the shortlist, train what is chosen of it.

        Raises:
            HwprofError: the loss is not finite, the disk refused, or no network meets the target. What
                was done is kept: the same search in the same folder goes on.
        """
        training = self._training()
        self._timed("warm", lambda: self._warm_up(training))
        self._timed("search", lambda: self._search_gates(training))
        post_ms, least_ms = self._post_ms, self.settings.least_share * self.settings.target_ms
        bases = self._timed("candidates", lambda: self._bases("candidates", post_ms))
        steps = self._timed(
            "post-processing", lambda: self.folder.part("steps", lambda: self._post(bases[0]))
        )
        best = tuple(steps[-1]["point"])
        if self._price([best])[0] < least_ms:
            # SE and h-swish did not pay for all that was left to them: larger networks take the rest.
            target_ms = self.settings.target_ms
            bases = self._timed("larger ones", lambda: self._bases("larger", target_ms))
            points = self._shortlist(bases, best, ())
            if self._price(points[:1])[0] < least_ms:
                # None without them is so large: they fill what is left, whether they help or not.
                richest = max(steps, key=lambda step: step["latency_ms"])["point"]
                points = self._shortlist(bases, tuple(richest), ())
        else:
            points = self._shortlist(bases, best, (best,))
        shortlist = self._timed("measuring", lambda: self._measured(points, measure))
        chosen = choose([entry["measured_ms"] for entry in shortlist], self.settings)
        point = tuple(shortlist[chosen]["point"])
        network, right = self._timed("training", lambda: self._train(point))
        return FoundNetwork(
            point=point,
            steps=tuple(Step(**{**step, "point": tuple(step["point"])}) for step in steps),
            shortlist=tuple(shortlist),
            chosen=chosen,
            network=network,
            right=right,
            minutes=self.folder.spent("minutes"),
        )

    @property
    def _post_ms(self) -> float:
        """What the target leaves to the superkernel search."""
        share = self.settings.post_share if has_features(self.space) else 0.0
        return self.settings.target_ms * (1.0 - share)

    def _training(self) -> Training:
        batches = self._batches(self.splits.train)
        recipe = s3nas_recipe(self.schedule.batch_size, batches.steps_per_epoch, bfloat16=self._bfloat16)
        return Training(
            self.supernet,
            batches,
            recipe,
            latency=self.latency,
            constraint=self._constraint,
            seed=self.settings.seed,
        )

    def _warm_up(self, training: Training) -> None:
        if self.warm is not None:
            training.load(self.warm)
            if training.phase != "warm":
                raise HwprofError(
                    f"{self.warm} is of the {training.phase} phase; give one of the warm phase"
                )
            if training.phase_step < training.phase_steps:
                raise HwprofError(
                    f"{self.warm} is of a warm phase that stands at step {training.phase_step} of "
                    f"{training.phase_steps}; let that search go on first"
                )
            training.seed = self.settings.seed
            return
        path = self.folder.path / WARM
        if path.exists():
            training.load(path)
        steps = self._steps(self.schedule.warm_epochs)
        if training.phase_step < steps:
            self._run(training, warm_phase(steps), path)

    def _search_gates(self, training: Training) -> None:
        path = self.folder.path / GATES
        if path.exists():
            training.load(path)
        steps = self._steps(self.schedule.search_epochs)
        if training.phase == "warm" or training.phase_step < steps:
            self._run(training, search_phase(steps), path)

    def _run(self, training: Training, phase: Phase, path: Path) -> None:
        saved = time.monotonic()
        for progress in training.run(phase, report_every=self._report_every):
            self.watcher.scalar(f"{phase.name}/cross_entropy", progress.cross_entropy, progress.step)
            self.watcher.scalar(f"{phase.name}/accuracy", progress.accuracy, progress.step)
            latency = ""
            if progress.latency is not None:
                self.watcher.scalar(f"{phase.name}/latency_ms", progress.latency, progress.step)
                latency = f", {progress.latency:.3f} ms"
            self.watcher.note(
                f"{phase.name}: step {progress.phase_step} of {phase.steps}, cross entropy "
                f"{progress.cross_entropy:.3f}{latency}"
            )
            if time.monotonic() - saved > SAVE_EVERY_S:
                training.save(path)
                saved = time.monotonic()
        training.save(path)

    def _bases(self, name: str, high_ms: float) -> list[Point]:
        """Networks at or just below a latency, best first; where there is none, below the target, and
        never above the largest network without SE."""
        scored = self.folder.part(name, lambda: self._candidates(high_ms))
        return [tuple(one["point"]) for one in sorted(scored, key=lambda one: -one["accuracy"])]

    def _candidates(self, high_ms: float) -> list[dict[str, Any]]:
        largest_ms = self._price([slowest_searched(self.space, self.latency.latencies)])[0]
        high_ms, target_ms = min(high_ms, largest_ms), min(self.settings.target_ms, largest_ms)
        share = self.settings.least_share
        bounds = dict.fromkeys([(share * high_ms, high_ms), (share * target_ms, target_ms)])
        # Where SE alone reaches the target there may be none near it without: any that is faster.
        for low_ms, most_ms in [*bounds, (0.0, target_ms)]:
            if found := self._scored(low_ms, most_ms):
                return found
        raise SpaceError(
            f"{self.space.name} has no network of {target_ms:.4g} ms or less without SE and with its "
            "first activation; give another target"
        )

    def _scored(self, low_ms: float, high_ms: float) -> list[dict[str, Any]]:
        found = []
        for one in score_candidates(
            self.supernet,
            self.splits,
            self.latency,
            (low_ms, high_ms),
            count=self.schedule.candidates,
            batch_size=self.schedule.batch_size,
            seed=self.settings.seed,
        ):
            found.append(asdict(one))
            self.watcher.note(
                f"candidate {len(found)}: {one.latency_ms:.3f} ms, accuracy {one.accuracy:.3f}"
            )
        return found

    def _post(self, base: Point) -> list[dict[str, Any]]:
        """The post-processing's steps; without SE and h-swish in the space the network as it is."""
        steps = postprocess(
            self.space, base, self.settings.target_ms, self._price, self._tune, self._pictures
        )
        told = []
        for step in steps:
            told.append(asdict(step))
            self.watcher.note(
                f"{step.name}: {step.latency_ms:.3f} ms, validation accuracy {step.accuracy:.3f}"
            )
        return told

    def _tune(self, point: Point) -> tuple[Network, float]:
        """From the supernet's weights, fine-tuned; its accuracy on the validation images."""
        network = self._network(point)
        inherit(network, self.supernet, point)
        steps = self._steps(self.schedule.tune_epochs)
        batches = self._batches(self.splits.train)
        training = NetworkTraining(
            network,
            batches,
            network_recipe(steps, self.schedule.batch_size, bfloat16=self._bfloat16, share=TUNE_RATE),
            seed=self.settings.seed,
        )
        for _ in training.run(report_every=self._report_every):
            pass
        self._recalibrate(network, batches)
        return network, self._accuracy(network, self.splits.validation)

    def _train(self, point: Point) -> tuple[Network, Tensor]:
        """From scratch on train and validation images, or with the supernet's weights as they are where
        the schedule has no epochs for it; right or wrong on each test image."""
        network = self._network(point)
        batches = self._batches(self.splits.whole_train().train)
        if self.schedule.train_epochs:
            self._train_network(network, batches)
        else:
            inherit(network, self.supernet, point)
        self._recalibrate(network, batches)
        test = evaluation_batches(self.splits.test, self.splits.normalisation)
        return network, correct_predictions(network, test)

    def _train_network(self, network: Network, batches: Batches) -> None:
        steps = max(1, round(self.schedule.train_epochs * batches.steps_per_epoch))
        recipe = network_recipe(steps, self.schedule.batch_size, bfloat16=self._bfloat16)
        training = NetworkTraining(network, batches, recipe, seed=self.settings.seed)
        path = self.folder.path / TRAINED
        if path.exists():
            training.load(path)
        saved = time.monotonic()
        for loss in training.run(report_every=self._report_every):
            self.watcher.scalar("network/loss", loss, training.step)
            self.watcher.note(f"network: step {training.step} of {steps}, loss {loss:.3f}")
            if time.monotonic() - saved > SAVE_EVERY_S:
                training.save(path)
                saved = time.monotonic()
        training.save(path)

    def _network(self, point: Point) -> Network:
        """Untrained. Images are seen in float32, whatever the table's ops are of."""
        ops = self.space.with_options(1, "float32").point_ops(point)
        return Network(ops, seed=self.settings.seed).to(self._device)

    def _measured(self, points: Sequence[Point], measure: Measure) -> list[dict[str, Any]]:
        """The shortlist as measured; again where an earlier run could not and nothing rests on it yet,
        such as one on another device than the table's."""
        earlier = self.folder.has("shortlist")
        shortlist = self.folder.part("shortlist", lambda: measure(points))
        unknown = all(entry["measured_ms"] is None for entry in shortlist)
        if not earlier or not unknown or (self.folder.path / TRAINED).exists():
            return shortlist
        self.folder.replace("shortlist", measure([tuple(entry["point"]) for entry in shortlist]))
        return self.folder.part("shortlist", list)

    def _shortlist(self, bases: Sequence[Point], best: Point, first: Sequence[Point]) -> list[Point]:
        return dressed_networks(
            self.space, bases, best, first,
            count=self.settings.shortlist, price=self._price, target_ms=self.settings.target_ms,
        )  # fmt: skip

    def _timed(self, part: str, work: Callable[[], Result]) -> Result:
        with self.folder.timed(part):
            return work()

    def _recalibrate(self, network: Network, batches: Batches) -> None:
        """BatchNorm statistics of the weights as they are at last: a running mean with momentum 0.01
        lags a short training."""
        recalibrate(network, [batches.at(step) for step in range(RECALIBRATION_BATCHES)])

    def _price(self, points: Sequence[Point]) -> list[float]:
        found: list[float] = self.latency.price(points).tolist()
        return found

    def _pictures(self) -> Iterator[Tensor]:
        for images, _ in evaluation_batches(self.splits.validation, self.splits.normalisation):
            yield images

    def _accuracy(self, network: Network, images: Images) -> float:
        batches = evaluation_batches(images, self.splits.normalisation)
        return float(correct_predictions(network, batches).float().mean())

    def _batches(self, images: Images) -> Batches:
        return Batches(
            images, self.splits.normalisation, self.schedule.batch_size, seed=self.settings.seed
        )

    def _steps(self, epochs: float) -> int:
        return max(1, round(epochs * (len(self.splits.train) // self.schedule.batch_size)))

    @property
    def _report_every(self) -> int:
        return max(1, len(self.splits.train) // self.schedule.batch_size // REPORTS_AN_EPOCH)

    @property
    def _device(self) -> torch.device:
        return self.splits.train.pixels.device
