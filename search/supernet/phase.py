"""Phases of a search and the recipe that they share, with the settings of S3NAS."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from hwprof.search.supernet.errors import TrainingError
from hwprof.search.supernet.supernet import PHASES

# S3NAS: 0.016 for 256 images, times 0.97 every 2.4 epochs.
RATE_PER_IMAGE = 0.016 / 256
DECAY_EPOCHS = 2.4
FLIPS_PER_GATE = 3


@dataclass(frozen=True)
class Phase:
    """A stretch of training.

    Attributes:
        name: `warm` (gate dropout, no latency) or `search` (gates, latency in the loss).
        steps: how long, in batches.
        clip_norm: the gradient's largest global norm; None leaves it.
        threshold_rate: what a threshold of middling gradient moves in the first step, in norms of its
            weights; falls linearly to 0 at the end of the phase.

    Raises:
        TrainingError: an unknown name, or steps below 1.
    """

    name: str
    steps: int
    clip_norm: float | None = None
    threshold_rate: float = 0.0

    def __post_init__(self) -> None:
        if self.name not in PHASES:
            raise TrainingError(f"phase {self.name!r} is not one of {', '.join(PHASES)}")
        if self.steps < 1:
            raise TrainingError(f"steps must be 1 or more, got {self.steps}")

    def threshold_rate_at(self, phase_step: int) -> float:
        return self.threshold_rate * (1.0 - phase_step / self.steps)

    def flips(self, gates: int) -> int:
        """How many gates may flip in a step, such that the phase has room for three flips of each."""
        return max(1, ceil(FLIPS_PER_GATE * gates / self.steps))


def warm_phase(steps: int) -> Phase:
    """Epochs 0 to 8 of 10 in S3NAS; clipped at 10."""
    return Phase("warm", steps, clip_norm=10.0)


def search_phase(steps: int) -> Phase:
    """Epochs 8 to 10 of 10 in S3NAS; not clipped. A threshold of middling gradient could go from open to
    closed three times."""
    return Phase("search", steps, threshold_rate=2.0 * FLIPS_PER_GATE / steps)


@dataclass(frozen=True)
class Recipe:
    """How weights and thresholds are trained, in both phases alike.

    Attributes:
        learning_rate: at step 0.
        decay_steps: after each so many steps it is multiplied by `decay_rate`.
        weight_decay: L2 on the weights of convolutions and classifier.
        label_smoothing: of the cross entropy.
        ema_decay: of an average of the weights beside them; None keeps none.
        bfloat16: convolutions in bfloat16, by autocast.
    """

    learning_rate: float
    decay_steps: int
    decay_rate: float = 0.97
    weight_decay: float = 1e-5
    label_smoothing: float = 0.1
    ema_decay: float | None = None
    bfloat16: bool = False

    def rate_at(self, step: int) -> float:
        """Learning rate of a step, counted over all phases."""
        return self.learning_rate * self.decay_rate ** (step // self.decay_steps)


def s3nas_recipe(
    batch_size: int, steps_per_epoch: int, *, ema_decay: float | None = None, bfloat16: bool = False
) -> Recipe:
    """The recipe of S3NAS for a batch size."""
    decay_steps = max(1, round(DECAY_EPOCHS * steps_per_epoch))
    return Recipe(RATE_PER_IMAGE * batch_size, decay_steps, ema_decay=ema_decay, bfloat16=bfloat16)
