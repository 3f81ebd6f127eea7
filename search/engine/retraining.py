"""Training of one found network, resumable at each step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional

from hwprof.search.supernet import (
    CheckpointError,
    CheckpointInfo,
    Network,
    Steps,
    TrainingError,
    checkpoint_info,
    seeded,
)
from hwprof.search.supernet.checkpoint import write_checkpoint

PHASE = "network"


@dataclass(frozen=True)
class NetworkRecipe:
    """SGD with Nesterov momentum, a linear warm-up and half a cosine, as CIFAR networks are trained
    (Loshchilov and Hutter 2017). S3NAS trains for ImageNet with RMSProp and 350 epochs.

    Attributes:
        steps: of the whole training.
        peak_rate: learning rate after the warm-up.
        warm_share: share of the steps that the warm-up takes.
    """

    steps: int
    peak_rate: float
    warm_share: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 5e-4
    label_smoothing: float = 0.1
    clip_norm: float = 5.0
    bfloat16: bool = False

    def rate_at(self, step: int) -> float:
        """Learning rate of a step."""
        warm = max(1, round(self.warm_share * self.steps))
        if step < warm:
            return self.peak_rate * (step + 1) / warm
        return self.peak_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, self.steps - warm)))


def network_recipe(
    steps: int, batch_size: int, *, share: float = 1.0, bfloat16: bool = False
) -> NetworkRecipe:
    """The recipe for a batch size: 0.1 for 128 images, scaled by it (Goyal et al. 2017); `share` of that
    where trained weights are tuned."""
    return NetworkRecipe(max(1, steps), share * 0.1 * batch_size / 128, bfloat16=bfloat16)


class NetworkTraining:
    """A network in training. As with a supernet, the random numbers of a step depend on seed and number
    alone, so that a resumed run goes on bit by bit on the CPU.

    Attributes:
        step: steps done.
    """

    def __init__(
        self, network: Network, batches: Steps, recipe: NetworkRecipe, *, seed: int = 0
    ) -> None:
        self.network, self.batches, self.recipe, self.seed = network, batches, recipe, seed
        self.step = 0
        self.optimizer = torch.optim.SGD(
            network.parameter_groups(recipe.weight_decay),
            lr=recipe.peak_rate,
            momentum=recipe.momentum,
            nesterov=True,
        )

    def run(self, *, report_every: int = 1) -> Iterator[float]:
        """Train to the end. Yields the mean loss of each `report_every` steps.

        Raises:
            TrainingError: the loss is not finite, or at the end a weight; says where.
        """
        losses: list[Tensor] = []
        while self.step < self.recipe.steps:
            losses.append(self._train_step())
            self.step += 1
            if len(losses) >= report_every or self.step == self.recipe.steps:
                loss = float(torch.stack(losses).mean())
                if not math.isfinite(loss):
                    raise TrainingError(
                        f"loss of the network is {loss} in steps {self.step - len(losses) + 1} to "
                        f"{self.step}, at learning rate {self.recipe.rate_at(self.step - 1):.3g}; the "
                        "last checkpoint is kept: lower the rate, or look for broken images"
                    )
                if self.step == self.recipe.steps:
                    self._require_finite(self.network.state_dict())
                yield loss
                losses = []

    def save(self, path: Path) -> None:
        """Write a checkpoint, whole or not at all.

        Raises:
            TrainingError: a weight is not finite, or the disk refused; what was at `path` stays.
        """
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        for number, weight in enumerate(self._weights()):
            buffer = self.optimizer.state[weight].get("momentum_buffer")
            if buffer is not None:
                tensors[f"momentum.{number}"] = buffer
        self._require_finite(tensors)
        info = CheckpointInfo(
            space="network",
            space_hash=_identity(self.network),
            phase=PHASE,
            phase_step=self.step,
            phase_steps=self.recipe.steps,
            step=self.step,
            seed=self.seed,
            ema_updates=0,
        )
        write_checkpoint(path, info, tensors)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint, with its seed.

        Raises:
            CheckpointError: it is missing, damaged, or of another network.
        """
        info = checkpoint_info(path)
        if info.space_hash != _identity(self.network):
            raise CheckpointError(
                f"{path} is of another network; give another --out, or delete it to train anew"
            )
        tensors = safetensors.torch.load_file(path)
        state = {n.removeprefix("network."): v for n, v in tensors.items() if n.startswith("network.")}
        self.network.load_state_dict(state)
        for number, weight in enumerate(self._weights()):
            if f"momentum.{number}" in tensors:
                buffer = torch.empty_like(weight).copy_(tensors[f"momentum.{number}"])
                self.optimizer.state[weight]["momentum_buffer"] = buffer
        self.step, self.seed = info.step, info.seed

    def _train_step(self) -> Tensor:
        images, labels = self.batches.at(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate_at(self.step)
        self.network.train()
        precision = torch.autocast(images.device.type, torch.bfloat16, enabled=self.recipe.bfloat16)
        with seeded(self.seed, self.step, images.device), precision:
            logits = self.network(images)
        loss = functional.cross_entropy(
            logits.float(), labels, label_smoothing=self.recipe.label_smoothing
        )
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip_norm)
        self.optimizer.step()
        return loss.detach()

    def _require_finite(self, tensors: Mapping[str, Tensor]) -> None:
        for name, value in tensors.items():
            if not bool(value.isfinite().all()):
                raise TrainingError(
                    f"{name} is not finite after step {self.step} of the network's training; the last "
                    "checkpoint is kept: lower the rate, or look for broken images"
                )

    def _weights(self) -> list[Tensor]:
        return [weight for group in self.optimizer.param_groups for weight in group["params"]]


def _identity(network: Network) -> str:
    return "+".join(op.op_id for op in network.ops)
