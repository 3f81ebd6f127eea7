"""Rules across environments, versions, time and the space: copies, stale rows and fits, holes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from hwprof.lut.lint import lint
from hwprof.ops import conv
from hwprof.space import load_space

DEVICES = {
    "env-here": {"identity": {"device": "cpu-a", "runtime_version": "1.31"}, "conditions": {}},
    "env-there": {"identity": {"device": "cpu-b", "runtime_version": "1.31"}, "conditions": {}},
}


def of_rule(findings, rule):
    return [finding for finding in findings if finding.rule == rule]


def test_values_of_one_device_under_another_are_an_error(found, s3nas, make):
    copied = [row | {"environment_id": make.there} for row in s3nas[:5]]
    own = [
        row | {"environment_id": make.there, "latency_ms": row["latency_ms"] * 1.01} for row in s3nas[5:]
    ]
    (finding,) = of_rule(found([*s3nas, *copied, *own], environments=DEVICES), "copies")
    assert finding.severity == "error"
    assert set(finding.row_ids) == {row["op_id"] for row in copied}
    assert "5 of 152 rows" in finding.message


def test_values_of_another_table_are_an_error_unless_it_is_of_the_same_environment(table, s3nas, make):
    lut = table(s3nas)
    again = table(s3nas, "again.parquet")
    phone = table([row | {"environment_id": make.there} for row in s3nas], "phone.parquet")
    assert lint(lut, others=[again]) == []
    (finding,) = lint(lut, others=[again, phone])
    assert "152 of 152 rows" in finding.message
    assert "env-there of phone.parquet" in finding.message


def test_two_devices_measured_alike_are_no_copy(table, s3nas, measure, make, s3nas_ops):
    there = measure(s3nas_ops, seed=1, environment_id=make.there, space="s3nas")
    there[0]["latency_ms"] = s3nas[0]["latency_ms"]  # one may meet by chance
    assert lint(table(s3nas), others=[table(there, "there.parquet")]) == []


def test_whole_milliseconds_meet_by_chance(table, s3nas, make):
    def rounded(factor, environment):
        return [row | {"latency_ms": float(max(1, round(row["latency_ms"] * factor))),
                       "environment_id": environment} for row in s3nas]  # fmt: skip

    slow, slower, same = (
        rounded(f, e) for f, e in ((20, make.here), (21, make.there), (20, make.there))
    )
    assert of_rule(lint(table(slow), others=[table(slower)]), "copies") == []
    assert len(of_rule(lint(table(slow), others=[table(same)]), "copies")) == 1


def test_formulas_give_equal_numbers_everywhere(table, s3nas, make):
    here, there = ([row | {"backend": "simulated", "environment_id": e} for row in s3nas]
                   for e in (make.here, make.there))  # fmt: skip
    assert lint(table(here), others=[table(there)]) == []


def test_rows_of_an_older_runtime_than_others_of_the_device_are_stale(found, measure, make, s3nas_ops):
    old = measure(s3nas_ops, space="s3nas")
    new = measure(s3nas_ops, seed=3, environment_id=make.there, space="s3nas")
    (finding,) = found([*old, *new])  # 1.31 here, 1.32 there, the same device
    assert (finding.severity, finding.rule, len(finding.row_ids)) == ("warning", "stale", 152)
    assert "environment env-here are of an older runtime (1.31)" in finding.message
    assert found([*old, *new], environments=DEVICES) == []


@pytest.mark.parametrize(("older", "newer"), [("1.9.2", "1.31.0"), ("2.9.0+cpu", "2.13.0+cpu")])
def test_versions_are_compared_as_numbers(found, measure, make, s3nas_ops, older, newer):
    environments = {
        name: {"identity": {"runtime_version": version}, "conditions": {}}
        for name, version in ((make.here, older), (make.there, newer))
    }
    rows = measure(s3nas_ops, space="s3nas")
    rows += measure(s3nas_ops, seed=3, environment_id=make.there, space="s3nas")
    (finding,) = found(rows, environments=environments)
    assert f"({older}) than others of that device ({newer})" in finding.message


@pytest.mark.parametrize(
    ("kind", "date"), [("composition", "fitted_at"), ("validation", "validated_at")]
)
def test_a_fit_is_stale_once_its_rows_were_measured_again(found, s3nas, make, kind, date):
    scope = {"environment_id": make.here, "space": "s3nas", "batch": 1, "dtype": "float32",
             "cache": "warm", "statistic": "floor"}  # fmt: skip
    made = {date: (s3nas[0]["started_at"] + timedelta(hours=1)).isoformat()}
    entry = made | ({"scope": scope} if kind == "composition" else scope)
    assert found(s3nas, **{kind: [entry]}) == []
    for row in s3nas[:4]:
        row["started_at"] += timedelta(hours=2)
    (finding,) = found(s3nas, **{kind: [entry]})
    assert (finding.severity, finding.rule) == ("warning", "stale")
    assert set(finding.row_ids) == {row["op_id"] for row in s3nas[:4]}
    other = made | {"scope": scope | {"environment_id": make.there}}
    assert found(s3nas, composition=[other]) == []


def test_metadata_of_another_shape_are_no_fit(found, s3nas):
    assert (
        found(s3nas, composition={"model": "sum"}, validation=["good", {"validated_at": "soon"}]) == []
    )


def test_old_rows_are_reported_where_an_age_is_asked_for(found, s3nas):
    now = datetime.now(UTC)
    for i, row in enumerate(s3nas):
        row["started_at"] = now - timedelta(days=400 if i < 3 else 5)
    s3nas[5]["started_at"] = None
    assert found(s3nas) == []
    (finding,) = found(s3nas, max_age_days=365)
    assert set(finding.row_ids) == {row["op_id"] for row in s3nas[:3]}


def test_ops_of_the_tables_own_space_without_a_row_are_holes(found, s3nas):
    (finding,) = found(s3nas[:-2])
    assert (finding.severity, finding.rule) == ("warning", "holes")
    assert set(finding.row_ids) == {row["op_id"] for row in s3nas[-2:]}
    assert (
        "2 of 152 ops of s3nas have no usable row for warm, batch 1, float32 (2 absent)"
        in finding.message
    )


def test_states_say_how_bad_a_hole_is(found, s3nas):
    lost = dict.fromkeys(name for name in s3nas[0] if name.endswith("_ms"))
    for i, state in enumerate(("failed", "timeout", "unsupported")):
        s3nas[i] |= lost | {"state": state, "reason": "x"}
    s3nas[3] |= {"state": "unstable", "reason": "x"}
    warning, note = found(s3nas)
    assert (warning.severity, note.severity) == ("warning", "note")
    assert "(1 failed, 1 timeout)" in warning.message
    assert "(1 unsupported, 1 unstable)" in note.message


def test_each_environment_and_batch_is_asked_for_itself(found, s3nas, measure, make, s3nas_ops):
    there = measure(s3nas_ops[:100], seed=2, environment_id=make.there, space="s3nas")
    four = measure(load_space("s3nas").with_options(4, "float32").ops()[:151], space="s3nas")
    result = of_rule(found([*s3nas, *there, *four], environments=DEVICES), "holes")
    assert [len(finding.row_ids) for finding in result] == [1, 52]
    assert "batch 4" in result[0].message
    assert "env-there" in result[1].message


def test_a_space_that_is_asked_for_and_not_there_at_all_is_said(found, s3nas, make):
    (finding,) = found(s3nas, space=load_space("tiny"))
    assert finding.message == "no row is of an op of tiny"
    assert found(s3nas, space=load_space("s3nas")) == []


def test_a_users_space_of_a_shipped_name_is_not_the_shipped_one(found, s3nas, measure):
    own = measure([conv((1, 3, 8, 8), 7)], space="s3nas")
    assert found([*s3nas[:10], *own]) == []
