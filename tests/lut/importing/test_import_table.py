"""What every imported table has in common, whatever it was read from."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwprof import ops
from hwprof.errors import LutError
from hwprof.lut import load_lut, verify_lut
from hwprof.lut.importing import FORMATS, Request, import_table
from hwprof.lut.importing.entries import Entry, Network, Part, Read, latency_ms
from hwprof.lut.importing.writing import write_read
from hwprof.measure.messages import Job
from hwprof.space import load_space

CONV = ops.conv((1, 3, 32, 32), 8, 3)
OTHER = ops.conv((1, 3, 32, 32), 16, 3)
CSV = "kind,in_channels,side,out_channels,kernel,latency_ms\nconv,3,32,8,3,0.5\n"
TOLD = {"device": "board", "runtime": "own"}


def part(*entries, device="board", **more):
    return Part({"device": device, "runtime": "own"}, ("a doubt",), entries, **more)


def test_rows_are_imported_without_precision_that_nobody_measured(write, imported):
    made, lut = imported(write("a.csv", CSV), "csv", **TOLD)
    row = lut.find(CONV)
    assert row["latency_ms"] == 0.5
    assert (row["state"], row["source"], row["threads"]) == ("imported", "imported", 1)
    assert (row["backend"], row["target"], row["granularity"]) == ("own", "board", "op")
    assert row["reason"] == "line 2 conv (0.5 ms)"
    for name in (
        "latency_low_ms", "latency_high_ms", "min_ms", "p10_ms", "p50_ms", "p90_ms", "p99_ms", "visits",
        "clean_visits", "processes", "samples", "energy_mj", "peak_memory_bytes", "bytes_moved",
        "compile_ms", "started_at", "build_id", "space", "tuning", "placement",
    ):  # fmt: skip
        assert row[name] is None, name
    ((environment_id, facts),) = lut.environments.items()
    assert made.environment_ids == (environment_id,)
    assert facts["identity"] == {"device": "board", "runtime": "own", "imported_from": "CSV table"}
    assert any("threads are not told" in doubt for doubt in facts["conditions"]["doubts"])
    assert len(facts["conditions"]["entries_sha256"]) == 64


def test_threads_that_are_told_are_part_of_the_environment(write, imported):
    one, _ = imported(write("a.csv", CSV), "csv", **TOLD)
    four, lut = imported(write("a.csv", CSV), "csv", **TOLD, threads=4)
    assert one.environment_ids != four.environment_ids
    assert lut.table.column("threads").to_pylist() == [4]
    (facts,) = lut.environments.values()
    assert not any("threads" in doubt for doubt in facts["conditions"]["doubts"])


def test_several_numbers_of_an_op_make_one_row_their_median_that_names_them(tmp_path):
    entries = [Entry(f"line {n}", CONV, value, f"{value} ms") for n, value in enumerate((3.0, 1.0, 2.0))]
    made = write_read(Read((part(*entries),), ()), tmp_path / "lut.parquet", "x")
    assert (made.rows, made.entries, made.repeated) == (1, 3, 2)
    row = load_lut(tmp_path / "lut.parquet").find(CONV)
    assert row["latency_ms"] == 2.0
    assert row["reason"] == "median of 3: line 0 (3.0 ms), line 1 (1.0 ms), line 2 (2.0 ms)"


@settings(max_examples=30)
@given(values=st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=30))
def test_a_median_lies_among_its_entries_and_a_reason_stays_short(tmp_path_factory, values):
    out = tmp_path_factory.mktemp("median") / "lut.parquet"
    entries = [Entry("n" * 150, CONV, value, f"{value} ms") for value in values]
    made = write_read(Read((part(*entries),), ()), out, "x")
    row = load_lut(out).find(CONV)
    assert min(values) <= row["latency_ms"] <= max(values)
    assert len(row["reason"]) <= 1000
    assert made.repeated == len(values) - 1


def test_facts_that_entries_of_one_op_do_not_share_are_left_out(tmp_path):
    entries = [
        Entry("a", CONV, 1.0, "1", {"p50_ms": 1.0, "tuning": "same"}),
        Entry("b", CONV, 2.0, "2", {"p50_ms": 2.0, "tuning": "same"}),
    ]
    write_read(Read((part(*entries),), ()), tmp_path / "lut.parquet", "x")
    row = load_lut(tmp_path / "lut.parquet").find(CONV)
    assert (row["p50_ms"], row["tuning"]) == (None, "same")


def test_a_sum_gives_way_to_a_number_of_the_same_op(tmp_path):
    entries = [
        Entry("sum", CONV, 3.0, "3", source="derived"),
        Entry("own", CONV, 1.0, "1"),
        Entry("sum of others", OTHER, 5.0, "5", source="derived"),
    ]
    made = write_read(Read((part(*entries),), ()), tmp_path / "lut.parquet", "x")
    lut = load_lut(tmp_path / "lut.parquet")
    assert (lut.latency_ms(CONV), lut.latency_ms(OTHER)) == (1.0, 5.0)
    assert (made.rows, made.entries, made.repeated, made.derived) == (2, 1, 0, 1)
    assert lut.find(OTHER)["source"] == "derived"


def test_numbers_too_large_for_a_column_are_refused_by_name_and_the_rest_is_kept(tmp_path):
    huge = ops.conv((1, 99999, 99999, 99999), 99999, 1)
    entries = [Entry("huge", huge, 1.0, "1"), Entry("fine", CONV, 1.0, "1")]
    made = write_read(Read((part(*entries),), ()), tmp_path / "lut.parquet", "x")
    assert made.rows == 1
    ((name, reason),) = made.refused
    assert (name, "more than int64 holds" in reason) == ("huge", True)


def test_two_parts_are_two_environments_and_never_one(tmp_path):
    first, second = part(Entry("a", CONV, 1.0, "1")), part(Entry("b", CONV, 2.0, "2"), device="phone")
    made = write_read(Read((first, second), ()), tmp_path / "lut.parquet", "x")
    assert (made.rows, len(made.environment_ids)) == (2, 2)
    with pytest.raises(LutError, match="two parts of one environment"):
        write_read(Read((first, first), ()), tmp_path / "again.parquet", "x")
    assert not (tmp_path / "again.parquet").exists()


def test_a_network_has_the_id_that_a_build_gives_it(tmp_path):
    space = load_space("tiny")
    point = tuple(0 for _ in space.positions)
    ops_of, graph = space.point_ops(point), space.network(point)
    network = Network.of(ops_of, graph)
    assert network.network_id == Job(ops_of, "network", graph).job_id
    write_read(Read((part(Entry("net", network, 1.5, "1.5 ms")),), ()), tmp_path / "lut.parquet", "x")
    row = load_lut(tmp_path / "lut.parquet").find(network.network_id, granularity="network")
    assert (row["latency_ms"], row["kind"]) == (1.5, "chain")
    verify_lut(tmp_path / "lut.parquet")


def test_a_source_without_any_op_is_an_error_that_counts_and_writes_nothing(write, tmp_path):
    source = write("a.csv", CSV.replace("conv,3", "cnov,3"))
    with pytest.raises(LutError, match=r"no number of an op.*; 1 could not be read, first line 2 cnov"):
        import_table(source, tmp_path / "lut.parquet", "csv", Request(**TOLD))
    assert not (tmp_path / "lut.parquet").exists()


def test_a_table_that_is_there_is_never_touched(write, imported, tmp_path):
    source = write("a.csv", CSV)
    imported(source, "csv", **TOLD)
    before = (tmp_path / "lut0.parquet").read_bytes()
    with pytest.raises(LutError, match="exists; give another name"):
        import_table(source, tmp_path / "lut0.parquet", "csv", Request(**TOLD))
    assert (tmp_path / "lut0.parquet").read_bytes() == before


@pytest.mark.parametrize("file_format", sorted(FORMATS))
def test_a_request_that_a_format_does_not_take_is_an_error(file_format, tmp_path):
    taken = FORMATS[file_format].takes
    values = {"batch": 2, "per_ms": 5.0, "columns": {"a": "b"}, "layers": "x", "metric": "m"}
    name = next(name for name in values if name not in taken)
    with pytest.raises(
        LutError, match=f"format {file_format} takes no {name}; it takes device, runtime"
    ):
        import_table(tmp_path / "a", tmp_path / "b", file_format, Request(**{name: values[name]}))


@pytest.mark.parametrize("file_format", sorted(FORMATS))
def test_a_missing_source_is_an_error(file_format, tmp_path):
    told = {"model": tmp_path / "m"} if file_format == "litert" else {}
    told |= {"layers": "imagenet"} if file_format == "fbnet" else {}
    with pytest.raises(LutError, match=r"none|no file"):
        import_table(tmp_path / "none", tmp_path / "lut.parquet", file_format, Request(**TOLD, **told))


def test_an_unknown_format_is_an_error(tmp_path):
    with pytest.raises(LutError, match="format 'nni' is unknown; known are ofa, proxylessnas"):
        import_table(tmp_path, tmp_path / "lut.parquet", "nni")


@pytest.mark.parametrize(
    "wrong",
    [
        {"device": ""}, {"device": "a\nb"}, {"runtime": "x" * 300}, {"threads": 0}, {"batch": -1},
        {"per_ms": float("inf")}, {"per_ms": 0.0},
    ],
)  # fmt: skip
def test_a_request_that_says_nothing_is_refused(wrong):
    with pytest.raises(LutError, match=r"is no name|is not 1 to|is no unit"):
        Request(**wrong)


@pytest.mark.parametrize("missing", ["device", "runtime"])
def test_numbers_of_nobody_knows_what_are_refused(write, tmp_path, missing):
    told = {name: value for name, value in TOLD.items() if name != missing}
    with pytest.raises(LutError, match=f"does not tell its {missing}; give --{missing} NAME"):
        import_table(write("a.csv", CSV), tmp_path / "lut.parquet", "csv", Request(**told))


@given(st.floats(allow_nan=True) | st.integers() | st.text(max_size=5) | st.none() | st.booleans())
def test_a_latency_is_above_0_and_finite_or_refused(value):
    try:
        found = latency_ms(value, 1000.0)
    except LutError:
        assert not (
            isinstance(value, int | float) and not isinstance(value, bool) and 0.001 < value < 1e9
        )
    else:
        assert 0 < found <= 1e9


def test_a_summary_is_plain_json(write, imported):
    text = CSV + "nothing,3,32,8,3,0.5\n"
    made, _ = imported(write("a.csv", text), "csv", **TOLD)
    told = json.loads(json.dumps(made.summary()))
    assert (told["rows"], told["entries"], told["repeated"], told["derived"]) == (1, 1, 0, 0)
    assert told["refused"][0]["name"] == "line 3 nothing"
