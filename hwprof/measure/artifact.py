"""Artifact files: metadata and bytes of a compiled job in one file, with a checksum."""

from __future__ import annotations

import json
import os
import struct
import zlib
from pathlib import Path

from hwprof.backends.backend import Artifact
from hwprof.errors import BackendError

MAGIC = b"hwprof-artifact-1\n"


def write_artifact(path: Path, artifact: Artifact) -> None:
    """Write the file whole or not at all.

    Raises:
        OSError: the disk refused; nothing stands under the path.
    """
    header = json.dumps(dict(artifact.metadata)).encode()
    body = struct.pack("<I", len(header)) + header + artifact.data
    partial = path.with_suffix(".partial")
    try:
        with partial.open("wb") as file:
            file.write(MAGIC + struct.pack("<I", zlib.crc32(body)) + body)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def read_artifact(path: Path) -> Artifact:
    """Inverse of `write_artifact`.

    Raises:
        BackendError: the file is missing or damaged.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BackendError(f"artifact {path} cannot be read: {error.strerror}") from None
    start = len(MAGIC)
    body = content[start + 4 :]
    if content[:start] != MAGIC or len(body) < 4:
        raise BackendError(f"{path} is no artifact of hwprof")
    if struct.unpack("<I", content[start : start + 4])[0] != zlib.crc32(body):
        raise BackendError(f"artifact {path} is damaged")
    size = struct.unpack("<I", body[:4])[0]
    return Artifact(body[4 + size :], json.loads(body[4 : 4 + size]))


def is_whole(path: Path) -> bool:
    """Whether the file is there and passes its checksum."""
    try:
        read_artifact(path)
    except BackendError:
        return False
    return True
