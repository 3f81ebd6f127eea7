"""A store's rows as a table, now or as they were."""

from __future__ import annotations

import hashlib
import json
import secrets
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from hwprof.errors import LutError
from hwprof.lut.guard.columns import FIRST_MS, LAST_MS
from hwprof.lut.places.cache import cache_folder, file_sha256, keep_table, remember, told_offline
from hwprof.lut.places.place import shown_url
from hwprof.lut.reading import visits_path_of
from hwprof.lut.schema import KEY
from hwprof.lut.store.copies import Copy, kept_copy, note_copy
from hwprof.lut.store.resolve import resolve, visits_of
from hwprof.lut.store.sources import as_tables, metadata_of, metadata_of_one, with_origins
from hwprof.lut.store.store import ROWS, Store
from hwprof.lut.write import write_lut

if TYPE_CHECKING:
    from deltalake import DeltaTable

OWN = ["batch_id", "source_id", "pushed_at"]
LOOKED_UP = "newest"
"""The rule of the copy that commands take which are given a store as their table."""


def store_to_cache(
    text: str,
    *,
    offline: bool = False,
    version: int | None = None,
    as_of: datetime | None = None,
    on_conflict: str = LOOKED_UP,
) -> Path:
    """The kept copy of a store's table, made if need be.

    Args:
        text: the store's path or URL, with `delta+` before it or not.
        offline: touch no network: take the last copy that was made by the same rule.
        version: the rows of this version of `rows`; None: all.
        as_of: the rows that were there at this time.
        on_conflict: which row is taken where rows of a key differ; see `resolve`.

    Rows of several sources are merged as `hwprof lut merge` does it, those of one stand as they came.
    Where rows were left out, a note on the log says how many, also of a copy that was kept.

    Raises:
        LutError: there is no store, version or undamaged copy; a version or time is asked for offline;
            rows of a key differ and `on_conflict` is `refuse`; one environment id stands for two
            identities; the rows are not those of a table or take more memory than they may.
    """
    if version is not None and as_of is not None:
        raise LutError("--version and --as-of are two ways to say one thing; give one")
    store = Store(text)
    asked = f"{on_conflict} of {text}"
    if (offline or told_offline()) and not store.is_local:
        last = _last_copy(asked, shown_url(text), version is not None or as_of is not None)
        last.tell(on_conflict)
        return last.path
    rows = store.rows.at(version, as_of)
    # Opened after the rows: what belongs to a batch is there before its rows are, and stays.
    visits = store.visits.refresh() if store.visits.exists() else None
    sources = store.sources.refresh()
    # Not the place: another store may stand there another time, or from another folder.
    others = [None if part is None else part.metadata().id for part in (visits, sources)]
    parts = [store.rows.contents(rows), *others]
    key = f"store {hashlib.sha256(json.dumps(parts).encode()).hexdigest()} {on_conflict}"
    copy = kept_copy(key)
    if copy is None:
        copy = _write(store, store.rows.query("SELECT * FROM delta", rows), visits, on_conflict)
        note_copy(key, copy)
    if version is None and as_of is None and not store.is_local:
        note_copy(asked, copy)
        if on_conflict == LOOKED_UP:
            remember(text, copy.path.parent.name, str(rows.version()))
    copy.tell(on_conflict)
    return copy.path


def _last_copy(asked: str, place: str, of_a_time: bool) -> Copy:
    """The last copy of a store that is not asked."""
    if of_a_time:
        raise LutError(
            f"--version and --as-of must ask {place}; leave them out, or run the command again without "
            "--offline"
        )
    copy = kept_copy(asked)
    if copy is None:
        raise LutError(f"{place} is not in the cache; run the command again without --offline")
    return copy


def _write(store: Store, stored: pa.Table, visited: DeltaTable | None, on_conflict: str) -> Copy:
    """Write the rows of a version into the cache."""
    _check_own(store, stored)
    sources = store.told(stored.column("source_id").unique().to_pylist())
    # The rows of one source alone are its table; of several they are merged.
    tables = as_tables(stored, sources) if len(sources) > 1 else {}
    resolved = resolve(with_origins(stored, tables) if tables else stored, on_conflict)
    metadata = metadata_of(resolved.rows, tables) if tables else metadata_of_one(sources)
    visits = None
    if visited is not None:
        visits = visits_of(resolved, store.visits.query("SELECT * FROM delta", visited))
    path = cache_folder() / "partial" / f"{secrets.token_hex(16)}.parquet"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_lut(path, resolved.rows.drop_columns(OWN), metadata=metadata, visits=visits)
        made = None if visits is None else visits_path_of(path)
        kept = keep_table(store.shown, file_sha256(path), path, made)
        return Copy(kept, resolved.repeated, resolved.replaced)
    finally:
        path.unlink(missing_ok=True)
        visits_path_of(path).unlink(missing_ok=True)


def _check_own(store: Store, stored: pa.Table) -> None:
    """Check what a table is made by, before it is.

    Raises:
        LutError: a key or one of the store's own columns is null, or a time is not of our calendar.
    """
    for name in (*OWN, *KEY):
        if stored.column(name).null_count:
            raise LutError(f"store {store.shown} has rows without {name}; another tool wrote them")
    for field in ROWS:
        if pa.types.is_timestamp(field.type):
            times = pc.cast(stored.column(field.name), pa.int64())
            first, last = pc.min_max(times).values()
            if first.is_valid and not 1000 * FIRST_MS <= first.as_py() <= last.as_py() <= 1000 * LAST_MS:
                raise LutError(
                    f"store {store.shown} has rows with {field.name} before year 1 or after 9999; "
                    "another tool wrote them"
                )
