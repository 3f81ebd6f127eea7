"""Calibration: what is measured, fitted, stored, and what becomes of a table when it cannot be."""

from dataclasses import replace
from pathlib import Path

import pytest

from hwprof.backends.simulated import CALL_OVERHEAD_MS
from hwprof.composition.composition import composition_for, compositions
from hwprof.composition.edges import edge_latencies_ms
from hwprof.composition.price import Pricer
from hwprof.errors import BuildError, LutError, MissingRow
from hwprof.lut import load_lut, verify_lut, write_lut
from hwprof.validation.calibrate import calibrate
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
    edges = edge_latencies_ms(
        setting.table,
        environment=setting.scope.environment_id,
        cache="warm",
        column="latency_ms",
    )
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
        ({"networks": 4, "model": "terms"}, "4 networks are too few to calibrate with, 5 is the least"),
        ({"model": "magic"}, "model 'magic' is unknown; choose of auto, sum, edges, scale"),
    ],
)
def test_what_cannot_be_fitted_is_refused_before_anything_is_measured(options, message, table, wanted):
    before = table.read_bytes()
    with pytest.raises(LutError, match=message):
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
