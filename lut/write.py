"""Writing a table: it appears under its name only when whole."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from hwprof.environment import Environment
from hwprof.errors import LutError
from hwprof.lut.files import Stamp, stamp_of
from hwprof.lut.guard.text import ARROW_CONTROLS
from hwprof.lut.partial import PartialFile, put_in_place
from hwprof.lut.reading import open_table, open_visits, visits_path_of
from hwprof.lut.rows import check_table, check_visits, conform, rows_to_table
from hwprof.lut.schema import COLUMNS, KEY, METADATA, ORDER, VISIT_COLUMNS, VISITS_ORDER, Column
from hwprof.lut.table import load_lut
from hwprof.stats import INTERVAL_LEVEL
from hwprof.text import shown

GIVEN = (
    "spaces", "environments", "composition", "validation", "licence", "title", "authors", "merged",
)  # fmt: skip

Rows: TypeAlias = pa.Table | Iterable[Mapping[str, Any]]


def write_lut(
    path: str | os.PathLike[str],
    rows: Rows,
    *,
    metadata: Mapping[str, Any],
    visits: Rows | None = None,
    expected: Stamp | Literal["anything"] = "anything",
) -> None:
    """Write a table, and its visits beside it, whole or not at all.

    Both files are written and synced under temporary names in the same folder and then renamed, the
    visits first. Whatever fails before that leaves the files that were there as they are; between
    the two renames the old table stands beside the new visits, which `Lut.visits` reports.

    Args:
        path: where the table goes; an existing hwprof table is replaced.
        rows: rows with exactly the columns of schema 1, in any order; sorted when written. Control
            characters, such as a runtime's message may hold, become U+FFFD.
        metadata: `spaces` and `environments` (environment_id -> {identity, conditions}, for at least
            the environments of the rows), and if there are any `composition`, `validation` and
            `licence`. The keys that hwprof computes may be there and are computed anew.
        visits: rows of the visits file; None leaves an existing visits file as it is, unused.
        expected: what `stamp_of` said of the table that is replaced when it was read; None: there was
            none.

    Raises:
        LutError: a bad row, a key twice, an unknown metadata key, an environment not described,
            `path` cannot be written (see `check_destination`), or the table there is not the
            `expected` one: another process wrote it.
    """
    target = check_destination(path)
    table = _sorted(_printable(_to_table(rows, COLUMNS)), ORDER)
    check_table(table)
    _check_unique(table)
    known = given_metadata(metadata, set(table.column("environment_id").unique().to_pylist()))
    with contextlib.ExitStack() as files:
        parts = []
        visits_hash = None
        if visits is not None:
            visit_table = _sorted(_to_table(visits, VISIT_COLUMNS), VISITS_ORDER)
            check_visits(visit_table, table)
            part = files.enter_context(PartialFile(visits_path_of(target), "visits"))
            part.append(visit_table)
            part.seal({})
            parts.append(part)
            visits_hash = part.content_hash
        part = files.enter_context(PartialFile(target, "table"))
        part.append(table)
        part.seal({**known, "visits_hash": visits_hash})
        put_in_place([*parts, part], expected)


def update_metadata(path: str | os.PathLike[str], **changes: Any) -> None:
    """Write a table anew with other `composition`, `validation` or `licence`; rows and visits stay.

    Raises:
        LutError: as `write_lut`; the table or its visits cannot be read, or another process writes it
            meanwhile.
    """
    before = stamp_of(Path(path).resolve())
    lut = load_lut(path)
    visits = lut.visits if lut.metadata["visits_hash"] is not None else None
    write_lut(path, lut.table, metadata={**lut.metadata, **changes}, visits=visits, expected=before)


def check_destination(path: str | os.PathLike[str]) -> Path:
    """The real path (links followed) that a table can be written to; called before a long build.

    Raises:
        LutError: the folder is missing or read-only, or what stands there is a folder or no hwprof
            table: such a file is never overwritten.
    """
    target = Path(path).resolve()
    try:
        target.stat()
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            raise LutError(f"{target} cannot be written: {error.strerror}; give another path") from None
    if not os.path.isdir(target.parent):
        raise LutError(f"folder {target.parent} does not exist; create it or give another path")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise LutError(f"folder {target.parent} is read-only; give a path in a folder you can write to")
    places = ((target, open_table), (visits_path_of(target), open_visits))
    for place, check in places:
        if os.path.isdir(place):
            raise LutError(f"{place} is a folder; give a file name such as {place / 'lut.parquet'}")
        if os.path.exists(place):
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


def _sorted(table: pa.Table, names: Sequence[str]) -> pa.Table:
    return table.sort_by([(name, "ascending") for name in names])


def _check_unique(table: pa.Table) -> None:
    keys = table.select([*KEY, "label"])
    if keys.group_by(list(KEY)).aggregate([]).num_rows == table.num_rows:
        return
    keys = _sorted(keys, KEY)
    same = pa.array([True] * (keys.num_rows - 1))
    for name in KEY:
        column = keys.column(name).combine_chunks()
        same = pc.and_(same, pc.equal(column[1:], column[:-1]))
    row = keys.slice(pc.index(same, True).as_py(), 1).to_pylist()[0]
    key = ", ".join(f"{name} {row[name]}" for name in KEY)
    raise LutError(f"two rows have the key {key} ({row['label']}); keep one of them")


def given_metadata(metadata: Mapping[str, Any], environments: set[str]) -> dict[str, Any]:
    """The metadata that a writer is given, each with a value, checked for rows of `environments`.

    Raises:
        LutError: an unknown key, a missing one, or an environment that is not described.
    """
    if unknown := [key for key in metadata if key not in METADATA]:
        raise LutError(f"unknown metadata {', '.join(unknown)}; known: {', '.join(METADATA)}")
    if missing := [key for key in ("spaces", "environments") if key not in metadata]:
        raise LutError(f"metadata {' and '.join(missing)} must be given")
    for facts in metadata["environments"].values():
        Environment.from_dict(facts)
    if metadata.get("interval_level", INTERVAL_LEVEL) != INTERVAL_LEVEL:
        raise LutError(
            f"metadata interval_level is {metadata['interval_level']}, hwprof writes {INTERVAL_LEVEL}: "
            "the table can be read, not written anew"
        )
    if strangers := sorted(environments - set(metadata["environments"])):
        raise LutError(f"metadata environments does not describe {shown(strangers[0])}, which has rows")
    return {key: metadata.get(key) for key in GIVEN}
