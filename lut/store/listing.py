"""What is in a store."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from hwprof.environment import Environment
from hwprof.lut.store.store import Store
from hwprof.text import shown

BY_SOURCE = """
    SELECT source_id, count(*) AS rows, count(DISTINCT batch_id) AS batches, min(pushed_at) AS first,
        max(pushed_at) AS last
    FROM delta GROUP BY source_id ORDER BY max(pushed_at) DESC
"""
VERSIONS = 10
OPERATION_LENGTH = 40
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class StoreListing:
    """What a store holds: the version of its rows, how many they are in how many files, what they came
    in (newest first), and the last versions. A time is None where none, or none of our calendar, is
    told."""

    version: int
    rows: int
    files: int
    sources: tuple[dict[str, Any], ...]
    versions: tuple[dict[str, Any], ...]


def list_store(place: str) -> StoreListing:
    """What is in a store.

    Args:
        place: its path or URL, with `delta+` before it or not.

    Raises:
        LutError: there is no store, it cannot be read, or it does not describe a source of its rows.
    """
    store = Store(place)
    store.refuse_offline()
    rows = store.rows.refresh()
    found = _with_numbers(store.rows.query(BY_SOURCE, rows)).to_pylist()
    told = store.told([row["source_id"] for row in found])
    sources = tuple(
        {
            **row,
            "first": _iso(row["first"]),
            "last": _iso(row["last"]),
            **_said(told[row["source_id"]]),
        }
        for row in found
    )
    history = store.rows.history(rows, VERSIONS)
    return StoreListing(
        rows.version(),
        sum(source["rows"] for source in sources),
        len(rows.file_uris()),
        sources,
        tuple(
            {
                "version": entry["version"],
                "at": _iso(entry.get("timestamp"), 1000),
                "operation": shown(entry.get("operation") or "", OPERATION_LENGTH).lower(),
            }
            for entry in history
        ),
    )


def _said(source: dict[str, Any]) -> dict[str, Any]:
    environments = source["environments"].values()
    return {
        "name": source["name"],
        "environments": [Environment.from_dict(facts).describe() for facts in environments],
        "licence": source["licence"],
    }


def _with_numbers(table: pa.Table) -> pa.Table:
    """With times as microseconds: a stranger may tell years that Python's datetime does not have."""
    for name in ("first", "last"):
        place = table.column_names.index(name)
        table = table.set_column(place, name, table.column(name).cast(pa.int64()))
    return table


def _iso(time: Any, microseconds: int = 1) -> str | None:
    """A time in units of so many microseconds since 1970."""
    try:
        then = EPOCH + timedelta(microseconds=time * microseconds)
    except (TypeError, ValueError, OverflowError):
        return None
    return then.isoformat(timespec="seconds")
