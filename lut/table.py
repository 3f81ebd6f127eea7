"""Lut: a latency table in the hand. Exact look-up, filters, and nothing that guesses."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hwprof.errors import LutError, MissingRow
from hwprof.lut import missing
from hwprof.lut.content import content_hash
from hwprof.lut.lookup import Codes, Index, Ops, as_id_array, build_index, encode
from hwprof.lut.reading import open_table, open_visits, visits_path_of
from hwprof.lut.row_groups import RowGroups
from hwprof.lut.rows import ABOVE_ZERO
from hwprof.lut.schema import CACHES, COLUMNS, GRANULARITIES, USABLE_STATES, VISIT_COLUMNS, arrow_schema
from hwprof.lut.summary import summarise
from hwprof.ops import OpSpec

if TYPE_CHECKING:
    import pandas as pd

NAMES = tuple(column.name for column in COLUMNS)
FEW_OPS, FEW_CALLS = 16, 8
"""So many ops at once, and so often, are looked up in the row groups that may hold them; who asks for
more gets an index of the whole table."""
Choice = tuple[str, str, str | None, int | None]


def load_lut(path: str | os.PathLike[str]) -> Lut:
    """Open a table, by its path or a URL (docs/places.md). Metadata and schema are checked at once;
    columns are read when first used.

    Raises:
        LutError: missing, a folder, cut off, not Parquet, no hwprof table, or of a newer schema.
    """
    from hwprof.lut.places import local_table  # places read tables themselves

    stored = open_table(local_table(path))
    return Lut(stored.metadata, stored.num_rows, stored.read, stored.path, RowGroups.of(stored))


class Lut:
    """A latency table: one row per op, environment, granularity and cache state. Never changes.

    Attributes:
        metadata: the file's metadata (`docs/table.md`).
        path: the file it was loaded from.
    """

    def __init__(
        self,
        metadata: Mapping[str, Any],
        num_rows: int,
        read: Callable[[Sequence[str]], pa.Table],
        path: Path,
        groups: RowGroups | None = None,
    ) -> None:
        """Made by `load_lut` and `Lut.filter`; `read` hands over the named columns, `groups` are those
        of the file if all its rows are here."""
        self.metadata = metadata
        self.path = path
        self._num_rows = num_rows
        self._read = read
        self._groups = groups
        self._calls = 0
        self._kept: dict[str, pa.ChunkedArray] = {}
        self._values: dict[str, NDArray[np.float64]] = {}
        self._indices: dict[Choice, Index] = {}
        self._codes: Codes | None = None
        self._usable: dict[bool, NDArray[np.bool_]] = {}

    def __len__(self) -> int:
        return self._num_rows

    def __repr__(self) -> str:
        return f"<Lut {self.path}: {len(self)} rows, {len(self.environments)} environments>"

    @property
    def environments(self) -> Mapping[str, Mapping[str, Any]]:
        """environment_id -> {"identity": ..., "conditions": ...}."""
        environments: Mapping[str, Mapping[str, Any]] = self.metadata["environments"]
        return environments

    @property
    def table(self) -> pa.Table:
        """All columns as an Arrow table; text columns of few values are dictionary-encoded."""
        return self.columns(NAMES)

    def columns(self, names: Sequence[str]) -> pa.Table:
        """The named columns, read from the file at their first use.

        Raises:
            LutError: the file is damaged.
        """
        if new := [name for name in names if name not in self._kept]:
            # Each row group of a file has dictionaries of its own, which Arrow cannot group rows by.
            fresh = self._read(new).unify_dictionaries()
            self._kept.update({name: fresh.column(name) for name in new})
        return pa.table({name: self._kept[name] for name in names})

    @property
    def visits(self) -> pa.Table:
        """All visits of the file, also those of rows that a filter left out; empty if the table was
        written without visits.

        Raises:
            LutError: the visits file is missing, damaged, or belongs to another table.
        """
        if self.metadata["visits_hash"] is None:
            return arrow_schema(VISIT_COLUMNS).empty_table()
        stored = open_visits(visits_path_of(self.path))
        if stored.metadata["content_hash"] != self.metadata["visits_hash"]:
            raise LutError(
                f"{stored.path} holds the visits of another table than {self.path} (their hashes differ)"
                "; restore both files of one build, or run its `hwprof build-lut` command again"
            )
        return stored.read([column.name for column in VISIT_COLUMNS])

    def find(
        self,
        op: OpSpec | str,
        *,
        environment: str | None = None,
        threads: int | None = None,
        cache: str = "warm",
        granularity: str = "op",
        allow_unstable: bool = False,
    ) -> dict[str, Any]:
        """The one row of an op, given as OpSpec or op id, with all its columns.

        Args:
            environment: environment id; may be left out while the rows that match the other
                arguments are of one environment.
            threads: only rows with this number of threads.
            allow_unstable: also take a row in state `unstable`.

        Raises:
            MissingRow: there is no such row (with the nearest ones and the command that measures
                it), it is in a state without a number to trust, or environments would mix.
            LutError: an argument is not one of its allowed values.
        """
        choice = (granularity, cache, environment, threads)
        where, (row,) = self._located([op], choice, allow_unstable)
        return dict(where.table.slice(int(row), 1).to_pylist()[0])

    def latency_ms(self, op: OpSpec | str, **choice: Any) -> float:
        """`latency_ms` of an op's row; arguments and errors as in `find`."""
        return float(self.latencies_ms([op], **choice)[0])

    def latencies_ms(
        self,
        ops: Ops,
        column: str = "latency_ms",
        *,
        environment: str | None = None,
        threads: int | None = None,
        cache: str = "warm",
        granularity: str = "op",
        allow_unstable: bool = False,
    ) -> NDArray[np.float64]:
        """A number of each op's row, as float64 in the order (and for a numpy array the shape) of
        `ops`; the other arguments as in `find`.

        Raises:
            MissingRow: some ops have no usable row or no value in `column`: the first 5 of them are
                named, all are counted.
            LutError: an argument is not one of its allowed values.
        """
        choice = (granularity, cache, environment, threads)
        _check_number(column)
        shape = ops.shape if isinstance(ops, np.ndarray) else (len(ops),)
        flat = ops.ravel() if isinstance(ops, np.ndarray) else ops
        where, rows = self._located(flat, choice, allow_unstable)
        found = where._column_values(column)[rows]
        if np.isnan(found).any():
            raise missing.without_value(where, rows[np.isnan(found)], column)
        if column in ABOVE_ZERO:
            where._refuse_impossible(column, rows)
        return found.reshape(shape)

    def filter(self, **columns: Any) -> Lut:
        """Rows whose columns equal the given values; a list, tuple or set means any of them, None
        means null. Metadata and visits stay those of the file.

        Raises:
            LutError: an unknown column, or a value that its column cannot hold.
        """
        wanted = {}
        for name, value in columns.items():
            _check_name(name)
            several = isinstance(value, (list, tuple, set, frozenset))
            wanted[name] = list(value) if several else [value]
        part = self if self._groups is None else self._of_groups(self._groups.holding(wanted))
        mask = np.ones(len(part), dtype=bool)
        for name, values in wanted.items():
            mask &= part._equals(name, values)
        kept = pa.array(mask)
        return Lut(
            self.metadata, int(mask.sum()), lambda names: part.columns(names).filter(kept), self.path
        )

    def sort(self, column: str, *, descending: bool = False) -> Lut:
        """Rows in order of a column, nulls last.

        Raises:
            LutError: an unknown column.
        """
        _check_name(column)
        key = [(column, "descending" if descending else "ascending")]
        order = pc.sort_indices(_decoded(self.columns([column])), sort_keys=key)
        return Lut(self.metadata, len(self), lambda names: self.columns(names).take(order), self.path)

    def to_pandas(self) -> pd.DataFrame:
        """All columns as pandas reads them from the file itself (text as text, no categories)."""
        frame: pd.DataFrame = _decoded(self.table).to_pandas()
        return frame

    def summary(self) -> dict[str, Any]:
        """Size, trust and provenance as JSON-able values; see `hwprof.lut.summary`."""
        return summarise(self)

    def usable(self, allow_unstable: bool = False) -> NDArray[np.bool_]:
        """Which rows a search may use: converged, budget and imported ones, `unstable` if allowed."""
        if allow_unstable not in self._usable:
            states = (*USABLE_STATES, *(("unstable",) if allow_unstable else ()))
            self._usable[allow_unstable] = self._equals("state", list(states))
        return self._usable[allow_unstable]

    def rows_matching(
        self, granularity: str, cache: str, environment: str | None, threads: int | None
    ) -> NDArray[np.int64]:
        """Positions of the rows of one granularity, cache state, environment and thread count."""
        for name, value, allowed in (
            ("granularity", granularity, GRANULARITIES),
            ("cache", cache, CACHES),
        ):
            if value not in allowed:
                raise LutError(f"{name} {value!r} is unknown; choose of {', '.join(allowed)}")
        if environment is not None and environment not in self.environments:
            has = missing.environment_list(self)
            raise LutError(f"environment {environment!r} is not in {self.path}; it has {has}")
        wanted: dict[str, str | int | None] = {
            "granularity": granularity,
            "cache": cache,
            "environment_id": environment,
            "threads": threads,
        }
        mask = np.ones(len(self), dtype=bool)
        for name, only in wanted.items():
            if only is not None:
                mask &= self._equals(name, [only])
        return np.flatnonzero(mask)

    def _located(self, ops: Ops, choice: Choice, allow_unstable: bool) -> tuple[Lut, NDArray[np.int64]]:
        """The rows of ops, and the table they are rows of: this one, or one of these ops alone."""
        near = self._near(ops, choice)
        if near is not None:
            with contextlib.suppress(MissingRow):  # the whole table words it
                return near, near._rows_of(ops, choice, allow_unstable)
        return self, self._rows_of(ops, choice, allow_unstable)

    def _near(self, ops: Ops, choice: Choice) -> Lut | None:
        """All rows of a few ops; None where an index of the table serves better, or where leaving out
        the rest could hide that environments mix."""
        granularity, cache, environment, threads = choice
        if self._groups is None or choice in self._indices or len(ops) > FEW_OPS:
            return None
        if self._calls >= FEW_CALLS or len(self._groups.numbers) < 2:
            return None
        if environment is None and not self._groups.have_one_value("environment_id"):
            return None
        self._calls += 1
        ids = as_id_array(ops).to_pylist()
        keys = (("environment_id", environment), ("threads", threads))
        wanted: dict[str, list[Any]] = {name: [value] for name, value in keys if value is not None}
        wanted |= {"granularity": [granularity], "cache": [cache], "op_id": ids}
        specs = [op for op in ops if isinstance(op, OpSpec)]
        if granularity == "op" and len(specs) == len(ops):
            wanted["kind"] = [op.kind for op in specs]
        # Environments before ops: their column is a twentieth of the bytes.
        first = ("environment_id", "op_id")
        columns = {name: values for name, values in wanted.items() if name in first}
        groups, read = self._groups.holding(wanted).having(columns)
        return self._of_groups(groups, read).filter(**columns)

    def _of_groups(self, groups: RowGroups, read: pa.Table | None = None) -> Lut:
        """The rows of some row groups, of which these columns are read already."""
        whole = groups == self._groups
        part = self if whole else Lut(self.metadata, groups.num_rows, groups.read, self.path, groups)
        part._kept.update({} if read is None else zip(read.column_names, read.columns, strict=True))
        return part

    def _rows_of(self, ops: Ops, choice: Choice, allow_unstable: bool) -> NDArray[np.int64]:
        """Row of each op; raises one MissingRow for all that have none."""
        ids = as_id_array(ops)
        rows = self._index(choice).find(encode(ids))
        good = rows >= 0
        good[good] = self.usable(allow_unstable)[rows[good]]
        if not good.all():
            wanted = {
                ops[i] if isinstance(ops[i], OpSpec) else ids[i].as_py(): int(rows[i])
                for i in np.flatnonzero(~good).tolist()
            }
            raise missing.missing_rows(self, wanted, self._index(choice).rows, allow_unstable)
        self._refuse_impossible("latency_ms", rows)
        return rows

    def _refuse_impossible(self, name: str, rows: NDArray[np.int64]) -> None:
        """Zero, negative and infinite numbers, which another tool may have written, are kept back."""
        values = self._column_values(name)[rows]
        if (bad := (values <= 0) | np.isinf(values)).any():
            row = int(rows[np.argmax(bad)])
            label = self.columns(["label"]).column(0)[row].as_py()
            raise LutError(
                f"{name} of {label} is {values[np.argmax(bad)]:g}, not above 0 and finite; what is "
                f"wrong with the table: hwprof lut lint {self.path}"
            )

    def _index(self, choice: Choice) -> Index:
        """Index of the rows of one choice, which must be of one environment."""
        if choice not in self._indices:
            rows = self.rows_matching(*choice)
            if not len(rows):
                raise missing.nothing_matches(self, choice)
            ids = self.columns(["environment_id"]).column(0).take(pa.array(rows)).unique().to_pylist()
            if len(ids) > 1:
                raise MissingRow(
                    f"{self.path} has such rows from {len(ids)} environments; "
                    f"pass threads=, or environment= one of {missing.environment_list(self, ids)}"
                )
            if self._codes is None:
                self._codes = encode(self.columns(["op_id"]).column(0))
            self._indices[choice] = build_index(self._codes, rows)
        return self._indices[choice]

    def _equals(self, name: str, wanted: list[Any]) -> NDArray[np.bool_]:
        """Boolean mask of the rows whose column is one of the wanted values."""
        column = self.columns([name]).column(0)
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        try:
            values = pa.array(wanted, kind)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
            raise LutError(f"column {name} takes {kind}, not {wanted!r} ({error})") from None
        mask: NDArray[np.bool_] = pc.is_in(column, value_set=values).to_numpy()
        return mask

    def _column_values(self, name: str) -> NDArray[np.float64]:
        """A numeric column as float64, null as NaN (checked before anything leaves this class)."""
        _check_number(name)
        if name not in self._values:
            column = self.columns([name]).column(0)
            self._values[name] = column.cast(pa.float64()).to_numpy()
        return self._values[name]


def verify_lut(path: str | os.PathLike[str]) -> None:
    """Recompute the content hashes of a table and of its visits.

    Raises:
        LutError: a hash does not match: values were changed after writing.
    """
    lut = load_lut(path)
    parts = [(lut.path, lut.table, lut.metadata["content_hash"])]
    if lut.metadata["visits_hash"] is not None:
        parts.append((visits_path_of(lut.path), lut.visits, lut.metadata["visits_hash"]))
    for place, table, stored in parts:
        found = content_hash(table)
        if found != stored:
            raise LutError(
                f"{place} was changed after it was written: its content hashes to {found[:12]}, "
                f"its metadata say {str(stored)[:12]}; restore it from a copy"
            )


def _check_name(name: str) -> None:
    if name not in NAMES:
        raise LutError(f"unknown column {name!r}; the table has {', '.join(NAMES)}")


def _check_number(name: str) -> None:
    numeric = [c.name for c in COLUMNS if pa.types.is_integer(c.type) or pa.types.is_floating(c.type)]
    if name not in numeric:
        raise LutError(f"column {name!r} is no number; choose of {', '.join(numeric)}")


def _decoded(table: pa.Table) -> pa.Table:
    """The table with plain text instead of dictionaries."""
    columns = [
        column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
        for column in table.columns
    ]
    return pa.table(columns, names=table.column_names)
