"""A store read without hwprof: by Delta's published protocol, and with Polars."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hwprof.lut.store import Store, push_to_store

pytestmark = pytest.mark.usefixtures("home")


def replayed(folder: Path) -> pa.Table:
    """A Delta table read by its published protocol, with nothing but JSON and Parquet."""
    live: set[str] = set()
    for path in sorted((folder / "_delta_log").glob("*.json")):
        for line in path.read_text().splitlines():
            action = json.loads(line)
            if "add" in action:
                live.add(action["add"]["path"])
            elif "remove" in action:
                live.discard(action["remove"]["path"])
    return pa.concat_tables(pq.read_table(folder / path) for path in sorted(live))


def test_polars_reads_a_store(folder, lut):
    polars = pytest.importorskip("polars")
    push_to_store(str(lut.path), folder)
    place = folder.removeprefix("delta+")
    rows = polars.scan_delta(f"{place}/rows", version=1).select("op_id", "latency_ms").collect()
    assert sorted(rows.rows()) == sorted(
        zip(*lut.table.select(["op_id", "latency_ms"]).to_pydict().values(), strict=True)
    )
    visits = polars.scan_delta(f"{place}/visits").select(polars.len()).collect()
    assert visits.item() == lut.visits.num_rows


def test_other_readers_need_no_feature_beyond_the_first_protocol(folder, lut, make):
    store = Store(folder)
    push_to_store(str(lut.path), folder)
    for number in range(3):
        store.append([make.row(op, 2.0) for op in make.ops], make.metadata, writer="w", sequence=number)
    store.compact()
    root = Path(folder.removeprefix("delta+"))
    for part in ("rows", "visits", "sources"):
        protocols = [
            json.loads(line)["protocol"]
            for path in (root / part / "_delta_log").glob("*.json")
            for line in path.read_text().splitlines()
            if "protocol" in json.loads(line)
        ]
        assert protocols == [{"minReaderVersion": 1, "minWriterVersion": 2}]
    rows = replayed(root / "rows")
    assert rows.num_rows == len(lut) + 3 * len(make.ops)
    assert Counter(rows["batch_id"].to_pylist())["w/1"] == len(make.ops)
    types = {str(field.type) for field in rows.schema}
    assert types <= {"string", "int32", "int64", "float", "double", "bool", "timestamp[us, tz=UTC]"}
