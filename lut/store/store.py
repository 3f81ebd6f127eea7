"""Store: a growing table of many writers, kept as Delta tables in one folder.

    rows/      the rows of every table that was pushed, with the batch and source that they came in
    visits/    their visits
    sources/   what the pushed tables say of themselves: name, environments, spaces, licence, fits

A batch is there once its rows are: its visits and source are appended before them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import unquote

import pyarrow as pa

from hwprof.errors import LutError
from hwprof.lut.content import content_hash
from hwprof.lut.guard.metadata import check_shape, parse
from hwprof.lut.merging.metadata import check_interval_level
from hwprof.lut.places.cache import told_offline
from hwprof.lut.places.local import STORE
from hwprof.lut.places.place import LOCAL, SCHEME, shown_url
from hwprof.lut.rows import check_table, check_visits, conform, rows_to_table
from hwprof.lut.schema import COLUMNS, KEY, VISIT_COLUMNS, VISITS_ORDER, Column, arrow_schema
from hwprof.lut.store.delta import Delta, import_deltalake
from hwprof.lut.write import GIVEN
from hwprof.text import shown

OBJECT_STORES = ("s3", "s3a", "gs", "az", "abfs", "abfss", "adl")
TABLE = ("content_hash", "created_at", "hwprof_version")
"""What a merge tells of a table that rows come from, beside what `write_lut` is given."""
HASH_DIGITS = 8
MICROSECONDS = pa.timestamp("us", tz="UTC")

Rows: TypeAlias = pa.Table | Iterable[Mapping[str, Any]]


@dataclass(frozen=True)
class Appended:
    """A batch that is in the store: its id (of what was sent), whether it is new there, the version of
    the rows, and how often a commit lost a race and was tried again."""

    batch_id: str
    new: bool
    version: int
    retries: int


class Store:
    """A store, made by the first append. Processes that append to one store at once must be spawned,
    not forked."""

    def __init__(self, place: str) -> None:
        """A store by the path or URL of its folder, with `delta+` before it or not.

        Raises:
            LutError: deltalake is not installed, or cannot write to such a place.
        """
        import_deltalake()
        self.place = place.removeprefix(STORE)
        self.shown = shown_url(self.place)
        folder, options = _folder(self.place)
        self.is_local = SCHEME.match(folder) is None
        keyed = [*KEY, "kind", "batch_id"]
        self.rows = Delta(f"{folder}/rows", ROWS, keyed, options)
        self.visits = Delta(f"{folder}/visits", VISITS, [*KEY, "batch_id"], options)
        self.sources = Delta(f"{folder}/sources", SOURCES, ["source_id"], options)
        self._known: set[str] = set()

    def append(
        self,
        rows: Rows,
        metadata: Mapping[str, Any],
        *,
        writer: str,
        sequence: int,
        visits: Rows | None = None,
        name: str = "",
        table: Mapping[str, Any] | None = None,
    ) -> Appended:
        """Append a batch of rows, all or none and once; it is acknowledged when this returns.

        Args:
            rows: rows with the columns of a table.
            metadata: as `write_lut` takes it; `environments` must describe those of the rows.
            writer: who appends; nobody else may use the name at the same time.
            sequence: number of the batch, upwards from 0; a writer that starts again goes on after
                `last_sequence`.
            visits: their visits.
            name: what the rows are a table of, for `hwprof lut list`.
            table: metadata of the table that the rows are all of, if they are one: what of it stands
                in `TABLE` is what a pull tells of their origin.

        Raises:
            LutError: a bad row, an environment that is not described, intervals of another level than
                this hwprof writes, the store cannot be written, or `HWPROF_OFFLINE` is set and it is
                not local.
        """
        self.refuse_offline()
        checked = _checked(rows, COLUMNS)
        check_table(checked)
        source_id, source = _source(metadata, checked, name, table)
        batch_id = f"{writer}/{sequence}"
        now = datetime.now(UTC)
        if visits is not None:
            visited = _checked(visits, VISIT_COLUMNS)
            check_visits(visited, checked)
            # A writer that was killed before its rows were there may send others under this number:
            # the hash keeps the visits that it has left from them.
            batch_id += f"/{_hash(visited)}"
            if not self.rows.has(writer, sequence):
                self._add_visits(_with(visited, batch_id=batch_id), batch_id, writer, sequence)
        self._add_source(source_id, source, now)
        stamped = _with(checked, batch_id=batch_id, source_id=source_id, pushed_at=now)
        done = self.rows.append(stamped, writer, sequence)
        return Appended(batch_id, done.new, done.version, done.retries)

    def refuse_offline(self) -> None:
        """Refuse to touch a network where that is not wanted.

        Raises:
            LutError: `HWPROF_OFFLINE` is set and the store is not local.
        """
        if told_offline() and not self.is_local:
            raise LutError(f"{self.shown} is not local and HWPROF_OFFLINE is set; unset it to go there")

    def last_sequence(self, writer: str) -> int | None:
        """Number of the last batch of a writer that is in the store; None if there is none.

        Raises:
            LutError: the store cannot be read.
        """
        return self.rows.last_sequence(writer)

    def told(self, used: Collection[str]) -> dict[str, dict[str, Any]]:
        """What sources say of themselves, by id: `name`, the metadata that `write_lut` is given, and
        `table`, which is None or holds `TABLE`.

        Args:
            used: ids that rows have.

        Raises:
            LutError: the store cannot be read, a source is not what it should be, or one that is used
                is not there.
        """
        table = self.sources.query("SELECT source_id, source, pushed_at FROM delta")
        rows = table.sort_by("pushed_at").drop_columns("pushed_at").to_pylist()
        sources = {row["source_id"]: self._parsed(row["source"]) for row in rows}
        if lost := sorted(map(str, set(used) - sources.keys())):
            raise LutError(
                f"store {self.shown} has rows of source {shown(lost[0])}, which it does not describe"
            )
        return {key: sources[key] for key in used}

    def _parsed(self, source: str) -> dict[str, Any]:
        try:
            told = parse(source.encode())
            if not isinstance(told, dict) or not isinstance(told.get("name"), str):
                raise ValueError("no object with a name")
            return {"name": told["name"], **_given(told), "table": _table_facts(told.get("table"))}
        except (AttributeError, ValueError) as error:
            raise LutError(f"store {self.shown} is damaged: a source in it is wrong: {error}") from None

    def compact(self, forget_days: int | None = None) -> dict[str, dict[str, int]]:
        """Rewrite small files into large ones; see `Delta.compact`.

        Returns:
            For rows, visits and sources: files merged, made and removed.

        Raises:
            LutError: there is no store, or it cannot be written.
        """
        self.refuse_offline()
        self.rows.table()
        parts = {"rows": self.rows, "visits": self.visits, "sources": self.sources}
        return {name: part.compact(forget_days) for name, part in parts.items() if part.exists()}

    def _add_visits(self, visits: pa.Table, batch_id: str, writer: str, sequence: int) -> None:
        """Append the visits of a batch whose rows are not there yet, unless they are there."""
        if not self.visits.has(writer, sequence):
            self.visits.append(visits, writer, sequence)
            return
        # Left by a try that ended before its rows were there: of this batch, or of another one.
        quoted = batch_id.replace("'", "''")
        left = self.visits.query(f"SELECT batch_id FROM delta WHERE batch_id = '{quoted}' LIMIT 1")
        if not left.num_rows:
            self.visits.append(visits, batch_id, 0)

    def _add_source(self, source_id: str, source: str, now: datetime) -> None:
        """Note what a batch's table says of itself. Its id is its hash: one writer each is enough."""
        if source_id in self._known:
            return
        row = {"source_id": source_id, "source": source, "pushed_at": now}
        self.sources.append(pa.Table.from_pylist([row], schema=SOURCES), source_id, 0)
        self._known.add(source_id)


def _stored(columns: tuple[Column, ...], *more: str) -> pa.Schema:
    """Columns as Delta can hold them (times in microseconds), and the store's own."""
    fields = [
        field.with_type(MICROSECONDS) if pa.types.is_timestamp(field.type) else field
        for field in arrow_schema(columns)
    ]
    kinds = {"pushed_at": MICROSECONDS}
    own = [pa.field(name, kinds.get(name, pa.string()), nullable=False) for name in more]
    return pa.schema([*fields, *own])


ROWS = _stored(COLUMNS, "batch_id", "source_id", "pushed_at")
VISITS = _stored(VISIT_COLUMNS, "batch_id")
SOURCES = _stored((), "source_id", "source", "pushed_at")


def _checked(rows: Rows, columns: tuple[Column, ...]) -> pa.Table:
    return conform(rows, columns) if isinstance(rows, pa.Table) else rows_to_table(rows, columns)


def _hash(visits: pa.Table) -> str:
    """The start of a hash of visits, whatever their order."""
    ordered = visits.sort_by([(name, "ascending") for name in VISITS_ORDER])
    return content_hash(ordered)[:HASH_DIGITS]


def _with(table: pa.Table, **values: Any) -> pa.Table:
    """The table with more columns, each of one value."""
    for name, value in values.items():
        kind = ROWS.field(name)
        table = table.append_column(kind, pa.repeat(pa.scalar(value, kind.type), table.num_rows))
    return table


def _source(
    metadata: Mapping[str, Any], rows: pa.Table, name: str, table: Mapping[str, Any] | None
) -> tuple[str, str]:
    """What a table says of itself as canonical JSON, and its hash."""
    for facts in (metadata, table or {}):
        if "interval_level" in facts:
            check_interval_level(name or "the batch", facts)
    try:
        told = {"name": name, **_given(metadata)}
        if table is not None:
            told["table"] = _table_facts(table)
    except ValueError as error:
        raise LutError(f"metadata of the batch: {error}") from None
    used = set(rows.column("environment_id").unique().to_pylist())
    if strangers := sorted(used - set(told["environments"])):
        raise LutError(f"metadata environments does not describe {', '.join(strangers)}, which has rows")
    source = json.dumps(told, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(source.encode()).hexdigest()[:32], source


def _given(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata that `write_lut` is given, null where absent.

    Raises:
        ValueError: one of them is not what it should be.
    """
    told = {key: metadata.get(key) for key in GIVEN}
    for key, value in told.items():
        check_shape(key, value)
    return told


def _table_facts(value: Any) -> dict[str, Any] | None:
    """What of a table's metadata stands in `TABLE`; None of None.

    Raises:
        ValueError: it is not what it should be.
    """
    if value is None:
        return None
    if not isinstance(value, Mapping) or not set(TABLE) <= value.keys():
        raise ValueError(f"no table with {', '.join(TABLE)}")
    for key in TABLE:
        check_shape(key, value[key])
    return {key: value[key] for key in TABLE}


def _folder(place: str) -> tuple[str, dict[str, str]]:
    """Where deltalake finds a place, and what it must be told to write there."""
    scheme = SCHEME.match(place)
    if scheme is None:
        return _taken_literally(str(Path(place).expanduser().absolute())), {}
    protocol = scheme[1].lower()
    if protocol in LOCAL:
        return _taken_literally(unquote(place[scheme.end() :].rstrip("/"))), {}
    if protocol not in OBJECT_STORES:
        allowed = ", ".join((*OBJECT_STORES, "file"))
        raise LutError(f"a store cannot be at {shown_url(place)}: give a path, or a URL of {allowed}")
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    options = {}
    if protocol in ("s3", "s3a") and endpoint:
        options = {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ALLOW_HTTP": str(endpoint.startswith("http:")).lower(),
        }
    return place.rstrip("/"), options


def _taken_literally(folder: str) -> str:
    """A local folder. deltalake decodes percent-encoding in some of what it does with a path, in URLs
    too, and so would write to one folder and read from another.

    Raises:
        LutError: it has some.
    """
    if (other := unquote(folder)) != folder:
        raise LutError(
            f"a store cannot be at {shown(folder)}: deltalake takes the % for {shown(other)}; give a "
            "path without %"
        )
    return folder
