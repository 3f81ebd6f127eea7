"""What is in a store."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from hwprof.environment import Environment
from hwprof.lut.store.store import Store

BY_SOURCE = """
    SELECT source_id, count(*) AS rows, count(DISTINCT batch_id) AS batches, min(pushed_at) AS first,
        max(pushed_at) AS last
    FROM delta GROUP BY source_id ORDER BY max(pushed_at) DESC
"""
VERSIONS = 10


@dataclass(frozen=True)
class StoreListing:
    """What a store holds: the version of its rows, how many they are in how many files, what they came
    in (newest first), and the last versions."""

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
    found = store.rows.query(BY_SOURCE, rows).to_pylist()
    told = store.told([row["source_id"] for row in found])
    sources = tuple(
        {**row, "first": _iso(row["first"]), "last": _iso(row["last"]), **_said(told[row["source_id"]])}
        for row in found
    )
    history = rows.history(VERSIONS)
    return StoreListing(
        rows.version(),
        sum(source["rows"] for source in sources),
        len(rows.file_uris()),
        sources,
        tuple(
            {
                "version": entry["version"],
                "at": _iso(datetime.fromtimestamp(entry["timestamp"] / 1000, UTC)),
                "operation": entry["operation"].lower(),
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


def _iso(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="seconds")
