"""From a record to a table row."""

import pytest

from hwprof import ops, stats
from hwprof.build.record import RowRecord
from hwprof.build.seal import table_row
from hwprof.measure.judgement import RecordedVisit, sentinel_floors
from hwprof.measure.messages import Checked, Compiled, Job, Visit
from hwprof.measure.protocol import Protocol

PROTOCOL = Protocol(processes=2, agreeing=2, rounds=8, least_rounds=4)


def header(virtualised):
    environment = {"identity": {"virtualised": virtualised}}
    text = dict.fromkeys(
        ("environment_id", "backend", "target", "space", "build_id", "hwprof_version", "regime"), "x"
    )
    return {**text, "environment": environment, "cache": "warm", "threads": 1, "started_at": 0.0}


def record(dense_ms=0.04, calls_ns=(1_000_000, 1_000_500, 1_010_000, 1_020_000, 1_500_000)):
    row = RowRecord(Job((ops.mbconv((1, 8, 8, 8), 8, 3, 2),)), finished=True)
    for number in range(8):
        for process in (0, 1):
            visit = Visit(calls_ns, 1, 1.0, 8.0, 1.0, 0, dense_ms, dense_ms, 1 << 20, 0.0)
            row.visits.append(RecordedVisit(process, number, 1, visit))
    return row


def half_width(virtualised, dense_ms):
    made = record(dense_ms)
    row = table_row(made, header(virtualised), PROTOCOL, sentinel_floors(made.visits), "")
    assert row["state"] == "converged"
    return stats.Estimate(
        row["latency_ms"], row["latency_low_ms"], row["latency_high_ms"]
    ).relative_half_width


def test_interval_on_a_virtual_machine_counts_that_its_host_changes_speed_between_builds():
    assert half_width(True, 0.04) == pytest.approx(stats.VIRTUAL_HOST_DRIFT, rel=0.01)
    assert half_width(False, 0.04) == pytest.approx(stats.SMALLEST_HALF_WIDTH)


def test_row_that_the_host_did_not_time_is_not_widened_by_the_host():
    assert half_width(True, None) == pytest.approx(stats.SMALLEST_HALF_WIDTH)


def test_quantiles_come_from_the_visits_that_the_estimate_is_made_from():
    """A row whose few clean visits were left out once had a latency below its own minimum."""
    made = record()
    for index, visit in enumerate(made.visits[:3]):
        slow = Visit((2_000_000,) * 5, 1, 1.0, 8.0, 0.5, 9, 0.04, 0.04, 1 << 20, 0.0)
        made.visits[index] = RecordedVisit(visit.process, visit.round, 1, slow)
    row = table_row(made, header(False), PROTOCOL, sentinel_floors(made.visits), "")
    assert row["min_ms"] == 1.0
    assert row["min_ms"] <= row["latency_ms"] <= row["p50_ms"] <= row["p99_ms"] < 2.0
    assert (row["visits"], row["clean_visits"]) == (16, 13)


def test_failed_row_has_a_reason_and_no_number():
    made = record()
    made.failure = ("timeout", "no answer within 3 s")
    row = table_row(made, header(False), PROTOCOL, {}, "")
    assert (row["state"], row["reason"], row["latency_ms"]) == ("timeout", "no answer within 3 s", None)


@pytest.mark.parametrize(
    ("cache", "regime", "known"),
    [("warm", "burst", True), ("evicted", "burst", False), ("warm", "sustained", False)],
)
def test_energy_of_warm_bursts_is_not_put_into_rows_of_another_state(cache, regime, known):
    made = record()
    made.compiled = Compiled("x", 1.0, checked=Checked(energy_mj=2.0))
    told = header(False) | {"cache": cache, "regime": regime}
    row = table_row(made, told, PROTOCOL, sentinel_floors(made.visits), "")
    assert row["energy_mj"] == (2.0 if known else None)
    assert row["energy_reason"] == (None if known else "read for warm calls in bursts only")
