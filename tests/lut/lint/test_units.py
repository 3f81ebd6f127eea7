"""Times in another unit, and times on a coarse grid."""

from __future__ import annotations

import pytest

from hwprof.ops import conv

TIMES = (
    "latency_ms",
    "latency_low_ms",
    "latency_high_ms",
    "min_ms",
    "p10_ms",
    "p50_ms",
    "p90_ms",
    "p99_ms",
)


def scaled(row, factor):
    return row | {name: row[name] * factor for name in TIMES}


def rounded(row, unit):
    """To the nearest multiple that is not zero; without an interval, as tables of others are."""
    value = max(1, round(row["latency_ms"] / unit)) * unit
    return row | {"latency_ms": value, "latency_low_ms": None, "latency_high_ms": None}


def messages(findings, rule):
    return [(finding.severity, finding.message) for finding in findings if finding.rule == rule]


@pytest.mark.parametrize(
    ("factor", "said"), [(1e-3, "10^3 times too small"), (1e-6, "10^6 times too small")]
)
def test_seconds_written_as_milliseconds_need_more_than_any_core_does(found, s3nas, factor, said):
    severity, message = messages(found([scaled(row, factor) for row in s3nas]), "units")[-1]
    assert severity == "error"
    assert said in message


@pytest.mark.parametrize("factor", [1e3, 1e6])
def test_microseconds_written_as_milliseconds_are_slower_than_any_core(found, s3nas, factor, make):
    desktop = {make.here: {"identity": {"architecture": "x86_64"}, "conditions": {}}}
    severities = messages(found([scaled(row, factor) for row in s3nas], environments=desktop), "units")
    assert any("too large" in message or "above an hour" in message for _, message in severities)


@pytest.mark.parametrize("factor", [1e3, 1e-3])
@pytest.mark.parametrize("count", [1, 40, 76])
def test_rows_of_another_unit_stand_apart_from_the_rest_of_their_table(found, s3nas, factor, count):
    rows = [scaled(row, factor) if i < count else row for i, row in enumerate(s3nas)]
    apart = [f for f in found(rows) if f.rule == "units" and "what FLOPs and bytes make" in f.message]
    odd, others = ({row["op_id"] for row in part} for part in (rows[:count], rows[count:]))
    assert [set(finding.row_ids) in (odd, others) for finding in apart] == [True]
    if count < 76:
        assert set(apart[0].row_ids) == odd
        assert f"about {factor:.0e} times" in apart[0].message


def test_one_statistic_in_another_unit_is_seen_within_its_row(found, s3nas):
    s3nas[1] |= {"p50_ms": 1e3 * s3nas[1]["p50_ms"], "p90_ms": 1e4, "p99_ms": 1e5}
    (finding,) = messages(found(s3nas), "units")
    assert "times p50_ms in 1 row" in finding[1]


@pytest.mark.parametrize(("value", "said"), [(1e-7, "below a nanosecond"), (4e6, "above an hour")])
def test_what_nothing_takes_is_an_error(found, s3nas, value, said):
    s3nas[1] = scaled(s3nas[1], value / s3nas[1]["latency_ms"])
    assert any(said in message for _, message in messages(found(s3nas), "units"))


def test_a_fast_accelerator_and_a_slow_board_are_believed(found, measure, s3nas_ops, make):
    board = {make.here: {"identity": {"architecture": "armv7m"}, "conditions": {}}}
    gpu = measure(s3nas_ops, speed=300.0, target="cuda", space="s3nas")
    slow = measure(s3nas_ops, speed=1 / 500, space="s3nas")
    assert found(gpu) == []
    assert found(slow, environments=board) == []


def test_emulated_short_floats_may_take_any_time(found, measure):
    ops = [conv((1, 64, side, side), 64, 3, dtype="float16") for side in (28, 56, 112)]
    assert found(measure(ops, speed=1 / 500, space=None)) == []


def test_a_few_rows_are_not_judged_by_each_other(found, measure):
    ops = [conv((1, 16, side, side), 16, 3) for side in (4, 8, 16)]
    rows = measure(ops, space=None)
    assert found([*rows[:2], scaled(rows[2], 300)]) == []


@pytest.mark.parametrize("unit", [1.0, 0.1])
def test_values_rounded_to_a_coarse_unit_are_a_warning(found, s3nas, unit):
    ((severity, message),) = messages(found([rounded(row, unit) for row in s3nas]), "rounding")
    assert severity == "warning"
    assert f"multiples of {unit:g} ms" in message


def test_a_coarse_clock_of_no_round_unit_is_a_warning(found, s3nas):
    ((_, message),) = messages(found([rounded(row, 1 / 7) for row in s3nas]), "rounding")
    assert "different values" in message


def test_a_part_of_the_rows_rounded_is_found_and_named(found, s3nas):
    rows = [rounded(row, 0.1) if i % 2 else row for i, row in enumerate(s3nas)]
    (finding,) = [finding for finding in found(rows) if finding.rule == "rounding"]
    assert set(finding.row_ids) <= {row["op_id"] for row in rows[1::2]}


@pytest.mark.parametrize("unit", [0.01, 0.0001])
def test_rounding_that_changes_little_passes(found, s3nas, unit):
    assert messages(found([rounded(row, unit) for row in s3nas]), "rounding") == []


def test_a_handful_of_round_numbers_is_no_grid(found, make):
    rows = [make.row(op, float(i), space=None) for i, op in enumerate(make.ops, start=1)]
    assert messages(found(rows), "rounding") == []
