"""Writing a file so that a kill leaves the old one or the new one."""

from __future__ import annotations

import os
from pathlib import Path

from hwprof.search.supernet.errors import TrainingError


def replace_file(path: Path, content: bytes) -> None:
    """Write beside the file, flush to disk, rename over it.

    Raises:
        TrainingError: the disk refused; what was at `path` stays.
    """
    beside = path.with_name(f".{path.name}.part")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise TrainingError(
            f"{path} cannot be written ({error.strerror}); free the disk, or give another folder"
        ) from None
