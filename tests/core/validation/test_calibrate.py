"""Calibration: what is measured, fitted, stored, and what becomes of a table when it cannot be."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hwprof.backends.simulated import CALL_OVERHEAD_MS
from hwprof.composition.behind import behind_ms
from hwprof.composition.composition import composition_for, compositions
from hwprof.composition.edges import edge_latencies_ms
from hwprof.composition.price import Pricer, pricer_for
from hwprof.errors import BuildError, HwprofError, LutError, MissingRow
from hwprof.lut import chain_columns, load_lut, op_columns, verify_lut, write_lut
from hwprof.measure.messages import Job
from hwprof.ops import OpSpec
from hwprof.validation.calibrate import calibrate, failures
from hwprof.validation.networks import Drawn
from hwprof.validation.setting import find_setting
from hwprof.validation.validate import validate


def test_known_composition_comes_back_and_stands_in_the_table(calibrated_once):
    table, made = calibrated_once
    assert (made.networks, made.pairs, made.failed) == (12, 0, ())
    stored = compositions(load_lut(table).metadata)
    assert {c.scope.statistic for c in stored} == {"floor", "p50"}
    for composition in stored:
        assert composition.model == "terms"
        assert composition.error < 1e-4
        assert composition.coefficients["rows"] == pytest.approx(1.0, abs=1e-3)
        assert composition.coefficients["cuts"] == pytest.approx(-CALL_OVERHEAD_MS, rel=0.02)
        assert composition.compared["sum"] > 0.01
    verify_lut(table)


def test_measured_networks_are_rows_of_the_table_with_their_ops(built, calibrated_once):
    after = load_lut(calibrated_once[0])
    networks = after.filter(granularity="network")
    assert len(after) == len(load_lut(built)) + len(networks)
    assert len(networks) == 12
    row = networks.table.to_pylist()[0]
    assert (row["kind"], row["kernel_mix"], row["space"]) == ("chain", None, "small")
    assert row["in_channels"] == 3
    assert row["state"] == "converged"
    assert {v["phase"] for v in after.visits.to_pylist() if v["granularity"] == "network"} == {1, 2}


def test_networks_that_are_there_are_not_measured_again(calibrated, wanted):
    table = calibrated
    before = load_lut(table).filter(granularity="network").table.to_pylist()
    calibrate(table, wanted, networks=12, model="scale")
    assert load_lut(table).filter(granularity="network").table.to_pylist() == before


def test_edges_are_measured_and_give_the_overhead_of_a_call(table, wanted):
    made = calibrate(table, wanted, networks=6, model="edges")
    setting = find_setting(table, wanted)
    assert made.pairs == len(setting.table.filter(granularity="pair")) > 0
    composition = composition_for(setting.table.metadata, setting.scope)
    assert composition.error < 1e-4
    assert composition.coefficients == {"rows": 1.0, "edges": 1.0}
    edges = edge_latencies_ms(setting.table, setting.scope)
    # Also those whose pair is made of ops that no drawn network runs.
    assert len(edges) == made.pairs
    pricer = Pricer(setting.table, setting.scope, setting.space.ops(), composition)
    ops = setting.space.point_ops([0] * len(setting.space.positions))
    assert pricer.edge_ms(ops[0], ops[1]) == pytest.approx(-CALL_OVERHEAD_MS, rel=0.02)


def test_a_new_composition_replaces_the_old_one_of_its_scope_alone(calibrated, wanted):
    table = calibrated
    foreign = compositions(load_lut(table).metadata)[0]
    foreign = replace(foreign, scope=replace(foreign.scope, space="another"))
    old = load_lut(table)
    kept = [*old.metadata["composition"], foreign.to_dict()]
    write_lut(table, old.table, metadata={**old.metadata, "composition": kept}, visits=old.visits)
    calibrate(table, wanted, networks=12, model="scale")
    found = compositions(load_lut(table).metadata)
    assert sorted((c.scope.space, c.model) for c in found) == [
        ("another", "terms"), ("small", "scale"), ("small", "scale"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"networks": 3}, "3 networks are too few to calibrate with, 4 is the least"),
        ({"networks": 3, "model": "sum"}, "3 networks are too few to calibrate with, 4 is the least"),
        ({"networks": 4, "model": "terms"}, "4 networks are too few to calibrate with, 5 is the least"),
        ({"model": "magic"}, "model 'magic' is unknown; choose of auto, sum, edges, scale"),
        ({"seed": -1}, "seed must be 0 or more, got -1"),
    ],
)
def test_what_cannot_be_fitted_is_refused_before_anything_is_measured(options, message, table, wanted):
    before = table.read_bytes()
    with pytest.raises(HwprofError, match=message):
        calibrate(table, wanted, **options)
    assert table.read_bytes() == before


def test_space_that_no_longer_matches_its_table_names_the_missing_ops(table, wanted, tmp_path):
    before = table.read_bytes()
    other = tmp_path / "small.yaml"
    other.write_text(Path(wanted.space).read_text().replace("kernel: [3, 5]", "kernel: [3, 7]"))
    with pytest.raises(MissingRow, match="mbconv_k7"):
        calibrate(table, replace(wanted, space=str(other)), networks=6)
    assert table.read_bytes() == before


def move(table):
    """The table as if its rows came from another board."""
    old = load_lut(table)
    rows = old.table.to_pylist()
    facts = old.environments[rows[0]["environment_id"]]
    strange = {"identity": {**facts["identity"], "device": "another board"}, "conditions": {}}
    for row in rows:
        row["environment_id"] = "0123456789abcdef"
    write_lut(table, rows, metadata={"spaces": ["small"], "environments": {"0123456789abcdef": strange}})


def test_table_of_another_environment_is_not_calibrated_here(table, wanted):
    move(table)
    before = table.read_bytes()
    with pytest.raises(BuildError, match=r"was measured in environment 0123.*device 'another board' ->"):
        calibrate(table, wanted, networks=6)
    assert table.read_bytes() == before


def test_rows_of_another_environment_are_held_against_networks_measured_here_when_asked(
    calibrated_once, wanted, tmp_path
):
    """Is a table of last year's runtime still right?"""
    here = load_lut(calibrated_once[0])
    (old_id,) = here.environments
    rows = [{**row, "environment_id": "0123456789abcdef"} for row in here.table.to_pylist()]
    strange = {"identity": {"device": "another board"}, "conditions": {}}
    made = [
        {**c, "scope": {**c["scope"], "environment_id": "0123456789abcdef"}}
        for c in here.metadata["composition"]
    ]
    path = tmp_path / "lut.parquet"
    facts = {"0123456789abcdef": strange}
    write_lut(path, rows, metadata={"spaces": ["small"], "environments": facts, "composition": made})
    with pytest.raises(BuildError, match=f"hwprof validate --measured-in {old_id}"):
        validate(path, wanted, networks=4)
    with pytest.raises(BuildError, match=r"here is environment .*, not 0123: networks can only be"):
        validate(path, wanted, networks=4, measured_in="0123")
    report = validate(path, wanted, networks=4, measured_in=old_id)
    assert report.summary()["measured_in"] == old_id
    assert report.errors.mean < 0.01
    networks = load_lut(path).filter(granularity="network", environment_id=old_id)
    assert len(networks) == 4


def test_uncalibrated_rows_of_another_environment_are_refused_before_networks_are_measured(
    table, wanted
):
    (here,) = load_lut(table).environments
    move(table)
    before = table.read_bytes()
    with pytest.raises(LutError, match=r"is uncalibrated, .* run hwprof calibrate there first"):
        validate(table, wanted, networks=4, measured_in=here)
    assert table.read_bytes() == before


def test_rows_of_two_kinds_are_named_and_one_must_be_chosen(table, wanted):
    old = load_lut(table)
    rows = old.table.to_pylist()
    rows += [{**row, "cache": "evicted"} for row in rows]
    write_lut(table, rows, metadata=old.metadata)
    with pytest.raises(LutError, match=r"op rows of 2 kinds .*evicted.*warm.*name one with --space"):
        calibrate(table, wanted, networks=6)
    assert find_setting(table, replace(wanted, cache="warm")).scope.cache == "warm"


def test_table_without_such_rows_says_what_it_has(table, wanted):
    with pytest.raises(
        LutError, match=r"no op rows of space small, batch 8; it has .*, small, 1, float32, warm"
    ):
        calibrate(table, replace(wanted, batch=8), networks=6)


def test_failures_are_those_of_the_networks_environment(calibrated):
    table = load_lut(calibrated)
    row = table.filter(granularity="network").table.to_pylist()[0]
    ops = tuple(OpSpec.from_dict(op) for op in json.loads(row["op_json"]))
    drawn = [Drawn((), Job(ops, "network"), spread=False)]
    (here,) = table.environments
    elsewhere = row | {"environment_id": "0123456789abcdef", "state": "unstable", "reason": "busy"}
    facts = {**table.environments, "0123456789abcdef": {"identity": {}, "conditions": {}}}
    write_lut(calibrated, [row, elsewhere], metadata={"spaces": ["small"], "environments": facts})
    both = load_lut(calibrated)
    assert failures(both, drawn, here) == ()
    assert failures(both, drawn, "0123456789abcdef") == ((row["label"], "unstable: busy"),)


def test_ops_are_timed_behind_a_neighbour_and_give_a_networks_latency_without_fitting(table, wanted):
    made = calibrate(table, wanted, networks=6, model="behind")
    setting = find_setting(table, wanted)
    composition = composition_for(setting.table.metadata, setting.scope)
    assert composition.coefficients == pytest.approx({"behind": 1.0}, abs=1e-3)
    assert composition.error < 1e-3
    behind = behind_ms(setting.table, setting.scope)
    stem = setting.space.positions[0].choices[0].ops[0]
    assert set(behind) == {op.op_id for op in setting.space.ops()} - {stem.op_id}
    assert made.pairs == len(behind)
    pricer = Pricer(setting.table, setting.scope, setting.space.ops(), composition)
    assert pricer.op_ms(stem, first=True) == pytest.approx(pricer.rows_ms[stem], rel=1e-3)
    with pytest.raises(MissingRow, match=r"lacks 1 of 1\); measure them: hwprof calibrate .* --behind"):
        pricer.op_ms(stem)


def test_behind_rows_make_the_costs_of_a_search(table, wanted):
    from hwprof.search import ExpectedLatency

    calibrate(table, wanted, networks=6, model="behind")
    setting = find_setting(table, wanted)
    cost = ExpectedLatency(load_lut(table), setting.space, calibrated=True)
    pricer = pricer_for(setting.table, setting.scope, setting.space.ops())
    point = tuple(len(position.choices) - 1 for position in setting.space.positions)
    exact = pricer.price(setting.space.point_ops(point)).latency_ms
    assert float(cost.price([point])) == pytest.approx(exact, rel=1e-5)
    assert ExpectedLatency(load_lut(table), setting.space, sigmas=1.0).price([point]) > exact


def test_edges_are_those_of_the_tables_own_dtype(calibrated, wanted):
    """Keys do not say the dtype, and a table may hold several."""
    calibrate(calibrated, wanted, networks=12, model="edges")
    setting = find_setting(calibrated, wanted)
    before = edge_latencies_ms(setting.table, setting.scope)
    rows = setting.table.table.to_pylist()
    for row in setting.table.filter(granularity=["op", "pair"]).table.to_pylist():
        found = json.loads(row["op_json"])
        ops = tuple(
            OpSpec.from_dict({**op, "dtype": "float16"})
            for op in (found if isinstance(found, list) else [found])
        )
        job = Job(ops, row["granularity"])
        chain = len(ops) > 1
        own = chain_columns(job.job_id, job.label, ops, job.lower()) if chain else op_columns(ops[0])
        rows.append({**row, **own, "latency_ms": row["latency_ms"] * (3 if chain else 1)})
    metadata = setting.table.metadata
    write_lut(calibrated, rows, metadata={name: metadata[name] for name in ("spaces", "environments")})
    both = load_lut(calibrated)
    assert edge_latencies_ms(both, setting.scope) == before
    other = edge_latencies_ms(both, replace(setting.scope, dtype="float16"))
    assert other.keys() == before.keys()
    assert all(other[key] > before[key] for key in before)


def test_plain_sum_is_chosen_where_it_is_the_best(calibrated, wanted):
    """An outlier can make every fitted weight worse than none."""
    old = load_lut(calibrated)
    rows = old.table.to_pylist()
    alone = {row["op_id"]: row for row in rows if row["granularity"] == "op"}
    for row in rows:
        if row["granularity"] == "network":
            ids = [OpSpec.from_dict(op).op_id for op in json.loads(row["op_json"])]
            for name in ("latency_ms", "p50_ms"):
                row[name] = sum(alone[op_id][name] for op_id in ids)
            row |= dict.fromkeys(("latency_low_ms", "latency_high_ms"), row["latency_ms"])
    write_lut(calibrated, rows, metadata=old.metadata, visits=old.visits)
    made = calibrate(calibrated, wanted, networks=12)
    assert [composition.model for composition in made.compositions] == ["sum", "sum"]


def test_errors_of_a_composition_go_with_it(validated_copy, wanted):
    """The new one may have been fitted on the very networks that the old one was judged by."""
    table = validated_copy
    foreign = load_lut(table).metadata["validation"][0] | {"space": "another"}
    old = load_lut(table)
    stored = {**old.metadata, "validation": [*old.metadata["validation"], foreign]}
    write_lut(table, old.table, metadata=stored, visits=old.visits)
    calibrate(table, wanted, networks=20)
    assert load_lut(table).metadata["validation"] == stored["validation"]  # nothing has changed
    calibrate(table, wanted, networks=20, model="scale")
    assert load_lut(table).metadata["validation"] == [foreign]


def test_composition_that_cannot_be_read_is_fitted_anew_and_others_are_left_alone(calibrated, wanted):
    old = load_lut(calibrated)
    floor, p50 = old.metadata["composition"]
    of_another_hwprof = {"scope": {**floor["scope"], "space": "another"}, "model": "network of nets"}
    stored = [{**floor, "coefficients": 3}, p50, of_another_hwprof]
    write_lut(calibrated, old.table, metadata={**old.metadata, "composition": stored}, visits=old.visits)
    with pytest.raises(LutError, match="is not one that this hwprof reads; fit it anew: hwprof calib"):
        validate(calibrated, wanted, networks=4)
    calibrate(calibrated, wanted, networks=12)
    entries = load_lut(calibrated).metadata["composition"]
    assert entries[0] == of_another_hwprof
    assert [entry["scope"] for entry in entries[1:]] == [floor["scope"], p50["scope"]]


def test_interrupted_pairs_are_taken_up_by_the_same_command(calibrated, wanted, monkeypatch, capsys):
    """The networks, which are all there by then, once sealed the journal of the pairs."""
    from hwprof.build import resume
    from hwprof.build.progress import Progress

    class Killing(resume.Records):
        made = 0

        def visited(self, row, made):
            super().visited(row, made)
            Killing.made += row.job.granularity == "pair"
            if Killing.made == 9:
                raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(resume, "Records", Killing)
        with pytest.raises(KeyboardInterrupt):
            calibrate(calibrated, wanted, networks=12, edges=True)
    calibrate(calibrated, wanted, networks=12, edges=True, progress=Progress())
    assert "resuming: 9 visits of 4 rows reused" in capsys.readouterr().err
