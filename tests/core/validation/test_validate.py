"""Validation: held-out networks, what is reported, and when rows do not add up."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from hwprof.composition.composition import compositions
from hwprof.errors import LutError
from hwprof.lut import load_lut, write_lut
from hwprof.validation.setting import Wanted
from hwprof.validation.validate import _by_flops, compare, validate, without_edges

PROMISED = (
    "networks", "mean_error", "median_error", "within_1", "within_2", "within_5", "within_10", "bias",
    "spearman", "kendall", "fit_networks", "raw_mean_error", "constant_mean_error", "flops_mean_error",
    "noise_floor",
)  # fmt: skip


def test_uncalibrated_table_is_calibrated_first_on_other_networks(validated):
    _, report = validated
    assert report.calibrated_now
    assert len(report.composition.networks) == 20
    held_out = {network.op_id for network in report.networks}
    assert len(held_out) == 10
    assert not held_out & set(report.composition.networks)
    assert report.errors.mean < 1e-4 < report.raw.mean
    assert report.errors.within[0.01] == 1.0
    assert report.additive
    assert report.spearman.value == pytest.approx(1.0)


def test_networks_of_the_fit_and_held_out_ones_were_measured_in_the_same_rounds(validated):
    """One after the other, the host changed its speed by 0.7 % in between."""
    table, report = validated
    processes = {}
    for visit in load_lut(table).visits.to_pylist():
        if visit["granularity"] == "network":
            processes.setdefault(visit["op_id"], set()).add(visit["process"])
    fitted = {frozenset(processes[op_id]) for op_id in report.composition.networks}
    assert fitted == {frozenset(processes[network.op_id]) for network in report.networks}


def test_summary_holds_what_is_promised_as_fractions_and_is_json(validated):
    _, report = validated
    summary = json.loads(json.dumps(report.summary()))
    assert set(PROMISED) <= set(summary)
    assert summary["networks"] == 10
    assert 0.0 <= summary["within_1"] <= summary["within_10"] <= 1.0
    assert summary["flops_mean_error"] < summary["constant_mean_error"]


def test_errors_stand_in_the_tables_metadata_and_in_its_summary(validated):
    table, report = validated
    lut = load_lut(table)
    (entry,) = lut.metadata["validation"]
    assert entry["mean_error"] == report.errors.mean
    assert set(entry["ids"]) == {network.op_id for network in report.networks}
    (told,) = lut.summary()["validated_error"]
    assert (told["space"], told["networks"], told["statistic"]) == ("small", 10, "floor")


def test_breakdown_of_a_network_adds_up_to_its_prediction(validated):
    _, report = validated
    for network in report.networks:
        parts = sum(ms for _, ms in network.blocks_ms) + network.border_ms
        assert parts == pytest.approx(network.predicted_ms)


def test_second_validation_measures_nothing_anew_and_says_the_same(validated, wanted):
    table, report = validated
    rows = len(load_lut(table))
    again = validate(table, wanted, networks=10)
    assert len(load_lut(table)) == rows
    assert not again.calibrated_now
    assert again.errors == report.errors
    assert len(load_lut(table).metadata["validation"]) == 1


def test_error_on_a_network_of_the_fit_is_refused(validated, wanted):
    table, report = validated
    used = {report.composition.networks[0]: False, report.networks[0].op_id: False}
    with pytest.raises(LutError, match="was used for the fit; an error on it would say nothing"):
        compare(load_lut(table), report.composition, used, chain=True)


def test_rows_that_do_not_add_up_are_said_not_to(validated):
    table, report = validated
    wrong = replace(report.composition, model="scale", coefficients={"rows": 1.5})
    spread = {network.op_id: network.spread for network in report.networks}
    found = compare(load_lut(table), wrong, spread, chain=True)
    assert found.errors.mean > 0.4
    assert not found.additive
    assert found.summary()["additive"] is False


def test_edges_that_make_up_for_rows_which_do_not_add_up_are_told(validated):
    _, report = validated
    assert not report.edges_needed
    assert report.summary()["without_edges_mean_error"] is None
    tried = {"sum": 0.2, "terms": 0.09, "edges": 0.001}
    edges = replace(report.composition, coefficients={"rows": 1.0, "edges": 1.0}, compared=tried)
    found = replace(report, composition=edges, without_edges=without_edges(edges, 0.3))
    assert found.without_edges == 0.09
    assert found.edges_needed
    # A model that was asked for by name is compared with nothing but the plain sum.
    assert without_edges(replace(edges, compared={"edges": 0.001}), 0.3) == 0.3


def test_worst_networks_are_told_block_by_block_in_json(validated):
    table, report = validated
    worst = json.loads(json.dumps(report.summary()))["worst"]
    assert [network["error"] for network in worst] == sorted(
        (network.error for network in report.networks), key=lambda error: -abs(error)
    )[:3]
    for network in worst:
        parts = sum(block["ms"] for block in network["blocks"]) + network["border_ms"]
        assert parts == pytest.approx(network["predicted_ms"])
    assert "worst" not in load_lut(table).metadata["validation"][0]


def test_unstable_rows_that_predictions_are_made_of_are_counted(validated_copy):
    old = load_lut(validated_copy)
    rows = old.table.to_pylist()
    for row in [row for row in rows if row["granularity"] == "op"][:2]:
        row |= {"state": "unstable", "reason": "a busy neighbour"}
    write_lut(validated_copy, rows, metadata=old.metadata, visits=old.visits)
    table = load_lut(validated_copy)
    composition = compositions(table.metadata)[0]
    (entry,) = table.metadata["validation"]
    found = compare(table, composition, dict.fromkeys(entry["ids"], False), chain=True)
    assert found.unstable_rows == found.summary()["unstable_rows"] == 2


def test_composition_without_its_networks_is_refused_before_anything_is_measured(validated_copy, wanted):
    """A table that was handed on without them has nothing to make a constant or a line of FLOPs from."""
    old = load_lut(validated_copy)
    ops = old.filter(granularity="op")
    write_lut(validated_copy, ops.table, metadata=old.metadata)
    before = validated_copy.read_bytes()
    with pytest.raises(LutError, match=r"no row of the 20 networks that its .* hwprof calibrate"):
        validate(validated_copy, wanted, networks=4)
    assert validated_copy.read_bytes() == before


def test_networks_measured_where_the_rows_were_are_in_no_other_environment(validated):
    table, report = validated
    lut, (here,) = load_lut(table), load_lut(table).environments
    spread = {network.op_id: network.spread for network in report.networks}
    assert compare(lut, report.composition, spread, chain=True, measured_in=here).measured_in is None


def test_noise_floor_is_the_distance_of_two_measurements(tmp_path, small_space):
    from hwprof.build import BuildOptions, build_lut

    path = tmp_path / "noisy.parquet"
    build_lut(BuildOptions("simulated", str(small_space), path, target="quiet", effort="fast"))
    report = validate(path, Wanted(space=str(small_space), effort="fast"), networks=6)
    assert 1e-4 < report.noise_floor < 0.02
    assert all(network.disagreement is not None for network in report.networks)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"networks": 1}, "networks must be 2 or more, got 1"),
        ({"fit_networks": 3}, "3 networks are too few to calibrate with, 4 is the least"),
        ({"statistic": "mean"}, "statistic 'mean' is unknown; choose of floor, p50"),
    ],
)
def test_bad_options_are_refused(options, message, table, wanted):
    with pytest.raises(LutError, match=message):
        validate(table, wanted, **options)


def test_networks_without_flops_once_made_lapack_print(capfd):
    networks = [SimpleNamespace(latency_ms=ms, flops=0) for ms in (1.0, 1.0, 1.0)]
    assert _by_flops(networks, networks) == pytest.approx([1.0, 1.0, 1.0])
    assert capfd.readouterr().out == ""
