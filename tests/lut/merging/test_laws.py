"""Merging is associative, commutative and idempotent, in rows, visits and metadata."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hwprof.lut import load_lut, write_lut
from hwprof.lut.merging import merge

FEW = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
CHOSEN = ("newest", "most-precise")
# Which op, in which environment, in which of four measurements; the same choice twice is the same row.
row = st.tuples(st.integers(0, 3), st.booleans(), st.integers(0, 3))
table = st.fixed_dictionaries({
    "rows": st.lists(row, min_size=1, max_size=5, unique_by=lambda each: each[:2]),
    "visits": st.booleans(),
    "licence": st.sampled_from([None, "CC-BY-4.0", "MIT", "MIT OR Apache-2.0"]),
    "composition": st.integers(0, 3),
    "conditions": st.sampled_from(["", "2026-11-21T08:00:00", "2026-11-22T08:00:00"]),
})  # fmt: skip
KEPT = (
    "spaces", "environments", "composition", "validation", "licence", "merged", "content_hash",
    "visits_hash",
)  # fmt: skip


def measured(make: Any, op: int, there: bool, version: int) -> dict[str, Any]:
    made = make.row(make.ops[op], None if version == 3 else 1.0 + version / 8)
    made |= {"environment_id": make.there if there else make.here}
    if version == 1:
        made |= {"latency_high_ms": 1.126}
    if version == 2:
        made |= {"started_at": made["started_at"] + timedelta(hours=1)}
    return made


def write(make: Any, folder: Path, name: str, drawn: dict[str, Any]) -> Path:
    rows = [measured(make, *each) for each in drawn["rows"]]
    fitted = {
        "scope": {"environment_id": make.here, "space": "tiny", "statistic": "floor"}, "model": "sum",
        "fitted_at": f"2026-11-2{drawn['composition']}", "error": 0.01, "networks": [],
    }  # fmt: skip
    environments = {
        key: {**facts, "conditions": {"time": drawn["conditions"]}}
        for key, facts in make.metadata["environments"].items()
    }
    metadata = {
        **make.metadata,
        "environments": environments,
        "licence": drawn["licence"],
        "composition": [fitted] if drawn["composition"] else None,
    }
    visits = [v for each in rows if each["latency_ms"] for v in make.visits(each)]
    path = folder / f"{name}.parquet"
    write_lut(path, rows, metadata=metadata, visits=visits if drawn["visits"] else None)
    return path


def content(path: Path) -> dict[str, Any]:
    return {name: load_lut(path).metadata[name] for name in KEPT}


@pytest.mark.parametrize("rule", CHOSEN)
@FEW
@given(drawn=st.lists(table, min_size=3, max_size=3))
def test_the_order_of_merging_does_not_show(make, tmp_path_factory, rule, drawn):
    folder = tmp_path_factory.mktemp("laws")
    a, b, c = (write(make, folder, name, each) for name, each in zip("abc", drawn, strict=True))

    def merged(name: str, *paths: Path) -> Path:
        return merge(paths, folder / f"{name}.parquet", rule).out

    at_once = content(merged("abc", a, b, c))
    assert content(merged("cba", c, b, a)) == at_once
    assert content(merged("ab_c", merged("ab", a, b), c)) == at_once
    assert content(merged("a_bc", a, merged("bc", b, c))) == at_once
    assert content(merged("again", folder / "abc.parquet", folder / "abc.parquet", b)) == at_once


@FEW
@given(drawn=table)
def test_a_table_merged_with_itself_is_itself(make, tmp_path_factory, drawn):
    folder = tmp_path_factory.mktemp("self")
    a = write(make, folder, "a", drawn)
    once = merge([a], folder / "once.parquet")
    twice = merge([a, a], folder / "twice.parquet")
    assert content(twice.out) == content(once.out)
    assert twice.same == len(drawn["rows"])
    assert twice.conflicts == 0
    stored = load_lut(a).table.to_pylist()
    assert [each | {"origin": None} for each in load_lut(once.out).table.to_pylist()] == stored


@pytest.mark.parametrize("rule", CHOSEN)
@FEW
@given(drawn=st.lists(table, min_size=1, max_size=4))
def test_the_best_row_of_each_key_stays(make, tmp_path_factory, rule, drawn):
    folder = tmp_path_factory.mktemp("best")
    paths = [write(make, folder, str(i), each) for i, each in enumerate(drawn)]
    better = {"newest": [3, 0, 1, 2], "most-precise": [3, 0, 2, 1]}[rule]
    best: dict[tuple[int, bool], int] = {}
    for op, there, version in (each for one in drawn for each in one["rows"]):
        best[op, there] = max(best.get((op, there), version), version, key=better.index)
    merged = merge(paths, folder / "out.parquet", rule)
    found = {
        (each["op_id"], each["environment_id"]): each["latency_ms"]
        for each in load_lut(merged.out).table.to_pylist()
    }
    assert found == {
        (make.ops[op].op_id, make.there if there else make.here): (
            None if version == 3 else 1.0 + version / 8
        )
        for (op, there), version in best.items()
    }
    differing = {
        key: {v for one in drawn for op, there, v in one["rows"] if (op, there) == key} for key in best
    }
    assert merged.conflicts == sum(len(versions) > 1 for versions in differing.values())
