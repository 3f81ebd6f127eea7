"""Writing a table: it appears under its name only when whole."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hwprof import __version__
from hwprof.environment import Environment
from hwprof.errors import LutError
from hwprof.lut.content import content_hash
from hwprof.lut.files import sync_folder
from hwprof.lut.guard.text import ARROW_CONTROLS
from hwprof.lut.reading import PREFIX, open_table, open_visits, visits_path_of
from hwprof.lut.rows import check_table, check_visits, conform, rows_to_table
from hwprof.lut.schema import (
    COLUMNS,
    KEY,
    METADATA,
    SCHEMA_VERSION,
    VISIT_COLUMNS,
    VISITS_METADATA,
    Column,
    few_valued,
)
from hwprof.lut.table import load_lut
from hwprof.stats import INTERVAL_LEVEL

ROWS_PER_GROUP = 1 << 17
GIVEN = ("spaces", "environments", "composition", "validation", "licence")

Rows: TypeAlias = pa.Table | Iterable[Mapping[str, Any]]


def write_lut(
    path: str | os.PathLike[str], rows: Rows, *, metadata: Mapping[str, Any], visits: Rows | None = None
) -> None:
    """Write a table, and its visits beside it, whole or not at all.

    Both files are written and synced under temporary names in the same folder and then renamed, the
    visits first. Whatever fails before that leaves the files that were there as they are; between
    the two renames the old table stands beside the new visits, which `Lut.visits` reports.

    Args:
        path: where the table goes; an existing hwprof table is replaced.
        rows: rows with exactly the columns of schema 1, in any order; sorted by key when written.
            Control characters, such as a runtime's message may hold, become U+FFFD.
        metadata: `spaces` and `environments` (environment_id -> {identity, conditions}, for at least
            the environments of the rows), and if there are any `composition`, `validation` and
            `licence`. The keys that hwprof computes may be there and are computed anew.
        visits: rows of the visits file; None leaves an existing visits file as it is, unused.

    Raises:
        LutError: a bad row, a key twice, an unknown metadata key, an environment not described, or
            `path` cannot be written (see `check_destination`).
    """
    target = check_destination(path)
    table = _sorted(_printable(_to_table(rows, COLUMNS)), [])
    check_table(table)
    _check_unique(table)
    known = _given_metadata(metadata, table)
    visits_hash = None
    with contextlib.ExitStack() as partials:
        moves = []
        if visits is not None:
            visit_table = _sorted(
                _to_table(visits, VISIT_COLUMNS), ["phase", "process", "round", "started_at"]
            )
            check_visits(visit_table, table)
            visits_hash = content_hash(visit_table)
            values = _computed("visits", visits_hash)
            stored = {key: values[key] for key in VISITS_METADATA}
            place = visits_path_of(target)
            moves.append((_write_partial(partials, place, visit_table, VISIT_COLUMNS, stored), place))
        values = {**known, **_computed("table", content_hash(table)), "visits_hash": visits_hash}
        stored = {key: values[key] for key in METADATA}
        moves.append((_write_partial(partials, target, table, COLUMNS, stored), target))
        with _worded(target, "what was there may be replaced in part"):
            for partial, place in moves:
                os.replace(partial, place)
            sync_folder(target.parent)


def update_metadata(path: str | os.PathLike[str], **changes: Any) -> None:
    """Write a table anew with other `composition`, `validation` or `licence`; rows and visits stay.

    Raises:
        LutError: as `write_lut`; or the table or its visits cannot be read.
    """
    lut = load_lut(path)
    visits = lut.visits if lut.metadata["visits_hash"] is not None else None
    write_lut(path, lut.table, metadata={**lut.metadata, **changes}, visits=visits)


def check_destination(path: str | os.PathLike[str]) -> Path:
    """The real path (links followed) that a table can be written to; called before a long build.

    Raises:
        LutError: the folder is missing or read-only, or what stands there is a folder or no hwprof
            table: such a file is never overwritten.
    """
    target = Path(path).resolve()
    if not target.parent.is_dir():
        raise LutError(f"folder {target.parent} does not exist; create it or give another path")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise LutError(f"folder {target.parent} is read-only; give a path in a folder you can write to")
    places = ((target, open_table), (visits_path_of(target), open_visits))
    for place, check in places:
        if place.is_dir():
            raise LutError(f"{place} is a folder; give a file name such as {place / 'lut.parquet'}")
        if place.exists():
            try:
                check(place)
            except LutError as error:
                raise LutError(f"will not overwrite {place}: {error}, or give another path") from None
    return target


def _printable(table: pa.Table) -> pa.Table:
    """Without control characters, which no reader takes from a stranger."""
    for number, field in enumerate(table.schema):
        if (
            field.type == pa.string()
            and pc.any(pc.match_substring_regex(table.column(number), ARROW_CONTROLS)).as_py()
        ):
            text = pc.replace_substring_regex(table.column(number), ARROW_CONTROLS, "\ufffd")
            table = table.set_column(number, field, text)
    return table


def _to_table(rows: Rows, columns: tuple[Column, ...]) -> pa.Table:
    if isinstance(rows, pa.Table):
        return conform(rows, columns)
    return rows_to_table(rows, columns)


def _sorted(table: pa.Table, more: list[str]) -> pa.Table:
    return table.sort_by([(name, "ascending") for name in (*KEY, *more)])


def _check_unique(table: pa.Table) -> None:
    """Refuse neighbours with equal keys in a sorted table."""
    if table.num_rows < 2:
        return
    same = None
    for name in KEY:
        column = table.column(name).combine_chunks()
        equal = pc.equal(column[1:], column[:-1])
        same = equal if same is None else pc.and_(same, equal)
    index = pc.index(same, True).as_py()
    if index >= 0:
        row = table.slice(index, 1).to_pylist()[0]
        key = ", ".join(f"{name} {row[name]}" for name in KEY)
        raise LutError(f"two rows have the key {key} ({row['label']}); keep one of them")


def _given_metadata(metadata: Mapping[str, Any], table: pa.Table) -> dict[str, Any]:
    if unknown := [key for key in metadata if key not in METADATA]:
        raise LutError(f"unknown metadata {', '.join(unknown)}; known: {', '.join(METADATA)}")
    if missing := [key for key in ("spaces", "environments") if key not in metadata]:
        raise LutError(f"metadata {' and '.join(missing)} must be given")
    for facts in metadata["environments"].values():
        Environment.from_dict(facts)
    used = set(table.column("environment_id").unique().to_pylist())
    if strangers := sorted(used - set(metadata["environments"])):
        raise LutError(f"metadata environments does not describe {', '.join(strangers)}, which has rows")
    return {key: metadata.get(key) for key in GIVEN}


def _computed(kind: str, content: str) -> dict[str, Any]:
    return {
        "file_kind": kind,
        "schema_version": SCHEMA_VERSION,
        "content_hash": content,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "hwprof_version": __version__,
        "interval_level": INTERVAL_LEVEL,
    }


def _write_partial(
    partials: contextlib.ExitStack,
    place: Path,
    table: pa.Table,
    columns: tuple[Column, ...],
    metadata: Mapping[str, Any],
) -> Path:
    """Write and sync a file under a temporary name, which `partials` removes if it is still there."""
    partial = place.with_name(f".{place.name}.{os.getpid()}.partial")
    partials.callback(partial.unlink, missing_ok=True)
    text = {PREFIX + key: json.dumps(value, sort_keys=True) for key, value in metadata.items()}
    with _worded(place), partial.open("wb") as file:
        with pq.ParquetWriter(
            file,
            table.schema,
            compression="zstd",
            use_dictionary=few_valued(columns),
            store_schema=False,
            write_page_checksum=True,
        ) as writer:
            writer.write_table(table, row_group_size=ROWS_PER_GROUP)
            writer.add_key_value_metadata(text)
        file.flush()
        os.fsync(file.fileno())
    return partial


@contextlib.contextmanager
def _worded(place: Path, state: str = "nothing was replaced") -> Iterator[None]:
    """Turn a failed write into one line."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error).splitlines()[0]
        raise LutError(
            f"{place} could not be written: {reason}; {state}; free space or give a path on another disk"
        ) from error
