"""Rows of several files in one order: keys that compare as bytes, and cursors that go forward."""

from __future__ import annotations

import binascii
import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hwprof.errors import LutError
from hwprof.lut.content import text_bytes
from hwprof.lut.lookup import ID_LENGTH
from hwprof.lut.schema import ORDER, VISITS_ORDER

Keys: TypeAlias = NDArray[np.bytes_]
"""One text of bytes a row; their order is that of the rows, so that numpy sorts and compares them."""
RANKED = ("kind", "environment_id", "granularity", "cache")
ROW_BYTES = 4 + ID_LENGTH // 2
BIAS = 1 << 63
MOST_COMBINATIONS = 1 << 32
LONG_RUN = 256
READ_AHEAD = 2
"""Blocks that are read before they are needed: of the files whose rows at hand end first."""


@dataclass(frozen=True)
class Ranks:
    """The place of every value of the few-valued key columns among those of all tables."""

    values: Mapping[str, Mapping[str, int]]

    @classmethod
    def of(cls, found: Mapping[str, set[str]]) -> Ranks:
        """Raises LutError where there are so many values that a key would not hold them."""
        if math.prod(len(found[name]) + 1 for name in RANKED) > MOST_COMBINATIONS:
            counts = ", ".join(f"{len(found[name])} of {name}" for name in RANKED)
            raise LutError(f"the tables have too many different values: {counts}; merge fewer of them")
        return cls({name: {v: i for i, v in enumerate(sorted(found[name]))} for name in RANKED})

    def table_keys(self, table: pa.Table) -> Keys:
        """Keys of a table's rows, in the order `ORDER`."""
        return _as_texts(self._numbers(table, ORDER[:-1]), _octets(table))

    def row_keys(self, table: pa.Table) -> Keys:
        """Keys of the rows that rows or visits belong to: environment, granularity, cache and op."""
        return _as_texts(self._numbers(table, VISITS_ORDER[:3]), _octets(table))

    def visit_keys(self, visits: pa.Table) -> Keys:
        """Keys of visits, in the order `VISITS_ORDER`; each begins with its row's key."""
        more = [visits.column(name).to_numpy().astype(">u4") for name in VISITS_ORDER[4:7]]
        started = visits.column("started_at").cast(pa.int64()).to_numpy()
        more.append((started.astype(np.uint64) ^ np.uint64(BIAS)).astype(">u8"))
        numbers = self._numbers(visits, VISITS_ORDER[:3])
        return _as_texts(numbers, _octets(visits), *(_bytes_of(column) for column in more))

    def _numbers(self, table: pa.Table, names: Sequence[str]) -> NDArray[np.uint8]:
        """The ranks of several columns as one number of four bytes."""
        total = np.zeros(table.num_rows, np.int64)
        for name in names:
            ranks = self.values[name]
            total = total * (len(ranks) + 1) + _mapped(table.column(name), ranks)
        return _bytes_of(total.astype(">u4"))


def _mapped(column: pa.ChunkedArray, ranks: Mapping[str, int]) -> NDArray[np.int64]:
    """The rank of each value; one that no table has comes last."""
    parts = []
    for chunk in column.chunks:
        coded = chunk if pa.types.is_dictionary(chunk.type) else chunk.dictionary_encode()
        texts = coded.dictionary.to_pylist()
        of_code = np.array([ranks.get(text, len(ranks)) for text in texts], np.int64)
        parts.append(of_code[coded.indices.to_numpy()])
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


def _octets(table: pa.Table) -> NDArray[np.uint8]:
    """Op ids as ten bytes each."""
    ids = table.column("op_id").combine_chunks()
    try:
        if not pc.all(pc.equal(pc.binary_length(ids), ID_LENGTH), min_count=0).as_py():
            raise ValueError
        raw = binascii.unhexlify(text_bytes(ids))
    except ValueError:
        raise LutError("a column op_id holds a text that is not 20 lower-case hex digits") from None
    return np.frombuffer(raw, np.uint8).reshape(-1, ID_LENGTH // 2)


def _bytes_of(numbers: NDArray[Any]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(numbers).view(np.uint8).reshape(len(numbers), -1)


def _as_texts(*parts: NDArray[np.uint8]) -> Keys:
    joined = np.ascontiguousarray(np.concatenate(parts, axis=1))
    return joined.view(f"S{joined.shape[1]}").reshape(-1)


@dataclass(frozen=True)
class Piece:
    """Rows of one source that come next, with their keys."""

    source: int
    table: pa.Table
    keys: Keys


class Cursor:
    """Goes through the rows of one file in order, a block of them at a time."""

    def __init__(
        self, source: int, name: str, blocks: Iterator[tuple[pa.Table, Keys]], pool: ThreadPoolExecutor
    ) -> None:
        self._source, self._name, self._blocks, self._pool = source, name, blocks, pool
        self._coming: Future[tuple[pa.Table, Keys] | None] | None = None
        self._piece: Piece | None = None
        self._last = b""
        self._ended = False

    def read_ahead(self) -> None:
        """Begin to read the block after the one at hand."""
        if self._coming is None and not self._ended:
            self._coming = self._pool.submit(next, self._blocks, None)

    def peek(self) -> Keys | None:
        """Keys of the rows at hand; None at the end.

        Raises:
            LutError: the file is damaged or not in order.
        """
        while self._piece is None and not self._ended:
            self.read_ahead()
            assert self._coming is not None
            block, self._coming = self._coming.result(), None
            self._ended = block is None
            if block is not None and len(block[1]):
                self._check_order(block[1])
                self._piece = Piece(self._source, *block)
        return None if self._piece is None else self._piece.keys

    def take(self, bound: bytes) -> Piece | None:
        """The rows at hand up to and with the key `bound`."""
        if self._piece is None:
            return None
        table, keys = self._piece.table, self._piece.keys
        count = int(np.searchsorted(keys, bound, side="right"))
        rest = Piece(self._source, table.slice(count), keys[count:])
        self._piece = rest if len(rest.keys) else None
        return Piece(self._source, table.slice(0, count), keys[:count]) if count else None

    def _check_order(self, keys: Keys) -> None:
        if np.any(keys[1:] < keys[:-1]) or keys[0] < self._last:
            raise LutError(f"{self._name} says that its rows are sorted and they are not; build it anew")
        self._last = keys[-1]


def steps(cursors: Sequence[Cursor]) -> Iterator[list[Piece]]:
    """Rows of all cursors, step by step: those of a step come before those of the next one, and rows
    of one key, of whatever source, come in one step."""
    for cursor in cursors:
        cursor.read_ahead()
    while True:
        at_hand = {cursor: keys[-1] for cursor in cursors if (keys := cursor.peek()) is not None}
        if not at_hand:
            return
        soonest = sorted(at_hand, key=lambda cursor: at_hand[cursor])
        for cursor in soonest[:READ_AHEAD]:
            cursor.read_ahead()
        pieces = (cursor.take(at_hand[soonest[0]]) for cursor in cursors)
        yield [piece for piece in pieces if piece is not None]


@dataclass(frozen=True)
class Step:
    """Rows of several sources, to be put in one order.

    Attributes:
        keys: of the rows of all pieces, one piece after the other.
        order: positions in `keys`, sorted by key.
    """

    pieces: Sequence[Piece]
    keys: Keys
    order: NDArray[np.int64]

    @classmethod
    def of(cls, pieces: Sequence[Piece]) -> Step:
        keys = np.concatenate([piece.keys for piece in pieces])
        # Stable is timsort here, which takes the sorted runs as they are.
        return cls(pieces, keys, np.argsort(keys, kind="stable"))

    def sources(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """The source of the row at each position."""
        ends = np.cumsum([len(piece.keys) for piece in self.pieces])
        numbers = np.array([piece.source for piece in self.pieces])
        return np.asarray(numbers[np.searchsorted(ends, positions, side="right")])

    def rows(self, positions: NDArray[np.int64]) -> pa.Table:
        """The rows at the given positions, which ascend within each piece. Long runs are cut out,
        not copied."""
        breaks = np.flatnonzero(np.diff(positions) != 1) + 1
        starts, ends = np.r_[0, breaks], np.r_[breaks, len(positions)]
        parts, at = [], 0
        for a, b in zip(starts.tolist(), ends.tolist(), strict=True):
            if b - a >= LONG_RUN:
                parts += [self._mixed(positions[at:a]), self._cut(positions[a:b])]
                at = b
        parts.append(self._mixed(positions[at:]))
        return pa.concat_tables(parts)

    def _cut(self, run: NDArray[np.int64]) -> pa.Table:
        offset = 0
        for piece in self.pieces:
            if run[0] < offset + len(piece.keys):
                break
            offset += len(piece.keys)
        head = piece.table.slice(int(run[0]) - offset, offset + len(piece.keys) - int(run[0]))
        rest = len(run) - head.num_rows
        if rest <= 0:
            return head.slice(0, len(run))
        return pa.concat_tables([head, self._cut(run[-rest:])])

    def _mixed(self, positions: NDArray[np.int64]) -> pa.Table:
        """Rows of all pieces, copied; of each piece only what lies between its first and last row."""
        ranges, where = [], np.empty(len(positions), np.int64)
        offset = size = 0
        for piece in self.pieces:
            own = (positions >= offset) & (positions < offset + len(piece.keys))
            if own.any():
                first, last = int(positions[own].min()), int(positions[own].max())
                ranges.append(piece.table.slice(first - offset, last - first + 1))
                where[own] = positions[own] - first + size
                size += last - first + 1
            offset += len(piece.keys)
        if not ranges:
            return self.pieces[0].table.slice(0, 0)
        table = pa.concat_tables(ranges).unify_dictionaries().combine_chunks()
        return table.take(pa.array(where))
