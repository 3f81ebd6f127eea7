"""A plain CSV: columns of any name, mapped to the fields of an op and its latency."""

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwprof import ops
from hwprof.errors import LutError
from hwprof.lut import load_lut, write_lut
from hwprof.lut.exporting import export
from hwprof.lut.importing import Request, import_table
from hwprof.lut.importing.plain_csv import LATENCIES, _op_of

TOLD = {"device": "board", "runtime": "own"}
ROWS = {
    "conv,3,224,,32,3,,2,relu,,,,,,": ops.conv((1, 3, 224, 224), 32, 3, stride=2, activation="relu"),
    "conv,8,16,24,8,1,,,,,,2,,,": ops.conv((1, 8, 16, 24), 8, 1, groups=2),
    "depthwise,8,16,,,5,,,relu6,,,,,,": ops.depthwise((1, 8, 16, 16), 5, activation="relu6"),
    "mbconv,24,56,,24,3,144,1,relu,,,,,,": ops.mbconv((1, 24, 56, 56), 24, 3, 6),
    "mbconv,24,56,,24,3,144,1,relu,,,,,false,": ops.mbconv((1, 24, 56, 56), 24, 3, 6, residual=False),
    "mbconv,24,56,,40,3,144,2,hswish,0.25,,,,,": ops.mbconv(
        (1, 24, 56, 56), 40, 3, 6, stride=2, activation="hswish", se_ratio=0.25
    ),
    "fused_mbconv,24,56,,24,3,96,1,relu,,,,,,": ops.fused_mbconv((1, 24, 56, 56), 24, 3, 4),
    'mixconv,24,56,,24,,,1,relu,,,,,,"3:48,5:24"': ops.mixconv((1, 24, 56, 56), 24, {3: 48, 5: 24}),
    "basic_block,16,32,,16,3,,1,relu,,,,,,": ops.OpSpec(
        "basic_block", (1, 16, 32, 32), 16, mix=((3, 16),), activation="relu"
    ),
    "pool,16,32,,,3,,2,,,,,max,,": ops.pool((1, 16, 32, 32), "max", 3, stride=2),
    "pool,16,32,,,,,,,,,,global_avg,,": ops.pool((1, 16, 32, 32), "global_avg"),
    "head,320,7,,1000,,1280,,relu,,,,,,": ops.head((1, 320, 7, 7), 1000, 1280),
    "fc,1280,,,1000,,,,,,,,,,": ops.fc((1, 1280), 1000),
    "activation,16,32,,,,,,swish,,,,,,": ops.activation((1, 16, 32, 32), "swish"),
    "se,16,32,,,,,,,,4,,,,": ops.squeeze_excite((1, 16, 32, 32), 0.25),
}
HEADER = (
    "kind,in_channels,height,width,out_channels,kernel,hidden_channels,stride,activation,se_ratio,"
    "se_channels,groups,pool,residual,kernel_mix"
)


def test_each_kind_of_op_is_read_from_its_fields(write, imported):
    lines = [f"{HEADER},latency_ms", *(f"{row},{0.5 + n}" for n, row in enumerate(ROWS))]
    made, lut = imported(write("a.csv", "\n".join(lines)), "csv", **TOLD)
    assert made.refused == ()
    for n, op in enumerate(ROWS.values()):
        assert lut.latency_ms(op) == 0.5 + n


def test_columns_of_any_name_are_mapped(write, imported):
    text = "layer;x,cin,px,Type,t (us)\nfirst,3.0,32.00,fc,1500\n"
    columns = {"latency_us": "t (us)", "kind": "Type", "in_channels": "cin", "out_channels": "px",
               "name": "layer;x"}  # fmt: skip
    _, lut = imported(write("a.csv", text), "csv", **TOLD, columns=columns)
    row = lut.find(ops.fc((1, 3), 32))
    assert (row["latency_ms"], row["reason"]) == (1.5, "line 2 first (1500 us)")


@pytest.mark.parametrize(("field", "per_ms"), LATENCIES.items())
def test_units_are_told_by_the_field(write, imported, field, per_ms):
    text = f"kind,in_channels,out_channels,{field}\nfc,3,4,{2 * per_ms}\n"
    _, lut = imported(write("a.csv", text), "csv", **TOLD)
    assert lut.latency_ms(ops.fc((1, 3), 4)) == pytest.approx(2.0, rel=1e-12)


def test_a_column_mapped_to_one_field_is_not_another_ones_as_well(write, imported):
    text = "kind,in_channels,out_channels,latency_ms,median\nfc,3,4,9,2\n"
    source = write("a.csv", text)
    with pytest.raises(LutError, match="needs one column of latencies, got latency_ms and latency_us"):
        imported(source, "csv", **TOLD, columns={"latency_us": "median"})
    _, lut = imported(source, "csv", **TOLD, columns={"latency_us": "latency_ms"})
    assert lut.latency_ms(ops.fc((1, 3), 4)) == 0.009


def test_batch_and_element_type_are_taken_where_they_are_told(write, imported):
    text = "kind,in_channels,out_channels,batch,dtype,latency_ms\nfc,3,4,32,float16,2\n"
    _, lut = imported(write("a.csv", text), "csv", **TOLD)
    row = lut.find(ops.fc((32, 3), 4, dtype="float16"))
    assert row["bytes_moved"] is not None
    (facts,) = lut.environments.values()
    assert not any("element type" in doubt for doubt in facts["conditions"]["doubts"])


def test_our_own_columns_are_read_back_as_they_were(write, imported, tmp_path):
    lines = [f"{HEADER},latency_ms", *(f"{row},{0.5 + n}" for n, row in enumerate(ROWS))]
    _, lut = imported(write("a.csv", "\n".join(lines)), "csv", **TOLD)
    wanted = lut.columns(["kind", "op_json", "latency_ms"]).to_pylist()
    out = io.StringIO()
    writer = csv.DictWriter(out, ["kind", "op_json", "latency_ms"])
    writer.writeheader()
    writer.writerows(wanted)
    _, again = imported(write("b.csv", out.getvalue()), "csv", **TOLD)
    assert sorted(again.columns(["op_json", "latency_ms"]).to_pylist(), key=str) == sorted(
        ({name: row[name] for name in ("op_json", "latency_ms")} for row in wanted), key=str
    )
    assert again.find(ops.fc((1, 1280), 1000))["bytes_moved"] is not None


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("cnov,3,32,,8,3,,,,,,,,,1", "kind 'cnov' is none of conv"),
        ("conv,3,32,,,3,,,,,,,,,1", "out_channels is not told"),
        ("conv,,32,,8,3,,,,,,,,,1", "in_channels is not told"),
        ("conv,3,,,8,3,,,,,,,,,1", "neither side nor height"),
        ("conv,3,32,,8,,,,,,,,,,1", "conv takes 1 to 1"),
        ("conv,3,32,,8,4,,,,,,,,,1", "kernel size 4"),
        ("conv,3,32,,8,3,,0,,,,,,,1", "stride must be 1"),
        ("conv,-3,32,,8,3,,,,,,,,,1", "in_channels '-3' is no whole number"),
        ("conv,3.5,32,,8,3,,,,,,,,,1", "in_channels '3.5' is no whole number"),
        ("conv,1e9,32,,8,3,,,,,,,,,1", "in_channels '1e9' is no whole number"),
        ("conv,3,32,,8,3,,,gelu,,,,,,1", "activation 'gelu' is unknown"),
        ("mbconv,3,32,,8,3,,,relu,,,,,,1", "neither hidden_channels nor expansion"),
        ("mbconv,3,32,,8,3,9,,relu,,,,,maybe,1", "residual 'maybe' is none of"),
        ("mbconv,3,32,,8,3,9,,relu,x,,,,,1", "se_ratio 'x' is no ratio"),
        ("mixconv,3,32,,8,,,,relu,,,,,,3:x,1", "kernel_mix '3:x' is not"),
        ("conv,3,32,,8,3,,,,,,,,,,0", "0 is no latency"),
        ("conv,3,32,,8,3,,,,,,,,,,nan", "nan is no latency"),
        ("conv,3,32,,8,3,,,,,,,,,,-1", "is no latency"),
        ("conv,3,32,,8,3,,,,,,,,,,fast", "'fast' is no number"),
        ("conv,3", "it has 2 cells, the first line 16"),
    ],
)
def test_lines_that_are_no_op_are_named_and_the_rest_is_imported(write, imported, row, why):
    good = next(iter(ROWS))
    cells = row.split(",")
    row = ",".join([*cells[:-1], *[""] * (16 - len(cells)), cells[-1]]) if len(cells) > 2 else row
    made, _ = imported(write("a.csv", f"{HEADER},latency_ms\n{good},1\n{row}\n"), "csv", **TOLD)
    assert made.rows == 1
    ((name, reason),) = made.refused
    assert name.startswith("line 3 ")
    assert why in reason


@pytest.mark.parametrize(
    ("text", "columns", "why"),
    [
        ("kind,in_channels\nfc,3\n", {}, "needs one column of latencies, got none"),
        ("a,latency_ms\n1,2\n", {}, "has no column for the kind of op"),
        ("kind,kind,latency_ms\na,b,1\n", {}, "has a column twice"),
        (
            "kind,latency_ms\nfc,1\n",
            {"speed": "kind"},
            "--map 'speed' is no field; fields are latency_s",
        ),
        ("kind,latency_ms\nfc,1\n", {"kernel": "k"}, "has no column 'k'; it has kind, latency_ms"),
        ("", {}, "needs one column of latencies"),
        ("kind," * 2000, {}, "more than 1000 columns"),
        ("kind,latency_ms\n" + "x" * 200_000, {}, "field larger than field limit"),
    ],
)
def test_other_files_are_one_line(write, tmp_path, text, columns, why):
    source = write("a.csv", text)
    with pytest.raises(LutError, match=why):
        import_table(source, tmp_path / "lut.parquet", "csv", Request(**TOLD, columns=columns))
    assert not (tmp_path / "lut.parquet").exists()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[" * 50_000, "nested deeper than 64"),
        ("5", "is no JSON object"),
        ("{", "no JSON"),
        ('{"kind": "conv"}', "not an op"),
        ('{"kind": ["conv"], "shape": [1, 2], "out_channels": 3}', "not an op"),
        ('{"kind": "fc", "shape": "12", "out_channels": 3}', "shape must be a whole number"),
        ('{"kind": "fc", "shape": [1, 2], "out_channels": 3, "mix": 5}', "not an op"),
        (
            '{"kind": "subgraph", "shape": [1, 2], "out_channels": 3, "content": "' + "0" * 64 + '"}',
            "block",
        ),
    ],
)
def test_an_op_json_that_is_no_op_is_named(write, imported, text, why):
    out = io.StringIO()
    csv.writer(out).writerows(
        [["op_json", "latency_ms"], [text, 1.0], [ops.fc((1, 3), 4).to_json(), 2.0]]
    )
    made, lut = imported(write("a.csv", out.getvalue()), "csv", **TOLD)
    assert lut.latency_ms(ops.fc((1, 3), 4)) == 2.0
    ((_, reason),) = made.refused
    assert why in reason


def test_rows_are_counted(write, tmp_path, monkeypatch):
    from hwprof.lut.importing import plain_csv

    monkeypatch.setattr(plain_csv, "MAX_ROWS", 10)
    text = "kind,in_channels,out_channels,latency_ms\n" + "fc,3,4,1\n" * 11
    with pytest.raises(LutError, match="has more than 10 rows"):
        import_table(write("a.csv", text), tmp_path / "lut.parquet", "csv", Request(**TOLD))


CELLS = st.one_of(
    st.sampled_from(
        ["", "0", "1", "3", "32", "3.0", "0.25", "relu", "true", "max", "3:4,5:6", "float32"]
    ),
    st.text(max_size=6),
)


@settings(max_examples=300)
@given(
    kind=st.sampled_from(sorted(ops.KINDS)),
    cells=st.dictionaries(
        st.sampled_from([*HEADER.split(",")[1:], "batch", "side", "expansion", "dtype", "op_json"]),
        CELLS,
    ),
)
def test_any_cells_are_an_op_or_one_line(error_of, kind, cells):
    assert "\n" not in error_of(lambda: _op_of({"kind": kind, **cells}).op_id)


def test_path_tricks_in_names_stay_text(write, imported, tmp_path):
    text = "name,kind,in_channels,out_channels,latency_ms\n../../../etc/passwd,fc,3,4,1\n"
    before = sorted(path.name for path in tmp_path.iterdir())
    _, lut = imported(write("a.csv", text), "csv", **TOLD)
    assert lut.find(ops.fc((1, 3), 4))["reason"] == "line 2 ../../../etc/passwd (1 ms)"
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*before, "a.csv", "lut0.parquet"])
    assert load_lut(lut.path).table.num_rows == 1


@pytest.fixture
def exported(make, tmp_path):
    """A CSV that our own export wrote of the given rows."""

    def written(*rows):
        write_lut(tmp_path / "ours.parquet", rows, metadata=make.metadata)
        return export(tmp_path / "ours.parquet", tmp_path / "ours.csv", "csv").out

    return written


@pytest.mark.parametrize(
    ("column", "values"), [("environment_id", "env-here, env-there"), ("cache", "evicted, warm")]
)
def test_rows_of_two_environments_or_cache_states_are_not_one_number(
    exported, make, tmp_path, column, values
):
    first, second = values.split(", ")
    rows = [
        make.row(make.ops[0], 1.0, **{column: first}),
        make.row(make.ops[0], 9.0, **{column: second}),
    ]
    why = rf"rows of 2 values of {column} \({values}\).*keep the lines of one.*hwprof lut merge"
    with pytest.raises(LutError, match=why):
        import_table(exported(*rows), tmp_path / "lut.parquet", "csv", Request(**TOLD))
    assert not (tmp_path / "lut.parquet").exists()


def test_rows_that_look_ups_do_not_use_are_named_not_made_usable(exported, imported, make):
    rows = [make.row(make.ops[0], 1.0), make.row(make.ops[1], 4.0, state="unstable")]
    rows += [
        make.row(make.ops[2], None, environment_id=make.there),
        make.row(make.ops[3], state="budget"),
    ]
    made, lut = imported(exported(*rows), "csv", **TOLD)
    assert {op.op_id for op in (make.ops[0], make.ops[3])} == set(lut.table["op_id"].to_pylist())
    assert sorted(reason for _, reason in made.refused) == [
        "its state is failed; look-ups use converged, budget, imported",
        "its state is unstable; look-ups use converged, budget, imported",
    ]


@pytest.mark.parametrize(("cache", "kept", "doubts"), [("evicted", "evicted", 0), ("L2", "warm", 1)])
def test_the_cache_state_of_all_lines_is_that_of_the_rows(write, imported, cache, kept, doubts):
    text = f"kind,in_channels,out_channels,latency_ms,cache\nfc,3,4,1,{cache}\nfc,3,5,1,{cache}\n"
    _, lut = imported(write("a.csv", text), "csv", **TOLD)
    assert lut.latency_ms(ops.fc((1, 3), 4), cache=kept) == 1.0
    (facts,) = lut.environments.values()
    assert sum("cache state" in doubt for doubt in facts["conditions"]["doubts"]) == doubts


def test_a_state_of_someone_else_and_columns_mapped_elsewhere_say_nothing(write, imported):
    text = (
        "kind,in_channels,out_channels,latency_ms,state,cache,environment_id\n"
        "fc,3,4,1,done,a,x\nfc,3,5,2,,b,x\n"
    )
    made, lut = imported(write("a.csv", text), "csv", **TOLD, columns={"name": "cache"})
    assert (made.rows, made.refused) == (2, ())
    assert lut.find(ops.fc((1, 3), 4))["reason"] == "line 2 a (1 ms)"


def test_environment_cache_and_state_may_stand_under_other_names(write, imported, tmp_path):
    text = "kind,in_channels,out_channels,latency_ms,ok,board\nfc,3,4,1,failed,a\nfc,3,5,2,budget,b\n"
    columns = {"state": "ok", "environment_id": "board"}
    made, _ = imported(write("a.csv", text), "csv", **TOLD, columns=columns)
    assert (made.rows, len(made.refused)) == (1, 1)
    source = write("a.csv", text.replace("failed", "budget"))
    with pytest.raises(LutError, match=r"2 values of environment_id \(a, b\)"):
        import_table(source, tmp_path / "lut.parquet", "csv", Request(**TOLD, columns=columns))
