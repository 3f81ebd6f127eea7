"""What tables, journals and the cache need from the file system."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TypeAlias

from hwprof.errors import LutError

Stamp: TypeAlias = tuple[int, int, int] | None
NO_LOCKS = (errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS)


def partial_path(place: Path) -> Path:
    """A name beside a file for its making. It is like no other: process ids repeat between containers
    that share a folder."""
    return place.with_name(f".{place.name}.{secrets.token_hex(8)}.partial")


def sync_folder(folder: Path) -> None:
    """Make names that were created or renamed in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def stamp_of(path: Path) -> Stamp:
    """What changes when another process replaces a file; None where there is none to be seen."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


@contextlib.contextmanager
def replacing(target: Path, expected: Stamp | Literal["anything"]) -> Iterator[None]:
    """Nobody else who replaces this file so does it meanwhile.

    Args:
        expected: its `stamp_of` when what shall replace it was read.

    Raises:
        LutError: it is another file now.
        OSError: its folder cannot be written.
    """
    with locked(target.with_name(f".{target.name}.lock")) as lock:
        try:
            if expected != "anything" and stamp_of(target) != expected:
                raise LutError(
                    f"{target} was written by another process meanwhile; nothing was replaced: "
                    "give the same command again"
                )
            yield
        finally:
            lock.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[Path]:
    """A file, made if there is none, that no other process has under this lock at the same time. Who
    has it may move it away or remove it.

    Raises:
        OSError: it cannot be made.
    """
    import fcntl  # here, so that tables can be read where there is no fcntl

    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
                logging.getLogger(__name__).warning(
                    "%s has no locks (%s): let no two processes write there at once",
                    path.parent, error.strerror,
                )  # fmt: skip
            if _is_at(path, lock):
                yield path
                return
        finally:
            os.close(lock)


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
