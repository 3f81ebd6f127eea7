"""Checkpoint: the state of a training in one safetensors file, with JSON in its header."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from hwprof.search.supernet.errors import CheckpointError
from hwprof.search.supernet.files import replace_file
from hwprof.space import Space

VERSION = 2
KEY = "hwprof_checkpoint"


@dataclass(frozen=True)
class CheckpointInfo:
    """What a checkpoint is of, readable without its tensors.

    Attributes:
        space: the space's name, for people.
        space_hash: of the space at batch 1 in float32, so that tables of other options share it.
        phase: `warm` or `search`.
        phase_step: steps done in that phase.
        phase_steps: steps that it was to have.
        step: steps done in all.
        seed: of the training; with `step` it gives every random number of the next step.
        ema_updates: updates of the averaged weights, 0 where there are none.
        version: of this format.
    """

    space: str
    space_hash: str
    phase: str
    phase_step: int
    phase_steps: int
    step: int
    seed: int
    ema_updates: int
    version: int = VERSION


def searched_space_hash(space: Space) -> str:
    """Hash of a space whatever batch size and dtype a table was measured at."""
    return space.with_options(1, "float32").space_hash


def write_checkpoint(path: Path, info: CheckpointInfo, tensors: Mapping[str, Tensor]) -> None:
    """Write it whole or not at all.

    Raises:
        TrainingError: the disk refused.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content = safetensors.torch.save(plain, metadata={KEY: json.dumps(asdict(info))})
    replace_file(path, content)


def checkpoint_info(path: Path) -> CheckpointInfo:
    """What a checkpoint is of.

    Raises:
        CheckpointError: the file is missing, damaged, no checkpoint of hwprof, or of another version.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} is not there; give the path of a checkpoint")
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
        values = json.loads(metadata[KEY])
        if values["version"] != VERSION:
            raise CheckpointError(
                f"{path} is of checkpoint version {values['version']}, this hwprof reads {VERSION}; "
                "search again from the start"
            )
        return CheckpointInfo(**{field.name: values[field.name] for field in fields(CheckpointInfo)})
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise CheckpointError(
            f"{path} is no checkpoint of hwprof, or damaged ({type(error).__name__}: {error}); delete "
            "it or give another"
        ) from None


def read_checkpoint(path: Path, space: Space) -> tuple[CheckpointInfo, dict[str, Tensor]]:
    """What a checkpoint is of, and its tensors on the CPU.

    Raises:
        CheckpointError: as `checkpoint_info`; or it is of another space.
    """
    info = checkpoint_info(path)
    expected = searched_space_hash(space)
    if info.space_hash != expected:
        raise CheckpointError(
            f"{path} is of space {info.space} ({info.space_hash[:12]}), the search is over {space.name} "
            f"({expected[:12]}); give a checkpoint of this space, or another file to begin anew"
        )
    try:
        return info, safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); delete it or give another") from None
