"""The charts' data, against what the table says itself."""

import json
from datetime import timedelta

import numpy as np
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hwprof.errors import LutError
from hwprof.lut import load_lut, write_lut
from hwprof.lut.diff.tables import diff
from hwprof.report import changes, facts
from hwprof.report.chart import Absent, theme, view
from hwprof.report.charts import CHARTS
from hwprof.report.drift import VISITS, drift
from hwprof.report.heatmap import heatmap
from hwprof.report.latency_flops import latency_flops
from hwprof.report.page import made_page
from hwprof.report.prediction import prediction
from hwprof.report.predictions import FITTED, HELD_OUT, UNCALIBRATED, predictions
from hwprof.report.rows import MOST_READ, open_table, rows_frame, sampled
from hwprof.report.text import visible

SERIES = (VISITS, "all rows", "dense sentinel")


def values(chart):
    return chart.spec["data"]["values"]


@pytest.fixture(scope="module")
def table(validated):
    return open_table(validated)


@pytest.fixture
def changed(table, tmp_path):
    """Writes the table anew with other rows or metadata."""

    def write(rows=None, visits=None, **metadata):
        path = tmp_path / "changed.parquet"
        rows = table.table.to_pylist() if rows is None else rows
        write_lut(path, rows, metadata={**table.metadata, **metadata}, visits=visits)
        return open_table(path)

    return write


def test_each_row_is_a_point_with_its_own_interval(table):
    points = {value["op_id"]: value for value in values(latency_flops(table))}
    for row in table.table.to_pylist():
        value = points.pop(row["op_id"])
        assert value["flops"] == row["flops"]
        assert (value["low"], value["latency_ms"], value["high"]) == (
            row["latency_low_ms"], row["latency_ms"], row["latency_high_ms"],
        )  # fmt: skip
    assert points == {}


def test_rows_of_several_environments_differ_by_colour(table, changed):
    rows = table.filter(granularity="op").table.to_pylist()
    ((name, found),) = table.environments.items()
    other = {**found, "identity": {**found["identity"], "device": "another"}}
    rows += [row | {"environment_id": "other"} for row in rows]
    both = changed(rows, environments={name: found, "other": other}, composition=None, validation=None)
    colour = latency_flops(both).spec["layer"][1]["encoding"]["color"]
    assert colour["field"] == "environment"
    assert len(colour["scale"]["domain"]) == 2
    assert {value["environment"] for value in values(latency_flops(both))} == set(
        colour["scale"]["domain"]
    )
    assert len(facts.environments([both])[0]) == 2


def test_heat_map_has_one_cell_an_op_and_a_cross_for_a_failed_one(hostile):
    table = open_table(hostile)
    chart = heatmap(table)
    ops = table.filter(granularity="op").table.to_pylist()
    there = {value["op_id"]: value for value in values(chart)}
    assert set(there) == {op["op_id"] for op in ops if op["kernel_mix"] and op["height"]}
    for op in ops:
        if op["op_id"] in there:
            assert there[op["op_id"]]["latency_ms"] == op["latency_ms"]
    (failed,) = (value for value in there.values() if value["latency_ms"] is None)
    assert failed["latency"] == "failed"
    assert "× is an op without a number" in chart.caption
    lines = {row[0]: row[1:] for row in chart.data.rows}
    assert sum(cell == "failed" for cells in lines.values() for cell in cells) == 1


def test_a_kernel_mix_that_is_none_is_left_out(table, changed):
    rows = table.filter(granularity="op").table.to_pylist()
    spoiled = [row["op_id"] for row in rows if row["kernel_mix"]][:3]
    strange = dict(zip(spoiled, ("3:", "x" * 10_000, "3:8,<b>:4"), strict=True))
    rows = [row | {"kernel_mix": strange.get(row["op_id"], row["kernel_mix"])} for row in rows]
    there = {value["op_id"] for value in values(heatmap(changed(rows)))}
    assert there
    assert not there & set(spoiled)


def test_predictions_are_those_of_the_validation(table):
    found = predictions(table)
    (entry,) = table.metadata["validation"]
    assert found.role == HELD_OUT
    assert [network.op_id for network in found.networks] == entry["ids"]
    errors = [abs(network.error) for network in found.networks]
    assert np.mean(errors) == pytest.approx(entry["mean_error"])
    raw = [abs(network.raw_ms / network.measured_ms - 1) for network in found.networks]
    assert np.mean(raw) == pytest.approx(entry["raw_mean_error"])
    assert found.noise_floor == pytest.approx(entry["noise_floor"])


def test_networks_of_the_fit_are_called_that(changed):
    found = predictions(changed(validation=None))
    assert found.role == FITTED
    assert "no test of it" in prediction(changed(validation=None)).caption


def test_uncalibrated_networks_are_plain_sums(changed):
    found = predictions(changed(validation=None, composition=None))
    assert found.role == UNCALIBRATED
    assert [network.predicted_ms for network in found.networks] == [
        network.raw_ms for network in found.networks
    ]


def test_a_network_with_an_op_that_has_no_row_is_counted(table, changed):
    rows = table.table.to_pylist()
    gone = next(row for row in rows if row["granularity"] == "op" and row["kind"] == "mbconv")
    found = predictions(changed([row for row in rows if row is not gone]))
    assert found.unpriced > 0
    assert found.unpriced + len(found.networks) == table.metadata["validation"][0]["networks"]


@pytest.mark.parametrize("text", ["[1]", '["x"]', "[" * 100_000, "{}", '[{"kind": "no"}]', ""])
def test_a_network_that_is_none_is_a_reason_and_no_traceback(table, changed, text):
    rows = table.table.to_pylist()
    network = table.metadata["validation"][0]["ids"][0]
    rows = [row | {"op_json": text} if row["op_id"] == network else row for row in rows]
    made = prediction(changed(rows))
    assert isinstance(made, Absent) or "left out" in made.caption


@pytest.mark.parametrize("spoiled", [{"ids": True}, {"ids": {}}, {"environment_id": ...}])
def test_metadata_that_are_no_validation_are_a_reason(table, changed, spoiled):
    entry = table.metadata["validation"][0] | spoiled
    entry = {name: value for name, value in entry.items() if value is not ...}
    made = prediction(changed(validation=[entry]))
    assert made.reason == "the table's validation is not one that this hwprof reads; validate it again"


@pytest.mark.parametrize("spoiled", [{"environment_id": [1]}, {"batch": "one"}])
def test_a_validation_of_the_wrong_types_is_refused_before_it_is_drawn(table, changed, spoiled):
    with pytest.raises(LutError, match="is not null or a list of validations"):
        changed(validation=[table.metadata["validation"][0] | spoiled])


def test_a_validation_of_nothing_here_is_no_traceback(table, changed):
    made = prediction(changed(validation=[table.metadata["validation"][0] | {"statistic": "mean"}]))
    assert isinstance(made, Absent) or "no fit has seen" in made.caption or "no test" in made.caption


def test_drift_shows_windows_of_rows_and_sentinels_over_the_visits(table, changed):
    in_time = ("phase", "process", "round")
    visits = sorted(table.visits.to_pylist(), key=lambda visit: [visit[name] for name in in_time])
    first = min(visit["started_at"] for visit in visits)
    for place, visit in enumerate(visits):
        # Over ten minutes the sentinel becomes 10 % slower.
        share = place / len(visits)
        visit["started_at"] = first + share * timedelta(minutes=10)
        visit["dense_sentinel_ms"] = 0.5 * (1 + 0.1 * share)
    chart = drift(changed(visits=visits))
    points = {name: [v for v in values(chart) if v["series"] == name] for name in SERIES}
    assert all(points.values())
    sentinel = [point["deviation"] for point in points["dense sentinel"]]
    assert sentinel == sorted(sentinel)
    assert 0.03 < sentinel[-1] - sentinel[0] < 0.1
    assert points[VISITS][0]["minutes"] >= 0
    builds = {row[0] for row in chart.data.rows}
    assert builds == set(table.table.column("build_id").to_pylist())


EXTREMES = {
    "latency_ms": (-1.0, 0.0, 1e308, 5e-324, float("nan"), float("inf"), None),
    "latency_low_ms": (-1.0, float("inf"), None),
    "flops": (0, -1, 2**62, None),
    "bytes_moved": (0, -1, 2**62, None),
    "height": (0, -1, 2**31 - 1, None),
    "in_channels": (0, -1, None),
    "stride": (0, -1, None),
    "kernel_mix": ("", "3", "3:8,", "9" * 99 + ":1", None),
    "label": ("", "\x00", "\ud7ff", "x" * 100_000, None),
    "op_id": ("", "<b>", "__proto__"),
    "op_json": ("", "null", "[" * 10_000, "[{}]"),
    "started_at": (-(2**60), 2**60, None),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_table_that_breaks_its_schema_is_a_page_or_one_line(validated, copy, data):
    path = copy(validated)
    table = pyarrow.parquet.read_table(path)
    for name in data.draw(st.sets(st.sampled_from(sorted(EXTREMES)), min_size=1, max_size=3)):
        place, kind = table.schema.get_field_index(name), table.schema.field(name).type
        stored = pyarrow.int64() if pyarrow.types.is_timestamp(kind) else kind
        values = table.column(name).cast(stored).to_pylist()
        for row in data.draw(st.sets(st.integers(0, len(values) - 1), min_size=1)):
            values[row] = data.draw(st.sampled_from(EXTREMES[name]))
        column = pyarrow.array(values, stored).cast(kind)
        table = table.set_column(place, pyarrow.field(name, kind), column)
    pyarrow.parquet.write_table(table, path)
    try:
        page = made_page([path], (), 1000)
    except LutError:
        return
    json.dumps([page.rows, [f.chart.spec for f in page.figures if f.drawn]], allow_nan=False)


def test_change_names_the_row_that_became_slower(validated, hostile):
    found = diff(load_lut(validated), load_lut(hostile))
    chart = changes.change(found)
    first, *_ = values(chart)
    assert first["series"] == changes.CHANGED
    assert first["own"] == pytest.approx(0.3, abs=0.02)
    assert ("state changed", "converged → failed: 1 row") in changes.facts(found)


def test_a_table_without_rows_has_reasons_for_every_chart(changed):
    empty = changed([], validation=None, composition=None)
    for name, make in CHARTS.items():
        made = make(empty)
        assert isinstance(made, Absent), name
        assert made.reason


def test_numbers_that_are_none_are_null_in_a_chart():
    spec = view([{"a": float("nan"), "b": float("inf"), "c": 1.0}], [], height=1, about="")
    assert spec["data"]["values"] == [{"a": None, "b": None, "c": 1.0}]


def test_a_very_large_table_is_looked_at_in_a_sample(table):
    class Large:
        metadata, path = table.metadata, table.path

        def __len__(self):
            return 3 * MOST_READ

        def columns(self, names):
            rows = np.arange(3 * MOST_READ) % len(table)
            return table.columns(names).take(rows)

    drawn = sampled(Large())
    assert len(drawn) == len(drawn.columns(["op_id"])) == MOST_READ
    assert sampled(table) is table


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("board\u202egpj", "board\\u202egpj"),
        ("a\nb\x00\x1b[31m", "a\\nb\\x00\\x1b[31m"),
        ("Ryzen™ 9 €", "Ryzen™ 9 €"),
        ("x" * 300, "x" * 200 + "…"),
    ],
)
def test_text_that_cannot_be_seen_is_spelled_out(text, shown):
    assert visible(text) == shown


def _contrast(first, second):
    """WCAG 2.2, relative luminance."""

    def luminance(colour):
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(("dark", "page"), [(False, "#ffffff"), (True, "#12161c")])
def test_colours_of_charts_stand_out_from_the_page(dark, page):
    found = theme(dark)
    texts = [found["axis"]["labelColor"], found["axis"]["titleColor"], found["legend"]["labelColor"]]
    for colour in (*texts, *found["range"]["category"]):
        assert _contrast(colour, page) >= 4.5, colour


def test_frame_has_all_rows_of_the_table(table):
    frame = rows_frame(table)
    assert len(frame) == len(table)
    assert set(frame["series"]) >= {"mbconv", "network"}


def test_a_validation_that_does_not_say_its_networks_once_ended_a_report(table, changed):
    """Another version of hwprof may not write a field; found by benchmarks/fuzz_tables.py."""
    for name in ("networks", "mean_error", "within_2"):
        validation = [
            {key: value for key, value in entry.items() if key != name}
            for entry in table.metadata["validation"]
        ]
        said = facts.quality(changed(validation=validation))["validated error"]
        assert "held-out networks" in said
