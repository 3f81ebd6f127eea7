"""First-order DARTS (Liu et al. 2019) with a latency in its loss: LA-DARTS (Xu et al. 2020)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from hwprof.search.cells.relaxation import CLOSED, Relaxation
from hwprof.search.cells.supernet import CellSupernet
from hwprof.search.supernet import (
    CheckpointError,
    CheckpointInfo,
    Constraint,
    Steps,
    TrainingError,
    seeded,
)
from hwprof.search.supernet.checkpoint import read_checkpoint, searched_space_hash, write_checkpoint
from hwprof.space import Space

PHASE = "cells"
# 50 epochs of 25,000 images in batches of 64.
PUBLISHED_STEPS = 50 * (25_000 // 64)
PUBLISHED_RATE = 3e-4
LARGEST_RATE = 0.02


@dataclass(frozen=True)
class CellRecipe:
    """How weights and architecture parameters are trained; defaults are those of DARTS.

    Attributes:
        steps: of the search: one of the weights, one of the parameters each.
        warm_steps: steps of the weights alone before.
        weight_rate, last_weight_rate: of SGD, in half a cosine over all steps.
        parameter_rate: of Adam.
        first_temperature, last_temperature: of the distribution over networks whose latency counts;
            falls geometrically. A sharp one has the latency of the network that the search ends at.
    """

    steps: int
    warm_steps: int = 0
    weight_rate: float = 0.025
    last_weight_rate: float = 0.001
    momentum: float = 0.9
    weight_decay: float = 3e-4
    clip_norm: float = 5.0
    parameter_rate: float = PUBLISHED_RATE
    parameter_betas: tuple[float, float] = (0.5, 0.999)
    parameter_decay: float = 1e-3
    first_temperature: float = 1.0
    last_temperature: float = 0.2
    bfloat16: bool = False

    def weight_rate_at(self, step: int) -> float:
        share = step / max(1, self.warm_steps + self.steps)
        drop = self.weight_rate - self.last_weight_rate
        return self.last_weight_rate + drop * 0.5 * (1 + math.cos(math.pi * share))

    def temperature_at(self, step: int) -> float:
        """Of a step, counted with the warm ones."""
        share = min(1.0, max(0, step - self.warm_steps) / max(1, self.steps - 1))
        temperature: float = self.first_temperature ** (1 - share) * self.last_temperature**share
        return temperature


def cell_recipe(steps: int, warm_steps: int = 0, *, bfloat16: bool = False) -> CellRecipe:
    """The recipe for a number of steps. A search with fewer steps than the published 19,500 has a
    larger rate, such that the parameters can go as far, up to 0.02."""
    rate = min(LARGEST_RATE, max(PUBLISHED_RATE, PUBLISHED_RATE * PUBLISHED_STEPS / max(1, steps)))
    return CellRecipe(steps, warm_steps, parameter_rate=rate, bfloat16=bfloat16)


@dataclass(frozen=True)
class CellProgress:
    """What a stretch of steps gave.

    Attributes:
        step: steps done, warm ones included.
        cross_entropy, accuracy: means over the batches that the weights were trained on.
        validation_entropy: mean over the batches that the parameters were trained on; None while warm.
        latency: of the distribution over networks, in the last step; None where none counts.
    """

    step: int
    cross_entropy: float
    accuracy: float
    validation_entropy: float | None
    latency: float | None


class CellSearch:
    """A supernet and its architecture parameters in training: first a step of the parameters on
    validation images, then one of the weights on training images.

    The parameters' loss is `constraint.total(cross entropy, latency(probabilities))`: with
    `make_loss("weighted", target, weight=w)` CE + w x T (LA-DARTS, equation 5), with `multiplier` a
    search that ends at its target. Random numbers of a step depend on seed and step alone.

    Args:
        supernet: trained in place; its space may be shallower, narrower or smaller in its images than
            `space`, as DARTS searches with fewer cells than it evaluates.
        training, validation: batches by step for the weights, and for the parameters.
        latency: from probabilities (positions, most choices of one) of `space` to the metric, such as
            `Predictor.expected` or `ExpectedLatency`; None searches blind.
        constraint: joins both; needed with `latency`.
        space: whose networks are found and timed; None: the supernet's.

    Attributes:
        parameters: (edges, choices); see `Relaxation`.
        step: steps done.

    Raises:
        SpaceError: a space that is not of the family `darts`.
        TrainingError: a latency without a constraint, or spaces that differ in edges or choices.
    """

    def __init__(
        self,
        supernet: CellSupernet,
        training: Steps,
        validation: Steps,
        recipe: CellRecipe,
        *,
        latency: Callable[[Tensor], Tensor] | None = None,
        constraint: Constraint | None = None,
        space: Space | None = None,
        seed: int = 0,
    ) -> None:
        if latency is not None and constraint is None:
            raise TrainingError("a latency needs constraint=, such as hwprof.search.make_loss gives")
        self.supernet, self.training, self.validation = supernet, training, validation
        self.recipe, self.latency, self.constraint, self.seed = recipe, latency, constraint, seed
        self.relaxation = Relaxation(space or supernet.space)
        if _edge_choices(self.relaxation.space) != _edge_choices(supernet.space):
            raise TrainingError(
                f"{self.relaxation.space.name} and {supernet.space.name} differ in the edges or choices "
                "of their cells; a search and what it finds have the same ones"
            )
        device = supernet.offered.device
        generator = torch.Generator().manual_seed(seed)
        start = 1e-3 * torch.randn(self.relaxation.shape, generator=generator)
        self.parameters = nn.Parameter(start.to(device))
        self.step = 0
        self._weights = torch.optim.SGD(
            supernet.parameters(), recipe.weight_rate, recipe.momentum,
            weight_decay=recipe.weight_decay,
        )  # fmt: skip
        self._choices = torch.optim.Adam(
            [self.parameters], recipe.parameter_rate, recipe.parameter_betas,
            weight_decay=recipe.parameter_decay,
        )  # fmt: skip

    @property
    def point(self) -> tuple[int, ...]:
        """The network that the parameters stand for now."""
        return self.relaxation.discretise(self._offered())

    def run(self, *, report_every: int = 1) -> Iterator[CellProgress]:
        """Train to the end. Stop iterating to stop; `save` between two yields.

        Raises:
            TrainingError: a loss is not finite; says where.
        """
        results: list[Tensor] = []
        last = self.recipe.warm_steps + self.recipe.steps
        while self.step < last:
            results.append(self._train_step())
            self.step += 1
            if len(results) >= report_every or self.step == last:
                yield self._report(results)
                results = []

    def save(self, path: Path) -> None:
        """Write a checkpoint, whole or not at all."""
        tensors = {f"supernet.{name}": value for name, value in self.supernet.state_dict().items()}
        tensors["parameters"] = self.parameters
        for number, weight in enumerate(self.supernet.parameters()):
            buffer = self._weights.state[weight].get("momentum_buffer")
            if buffer is not None:
                tensors[f"momentum.{number}"] = buffer
        for name, value in self._choices.state[self.parameters].items():
            tensors[f"adam.{name}"] = value
        if isinstance(self.constraint, nn.Module):
            state = self.constraint.state_dict()
            tensors |= {f"constraint.{name}": value for name, value in state.items()}
        space = self.supernet.space
        info = CheckpointInfo(
            space=space.name,
            space_hash=searched_space_hash(space),
            phase=PHASE,
            phase_step=self.step,
            phase_steps=self.recipe.warm_steps + self.recipe.steps,
            step=self.step,
            seed=self.seed,
            ema_updates=0,
        )
        write_checkpoint(path, info, tensors)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint, with its seed.

        Raises:
            CheckpointError: it is missing, damaged, of another space or of another kind of search.
        """
        info, tensors = read_checkpoint(path, self.supernet.space)
        if info.phase != PHASE or "parameters" not in tensors:
            raise CheckpointError(f"{path} is of the phase {info.phase}, not of a search of cells")
        parts: dict[str, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            part, _, rest = name.partition(".")
            parts.setdefault(part, {})[rest] = value
        try:
            self.supernet.load_state_dict(parts["supernet"])
            if isinstance(self.constraint, nn.Module):
                self.constraint.load_state_dict(parts.get("constraint", {}))
        except (KeyError, RuntimeError) as error:
            raise CheckpointError(f"{path} does not fit this search: {error}") from None
        with torch.no_grad():
            self.parameters.copy_(tensors["parameters"])
        for number, weight in enumerate(self.supernet.parameters()):
            buffer = parts.get("momentum", {}).get(str(number))
            if buffer is not None:
                self._weights.state[weight]["momentum_buffer"] = buffer.to(weight.device)
        if "adam" in parts:
            self._choices.state[self.parameters] = {
                name: value if name == "step" else value.to(self.parameters.device)
                for name, value in parts["adam"].items()
            }
        self.step, self.seed = info.step, info.seed

    def _train_step(self) -> Tensor:
        """Cross entropy, accuracy, validation entropy and latency (nan where there is none)."""
        self.supernet.train()
        images, labels = self.training.at(self.step)
        entropy, latency = images.new_full((), torch.nan), images.new_full((), torch.nan)
        with seeded(self.seed, self.step, images.device):
            if self.step >= self.recipe.warm_steps:
                entropy, latency = self._choose()
            for group in self._weights.param_groups:
                group["lr"] = self.recipe.weight_rate_at(self.step)
            with self._precision(images):
                logits = self.supernet(images, self._offered().detach().softmax(-1))
            loss = functional.cross_entropy(logits.float(), labels)
            self._weights.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self.supernet.parameters(), self.recipe.clip_norm)
            self._weights.step()
        accuracy = (logits.detach().argmax(1) == labels).float().mean()
        return torch.stack([loss.detach(), accuracy, entropy, latency])

    def _choose(self) -> tuple[Tensor, Tensor]:
        """One step of the parameters; validation entropy and latency."""
        images, labels = self.validation.at(self.step)
        offered = self._offered()
        # Weights need no gradient here; without it the backward pass is a third shorter.
        self.supernet.requires_grad_(False)
        try:
            with self._precision(images):
                logits = self.supernet(images, offered.softmax(-1))
            entropy = functional.cross_entropy(logits.float(), labels)
            loss, latency = entropy, entropy.new_full((), torch.nan)
            if self.latency is not None and self.constraint is not None:
                temperature = self.recipe.temperature_at(self.step)
                latency = self.latency(self.relaxation.probabilities(offered, temperature))
                loss = self.constraint.total(entropy, latency)
            self._choices.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
        finally:
            self.supernet.requires_grad_(True)
        self._choices.step()
        return entropy.detach(), latency.detach().to(entropy)

    def _offered(self) -> Tensor:
        """The parameters, with a gate of 0 where the supernet does not offer the op."""
        return self.parameters.masked_fill(~self.supernet.offered, CLOSED)

    def _precision(self, images: Tensor) -> torch.autocast:
        return torch.autocast(images.device.type, torch.bfloat16, enabled=self.recipe.bfloat16)

    def _report(self, results: list[Tensor]) -> CellProgress:
        stacked = torch.stack(results).float()
        entropy, accuracy, validation, _ = stacked.nanmean(0).tolist()
        latency = float(stacked[-1, 3])
        warm = self.step <= self.recipe.warm_steps
        broken = not (math.isfinite(entropy) and bool(self.parameters.isfinite().all()))
        if broken or (not warm and not math.isfinite(validation)):
            raise TrainingError(
                f"cross entropy is {entropy} (validation {validation}, latency {latency}) in steps "
                f"{self.step - len(results) + 1} to {self.step}; lower the weight of the latency, or "
                "look for broken images"
            )
        return CellProgress(
            self.step,
            entropy,
            accuracy,
            None if warm else validation,
            latency if math.isfinite(latency) else None,
        )


def _edge_choices(space: Space) -> list[tuple[str, tuple[str, ...]]]:
    """Name and choices of each edge."""
    return [
        (position.name, tuple(choice.label for choice in position.choices))
        for position in space.positions
        if position.kind == "edge"
    ]
