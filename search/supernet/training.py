"""Training of a supernet through its two phases, one step after the other, resumable at each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from hwprof.search.supernet.checkpoint import (
    CheckpointInfo,
    read_checkpoint,
    searched_space_hash,
    write_checkpoint,
)
from hwprof.search.supernet.ema import Ema
from hwprof.search.supernet.errors import CheckpointError, TrainingError
from hwprof.search.supernet.phase import Phase, Recipe
from hwprof.search.supernet.rmsprop import RMSProp
from hwprof.search.supernet.supernet import Supernet


class Steps(Protocol):
    """Batches by number: the same number gives the same batch."""

    def at(self, step: int) -> tuple[Tensor, Tensor]:
        """(images, labels) on the supernet's device, images normalised."""


class Constraint(Protocol):
    """What makes a latency count, such as the losses of `hwprof.search.make_loss`."""

    def total(self, task_loss: Tensor, latency: Tensor) -> Tensor:
        """The task's loss with the latency's."""


@dataclass(frozen=True)
class Progress:
    """What a stretch of steps gave.

    Attributes:
        step: steps done over all phases.
        phase: `warm` or `search`.
        phase_step: steps done in this phase.
        loss: mean over the stretch, of all parts.
        cross_entropy: mean, smoothed labels.
        accuracy: mean over the training batches, as augmented.
        latency: of the network that the gates were in the last step; None in the warm phase.
        learning_rate: of the last step.
    """

    step: int
    phase: str
    phase_step: int
    loss: float
    cross_entropy: float
    accuracy: float
    latency: float | None
    learning_rate: float


class Training:
    """A supernet in training: its optimiser, its averaged weights, and how far it is.

    All random numbers of a step (dropout, gate dropout; `batches` does the same) depend on the seed and
    the number of the step alone, so that a resumed run goes on as one that never stopped: bit by bit on
    the CPU.

    Args:
        supernet: trained in place, on whatever device it is.
        batches: training data by step.
        recipe: learning rate and the like.
        latency: from `choice_gates` to the metric, such as `ExpectedLatency`; for the search phase.
        constraint: joins latency and task loss; for the search phase.
        seed: of the random numbers.

    Attributes:
        step: steps done.
        phase: name of the phase that it is in.
        phase_step: steps done in it.
        phase_steps: steps that it is to have; 0 before the first phase.
        ema: averaged weights, if the recipe asks for them.
    """

    def __init__(
        self,
        supernet: Supernet,
        batches: Steps,
        recipe: Recipe,
        *,
        latency: Callable[[Tensor], Tensor] | None = None,
        constraint: Constraint | None = None,
        seed: int = 0,
    ) -> None:
        self.supernet = supernet
        self.batches = batches
        self.recipe = recipe
        self.latency = latency
        self.constraint = constraint
        self.seed = seed
        self.step = 0
        self.phase = "warm"
        self.phase_step = 0
        self.phase_steps = 0
        *weights, thresholds = supernet.parameter_groups(recipe.weight_decay)
        # Gates in the proportions of their gradients, on any scale of the latency; without momentum,
        # which went on closing gates after the target was met.
        thresholds |= {"momentum": 0.0, "shared": True, "eps": 1e-12}
        self.optimizer = RMSProp([*weights, thresholds], recipe.learning_rate)
        self.ema = Ema(supernet, recipe.ema_decay) if recipe.ema_decay is not None else None
        self._saved: tuple[Path, int] | None = None

    def run(self, phase: Phase, *, report_every: int = 1) -> Iterator[Progress]:
        """Train until the phase is over; a training that is in it goes on where it stands.

        Yields after each `report_every` steps and at the end; only then is a GPU waited for. Stop
        iterating to stop training; `save` between two yields.

        Raises:
            TrainingError: the loss is not finite; names the steps and the last good checkpoint. Or
                the search phase has no latency or constraint.
        """
        if phase.name == "search" and (self.latency is None or self.constraint is None):
            raise TrainingError("the search phase needs latency= and constraint=, see docs/supernet.md")
        if phase.name != self.phase:
            self.phase, self.phase_step = phase.name, 0
        self.phase_steps = phase.steps
        results: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        while self.phase_step < phase.steps:
            results.append(self._train_step(phase))
            self.step += 1
            self.phase_step += 1
            if len(results) >= report_every or self.phase_step == phase.steps:
                yield self._report(results)
                results = []

    def save(self, path: Path) -> None:
        """Write a checkpoint, whole or not at all.

        Raises:
            TrainingError: weights are not finite, or the disk refused; what was at `path` stays.
        """
        tensors = {f"supernet.{name}": value for name, value in self.supernet.state_dict().items()}
        for number, weight in enumerate(self._weights()):
            for name, value in self.optimizer.state[weight].items():
                tensors[f"optimizer.{number}.{name}"] = value
        if self.ema is not None:
            tensors |= {f"ema.{name}": value for name, value in self.ema.values.items()}
        if isinstance(self.constraint, nn.Module):
            state = self.constraint.state_dict()
            tensors |= {f"constraint.{name}": value for name, value in state.items()}
        broken = [name for name, value in tensors.items() if not bool(value.isfinite().all())]
        if broken:
            raise TrainingError(
                f"{broken[0]} is not finite after step {self.step} ({self.phase} phase); {self._kept()}"
            )
        space = self.supernet.space
        info = CheckpointInfo(
            space=space.name,
            space_hash=searched_space_hash(space),
            phase=self.phase,
            phase_step=self.phase_step,
            phase_steps=self.phase_steps,
            step=self.step,
            seed=self.seed,
            ema_updates=self.ema.updates if self.ema is not None else 0,
        )
        write_checkpoint(path, info, tensors)
        self._saved = (path, self.step)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint, with its seed. One of the warm phase serves any target and table: run
        the search phase next. The constraint's own state returns only within the search phase.

        Raises:
            CheckpointError: it is missing, damaged, of another space, or without averaged weights
                where the recipe wants them.
        """
        info, tensors = read_checkpoint(path, self.supernet.space)
        try:
            self.supernet.load_state_dict(_part(tensors, "supernet."))
        except RuntimeError as error:
            raise CheckpointError(f"{path} does not fit this supernet: {error}") from None
        for number, weight in enumerate(self._weights()):
            state = _part(tensors, f"optimizer.{number}.")
            self.optimizer.state[weight] = {
                name: torch.empty_like(weight).copy_(value) for name, value in state.items()
            }
        if self.ema is not None:
            averages = _part(tensors, "ema.")
            if averages.keys() != self.ema.values.keys():
                raise CheckpointError(
                    f"{path} has no averaged weights; leave ema_decay out, or give another checkpoint"
                )
            for name, value in averages.items():
                self.ema.values[name].copy_(value)
            self.ema.updates = info.ema_updates
        if isinstance(self.constraint, nn.Module) and info.phase == "search":
            try:
                self.constraint.load_state_dict(_part(tensors, "constraint."))
            except RuntimeError as error:
                raise CheckpointError(f"{path} was made with another loss: {error}") from None
        self.step, self.seed = info.step, info.seed
        self.phase, self.phase_step, self.phase_steps = info.phase, info.phase_step, info.phase_steps
        self._saved = (path, info.step)

    def _train_step(self, phase: Phase) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Loss, cross entropy, accuracy and latency (nan in the warm phase), not waited for."""
        images, labels = self.batches.at(self.step)
        *weights, thresholds = self.optimizer.param_groups
        for group in weights:
            group["lr"] = self.recipe.rate_at(self.step)
        thresholds["lr"] = phase.threshold_rate_at(self.phase_step)
        self.supernet.train()
        self.supernet.set_phase(phase.name)
        with seeded(self.seed, self.step, images.device), self._precision(images):
            self.supernet.generator.manual_seed(torch.initial_seed())
            gates = self.supernet.gates() if phase.name == "search" else None
            logits = self.supernet(images, gates=gates)
        entropy = functional.cross_entropy(
            logits.float(), labels, label_smoothing=self.recipe.label_smoothing
        )
        loss, latency = entropy, entropy.new_full((), torch.nan)
        if gates is not None and self.latency is not None and self.constraint is not None:
            latency = self.latency(self.supernet.choice_gates(gates))
            loss = self.constraint.total(entropy, latency)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if phase.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.supernet.parameters(), phase.clip_norm)
        if gates is None:
            self.optimizer.step()
        else:
            before = self.supernet.margins()
            self.optimizer.step()
            self.supernet.limit_flips(before, phase.flips(len(gates)), thresholds["lr"])
        if self.ema is not None:
            self.ema.update(self.supernet)
        accuracy = (logits.detach().argmax(1) == labels).float().mean()
        return loss.detach(), entropy.detach(), accuracy, latency.detach()

    def _report(self, results: Sequence[tuple[Tensor, Tensor, Tensor, Tensor]]) -> Progress:
        values = torch.stack([torch.stack([v.float() for v in result]) for result in results])
        loss, entropy, accuracy, _ = values.mean(0).tolist()
        latency = values[-1, 3].item() if self.phase == "search" else None
        rate = self.recipe.rate_at(self.step - 1)
        if not np.isfinite([loss, entropy, latency or 0.0]).all():
            raise TrainingError(
                f"loss is {loss} (cross entropy {entropy}, latency {latency}) in the {self.phase} "
                f"phase, steps {self.step - len(results) + 1} to {self.step}, at learning rate "
                f"{rate:.3g}: lower it; {self._kept()}"
            )
        return Progress(self.step, self.phase, self.phase_step, loss, entropy, accuracy, latency, rate)

    def _kept(self) -> str:
        if self._saved is None:
            return "no checkpoint was written yet"
        return f"last good checkpoint: {self._saved[0]} (step {self._saved[1]})"

    def _weights(self) -> list[Tensor]:
        return [weight for group in self.optimizer.param_groups for weight in group["params"]]

    def _precision(self, images: Tensor) -> torch.autocast:
        return torch.autocast(images.device.type, torch.bfloat16, enabled=self.recipe.bfloat16)


@contextmanager
def seeded(seed: int, step: int, device: torch.device) -> Iterator[None]:
    """PyTorch's random numbers of one step, by seed and step; outside the block they go on as before."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(int(np.random.SeedSequence((seed, step)).generate_state(1, np.uint64)[0]))
        yield


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)
    }
