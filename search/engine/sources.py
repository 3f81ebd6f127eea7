"""Sources: hashes of what a search learns from, so that a search that goes on with others is noticed."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from hwprof.lut.places.cache import file_sha256
from hwprof.search.data import Splits
from hwprof.search.supernet import checkpoint_info


def learned_from(splits: Splits, warm: Path | None = None) -> dict[str, Any]:
    """sha256 (hex) of the images with their labels and classes, and of the checkpoint to start from.

    Raises:
        CheckpointError: `warm` cannot be read.
    """
    digest = hashlib.sha256("\n".join(splits.classes).encode())
    for part in (splits.train, splits.validation, splits.test):
        digest.update(str(tuple(part.pixels.shape)).encode())
        for tensor in (part.pixels, part.labels):
            digest.update(tensor.reshape(-1).cpu().numpy().data)
    if warm is not None:
        checkpoint_info(warm)
    return {"images": digest.hexdigest(), "warm": None if warm is None else file_sha256(warm)}
