"""A store's rows as a table, now or as they were."""

from __future__ import annotations

import logging
import secrets
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from hwprof.errors import LutError
from hwprof.lut.merging.metadata import merge_facts
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
from hwprof.lut.store.store import Store
from hwprof.lut.write import GIVEN, write_lut

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

    Where rows were left out, a note on the log says how many.

    Raises:
        LutError: there is no store, version or copy; rows of a key differ and `on_conflict` is
            `refuse`; or the rows are not those of a table.
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
    at = store.rows.at(version, as_of)
    key = f"{text}@{at.version()} {on_conflict}"
    made = latest(key)
    path = None if made is None else cached_table(made.sha256)
    if path is None:
        path = _write(store, store.rows.query("SELECT * FROM delta", at), on_conflict)
        remember(key, file_sha256(path), None)
    if version is None and as_of is None:
        remember(text, path.parent.name, str(at.version()))
    return path


def _write(store: Store, stored: pa.Table, on_conflict: str) -> Path:
    """Write the rows of a version into the cache."""
    resolved = resolve(stored, on_conflict)
    log = logging.getLogger(__name__)
    if resolved.repeated:
        log.warning("%d rows had been appended more than once", resolved.repeated)
    if resolved.replaced:
        log.warning("%d rows were left out by the rule %s", resolved.replaced, on_conflict)
    metadata = _metadata(store, resolved.rows)
    visits = None
    if store.visits.exists():
        visits = visits_of(resolved.rows, store.visits.query("SELECT * FROM delta"))
    path = cache_folder() / "partial" / f"{secrets.token_hex(16)}.parquet"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_lut(path, resolved.rows.drop_columns(OWN), metadata=metadata, visits=visits)
        made = None if visits is None else visits_path_of(path)
        return keep_table(store.place, file_sha256(path), path, made)
    finally:
        path.unlink(missing_ok=True)
        visits_path_of(path).unlink(missing_ok=True)


def _metadata(store: Store, rows: pa.Table) -> dict[str, Any]:
    """What the tables that the rows came in say of themselves, as `hwprof lut merge` puts it together;
    what it does not, title and authors, if all tables say the same."""
    used = set(rows.column("source_id").unique().to_pylist())
    sources = store.told()
    if lost := sorted(used - sources.keys()):
        raise LutError(f"store {store.place} has rows of source {lost[0]}, which it does not describe")
    told = [source for key, source in sources.items() if key in used]
    facts = merge_facts(told)
    for key in set(GIVEN) - facts.keys():
        if told and all(source[key] == told[0][key] for source in told):
            facts[key] = told[0][key]
    return facts
