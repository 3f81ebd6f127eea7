"""Append-only journal of a build: what was measured survives a kill at any moment.

A journal is a text file of lines `CRC32 JSON`, the checksum as 8 hex digits over the JSON's bytes;
the first line is the header. A line is one unbuffered write, so a killed process loses at most the
line it was writing. See `docs/journal.md`.
"""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hwprof.errors import BuildError, LutError
from hwprof.lut.files import sync_folder

FORMAT = 3
FORMAT_KEY = "hwprof_journal"
LINE_START = re.compile(rb"[0-9a-f]{8} \{")


@dataclass(frozen=True)
class JournalContent:
    """What a journal holds.

    Attributes:
        header: as given to `Journal.create`.
        records: every undamaged record, in the order in which they were appended.
        damaged_lines: numbers (the header is line 1) of lines whose checksum does not fit.
        torn_bytes: length of an unfinished last line, which a kill leaves; it is no record.
    """

    header: dict[str, Any]
    records: tuple[dict[str, Any], ...]
    damaged_lines: tuple[int, ...]
    torn_bytes: int


def read_journal(path: str | os.PathLike[str]) -> JournalContent:
    """Read a journal without locking or changing it.

    Raises:
        LutError: missing, unreadable, no journal, or of a newer format; the file is left as it is.
    """
    path = Path(path)
    header: dict[str, Any] | None = None
    records: list[dict[str, Any]] = []
    damaged: list[int] = []
    torn = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    torn = len(line)
                    break
                record = _decode(line[:-1])
                if number == 1:
                    header = _checked_header(path, record)
                elif record is not None:
                    records.append(record)
                else:
                    damaged.append(number)
                    records.extend(_after_lost_newline(line[:-1]))
    except OSError as error:
        raise LutError(
            f"journal {path} cannot be read: {error.strerror}; it was left as it is"
        ) from None
    if header is None:
        header = _checked_header(path, None)
    return JournalContent(header, tuple(records), tuple(damaged), torn)


class Journal:
    """A journal open for appending, locked against a second writer until closed.

    Make one with `Journal.create` or `Journal.open`; it is a context manager.
    """

    def __init__(self, path: Path, descriptor: int, lock: int) -> None:
        """Takes over both descriptors; called by `create` and `open`."""
        self.path = path
        self._descriptor = descriptor
        self._lock = lock
        self._size = os.fstat(descriptor).st_size

    @classmethod
    def create(cls, path: str | os.PathLike[str], header: Mapping[str, Any]) -> Self:
        """Start a journal; its header is on disk when this returns.

        Raises:
            LutError: there is one already, or the file cannot be written.
            BuildError: another process holds it.
        """
        path = Path(path)
        lock = _take_lock(path)
        try:
            # An empty file is what a kill before the header leaves.
            if path.exists() and (path.is_dir() or path.stat().st_size):
                raise LutError(f"{path} exists; resume it, or remove it first (--fresh)")
            journal = cls(path, _open_for_append(path), lock)
        except BaseException:
            os.close(lock)
            raise
        try:
            journal.append({**header, FORMAT_KEY: FORMAT})
            journal.sync()
            sync_folder(path.parent)
        except BaseException:
            journal.close()
            raise
        return journal

    @classmethod
    def open(
        cls, path: str | os.PathLike[str]
    ) -> tuple[Self, dict[str, Any], tuple[dict[str, Any], ...], tuple[int, ...]]:
        """Take up a journal where it ends; an unfinished last line is cut off.

        Returns:
            The journal, its header, its undamaged records, and the numbers of damaged lines.

        Raises:
            LutError: as `read_journal`, or the file cannot be written; it is left as it is.
            BuildError: another process holds it; the message names its pid.
        """
        path = Path(path)
        if not path.is_file():
            read_journal(path)  # raises, and leaves no lock file behind
        lock = _take_lock(path)
        try:
            content = read_journal(path)
            journal = cls(path, _open_for_append(path), lock)
        except BaseException:
            os.close(lock)
            raise
        if content.torn_bytes:
            journal._cut(journal._size - content.torn_bytes)
        return journal, content.header, content.records, content.damaged_lines

    @staticmethod
    def discard(path: str | os.PathLike[str]) -> None:
        """Remove a journal, readable or not, that nobody is writing.

        Raises:
            BuildError: another process holds it.
            LutError: the folder cannot be written.
        """
        path = Path(path)
        lock = _take_lock(path)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise LutError(f"journal {path} cannot be removed: {error.strerror}") from None
        finally:
            os.close(lock)

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one record in one write; a kill afterwards does not lose it, a power cut may until
        `sync`.

        Raises:
            LutError: the disk is full or failing (the journal keeps all records before this one), or
                the record is no JSON (NaN included).
        """
        line = _encode(record)
        try:
            written = os.write(self._descriptor, line)
        except OSError as error:
            raise self._full(error.strerror) from error
        if written != len(line):
            self._cut(self._size)
            raise self._full(f"only {written} of {len(line)} bytes fitted")
        self._size += written

    def sync(self) -> None:
        """Wait until everything appended is on the disk.

        Raises:
            LutError: the disk reports an error.
        """
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            raise self._full(error.strerror) from error

    def close(self) -> None:
        """Release file and lock; closing twice is allowed."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            os.close(self._lock)
            self._descriptor = self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _cut(self, size: int) -> None:
        """Drop what follows the last whole record."""
        os.ftruncate(self._descriptor, size)
        self._size = size

    def _full(self, reason: str | None) -> LutError:
        return LutError(
            f"journal {self.path} cannot be written: {reason}; all records before this one are kept: "
            "free space and run the same command again"
        )


def _encode(record: Mapping[str, Any]) -> bytes:
    try:
        body = json.dumps(record, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise LutError(f"a journal record must be JSON: {error}") from None
    return b"%08x %s\n" % (zlib.crc32(body), body)


def _decode(line: bytes) -> dict[str, Any] | None:
    """The record of a line without its newline; None if it is damaged."""
    if not LINE_START.match(line) or int(line[:8], 16) != zlib.crc32(line[9:]):
        return None
    try:
        record: dict[str, Any] = json.loads(line[9:])
    except ValueError:
        return None
    return record


def _after_lost_newline(line: bytes) -> list[dict[str, Any]]:
    """A damaged newline joins two lines; the second is whole if the checksum says so."""
    for match in LINE_START.finditer(line, 1):
        record = _decode(line[match.start() :])
        if record is not None:
            return [record]
    return []


def _checked_header(path: Path, header: dict[str, Any] | None) -> dict[str, Any]:
    version = None if header is None else header.pop(FORMAT_KEY, None)
    if header is None or not isinstance(version, int):
        raise LutError(
            f"{path} has no readable journal header: it is no journal, or its start is damaged; it was "
            "left as it is; move it away, or start over with --fresh"
        )
    if version != FORMAT:
        raise LutError(
            f"{path} is a journal of format {version}, this hwprof reads {FORMAT}; finish the build "
            "with the hwprof that began it, or start over with --fresh"
        )
    return header


def _open_for_append(path: Path) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    except OSError as error:
        raise LutError(
            f"journal {path} cannot be written: {error.strerror}; it was left as it is"
        ) from None


def _take_lock(path: Path) -> int:
    """Lock `PATH.lock`, a file of its own that holds its holder's pid. It stays when the lock is
    released: removing it would let two processes lock two files of one name."""
    import fcntl  # here, so that tables can be read where there is no fcntl

    lock = -1
    try:
        lock = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o666)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    except BlockingIOError:
        holder = os.pread(lock, 32, 0).decode().strip() or "unknown"
        os.close(lock)
        raise BuildError(
            f"journal {path} is being written by the process with pid {holder}; wait for it or stop it"
        ) from None
    except OSError as error:
        if lock >= 0:
            os.close(lock)
        raise LutError(
            f"journal {path} cannot be locked: {error.strerror}; free space, or give a path in an "
            "existing folder that you can write to"
        ) from None
    return lock
