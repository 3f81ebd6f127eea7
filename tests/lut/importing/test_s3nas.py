"""An S3NAS folder becomes a table whose rows say what they are."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprof import ops
from hwprof.composition.pricing import choice_latencies
from hwprof.errors import LutError, MissingRow
from hwprof.lut import load_lut, verify_lut
from hwprof.lut.importing import Origin, import_s3nas
from hwprof.lut.importing.descriptors import op_of
from hwprof.ops import OpSpec
from hwprof.space import load_space

BLOCK = "MBConvBlock/r1_k3_s11_e6_i32_o32_c0_imgsize56"
HEAD = {
    "Conv2D/k1_s11_i256_o1280_imgsize7": 16689,
    "GlobalAvgPool/i1280_imgsize7": 0,
    "Dense/i1280_o1000_imgsize1": 51466,
}


@pytest.fixture
def imported(folder, tmp_path):
    """What an import of these files says, and its table."""

    def run(files, **origin):
        made = import_s3nas(folder(files), tmp_path / "lut.parquet", Origin(**origin))
        return made, load_lut(tmp_path / "lut.parquet")

    return run


@pytest.mark.parametrize(
    ("name", "op"),
    [
        (
            "Conv2D/k7_s22_i3_o32_imgsize224",
            ops.conv((1, 3, 224, 224), 32, 7, stride=2, activation="relu"),
        ),
        (BLOCK, ops.mbconv((1, 32, 56, 56), 32, 3, 6)),
        (
            "MBConvBlock/r1_k3_s11_e6_i32_o32_c0_noskip_imgsize56",
            ops.mbconv((1, 32, 56, 56), 32, 3, 6, residual=False),
        ),
        (
            "MBConvBlock/r1_k5_s22_e4_i32_o64_c0_se0.25_hsw_imgsize56",
            ops.mbconv((1, 32, 56, 56), 64, 5, 4, stride=2, activation="hswish", se_ratio=0.25),
        ),
        (
            "MixConvBlock/r1_k3,5,7_s22_e2,2,2_i160_o256_c100_imgsize14",
            ops.mixconv((1, 160, 14, 14), 256, {3: 320, 5: 320, 7: 320}, stride=2),
        ),
        (
            "ConvBlock_kxk1x1/r1_k3_s11_e2_i128_o128_c15_imgsize14",
            ops.fused_mbconv((1, 128, 14, 14), 128, 3, 2),
        ),
        ("Dense/i1280_o1000_imgsize1", ops.fc((1, 1280), 1000)),
        ("GlobalAvgPool/i1280_imgsize7", ops.pool((1, 1280, 7, 7), "global_avg")),
    ],
)
def test_each_class_names_its_op(name, op):
    assert op_of(*name.split("/")) == op


@given(
    kernels=st.lists(st.sampled_from([1, 3, 5, 7]), min_size=1, max_size=3, unique=True),
    expansion=st.integers(2, 6),
    width=st.integers(1, 400),
    out=st.integers(1, 400),
    stride=st.integers(1, 3),
    side=st.integers(7, 300),
    residual=st.booleans(),
    fused=st.booleans(),
)
def test_every_block_is_read_back_from_its_name(
    file_names, kernels, expansion, width, out, stride, side, residual, fused
):
    kernels = kernels[:1] if fused else kernels
    op = OpSpec(
        "fused_mbconv" if fused else "mixconv",
        (1, width, side, side),
        width if residual else out,
        mix=tuple((kernel, expansion * width) for kernel in kernels),
        stride=1 if residual else stride,
        activation="relu",
        residual=residual,
    )
    (name,) = file_names(op)
    assert op_of(*name.split("/")) == op


def test_a_row_has_the_number_in_ms_and_no_precision_that_nobody_measured(imported):
    made, lut = imported({BLOCK: 150529}, device="MIDAP", runtime="MidapSim")
    row = lut.find(ops.mbconv((1, 32, 56, 56), 32, 3, 6))
    assert row["latency_ms"] == pytest.approx(0.150529, rel=1e-12)
    assert (row["state"], row["source"]) == ("imported", "imported")
    assert row["reason"] == f"{BLOCK} (150529)"
    for name in (
        "latency_low_ms", "latency_high_ms", "min_ms", "p10_ms", "p50_ms", "p90_ms", "p99_ms", "visits",
        "clean_visits", "processes", "samples", "energy_mj", "peak_memory_bytes", "bytes_moved",
        "compile_ms", "started_at", "build_id",
    ):  # fmt: skip
        assert row[name] is None, name
    (facts,) = lut.environments.values()
    assert facts["identity"]["device"] == "MIDAP"
    assert facts["identity"]["counts_per_ms"] == 1e6
    assert any("element type" in doubt for doubt in facts["conditions"]["doubts"])
    assert (made.rows, made.entries, made.same, made.refused) == (1, 1, 0, ())
    verify_lut(lut.path)


def test_a_block_without_residual_is_one_row_under_both_its_names(imported):
    plain = "MBConvBlock/r1_k3_s22_e2_i32_o64_c0_imgsize56"
    twin = "MBConvBlock/r1_k3_s22_e2_i32_o64_c0_noskip_imgsize56"
    made, lut = imported({plain: 7000, twin: 7000})
    assert (made.rows, made.entries, made.same) == (1, 2, 1)
    assert lut.table.column("reason")[0].as_py() == f"{plain} = {twin} (7000)"


def test_two_numbers_of_one_op_are_refused_with_both_names(imported, tmp_path):
    with pytest.raises(LutError, match=r"c0_imgsize56 \(7000\) and .*noskip.* \(7001\) are the same op"):
        imported(
            {
                "MBConvBlock/r1_k3_s22_e2_i32_o64_c0_imgsize56": 7000,
                "MBConvBlock/r1_k3_s22_e2_i32_o64_c0_noskip_imgsize56": 7001,
            }
        )
    assert not (tmp_path / "lut.parquet").exists()


def test_a_head_is_the_sum_of_its_three_entries_and_says_so(imported):
    made, lut = imported(HEAD)
    row = lut.find(ops.head((1, 256, 7, 7), 1000, 1280))
    assert row["latency_ms"] == pytest.approx(0.068155, rel=1e-12)
    assert (row["state"], row["source"]) == ("imported", "derived")
    assert row["reason"] == "sum of " + " + ".join(f"{name} ({value})" for name, value in HEAD.items())
    assert made.zeros == ("GlobalAvgPool/i1280_imgsize7",)
    assert (made.rows, made.entries, made.heads) == (3, 3, 1)  # head, convolution, classifier


def test_a_pool_that_takes_time_is_counted_in_the_head_and_has_a_row(imported):
    made, lut = imported({**HEAD, "GlobalAvgPool/i1280_imgsize7": 500})
    pool = lut.find(ops.pool((1, 1280, 7, 7), "global_avg"))
    assert pool["latency_ms"] == pytest.approx(0.0005, rel=1e-12)
    assert lut.latency_ms(ops.head((1, 256, 7, 7), 1000, 1280)) == pytest.approx(0.068655, rel=1e-12)
    assert made.zeros == ()


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        (f"{BLOCK}_tmp", "[Errno 2] No such file", "not of the form"),
        ("MBConvBlock/r1_k3_s11_e6_i8_o8_c0_imgsize56", "[Errno 2] No such file", r"but '\[Errno 2\]"),
        ("MBConvBlock/r1_k3_s11_e6_i8_o8_c0_imgsize56", "[" * 3000, "holds no"),
        ("MBConvBlock/r1_k3_s11_e6_i8_o8_c0_imgsize56", '{"latency": 1' + "0" * 5000 + "}", "holds no"),
        ("MBConvBlock/r1_k3_s11_e6_i8_o8_c0_imgsize56", '{"latency": true}', "holds no"),
        ("MBConvBlock/r1_k3_s11_e6_i8_o8_c0_imgsize56", '{"latency": NaN}', "no number of 0 to 1e18"),
        ("MBConvBlock/r1_k3_s11_e6_i8_o8_c0_imgsize56", '{"latency": -3}', "no number of 0 to 1e18"),
        ("MBConvBlock/r1_k3_s11_e6_i8_o8_c0_imgsize56", '{"total": 3}', "holds no"),
        ("MBConvBlock/r1_k3_s11_e6_i8_o8_c0_imgsize56", 0, "0 is no latency"),
        ("MBConvBlock/r1_k3_s11_e6_i8_o8_c15_imgsize56", 5, "c15 is not the c0"),
        ("MBConvBlock/r1_k3_s11_e6_i8_o8_c0_hsigmoid_imgsize56", 5, "'hsigmoid' is none of ours"),
        ("MBConvBlock/r1_k9_s11_e6_i8_o8_c0_imgsize7", 5, "larger than its input"),
        ("MBConvBlock/r1_k3_s12_e6_i8_o8_c0_imgsize56", 5, "stride 1x2"),
        ("MixConvBlock/r1_k3,5_s11_e2_i8_o8_c100_imgsize56", 5, "not as many"),
        ("Attention/i8", 5, "class 'Attention' is unknown; known are Conv2D"),
        ("README.md", "S3NAS", "no folder of a class"),
    ],
)
def test_what_cannot_be_read_is_named_and_the_rest_is_imported(imported, name, content, why):
    import re

    made, lut = imported({name: content, BLOCK: 150529})
    assert len(lut) == made.rows == made.entries == 1
    ((place, reason),) = made.refused
    assert place.strip("'") == name
    assert re.search(why, reason)


@pytest.mark.parametrize("files", [{}, {"README.md": "no table"}, {f"{BLOCK}_tmp": 3}])
def test_a_folder_without_any_entry_is_an_error_and_writes_nothing(imported, tmp_path, files):
    with pytest.raises(LutError, match="holds no S3NAS latency"):
        imported(files)
    assert not (tmp_path / "lut.parquet").exists()


def test_no_folder_is_an_error(tmp_path):
    with pytest.raises(LutError, match="is no folder"):
        import_s3nas(tmp_path / "missing", tmp_path / "lut.parquet")


def test_a_table_that_is_there_is_never_touched(imported, folder, tmp_path):
    imported({BLOCK: 150529})
    before = (tmp_path / "lut.parquet").read_bytes()
    with pytest.raises(LutError, match="exists; give another name"):
        import_s3nas(folder({BLOCK: 1}), tmp_path / "lut.parquet")
    assert (tmp_path / "lut.parquet").read_bytes() == before


@pytest.mark.parametrize("wrong", [{"per_ms": 0.0}, {"per_ms": float("nan")}, {"device": " "}])
def test_an_origin_that_says_nothing_is_refused(wrong):
    with pytest.raises(LutError, match=r"is no unit|is no name"):
        Origin(**wrong)


def test_a_folder_of_another_device_is_another_environment_in_its_own_unit(imported, folder, tmp_path):
    made, lut = imported({BLOCK: 2000}, device="board", runtime="tflite", per_ms=1000.0)
    assert lut.table.column("latency_ms").to_pylist() == [2.0]
    midap = import_s3nas(folder({BLOCK: 2000}), tmp_path / "midap.parquet")
    assert midap.environment_id != made.environment_id
    assert "doubts" in json.dumps(dict(lut.environments))


def test_a_whole_space_is_priced_from_its_files(imported, file_names):
    """Every op of `s3nas` under the name that S3NAS gives it, each with its own number."""
    space = load_space("s3nas")
    files, wanted = {}, {}
    for number, op in enumerate(space.ops(), start=1):
        parts = file_names(op)
        files |= {part: 1000 * number + place for place, part in enumerate(parts)}
        wanted[op] = sum(files[part] for part in parts) / 1e6
    made, lut = imported(files)
    assert made.refused == ()
    costs = choice_latencies(lut, space)
    for position, of_choices in zip(space.positions, costs, strict=True):
        for choice, latency in zip(position.choices, of_choices, strict=True):
            assert latency == pytest.approx(sum(wanted[op] for op in choice.ops), rel=1e-12)
    assert lut.metadata["spaces"] == ["s3nas"]
    assert len(lut.filter(space="s3nas")) == len(space.ops())


def test_an_op_of_no_shipped_space_belongs_to_none(imported):
    other = replace(ops.mbconv((1, 32, 56, 56), 32, 3, 6), shape=(1, 32, 57, 57))
    _, lut = imported({"MBConvBlock/r1_k3_s11_e6_i32_o32_c0_imgsize57": 5})
    assert lut.find(other)["space"] is None
    assert lut.metadata["spaces"] == []


def test_op_that_an_imported_table_lacks_is_not_said_to_be_measurable(imported):
    """The advice was `hwprof build-lut --backend MidapSim`, which cannot work."""
    _, table = imported({BLOCK: 150529})
    with pytest.raises(MissingRow, match="its rows are imported, so none can be measured"):
        table.latencies_ms([ops.mbconv((1, 32, 56, 56), 32, 5, 6)])
