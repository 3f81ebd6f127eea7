"""Merge tables of one schema into one, row by row in order, so that memory stays bounded."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hwprof.errors import LutError
from hwprof.lut.files import stamp_of
from hwprof.lut.merging.conflicts import Conflict, Conflicts, equal_rows, plain
from hwprof.lut.merging.metadata import (
    FACTS_IF_TOLD,
    check_identities,
    check_interval_level,
    merge_metadata,
    origin_of,
)
from hwprof.lut.merging.sorted_rows import ROW_BYTES, Cursor, Keys, Piece, Ranks, Step, steps
from hwprof.lut.merging.sources import Input, open_inputs
from hwprof.lut.partial import PartialFile, put_in_place
from hwprof.lut.reading import SIGNATURE, visits_path_of
from hwprof.lut.schema import VISITS_ORDER
from hwprof.lut.write import check_destination, given_metadata

READERS = 2
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Source:
    """A table that was merged. `kept` of its `rows` are in the result; of those left out, others are
    equal or won."""

    path: Path
    origin: str
    rows: int


@dataclass(frozen=True)
class Merged:
    """What a merge did.

    Attributes:
        visits: visits in the result; None if it has no visits file.
        same: rows that were left out because an equal one is there.
        conflicts: keys whose rows differed; `told` has the first 1000 of them.
        by_origin: origin -> rows of the result, whichever table brought them.
        signature_removed: `out` is one of the tables and was signed: its signature is of other rows.
    """

    out: Path
    rows: int
    visits: int | None
    sources: tuple[Source, ...]
    rule: str
    same: int
    conflicts: int
    told: tuple[Conflict, ...]
    by_origin: dict[str, int]
    licence: str | None
    signature_removed: bool

    def summary(self) -> dict[str, Any]:
        values = asdict(self)
        sources = [{**asdict(source), "path": str(source.path)} for source in self.sources]
        return {**values, "out": str(self.out), "sources": sources}


@contextlib.contextmanager
def _lean_memory() -> Iterator[None]:
    """Let Arrow take memory from jemalloc, where it was built with that and nobody chose another. Blocks
    of all sizes come and go in turn: ten million rows took 35 s and 1.83 GiB with it, 38 to 46 s and
    2.1 GiB with mimalloc, 37 s and 3.1 GiB with the system's."""
    usual = pa.default_memory_pool()
    chosen = "ARROW_DEFAULT_MEMORY_POOL" in os.environ
    if "jemalloc" in pa.supported_memory_backends() and not chosen:
        pa.set_memory_pool(pa.jemalloc_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(usual)


def merge(
    paths: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    on_conflict: str = "refuse",
    *,
    visits: bool = True,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Merged:
    """Merge tables, and their visits, into `out`. Associative and idempotent: which tables are merged
    first, or twice, does not change the rows.

    Rows of one key that are equal in all but their origin are one row. Where they differ,
    `on_conflict` says what happens: `refuse` is an error; `newest` keeps the row that was measured
    last; `most-precise` the one with the narrowest interval relative to its latency. In both, rows
    in a state that look-ups use go before `unstable` ones and these before ones without a number.
    Visits are those of the rows that stay. Where `out` is one of the tables, it keeps its title and
    authors.

    Args:
        overwrite: replace a table at `out` that is none of `paths`.
        progress: called with the number of rows written and the number of rows read in all.

    Raises:
        LutError: a table cannot be read or is not valid, rows differ and `on_conflict` is `refuse`,
            one environment id stands for two identities, or `out` cannot be written, is another
            table, or was written by another process meanwhile.
    """
    if not paths:
        raise LutError("no table to merge; name one or more")
    conflicts = Conflicts(on_conflict)
    target = check_destination(out)
    grown = target in [Path(path).resolve() for path in paths]
    if not (grown or overwrite):
        _check_free(target)
    before = stamp_of(target)
    inputs = open_inputs([Path(path) for path in paths], visits=visits)
    if grown and visits and not overwrite:
        _check_own_visits(target, inputs)
    for each in inputs:
        check_interval_level(each.path, each.table.metadata)
    check_identities([(each.path, each.table.metadata) for each in inputs])
    with contextlib.ExitStack() as stack:
        stack.enter_context(_lean_memory())
        pool = stack.enter_context(ThreadPoolExecutor(READERS))
        table = stack.enter_context(PartialFile(target, "table"))
        rows = _Rows(inputs, conflicts, pool)
        total = sum(each.table.num_rows for each in inputs)
        for merged in rows:
            table.append(merged)
            if progress is not None:
                progress(table.rows, total)
        if on_conflict == "refuse" and conflicts.count:
            raise conflicts.refusal()
        present = rows.present()
        files = []
        if any(each.visits is not None for each in inputs):
            file = stack.enter_context(PartialFile(visits_path_of(target), "visits"))
            for merged in _visits(inputs, rows, present, pool):
                file.append(merged)
            file.seal({})
            files.append(file)
        metadata = merge_metadata([each.table.metadata for each in inputs], set(rows.origins))
        signed = False
        for each in inputs:
            if each.path.resolve() == target:
                signed = SIGNATURE in each.table.stored_metadata
                metadata |= {name: each.table.metadata.get(name) for name in FACTS_IF_TOLD}
        known = given_metadata(metadata, rows.environments)
        table.seal({**known, "visits_hash": files[0].content_hash if files else None})
        put_in_place([*files, table], before)
    return Merged(
        out=Path(out),
        rows=table.rows,
        visits=files[0].rows if files else None,
        sources=tuple(
            Source(each.path, origin_of(each.table.metadata), each.table.num_rows) for each in inputs
        ),
        rule=on_conflict,
        same=conflicts.same,
        conflicts=conflicts.count,
        told=tuple(conflicts.told),
        by_origin=dict(sorted(rows.origins.items())),
        licence=metadata["licence"],
        signature_removed=signed,
    )


def _check_free(target: Path) -> None:
    """Raises LutError where a table, or visits without one, would be replaced."""
    if os.path.exists(target):
        raise LutError(
            f"{target} exists and is none of the tables that are merged; name it among them to add to "
            "it, give another path, or --overwrite"
        )
    if os.path.exists(visits := visits_path_of(target)):
        raise LutError(
            f"{visits} stands there without its table; move it away, give another path, or --overwrite"
        )


def _check_own_visits(target: Path, inputs: Sequence[Input]) -> None:
    """Raises LutError where visits that the grown table does not claim would be replaced."""
    claimed = [each.table.metadata["visits_hash"] for each in inputs if each.path.resolve() == target]
    if None in claimed and os.path.exists(place := visits_path_of(target)):
        raise LutError(
            f"{place} holds visits that {target} does not claim; move it away, --without-visits, or "
            "--overwrite"
        )


class _Rows:
    """The merged rows of all tables, table by table of one step; afterwards what is known of them."""

    def __init__(self, inputs: Sequence[Input], conflicts: Conflicts, pool: ThreadPoolExecutor) -> None:
        values = [each.values() for each in inputs]
        self.ranks = Ranks.of({name: set().union(*(v[name] for v in values)) for name in values[0]})
        self.origins: Counter[str] = Counter()
        self.environments: set[str] = set()
        self.lost: dict[int, list[Keys]] = {}
        self._inputs, self._conflicts, self._pool = inputs, conflicts, pool
        self._keys: list[Keys] = []

    def __iter__(self) -> Iterator[pa.Table]:
        cursors = [
            Cursor(number, str(each.path), each.table_blocks(self.ranks), self._pool)
            for number, each in enumerate(self._inputs)
        ]
        for pieces in steps(cursors):
            rows = self._merged(pieces)
            self._keys.append(self.ranks.row_keys(rows))
            self.origins.update(_counts(rows.column("origin")))
            self.environments.update(_counts(rows.column("environment_id")))
            yield rows

    def present(self) -> Keys:
        """Keys of all merged rows, sorted.

        Raises:
            LutError: two rows have one key, which only a table with wrong op kinds can bring about.
        """
        keys = np.sort(np.concatenate([np.empty(0, f"S{ROW_BYTES}"), *self._keys]), kind="stable")
        self._keys = []
        if len(twice := np.flatnonzero(keys[1:] == keys[:-1])):
            op_id = keys[twice[0]].ljust(ROW_BYTES, b"\0")[4:].hex()
            raise LutError(f"op {op_id} has rows of two kinds; `hwprof lut lint` names the wrong table")
        return keys

    def _merged(self, pieces: list[Piece]) -> pa.Table:
        if len(pieces) == 1 and not _repeats(pieces[0].keys).any():
            return pieces[0].table
        step = Step.of(pieces)
        ordered = step.keys[step.order]
        repeats = _repeats(ordered)
        if not repeats.any():
            return step.rows(step.order)
        places = np.flatnonzero(repeats)
        number = np.cumsum(np.r_[True, ordered[places][1:] != ordered[places][:-1]])
        rows = step.rows(step.order[places])
        stays, differs = self._conflicts.resolve(rows, number)
        self._remember(self.ranks.row_keys(rows)[differs], step.sources(step.order[places])[differs])
        kept = np.ones(len(step.order), bool)
        kept[places] = stays
        return step.rows(step.order[kept])

    def _remember(self, keys: Keys, sources: NDArray[np.int64]) -> None:
        """Whose visits go: those of rows that lost."""
        for source in np.unique(sources).tolist():
            self.lost.setdefault(source, []).append(keys[sources == source])


def _visits(
    inputs: Sequence[Input], rows: _Rows, present: Keys, pool: ThreadPoolExecutor
) -> Iterator[pa.Table]:
    """Visits of the merged rows; equal visits are one.

    Raises:
        LutError: a visit has no row.
    """
    lost = {source: np.sort(np.concatenate(keys)) for source, keys in rows.lost.items()}
    cursors = [
        Cursor(number, str(each.path), each.visit_blocks(rows.ranks), pool)
        for number, each in enumerate(inputs)
    ]
    for pieces in steps(cursors):
        kept = []
        for piece in pieces:
            of_row = piece.keys.astype(f"S{ROW_BYTES}")
            if not _is_in(of_row, present).all():
                raise LutError(f"a visit of {inputs[piece.source].path} has no row in its table")
            stays = ~_is_in(of_row, lost.get(piece.source, present[:0]))
            kept.append(Piece(piece.source, piece.table.filter(pa.array(stays)), piece.keys[stays]))
        yield _without_doubles(kept)


def _without_doubles(pieces: list[Piece]) -> pa.Table:
    """Visits in order. Equal ones, of tables that share rows, are one."""
    step = Step.of(pieces)
    order = step.order
    places = np.flatnonzero(_repeats(step.keys[order]))
    if not len(places):
        return step.rows(order)
    rows = plain(step.rows(order[places]))
    names = [*VISITS_ORDER, *(name for name in rows.column_names if name not in VISITS_ORDER)]
    within = pc.sort_indices(rows, sort_keys=[(name, "ascending") for name in names]).to_numpy()
    order[places] = order[places][within]
    rows = rows.take(pa.array(within))
    kept = np.ones(len(order), bool)
    kept[places[1:]] = ~equal_rows(rows.slice(1), rows.slice(0, rows.num_rows - 1), names)
    return step.rows(order[kept])


def _is_in(keys: Keys, known: Keys) -> NDArray[np.bool_]:
    """Which keys are among sorted ones."""
    if not len(known):
        return np.zeros(len(keys), bool)
    places = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    found: NDArray[np.bool_] = known[places] == keys
    return found


def _repeats(ordered: Keys) -> NDArray[np.bool_]:
    """Which rows have the key of a neighbour."""
    same = ordered[1:] == ordered[:-1]
    repeats: NDArray[np.bool_] = np.r_[False, same] | np.r_[same, False]
    return repeats


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    counts = column.value_counts()
    values, numbers = counts.field("values"), counts.field("counts")
    if pa.types.is_dictionary(values.type):
        values = values.cast(pa.string())
    return dict(zip(values.to_pylist(), numbers.to_pylist(), strict=True))
