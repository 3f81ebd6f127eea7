"""Flattening an op, and what a row may not say."""

from __future__ import annotations

import pytest

from hwprof.errors import LutError
from hwprof.graph import cost
from hwprof.lut import COLUMNS, check_row, null_row, op_columns, rows_to_table
from hwprof.ops import OpSpec, fc, head, mbconv, mixconv, pool, skip


def test_a_block_is_flattened_into_typed_columns():
    op = mixconv((2, 16, 14, 12), 24, mix={3: 64, 5: 32}, stride=2, activation="hswish", se_ratio=0.25)
    flat = op_columns(op)
    assert OpSpec.from_json(flat["op_json"]) == op
    assert flat["op_id"] == op.op_id
    assert (flat["batch"], flat["in_channels"], flat["height"], flat["width"]) == (2, 16, 14, 12)
    assert (flat["out_channels"], flat["out_height"], flat["out_width"]) == (24, 7, 6)
    assert (flat["kernel_mix"], flat["kernel_min"], flat["kernel_max"]) == ("3:64,5:32", 3, 5)
    assert (flat["hidden_channels"], flat["expansion"]) == (96, 6.0)
    assert (flat["se_channels"], flat["se_ratio"], flat["residual"]) == (4, 0.25, False)
    analytic = cost(op.lower())
    assert (flat["flops"], flat["parameters"], flat["bytes_moved"]) == (
        analytic.flops,
        analytic.parameters,
        analytic.bytes_moved,
    )


def test_what_an_op_does_not_have_is_null_and_not_zero():
    flat = op_columns(fc((1, 96), 10))
    missing = (
        "height",
        "width",
        "out_height",
        "out_width",
        "kernel_mix",
        "kernel_min",
        "expansion",
        "pool",
    )
    assert [flat[name] for name in missing] == [None] * len(missing)
    assert op_columns(head((1, 24, 8, 8), 10))["out_height"] is None
    assert op_columns(skip((1, 8, 4, 4)))["hidden_channels"] is None
    assert op_columns(pool((1, 8, 4, 4), "global_avg"))["pool"] == "global_avg"


def test_op_columns_are_columns_of_the_schema(make):
    for op in make.ops:
        assert set(op_columns(op)) < {column.name for column in COLUMNS}


def test_measured_and_failed_rows_are_accepted(make):
    check_row(make.row(make.ops[0]))
    check_row(make.row(make.ops[0], None))
    check_row(make.row(make.ops[0], state="unstable", reason="no agreement"))
    no_spread = {"latency_low_ms": None, "latency_high_ms": None, "visits": None, "p50_ms": None}
    check_row(make.row(make.ops[0], state="imported", source="imported", **no_spread))


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("column", ["latency_ms", "latency_low_ms", "p50_ms", "p99_ms", "energy_mj"])
def test_a_number_that_is_no_measurement_is_refused(make, column, value):
    with pytest.raises(LutError, match=f"{column} is .*; allowed"):
        check_row(make.row(make.ops[0]) | {column: value})


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"op_id": "ABC"}, "op_id"),
        ({"op_id": "g" * 20}, "op_id"),
        ({"granularity": "block"}, "granularity is 'block'"),
        ({"cache": "cold"}, "cache is 'cold'"),
        ({"state": "ok"}, "state is 'ok'"),
        ({"state": None}, "state is None"),
        ({"source": "guessed"}, "source"),
        ({"backend": None}, "backend is None"),
        ({"latency_ms": None}, "latency_ms is None"),
        ({"latency_low_ms": 2.0}, "latency_high_ms"),
        ({"latency_low_ms": None}, "latency_high_ms"),
        ({"energy_reason": None}, "energy_reason"),
        ({"energy_mj": 1.0}, "energy_reason"),
        ({"flops": -1}, "flops is -1"),
        ({"compile_ms": -0.5}, "compile_ms is -0.5"),
        ({"state": "failed", "reason": "x"}, "latency_ms is 1.0"),
    ],
)
def test_a_contradictory_row_is_refused_by_the_name_of_its_column(make, changes, named):
    with pytest.raises(LutError, match=named) as caught:
        check_row(make.row(make.ops[0]) | changes)
    assert make.ops[0].label in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_failed_row_needs_its_reason(make):
    with pytest.raises(LutError, match="reason is None"):
        check_row(make.row(make.ops[0], None, reason=None))


def test_unknown_and_missing_columns_are_refused(make):
    row = make.row(make.ops[0])
    with pytest.raises(LutError, match="unknown column 'latency_us'"):
        rows_to_table([{**row, "latency_us": 1.0}])
    del row["state"], row["dtype"]
    with pytest.raises(LutError, match="lacks the columns dtype, state"):
        rows_to_table([row])


@pytest.mark.parametrize(
    ("column", "value"),
    [("latency_ms", "fast"), ("threads", 1.5), ("flops", 2**70), ("started_at", "now")],
)
def test_a_value_of_another_type_is_refused(make, column, value):
    with pytest.raises(LutError, match=f"column {column} takes"):
        rows_to_table([make.row(make.ops[0]) | {column: value}])


def test_null_row_has_every_column():
    assert list(null_row()) == [column.name for column in COLUMNS]


def test_a_block_without_expansion_is_a_valid_row(make):
    op = mbconv((1, 8, 8, 8), 8, kernel=3, expansion=1)
    check_row(make.row(op))
