"""What becomes of a table whose measuring ends early: an interruption keeps what was measured, networks
that cannot be used leave the table as it was."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from hwprof.errors import BuildError, LutError
from hwprof.lut import visits_path_of
from hwprof.lut.files import partial_path


class Interrupted(BuildError):
    """SIGINT ended the measuring. What was measured is kept; the command line ends with code 130."""


class OldTable:
    """A table and its visits as they were, to be put back to the byte; a context manager.

    A table is only ever replaced, never written to, so that the old one lives on in its open file.
    """

    def __init__(self, path: Path) -> None:
        self._table = path.resolve()
        self._old: dict[Path, BinaryIO | None] = {}

    def __enter__(self) -> Self:
        # In the order in which a table is written: visits first.
        for place in (visits_path_of(self._table), self._table):
            self._old[place] = place.open("rb") if place.exists() else None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for old in self._old.values():
            if old is not None:
                old.close()

    @contextmanager
    def back_on_error(self) -> Iterator[None]:
        """Put it back where the block raises a LutError."""
        try:
            yield
        except LutError:
            for place, old in self._old.items():
                _put_back(place, old)
            raise


def _put_back(place: Path, old: BinaryIO | None) -> None:
    if old is None:
        place.unlink(missing_ok=True)
        return
    if place.exists() and os.path.samestat(place.stat(), os.fstat(old.fileno())):
        return
    partial = partial_path(place)
    try:
        with partial.open("wb") as copy:
            shutil.copyfileobj(old, copy)
            copy.flush()
            os.fsync(copy.fileno())
        os.replace(partial, place)
    except OSError as error:
        raise LutError(
            f"{place} could not be put back as it was ({error.strerror}); it holds what was measured"
        ) from error
    finally:
        partial.unlink(missing_ok=True)
