"""A store's rows as a table, now or as they were."""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from hwprof.errors import LutError
from hwprof.lut.places.cache import (
    cache_folder,
    cached_table,
    file_sha256,
    keep_table,
    latest,
    remember,
    told_offline,
)
from hwprof.lut.places.place import shown_url
from hwprof.lut.reading import visits_path_of
from hwprof.lut.store.resolve import resolve, visits_of
from hwprof.lut.store.sources import as_tables, metadata_of, metadata_of_one, with_origins
from hwprof.lut.store.store import ROWS, Store
from hwprof.lut.write import write_lut

if TYPE_CHECKING:
    from deltalake import DeltaTable

OWN = ["batch_id", "source_id", "pushed_at"]


def store_to_cache(
    text: str,
    *,
    offline: bool = False,
    version: int | None = None,
    as_of: datetime | None = None,
    on_conflict: str = "newest",
) -> Path:
    """The kept copy of a store's table, made if need be.

    Args:
        text: the store's path or URL, with `delta+` before it or not.
        offline: touch no network: take the last copy that was made.
        version: the rows of this version of `rows`; None: all.
        as_of: the rows that were there at this time.
        on_conflict: which row is taken where rows of a key differ; see `resolve`.

    Rows of several sources are merged as `hwprof lut merge` does it, those of one stand as they came.
    Where rows were left out, a note on the log says how many.

    Raises:
        LutError: there is no store, version or copy; rows of a key differ and `on_conflict` is
            `refuse`; one environment id stands for two identities; the rows are not those of a table
            or take more memory than they may.
    """
    if version is not None and as_of is not None:
        raise LutError("--version and --as-of are two ways to say one thing; give one")
    store = Store(text)
    if (offline or told_offline()) and not store.is_local:
        known = latest(text)
        path = None if known is None else cached_table(known.sha256)
        if path is None:
            raise LutError(
                f"{shown_url(text)} is not in the cache; run the command again without --offline"
            )
        return path
    rows = store.rows.at(version, as_of)
    # Opened after the rows: what belongs to a batch is there before its rows are, and stays.
    visits = store.visits.refresh() if store.visits.exists() else None
    sources = store.sources.refresh()
    # Not the place: another store may stand there another time, or from another folder.
    others = [None if part is None else part.metadata().id for part in (visits, sources)]
    parts = [store.rows.contents(rows), *others]
    key = f"store {hashlib.sha256(json.dumps(parts).encode()).hexdigest()} {on_conflict}"
    made = latest(key)
    path = None if made is None else cached_table(made.sha256)
    if path is None:
        path = _write(store, store.rows.query("SELECT * FROM delta", rows), visits, on_conflict)
        remember(key, file_sha256(path), None)
    if version is None and as_of is None and not store.is_local:
        remember(text, path.parent.name, str(rows.version()))
    return path


def _write(store: Store, stored: pa.Table, visited: DeltaTable | None, on_conflict: str) -> Path:
    """Write the rows of a version into the cache."""
    _check_own(store, stored)
    sources = store.told(stored.column("source_id").unique().to_pylist())
    # The rows of one source alone are its table; of several they are merged.
    tables = as_tables(stored, sources) if len(sources) > 1 else {}
    resolved = resolve(with_origins(stored, tables) if tables else stored, on_conflict)
    log = logging.getLogger(__name__)
    if resolved.repeated:
        log.warning("%d rows had been appended more than once", resolved.repeated)
    if resolved.replaced:
        log.warning("%d rows were left out by the rule %s", resolved.replaced, on_conflict)
    metadata = metadata_of(resolved.rows, tables) if tables else metadata_of_one(sources)
    visits = None
    if visited is not None:
        visits = visits_of(resolved, store.visits.query("SELECT * FROM delta", visited))
    path = cache_folder() / "partial" / f"{secrets.token_hex(16)}.parquet"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_lut(path, resolved.rows.drop_columns(OWN), metadata=metadata, visits=visits)
        made = None if visits is None else visits_path_of(path)
        return keep_table(store.shown, file_sha256(path), path, made)
    finally:
        path.unlink(missing_ok=True)
        visits_path_of(path).unlink(missing_ok=True)


def _check_own(store: Store, stored: pa.Table) -> None:
    """Raises LutError where another tool has changed the store's own columns."""
    for field in ROWS:
        if field.name not in stored.column_names:
            raise LutError(f"store {store.shown} has no column {field.name}; another tool changed it")
        if field.name in OWN and stored.column(field.name).null_count:
            raise LutError(f"store {store.shown} has rows without {field.name}; another tool wrote them")
