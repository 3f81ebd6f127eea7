"""Where reports and pictures are written: whole or not at all, and never over a table."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from hwprof.errors import LutError
from hwprof.lut.files import partial_path


def check_file(out: Path, endings: Sequence[str], inputs: Sequence[Path]) -> None:
    """Raise before anything is read where the file could not be written.

    Raises:
        LutError: another ending, a folder, no such parent folder, or one of the inputs.
    """
    if out.suffix not in endings:
        raise LutError(f"the file must end in {' or '.join(endings)}, not {out.name!r}")
    if os.path.isdir(out):
        raise LutError(f"{out} is a folder; name a file in it")
    if not os.path.isdir(out.absolute().parent):
        raise LutError(f"the folder {out.absolute().parent} does not exist; make it first")
    if any(out.resolve() == path.resolve() for path in inputs):
        raise LutError(f"{out} is a table that is read; name another file")


def write_whole(out: Path, content: bytes) -> None:
    """Replace a file at once.

    Raises:
        LutError: it cannot be written.
    """
    partial = partial_path(out)
    try:
        partial.write_bytes(content)
        os.replace(partial, out)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise LutError(f"{out} could not be written: {error.strerror or error}") from None
