"""Settings: what a search is asked for, and how long its parts take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

from hwprof.errors import HwprofError

STATISTICS = ("floor", "p50")


@dataclass(frozen=True)
class Schedule:
    """How much training each part gets, in epochs over the training images.

    Attributes:
        images: train and validation images together; None takes all.
        batch_size: of all trainings.
        warm_epochs, search_epochs: of the supernet; S3NAS has 8 and 2 of ImageNet.
        candidates: networks that are scored with the supernet's weights.
        tune_epochs: of each fine-tuning of the post-processing.
        train_epochs: of the found network, from scratch; 0 leaves it the supernet's weights.
    """

    images: int | None
    batch_size: int
    warm_epochs: float
    search_epochs: float
    candidates: int
    tune_epochs: float
    train_epochs: float


SCHEDULES = {
    # About 20 minutes on one GPU, and half an hour on two CPU cores.
    "full": Schedule(None, 256, 40, 10, 200, 10, 200),
    "reduced": Schedule(5_000, 64, 8, 3, 24, 3, 30),
    "smoke": Schedule(200, 32, 1, 1, 4, 1, 1),
}


@dataclass(frozen=True)
class SearchSettings:
    """What a search is asked for. A search that is taken up again must be asked for the same.

    Attributes:
        target_ms: of the whole network, by `statistic`.
        statistic: `floor` or `p50`, which the target means and the result is held against.
        loss: name of `hwprof.search.LOSSES`; `multiplier` ends at the target, `log_hinge` is S3NAS's.
        least_share: networks faster than this share of the target are left out.
        post_share: share of the target that the superkernel search leaves to SE and h-swish.
        shortlist: networks that are measured at the end.
        seed: of everything that is drawn.

    Raises:
        HwprofError: names the setting, its value and what is allowed.
    """

    target_ms: float
    statistic: str = "floor"
    loss: str = "multiplier"
    least_share: float = 0.95
    post_share: float = 0.1
    shortlist: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        if not (isfinite(self.target_ms) and self.target_ms > 0):
            raise HwprofError(f"target must be a number of ms above 0, got {self.target_ms}")
        if self.statistic not in STATISTICS:
            raise HwprofError(
                f"statistic {self.statistic!r} is unknown; choose of {', '.join(STATISTICS)}"
            )
        if not 0.0 <= self.least_share < 1.0 or not 0.0 <= self.post_share < 1.0:
            raise HwprofError("least_share and post_share are shares of the target: 0 or more, below 1")
        if self.shortlist < 1:
            raise HwprofError(f"shortlist must be 1 or more, got {self.shortlist}")


def described(
    settings: SearchSettings, schedule: Schedule, space_hash: str, sources: Mapping[str, Any]
) -> Mapping[str, Any]:
    """What must be equal for a search to go on.

    Args:
        sources: hashes and the like of what it learns from: images, table.
    """
    return {**asdict(settings), "schedule": asdict(schedule), "space_hash": space_hash, **sources}
