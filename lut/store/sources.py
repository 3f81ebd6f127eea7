"""What a store's sources say of its rows: each source is to a pull what a table is to a merge."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from hwprof.lut.content import content_hash
from hwprof.lut.merging.metadata import check_identities, merge_facts, merge_metadata, origin_of
from hwprof.lut.rows import conform
from hwprof.lut.schema import COLUMNS, ORDER
from hwprof.lut.store.resolve import NAMES, resolve
from hwprof.lut.write import GIVEN

Facts = Mapping[str, Any]


def as_tables(stored: pa.Table, sources: Mapping[str, Facts]) -> dict[str, Facts]:
    """What the table of each source says of itself, as `hwprof lut merge` wants it.

    Rows that were appended without a table are taken for one: its hash is that of the table that a
    store of these rows alone would give, and it is as old as the first of them.

    Raises:
        LutError: one environment id stands for two identities, or rows are not those of a table.
    """
    tables: dict[str, Facts] = {
        key: {**source, **_own(stored, key, source)} for key, source in sorted(sources.items())
    }
    check_identities([(Path(table["name"] or key), table) for key, table in tables.items()])
    return tables


def with_origins(stored: pa.Table, tables: Mapping[str, Facts]) -> pa.Table:
    """The rows; those that have no origin get that of their source's table."""
    keys = list(tables)
    origins = pa.array([origin_of(tables[key]) for key in keys], pa.string())
    place = pc.index_in(stored.column("source_id"), pa.array(keys, pa.string()))
    filled = pc.coalesce(stored.column("origin"), origins.take(place.combine_chunks()))
    return stored.set_column(stored.column_names.index("origin"), "origin", filled)


def metadata_of(rows: pa.Table, tables: Mapping[str, Facts]) -> dict[str, Any]:
    """What `hwprof lut merge` says of a table of these rows, merged of these tables."""
    return merge_metadata(list(tables.values()), set(rows.column("origin").unique().to_pylist()))


def metadata_of_one(sources: Mapping[str, Facts]) -> dict[str, Any]:
    """What the only source says of itself; of a store without rows, nothing."""
    for source in sources.values():
        return {key: source[key] for key in GIVEN}
    return merge_facts([])


def _own(stored: pa.Table, key: str, source: Facts) -> Facts:
    """Hash, time and version of a source's table."""
    if source["table"] is not None:
        told: Facts = source["table"]
        return told
    rows = stored.filter(pc.equal(stored.column("source_id"), key))
    kept = conform(resolve(rows, "newest").rows.select(NAMES), COLUMNS)
    return {
        "content_hash": content_hash(kept.sort_by([(name, "ascending") for name in ORDER])),
        "created_at": pc.min(rows.column("pushed_at")).as_py().isoformat(timespec="seconds"),
        "hwprof_version": pc.max(rows.column("hwprof_version")).as_py(),
    }
