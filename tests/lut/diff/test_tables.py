"""Two tables compared. On builds of known noise, noise is not reported and what was planted is."""

from __future__ import annotations

import json
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hwprof import stats
from hwprof.errors import LutError
from hwprof.lut import load_lut, write_lut
from hwprof.lut.diff.own_noise import floor_variance
from hwprof.lut.diff.tables import diff
from hwprof.lut.diff.timeline import two_speeds
from hwprof.lut.reading import visits_path_of
from hwprof.ops import conv

OPS = tuple(conv((1, 8, 16, 16), 8 + i, kernel=3) for i in range(150))
TRUTH = np.exp(np.random.default_rng(0).uniform(-2, 2, len(OPS)))
PLACEMENT, PROCESS, JITTER = 0.01, 0.005, 0.004
VISIT_S = 0.02


@pytest.fixture
def build(make, tmp_path):
    """Writes a table as a build of some ops on a machine of known noise would: placement of each visit,
    an offset of each process, a machine that drifts, sentinels that see the drift alone."""

    def write(
        name, seed, *, ops=60, host=0.0, drift=0.0, slow_share=0.0, processes=6, rounds=6, changed=None,
        visits=True, metadata=None, environment=None, host_drift=0.0, edit=None, visit_s=VISIT_S,
        build_id=None,
    ):  # fmt: skip
        rng = np.random.default_rng(seed)
        truth = TRUTH[:ops] * np.exp(host)
        for i, factor in (changed or {}).items():
            truth[i] *= factor
        count = processes * rounds
        offsets = rng.exponential(PROCESS, (processes, ops))
        turn = np.arange(count)
        time_s = (turn[:, None] + rng.permuted(np.tile(np.arange(ops), (count, 1)), axis=1) / ops) * (
            ops * visit_s
        )
        speed = np.exp(drift * time_s / 600.0)
        added = rng.exponential(PLACEMENT, (count, ops)) + offsets[turn % processes]
        slow = 1 + 0.11 * (rng.random((count, ops)) < slow_share)
        p10 = truth * speed * (1 + added) * slow
        dense = 0.04 * np.exp(host) * speed * (1 + rng.exponential(JITTER, (count, ops)))
        rows, made = [], []
        for i in range(ops):
            found = stats.estimate(p10[:, i], dense[:, i], host_drift)
            row = make.row(
                OPS[i], found.latency_ms, latency_low_ms=found.low_ms, latency_high_ms=found.high_ms,
                build_id=build_id or f"b{seed}", environment_id=environment or make.here,
            ) | ((edit or {}).get(i, {}))  # fmt: skip
            rows.append(row)
            base = make.visits(row, 1)[0]
            made += [
                base
                | {
                    "process": int(turn[v] % processes),
                    "round": int(turn[v] // processes),
                    "p10_ms": p10[v, i],
                    "dense_sentinel_ms": dense[v, i],
                    "started_at": base["started_at"] + timedelta(seconds=float(time_s[v, i])),
                }
                for v in range(count)
            ]
        path = tmp_path / f"{name}.parquet"
        write_lut(path, rows, metadata=metadata or make.metadata, visits=made if visits else None)
        return load_lut(path)

    return write


def environments(**identities):
    """Metadata of a table with these environments."""
    made = {
        name: {"identity": identity, "conditions": {"host": "h"}}
        for name, identity in identities.items()
    }
    return {"spaces": ["tiny"], "environments": made}


def test_a_host_that_is_slower_is_one_factor_and_no_changed_row(build):
    found = diff(build("a", 1, ops=150), build("b", 2, ops=150, host=0.02))
    assert found.significant == ()
    assert found.largest_change == 0.0
    (factor,) = found.factors
    assert factor.ratio == pytest.approx(1.02, abs=0.001)
    assert factor.dense == pytest.approx(1.02, abs=0.001)
    assert factor.memory is None
    assert found.usable.median == pytest.approx(0.02, abs=0.002)
    assert found.usable.own_median < 0.004 < 0.01 < found.usable.p95
    assert found.interval_holds < 0.1


def test_one_row_of_150_that_changed_by_three_percent_is_found_and_no_other(build):
    found = diff(build("a", 1, ops=150), build("b", 2, ops=150, host=0.02, changed={7: 1.03}))
    (row,) = found.significant
    assert row == found.rows[0]
    assert (row.op_id, row.label) == (OPS[7].op_id, OPS[7].label)
    assert row.own_low < 1.03 < row.own_high
    assert row.own_ratio == pytest.approx(row.ratio / found.factors[0].ratio)
    assert row.ratio == row.b_ms / row.a_ms
    assert found.same_measurement == 0
    assert found.largest_change == row.own_ratio - 1
    assert found.tested == 150
    assert found.from_visits == 1.0


def test_ten_pairs_of_equal_builds_give_next_to_no_false_change(build):
    """A share of 0.05 of pairs may have one (measured over 300 pairs: docs/diff.md)."""
    pairs = [
        diff(build("a", 2 * k, ops=40, processes=p), build("b", 2 * k + 1, ops=40, processes=p, host=h))
        for k, (p, h) in enumerate([(6, 0.0), (6, 0.03), (3, 0.0), (3, -0.02), (8, 0.01)] * 2)
    ]
    assert sum(len(found.significant) for found in pairs) <= 1
    inside = [row.own_low <= 1 <= row.own_high for found in pairs for row in found.rows]
    assert 0.8 < np.mean(inside) < 0.99


def test_a_planted_change_is_found_among_rows_with_two_speeds(build):
    tables = build("a", 1, slow_share=0.4), build("b", 2, slow_share=0.4, changed={3: 0.93})
    assert [row.op_id for row in diff(*tables).significant] == [OPS[3].op_id]


def test_variance_over_processes_is_that_of_builds_with_other_processes():
    rng = np.random.default_rng(0)
    owner = np.tile(np.arange(6), 8)
    values, told = [], []
    for _ in range(300):
        offsets = rng.exponential(PROCESS, 6)
        p10_ms = 1 + rng.exponential(PLACEMENT, 48) + offsets[owner]
        values.append(np.log(stats.floor_ms(p10_ms)))
        told.append(floor_variance(p10_ms, owner)[0])
    assert 0.7 < np.sqrt(np.mean(told)) / np.std(values) < 1.4
    alone = [stats.interval_half_width(1 + rng.exponential(PLACEMENT, 48)) for _ in range(20)]
    assert floor_variance([1.0, 1.1, 1.2, 1.3], [0, 0, 1, 1])[1] == 0
    assert np.median(alone) > 0


def test_without_visits_the_columns_tell_the_noise_less_the_virtual_host(build, make):
    here = environments(**{make.here: {"device": "cpu-a", "virtualised": "kvm"}})
    common = {"visits": False, "metadata": here, "host_drift": stats.VIRTUAL_HOST_DRIFT, "ops": 100}
    found = diff(build("a", 1, **common), build("b", 2, **common, host=0.02, changed={5: 1.04}))
    assert [row.op_id for row in found.significant] == [OPS[5].op_id]
    assert found.from_visits == 0.0
    assert found.interval_holds == 0.99  # the interval has the host in it; the planted row is outside
    assert found.timelines_a == found.timelines_b == ()


def test_visits_file_that_was_left_behind_leaves_the_columns(build):
    a, b = build("a", 1), build("b", 2)
    a.path.with_name("a.visits.parquet").unlink()
    found = diff(a, b)
    assert found.from_visits == 0.0
    assert found.timelines_a == ()
    assert len(found.timelines_b) == 1


def test_few_rows_cannot_tell_the_host_from_themselves(build, make):
    here = environments(**{make.here: {"device": "cpu-a", "virtualised": "kvm"}})
    common = {"ops": 5, "metadata": here, "host_drift": stats.VIRTUAL_HOST_DRIFT}
    a = build("a", 1, **common)
    found = diff(a, build("b", 2, **common, host=0.02))
    assert found.factors == ()
    assert found.significant == ()
    assert [row.own_ratio for row in found.rows] == pytest.approx([row.ratio for row in found.rows])
    worse = diff(a, build("c", 3, **common, changed={2: 1.2}))
    assert [row.op_id for row in worse.significant] == [OPS[2].op_id]


def test_few_rows_of_equal_builds_without_a_hosts_drift_rarely_change(build):
    """Bare metal: the interval of the columns holds the visits' noise and not that of the processes."""
    few = {"ops": 5, "processes": 3, "rounds": 4}
    pairs = ((build("a", seed, **few), build("b", 1000 + seed, **few)) for seed in range(30))
    # 6 of 100 such pairs, 17 by the interval alone.
    assert sum(bool(diff(a, b).significant) for a, b in pairs) <= 5
    changed = diff(build("a", 4, **few), build("c", 5, **few, changed={2: 1.05}))
    assert [row.op_id for row in changed.significant] == [OPS[2].op_id]


@pytest.mark.parametrize("latency_ms", [0.0, -1.0, float("nan"), float("inf"), 5e-324, 1e300])
def test_a_row_that_is_no_time_does_not_hide_the_others(build, tmp_path, latency_ms):
    """One of them made every median NaN, and nothing was significant any more."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    a, b = build("a", 1), build("b", 2, changed={7: 1.1})
    content = pq.read_table(b.path)
    column = content.schema.get_field_index("latency_ms")
    field = content.schema.field(column)
    values = content.column(column).to_pylist()
    values[content.column("op_id").to_pylist().index(OPS[3].op_id)] = latency_ms
    pq.write_table(content.set_column(column, field, pa.array(values, field.type)), b.path)
    found = diff(a, load_lut(b.path))
    assert (found.matched, len(found.rows)) == (60, 59)
    assert [row.op_id for row in found.significant] == [OPS[7].op_id]
    json.dumps(found.summary(), allow_nan=False)


def test_each_pair_of_builds_has_its_own_factor(build, make, tmp_path):
    halves = [build("x", 2, host=0.01), build("y", 3, host=-0.02, ops=120)]
    rows = halves[0].table.to_pylist()
    have = {row["op_id"] for row in rows}
    rest = [row for row in halves[1].table.to_pylist() if row["op_id"] not in have]
    visits = halves[0].visits.to_pylist() + [
        visit for visit in halves[1].visits.to_pylist() if visit["op_id"] not in have
    ]
    write_lut(tmp_path / "b.parquet", rows + rest, metadata=make.metadata, visits=visits)
    found = diff(build("a", 1, ops=120), load_lut(tmp_path / "b.parquet"))
    assert [(f.build_b, f.rows) for f in found.factors] == [("b2", 60), ("b3", 60)]
    assert [f.ratio for f in found.factors] == pytest.approx([1.01, 0.98], abs=0.002)
    assert found.significant == ()
    assert [t.build_id for t in found.timelines_b] == ["b2", "b3"]


def test_states_that_changed_are_counted_and_rows_without_a_number_left_out(build):
    numbers = (
        "latency_ms", "latency_low_ms", "latency_high_ms", "min_ms", "p10_ms", "p50_ms", "p90_ms",
        "p99_ms", "visits", "clean_visits", "processes", "samples",
    )  # fmt: skip
    failed = dict.fromkeys(numbers) | {"state": "failed", "reason": "worker died"}
    edit = {
        0: {"state": "unstable", "reason": "floors differ"},
        1: {"state": "unstable", "reason": "floors differ"},
        2: {"state": "budget", "reason": "time"},
    }
    a = build("a", 1)
    rows = build("b", 2, edit=edit).table.to_pylist()
    rows = [row | (failed if row["op_id"] == OPS[4].op_id else {}) for row in rows]
    write_lut(a.path.with_name("c.parquet"), rows, metadata=a.metadata)
    found = diff(a, load_lut(a.path.with_name("c.parquet")))
    assert dict(found.state_counts) == {
        ("converged", "unstable"): 2, ("converged", "budget"): 1, ("converged", "failed"): 1
    }  # fmt: skip
    assert [(c.op_id, c.reason) for c in found.failures] == [(OPS[4].op_id, "worker died")]
    assert found.matched == 60
    assert len(found.rows) == found.usable.rows == 57
    assert found.converged.rows == 56


def test_rows_of_one_table_only_are_counted(build):
    found = diff(build("a", 1, ops=40), build("b", 2, ops=60))
    assert (found.matched, found.only_a, found.only_b) == (40, 0, 20)


def test_imported_rows_are_compared_but_not_tested(build, make):
    bare = {"latency_low_ms": None, "latency_high_ms": None, "state": "imported", "source": "imported",
            "build_id": None}  # fmt: skip
    a = build("a", 1, edit=dict.fromkeys(range(60), bare), visits=False)
    found = diff(a, build("b", 2, host=0.02))
    assert found.tested == 0
    assert found.from_visits is found.interval_holds is None
    assert found.significant == ()
    assert all(row.own_low is row.p is None for row in found.rows)
    assert found.factors[0].build_a == ""
    assert found.factors[0].ratio == pytest.approx(1.02, abs=0.003)


def test_a_copy_of_a_table_is_told_as_such(build, tmp_path):
    a = build("a", 1)
    for name in ("parquet", "visits.parquet"):
        (tmp_path / f"copy.{name}").write_bytes((tmp_path / f"a.{name}").read_bytes())
    found = diff(a, load_lut(tmp_path / "copy.parquet"))
    assert found.same_content
    assert found.same_measurement == 60
    assert found.usable.p95 == 0.0
    assert found.significant == ()


def test_one_table_against_itself_is_refused(build, tmp_path):
    a = build("a", 1, ops=3)
    (tmp_path / "link.parquet").symlink_to(a.path)
    for other in (a.path, tmp_path / "link.parquet"):
        with pytest.raises(LutError, match="the same file"):
            diff(a, load_lut(other))


def test_one_environment_in_each_is_compared_and_differing_fields_are_named(build, make):
    a, b = build("a", 1), build("b", 2, environment=make.there, host=0.3, changed={1: 1.3, 2: 0.8})
    found = diff(a, b)
    (pair,) = found.environments
    assert (pair.a, pair.b) == (make.here, make.there)
    assert pair.differences == (("runtime_version", "1.31", "1.32"),)
    assert {row.op_id for row in found.significant} == {OPS[1].op_id, OPS[2].op_id}
    assert {(row.environment_a, row.environment_b) for row in found.rows} == {(make.here, make.there)}


@pytest.fixture
def mixed(build, make, tmp_path):
    """A table with rows of both environments, those of `there` 30 % slower."""
    one, two = build("x", 5), build("y", 6, environment=make.there, host=0.3, build_id="b6")
    rows = one.table.to_pylist() + two.table.to_pylist()
    visits = one.visits.to_pylist() + two.visits.to_pylist()
    write_lut(tmp_path / "mixed.parquet", rows, metadata=make.metadata, visits=visits)
    return load_lut(tmp_path / "mixed.parquet")


def test_rows_of_several_environments_meet_those_of_the_same(build, make, mixed):
    found = diff(build("a", 1), mixed)
    assert [(pair.a, pair.b) for pair in found.environments] == [(make.here, make.here)]
    assert (found.matched, found.only_b) == (60, 60)
    assert found.factors[0].ratio == pytest.approx(1.0, abs=0.003)


def test_environments_can_be_named_one_of_each_table(build, make, mixed):
    a = build("a", 1)
    other = environments(else_a={"device": "cpu-b"}, else_b={"device": "cpu-c"})
    strange = build("s", 7, metadata=other, environment="else_a", ops=20)
    both = [row | {"environment_id": "else_b"} for row in strange.table.to_pylist()]
    write_lut(a.path.with_name("two.parquet"), strange.table.to_pylist() + both, metadata=other)
    two = load_lut(a.path.with_name("two.parquet"))
    with pytest.raises(LutError, match=r"no environment in common.*env-there.*else_b.*--environment"):
        diff(mixed, two)
    found = diff(mixed, two, [make.there, "else_a"])
    assert [(pair.a, pair.b) for pair in found.environments] == [(make.there, "else_a")]
    assert found.factors[0].ratio == pytest.approx(np.exp(-0.3), rel=0.01)
    with pytest.raises(LutError, match="'nowhere' is in neither table"):
        diff(mixed, two, ["nowhere"])
    with pytest.raises(LutError, match=r"two\.parquet has no rows to compare.*else_a"):
        diff(mixed, two, [make.there])


def test_two_environments_of_one_file_compare_through_the_library(make, mixed):
    found = diff(mixed.filter(environment_id=make.here), mixed.filter(environment_id=make.there))
    assert found.factors[0].ratio == pytest.approx(np.exp(0.3), rel=0.01)


def test_tables_without_a_row_in_common_say_what_each_has(build, save, make):
    a = build("a", 1, ops=5)
    cold = save([make.row(op, cache="evicted") for op in OPS[:5]], "cold.parquet")
    has = r"has 5 op rows \(warm, tiny, batch 1, float32\).*has 5 op rows \(evicted"
    with pytest.raises(LutError, match=rf"no row in common: .*a\.parquet {has}"):
        diff(a, cold)
    with pytest.raises(LutError, match="has no rows to compare"):
        diff(a, save([], "empty.parquet"))


def test_drift_of_a_build_is_told_and_the_sentinel_explains_it(build):
    found = diff(build("a", 1, drift=0.06, visit_s=0.1), build("b", 2, visit_s=0.1))
    drifting, steady = found.timelines_a[0], found.timelines_b[0]
    assert drifting.minutes == pytest.approx(60 * 36 * 0.1 / 60, rel=0.02)
    assert (drifting.visits, drifting.quiet) == (60 * 36, 60 * 36)
    assert drifting.rows.slope_low < 0.06 < drifting.rows.slope_high
    assert drifting.rows.slope == pytest.approx(0.06, rel=0.3)
    assert drifting.dense.slope == pytest.approx(0.06, rel=0.2)
    assert drifting.dense.explains > 0.8
    assert drifting.memory is None
    assert drifting.rows.spread == pytest.approx(0.06 * drifting.minutes / 10, rel=0.5)
    assert abs(steady.rows.slope) < 0.02
    assert steady.dense.explains < 0.5
    assert drifting.rows.speeds is steady.rows.speeds is None


def test_second_pass_over_noisy_rows_is_no_slower_machine(build, make):
    """Visits of noisy rows lie further above their floors; the machine is as fast as before."""
    a = build("a", 1, visit_s=0.1)
    noisy = {OPS[i].op_id for i in range(20)}
    visits = a.visits.to_pylist()
    first, last = (end(visit["started_at"] for visit in visits) for end in (min, max))
    rng = np.random.default_rng(3)
    for visit in visits:
        if visit["op_id"] in noisy:
            visit["p10_ms"] *= 1 + rng.exponential(0.03)
    again = [
        visit
        | {
            "phase": 2,
            "process": visit["process"] + 6,
            "started_at": last + (visit["started_at"] - first) / 3,
        }
        for visit in visits
        if visit["op_id"] in noisy
    ]
    path = a.path.with_name("two_pass.parquet")
    write_lut(path, a.table.to_pylist(), metadata=make.metadata, visits=visits + again)
    timeline = diff(load_lut(path), build("b", 2)).timelines_a[0]
    assert timeline.minutes == pytest.approx(4.8, rel=0.05)
    assert timeline.rows.spread < 0.02


def test_two_speeds_are_told_from_a_tail(build):
    timeline = diff(build("a", 1, slow_share=0.4), build("b", 2)).timelines_a[0]
    assert timeline.rows.speeds.gap == pytest.approx(0.11, abs=0.01)
    assert timeline.rows.speeds.slow_share == pytest.approx(0.4, abs=0.05)
    rng = np.random.default_rng(0)
    for values in (rng.exponential(0.05, 2000), rng.normal(0, 0.05, 2000), rng.uniform(0, 0.1, 2000)):
        assert two_speeds(values) is None
    assert two_speeds(np.zeros(1000)) is None
    assert two_speeds(np.array([])) is None


def test_disturbed_visits_say_nothing_about_the_machine(build, make):
    a = build("a", 1, visit_s=0.1)
    visits = a.visits.to_pylist()
    for number, visit in enumerate(visits):
        if number % 3 == 0:
            visit |= {"cpu_share": 0.5, "p10_ms": 3 * visit["p10_ms"], "clean": False}
    path = a.path.with_name("disturbed.parquet")
    write_lut(path, a.table.to_pylist(), metadata=make.metadata, visits=visits)
    timeline = diff(load_lut(path), build("b", 2)).timelines_a[0]
    assert (timeline.visits, timeline.quiet) == (2160, 1440)
    assert timeline.rows.spread < 0.01


def test_a_short_build_has_no_trend(build):
    timeline = diff(build("a", 1, ops=10), build("b", 2, ops=10)).timelines_a[0]
    assert timeline.minutes < 0.2
    assert timeline.rows.slope is timeline.rows.spread is timeline.dense.explains is None


def test_summary_is_json_and_its_limit_bounds_the_rows(build):
    found = diff(build("a", 1), build("b", 2, changed={3: 1.2, 9: 0.9}))
    summary = json.loads(json.dumps(found.summary(1)))
    assert [row["op_id"] for row in summary["rows"]] == [OPS[3].op_id]
    assert (summary["significant"], summary["compared"], summary["matched"]) == (2, 60, 60)
    assert summary["largest_change"] == pytest.approx(0.2, abs=0.02)
    assert summary["timelines_a"][0]["started_at"].startswith("2026-11-21T08:00")
    assert len(found.summary()["rows"]) == 60


def test_a_sentinel_of_no_time_once_ended_a_comparison_in_a_division_by_zero(build):
    """Found by benchmarks/fuzz_tables.py in a file that hwprof would not write."""
    a, b = build("a", 1), build("b", 2)
    path = visits_path_of(a.path)
    stored = pq.ParquetFile(path)
    visits, metadata = stored.read(), stored.metadata.metadata
    place = visits.column_names.index("dense_sentinel_ms")
    field = visits.schema.field(place)
    visits = visits.set_column(place, field, pa.array([0.0] * len(visits), field.type))
    with pq.ParquetWriter(path, visits.schema, store_schema=False) as writer:
        writer.write_table(visits)
        writer.add_key_value_metadata({k: v for k, v in metadata.items() if k.startswith(b"hwprof.")})
    found = diff(load_lut(a.path), b)
    assert [factor.dense for factor in found.factors] == [None]
    assert found.timelines_a[0].dense is None
