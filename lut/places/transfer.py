"""Moving files to and from a place: whole or not at all, and taken up where they stopped."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import secrets
import shutil
import time
from pathlib import Path
from typing import Any, BinaryIO

from hwprof.errors import LutError
from hwprof.lut.files import sync_folder
from hwprof.lut.places.place import CHUNK_BYTES, WHOLE, Place
from hwprof.lut.places.s3 import PART_BYTES, upload_in_parts

ATTEMPTS = 5
PAUSE_S = 0.2
# Left free on the disk of the cache.
RESERVE_BYTES = 64 << 20
# Of a file whose size its server does not tell.
MOST_UNTOLD_BYTES = 4 << 30


def upload_file(place: Place, source: Path, sha256: str) -> None:
    """Put a local file of a known hash at a place, which shows it only when whole.

    To S3, a file above 16 MiB goes in parts, and parts that an earlier try brought over are not sent
    again. Elsewhere an interrupted file starts anew.

    Raises:
        LutError: the place cannot be written (no rights, no space, no network), or the file was
            changed meanwhile; the place shows no part of it.
    """
    with place.worded("be written"):
        if place.protocol not in WHOLE:
            with source.open("rb") as file:
                _write_and_rename(place, file, sha256)
        elif source.stat().st_size <= PART_BYTES:
            data = source.read_bytes()
            _check_unchanged(source, hashlib.sha256(data), sha256)
            place.fs.pipe_file(place.path, data)
        elif place.protocol in ("s3", "s3a"):
            upload_in_parts(place.fs, place.path, source, sha256)
        else:
            place.fs.put_file(str(source), place.path)
            with source.open("rb") as file:
                _check_unchanged(source, hashlib.file_digest(file, "sha256"), sha256)


def sha256_at(place: Place, size: int) -> str:
    """sha256 (hex) of a file at a place, read through to its end or one byte past `size`.

    Raises:
        LutError: it cannot be read.
    """
    digest, left = hashlib.sha256(), size + 1
    with place.worded("be read"), place.open_from(0) as file:
        while left > 0 and (data := file.read(min(CHUNK_BYTES, left))):
            digest.update(data)
            left -= len(data)
    return digest.hexdigest()


def upload_bytes(place: Place, data: bytes) -> None:
    """As `upload_file`, of a few bytes."""
    with place.worded("be written"):
        if place.protocol in WHOLE:
            place.fs.pipe_file(place.path, data)
        else:
            _write_and_rename(place, io.BytesIO(data), hashlib.sha256(data).hexdigest())


def _write_and_rename(place: Place, source: BinaryIO, sha256: str) -> None:
    """Through a hidden name in the same folder."""
    parent, _, name = place.path.rpartition("/")
    partial = f"{parent}/.{name}.{secrets.token_hex(8)}.partial"
    place.fs.makedirs(parent, exist_ok=True)
    digest = hashlib.sha256()
    try:
        with open(partial, "xb") if place.is_local else place.fs.open(partial, "wb") as file:
            while data := source.read(CHUNK_BYTES):
                digest.update(data)
                file.write(data)
            if place.is_local:
                file.flush()
                os.fsync(file.fileno())
        _check_unchanged(place, digest, sha256)
        if place.is_local:
            os.replace(partial, place.path)
            sync_folder(Path(parent))
        else:
            place.fs.mv(partial, place.path)
    except BaseException:
        # What went wrong is told by the error; the place may be gone by now.
        with contextlib.suppress(Exception):
            place.fs.rm_file(partial)
        raise


def _check_unchanged(what: object, digest: Any, sha256: str) -> None:
    if digest.hexdigest() != sha256:
        raise LutError(f"{what}: the file was changed while it was read; run the command again")


def download(place: Place, into: Path, size: int | None) -> None:
    """Fetch a file, going on where `into` ends.

    Args:
        size: what the file must come to, in bytes; None where nobody tells.

    Raises:
        LutError: the place cannot be read, the file is shorter or longer than it should be, or the
            disk has no room. What was fetched stays in `into`, unless it is too long.
    """
    failures = 0
    while True:
        have = into.stat().st_size if into.exists() else 0
        _check_room(into, (size or 0) - have)
        try:
            _append(place, into, have, size)
            break
        except LutError:
            raise
        except Exception as error:
            failures += 1
            got_more = into.exists() and into.stat().st_size > have
            if have and isinstance(error, ValueError):
                os.truncate(into, 0)  # a server that sends no parts: start anew
            elif failures == ATTEMPTS or not got_more:
                raise place.failure("be fetched", error) from error
            time.sleep(PAUSE_S * 2**failures)
    got = into.stat().st_size
    if size is not None and got != size:
        raise LutError(f"{place} ended after {got} of {size} bytes; try again to go on from there")


def _append(place: Place, into: Path, have: int, size: int | None) -> None:
    most = MOST_UNTOLD_BYTES if size is None else size
    if have > most:  # left by something else
        os.truncate(into, 0)
        have = 0
    if have == most:
        return
    with place.open_from(have) as source, into.open("ab") as file:
        while data := source.read(CHUNK_BYTES):
            have += len(data)
            if have > most:
                os.truncate(into, 0)
                raise LutError(f"{place} is longer than the {most} bytes that it should have")
            _write(place, file, data)
        file.flush()
        os.fsync(file.fileno())


def _write(place: Place, file: BinaryIO, data: bytes) -> None:
    try:
        file.write(data)
    except OSError as error:
        raise LutError(
            f"{place} cannot be kept in {Path(file.name).parent}: {error.strerror}; free space there"
        ) from None


def _check_room(into: Path, needed: int) -> None:
    free = shutil.disk_usage(into.parent).free
    if needed + RESERVE_BYTES > free:
        raise LutError(
            f"{into.parent} has {free >> 20} MiB free, {(needed + RESERVE_BYTES) >> 20} MiB are needed; "
            "free space, or set HWPROF_HOME to a folder on another disk"
        )
