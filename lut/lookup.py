"""Exact look-up by op id: 20 hex digits as two integers, found by binary search."""

from __future__ import annotations

import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hwprof.errors import LutError
from hwprof.lut.content import text_bytes
from hwprof.ops import OpSpec

ID_LENGTH = 20
HEX = re.compile(f"[0-9a-fA-F]{{{ID_LENGTH}}}")
CODE = np.dtype([("high", ">u8"), ("low", ">u2")])

Ops: TypeAlias = Sequence[OpSpec] | Sequence[str] | NDArray[Any] | pa.Array | pa.ChunkedArray
Positions = NDArray[np.int64]


@dataclass(frozen=True)
class Codes:
    """Op ids as numbers: the first 16 hex digits and the last 4. Their order is that of the text."""

    high: NDArray[np.uint64]
    low: NDArray[np.uint16]


@dataclass(frozen=True)
class Index:
    """Codes in ascending order, each with its row."""

    codes: Codes
    rows: Positions

    def find(self, wanted: Codes) -> Positions:
        """Row of each wanted id, -1 where there is none."""
        count = len(self.rows)
        if not count:
            return np.full(len(wanted.high), -1, np.int64)
        place = np.searchsorted(self.codes.high, wanted.high)
        place[place == count] = 0
        same_high = self.codes.high[place] == wanted.high
        found = same_high & (self.codes.low[place] == wanted.low)
        # Two ids that share 64 of 80 bits are next to each other: walk on for those few.
        for i in np.flatnonzero(same_high & ~found):
            at = place[i] + 1
            while at < count and self.codes.high[at] == wanted.high[i] and not found[i]:
                place[i], found[i] = at, self.codes.low[at] == wanted.low[i]
                at += 1
        return np.where(found, self.rows[place], -1)


def build_index(codes: Codes, rows: Positions) -> Index:
    """Index of the given rows; a table as `write_lut` sorts it needs no second sort."""
    high, low = codes.high[rows], codes.low[rows]
    if np.any((high[1:] < high[:-1]) | ((high[1:] == high[:-1]) & (low[1:] < low[:-1]))):
        order = np.lexsort((low, high))
        high, low, rows = high[order], low[order], rows[order]
    return Index(Codes(high, low), rows)


def as_id_array(ops: Ops) -> pa.Array:
    """Op ids of ops, or of ids given as text in a list, a numpy array or an Arrow array.

    Raises:
        LutError: an element is neither an OpSpec nor text.
    """
    if isinstance(ops, pa.ChunkedArray):
        ops = ops.combine_chunks()
    if isinstance(ops, np.ndarray) and ops.dtype.kind == "S":
        ops = ops.astype("U")
    try:
        return pa.array(ops, pa.string())
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        specs = {op for op in ops if isinstance(op, OpSpec)}
        ids = {op: op.op_id for op in specs}
        texts = [ids[op] if isinstance(op, OpSpec) else op for op in ops]
    for text in texts:
        if not isinstance(text, str):
            raise LutError(f"cannot look up {text!r}; give an OpSpec or an op id")
    return pa.array(texts, pa.string())


def encode(ids: pa.Array | pa.ChunkedArray) -> Codes:
    """Ids as numbers.

    Raises:
        LutError: one is not 20 hex digits.
    """
    if isinstance(ids, pa.ChunkedArray):
        ids = ids.combine_chunks()
    if not len(ids):
        return Codes(np.empty(0, np.uint64), np.empty(0, np.uint16))
    fits = pc.equal(pc.fill_null(pc.binary_length(ids), 0), ID_LENGTH)
    try:
        if not pc.all(fits).as_py():
            raise ValueError
        octets = binascii.unhexlify(text_bytes(ids))
    except ValueError:
        misfit = next(text for text in ids.to_pylist() if not HEX.fullmatch(str(text)))
        raise LutError(f"{misfit!r} is no op id (20 hex digits); see OpSpec.op_id") from None
    codes = np.frombuffer(octets, CODE)
    return Codes(codes["high"].astype(np.uint64), codes["low"].astype(np.uint16))
