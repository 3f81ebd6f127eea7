"""Rules on single rows: impossible values, contradictions, wrong ids, duplicates."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hwprof.lut import load_lut
from hwprof.lut.lint import lint
from hwprof.lut.lint.values import op_id_of


def of_rule(findings, rule):
    return [finding for finding in findings if finding.rule == rule]


@pytest.mark.parametrize("value", [0.0, -1.5, float("nan"), float("inf")])
@pytest.mark.parametrize("column", ["latency_ms", "p50_ms", "latency_low_ms", "compile_ms"])
def test_a_time_that_nothing_takes_is_an_error(found, s3nas, column, value):
    s3nas[7][column] = value
    wrong = of_rule(found(s3nas), "values")
    if column == "compile_ms" and value == 0.0:
        assert wrong == []  # a cached compilation takes no time
        return
    assert [(finding.severity, finding.row_ids) for finding in wrong] == [
        ("error", (s3nas[7]["op_id"],))
    ]
    assert f"{column} is" in wrong[0].message
    assert s3nas[7]["label"] in wrong[0].message


def test_many_rows_of_one_fault_are_one_finding_with_all_ids(found, s3nas):
    for row in s3nas[:9]:
        row["latency_ms"] = -row["latency_ms"]
    (finding,) = of_rule(found(s3nas), "values")
    assert set(finding.row_ids) == {row["op_id"] for row in s3nas[:9]}
    assert "in 9 rows" in finding.message
    assert "and 6 more" in finding.message


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"latency_ms": None}, "latency_ms is null in state"),
        ({"state": "failed", "reason": "x"}, "latency_ms is set in state"),
        ({"state": "good"}, "state is none of converged"),
        ({"cache": "cold"}, "cache is none of warm"),
        ({"dtype": None}, "dtype is null"),
        ({"flops": -1}, "flops is negative"),
    ],
)
def test_a_row_that_the_schema_does_not_allow_is_an_error(found, s3nas, changes, said):
    s3nas[2] |= changes
    assert said in of_rule(found(s3nas), "values")[0].message


def test_a_failed_row_without_numbers_is_as_it_should_be(found, make, s3nas):
    s3nas[2] = make.row(make.ops[0], None, space=None)
    assert of_rule(found(s3nas), "values") == []


def test_a_table_of_another_tool_is_read_from_its_file(save, make, tmp_path):
    lut = save([make.row(op, 1.0 + i) for i, op in enumerate(make.ops)])
    content = pq.read_table(lut.path)
    bad = pa.array([-1.0, *content.column("latency_ms").to_pylist()[1:]])
    at = content.schema.get_field_index("latency_ms")
    path = tmp_path / "bad.parquet"
    pq.write_table(content.set_column(at, content.schema.field(at), bad), path)
    (finding,) = of_rule(lint(load_lut(path)), "values")
    assert "latency_ms is zero or negative in 1 row (first: -1.0)" in finding.message


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"p50_ms": 9.0, "p90_ms": 8.0, "p99_ms": 10.0}, "p50_ms is above p90_ms"),
        ({"latency_low_ms": 30.0, "latency_high_ms": 40.0}, "latency_low_ms is above latency_ms"),
        ({"latency_low_ms": 1e-3, "latency_high_ms": 2e-3}, "latency_ms is above latency_high_ms"),
    ],
)
def test_statistics_out_of_order_are_an_error(found, s3nas, changes, said):
    s3nas[4] |= changes
    assert said in " ".join(finding.message for finding in of_rule(found(s3nas), "order"))


def test_an_imported_row_without_spread_is_not_out_of_order(found, s3nas):
    spread = [name for name in s3nas[0] if name.endswith("_ms") and name != "latency_ms"]
    s3nas[4] |= dict.fromkeys(spread) | {"state": "imported", "source": "imported"}
    assert found(s3nas) == []


def test_a_row_under_another_ops_id_is_an_error(found, s3nas):
    s3nas[5]["op_id"] = "0123456789abcdef0123"
    (finding,) = of_rule(found(s3nas), "identity")
    assert finding.row_ids == ("0123456789abcdef0123",)


def test_rows_of_an_environment_that_nothing_describes_are_an_error(found, s3nas, make):
    elsewhere = [row | {"environment_id": "lost"} for row in s3nas[:2]]
    (finding,) = of_rule(found([*s3nas[2:], *elsewhere]), "identity")
    assert set(finding.row_ids) == {row["op_id"] for row in elsewhere}


def test_one_key_twice_is_an_error(found, s3nas):
    again = s3nas[3] | {"latency_ms": s3nas[3]["latency_ms"] * 1.01}
    (finding,) = of_rule(found([*s3nas, again]), "duplicates")
    assert finding.row_ids == (s3nas[3]["op_id"],)
    assert "2 rows share op_id" in finding.message


def test_one_op_under_two_ids_is_an_error(found, s3nas):
    text = json.dumps(json.loads(s3nas[3]["op_json"]))  # with blanks: not the canonical text
    again = s3nas[3] | {"op_json": text, "op_id": op_id_of(text)}
    (finding,) = of_rule(found([*s3nas, again]), "duplicates")
    assert set(finding.row_ids) == {again["op_id"], s3nas[3]["op_id"]}


def test_one_op_in_another_environment_or_cache_state_is_no_duplicate(
    found, s3nas, measure, make, s3nas_ops
):
    evicted = measure(s3nas_ops, 1, 0.8, cache="evicted", space="s3nas")
    there = measure(s3nas_ops, 2, 0.9, environment_id=make.there, space="s3nas")
    environments = {
        make.here: make.metadata["environments"][make.here],
        make.there: {"identity": {"device": "cpu-b"}, "conditions": {}},
    }
    assert found([*s3nas, *evicted, *there], environments=environments) == []
