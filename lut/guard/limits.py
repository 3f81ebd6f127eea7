"""How much memory reading a file may take: in proportion to its size, so that a small file cannot ask
for all there is."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa

from hwprof.errors import LutError

MAGIC = b"PAR1"
TAIL_BYTES = 4 + len(MAGIC)
"""The length of the footer and the magic number, at the end of a Parquet file."""

LIMIT = "HWPROF_MAX_READ_GIB"
# Text is plain in memory: tables of real builds take 5 to 9 times the bytes of their files, visits of a
# simulated one, which repeat themselves, 40 times.
FLOOR_BYTES = 512 << 20
FOR_EACH_BYTE = 100
# Of each byte of a footer with a million empty columns Arrow made 207.
FOR_EACH_FOOTER_BYTE = 256


def allowed_bytes(file_bytes: int) -> int:
    """Memory that reading a file of this size may take: `HWPROF_MAX_READ_GIB`, or 512 MiB, or 100 times
    the file's size if that is more.

    Raises:
        LutError: the variable is no number above zero.
    """
    told = os.environ.get(LIMIT)
    if not told:
        return max(FLOOR_BYTES, FOR_EACH_BYTE * file_bytes)
    try:
        allowed = int(float(told) * (1 << 30))
    except (ValueError, OverflowError):
        allowed = 0
    if allowed <= 0:
        raise LutError(f"{LIMIT}={told!r} is no number of GiB above 0; unset it, or say {LIMIT}=8")
    return allowed


def too_large(path: Path, needed: int, allowed: int) -> LutError:
    """The error for a file that would take more memory than it may."""
    gib = max(1, -(-needed >> 30))
    return LutError(
        f"{path} would take {needed / 2**20:,.0f} MiB to read, {allowed / 2**20:,.0f} MiB are allowed "
        f"for a file of its size; if you trust it: {LIMIT}={gib}"
    )


def footer_start(file: pa.NativeFile) -> int:
    """Where the footer of an open Parquet file begins.

    Raises:
        ValueError: the file is cut off, or has no footer at its end.
    """
    size: int = file.size()
    if size < len(MAGIC) + TAIL_BYTES:
        raise ValueError(f"it ends after {size} bytes")
    tail: bytes = file.read_at(TAIL_BYTES, size - TAIL_BYTES)
    if not tail.endswith(MAGIC):
        raise ValueError("its end is missing")
    start = size - TAIL_BYTES - int.from_bytes(tail[:4], "little")
    if start < len(MAGIC):
        raise ValueError("its footer is longer than the file")
    return start
