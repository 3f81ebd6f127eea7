"""Files that published search code reads: parsed here as its loaders do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from hwprof import ops
from hwprof.errors import LutError
from hwprof.lut import load_lut, write_lut
from hwprof.lut.exporting import export
from hwprof.lut.exporting.keys import ofa_keys, ofa_se_channels, proxylessnas_keys, s3nas_names
from hwprof.lut.importing.descriptors import op_of
from hwprof.ops import OpSpec

DATA = Path(__file__).parents[4] / "shared" / "data"
STEM = ops.conv((1, 3, 160, 160), 24, 3, stride=2, activation="hswish")
OFA = {
    STEM: "Conv-input:160x160x3-output:80x80x24",
    ops.conv((1, 192, 5, 5), 1152, activation="hswish"): "Conv_1-input:5x5x192-output:5x5x1152",
    ops.pool((1, 1152, 5, 5), "global_avg"): "AvgPool2D-input:5x5x1152-output:1x1x1152",
    ops.conv((1, 1152, 1, 1), 1536, activation="hswish"): "Conv_2-input:1x1x1152-output:1x1x1536",
    ops.fc((1, 1536), 1000): "Logits-input:1x1x1536-output:1000",
    OpSpec(
        "mbconv", (1, 136, 10, 10), 136, ((3, 408),), activation="hswish", se_channels=104, residual=True
    ):
        "expanded_conv-input:10x10x136-output:10x10x136-expand:408-kernel:3-stride:1-idskip:1-se:1-hs:1",
    ops.mbconv((1, 24, 80, 80), 32, 7, 4, stride=2):
        "expanded_conv-input:80x80x24-output:40x40x32-expand:96-kernel:7-stride:2-idskip:0-se:0-hs:0",
}  # fmt: skip
PROXYLESSNAS = {
    ops.conv((1, 3, 224, 224), 32, 3, stride=2, activation="relu6"):
        "Conv-input:224x224x3-output:112x112x32",
    ops.conv((1, 320, 7, 7), 1280, activation="relu6"): "Conv_1-input:7x7x320-output:7x7x1280",
    ops.head((1, 1280, 7, 7), 1000, activation="none"): "Logits-input:7x7x1280-output:1000",
    ops.mbconv((1, 32, 112, 112), 16, 3, 1, activation="relu6"):
        "expanded_conv-input:112x112x32-output:112x112x16-expand:1-kernel:3-stride:1-idskip:0",
    ops.mbconv((1, 96, 14, 14), 96, 7, 6, activation="relu6"):
        "expanded_conv-input:14x14x96-output:14x14x96-expand:6-kernel:7-stride:1-idskip:1",
}  # fmt: skip
S3NAS = {
    ops.conv((1, 3, 224, 224), 32, 7, stride=2, activation="relu"): ["Conv2D/k7_s22_i3_o32_imgsize224"],
    ops.fc((1, 1280), 1000): ["Dense/i1280_o1000_imgsize1"],
    ops.pool((1, 1280, 7, 7), "global_avg"): ["GlobalAvgPool/i1280_imgsize7"],
    ops.mbconv((1, 128, 14, 14), 128, 3, 2): ["MBConvBlock/r1_k3_s11_e2_i128_o128_c0_imgsize14"],
    ops.mbconv((1, 160, 21, 21), 160, 3, 2, residual=False):
        ["MBConvBlock/r1_k3_s11_e2_i160_o160_c0_noskip_imgsize21"],
    ops.mixconv((1, 128, 14, 14), 160, {3: 256, 5: 256, 7: 256}): [
        "MixConvBlock/r1_k3,5,7_s11_e2,2,2_i128_o160_c100_imgsize14",
        "MixConvBlock/r1_k3,5,7_s11_e2,2,2_i128_o160_c100_noskip_imgsize14",
    ],
    ops.fused_mbconv((1, 48, 28, 28), 48, 3, 6, activation="hswish", se_ratio=0.25):
        ["ConvBlock_kxk1x1/r1_k3_s11_e6_i48_o48_c15_se0.25_hsw_imgsize28"],
}  # fmt: skip


@pytest.fixture
def published(make, tmp_path: Path):
    """Writes a table with a row of 1.5, 2.5, ... ms for each op, and gives its path."""

    def write(specs: Any, **changes: Any) -> Path:
        rows = [make.row(op, 1.5 + i, **changes) for i, op in enumerate(specs)]
        write_lut(tmp_path / "lut.parquet", rows, metadata=make.metadata)
        return tmp_path / "lut.parquet"

    return write


def test_ofa_reads_the_mean_of_each_key_in_milliseconds(published, tmp_path):
    made = export(published(OFA), tmp_path / "ofa.yaml", "ofa")
    with made.out.open() as file:
        lut = yaml.safe_load(file)
    assert {key: lut[key]["mean"] for key in OFA.values()} == {
        key: 1.5 + i for i, key in enumerate(OFA.values())
    }
    assert len(lut) == made.entries == made.rows == len(OFA)
    assert lut[OFA[STEM]] == {"count": 400, "mean": 1.5}
    assert made.left_out == ()


def test_proxylessnas_reads_the_mean_of_each_key_in_milliseconds(published, tmp_path):
    made = export(published(PROXYLESSNAS), tmp_path / "mobile_trim.yaml", "proxylessnas")
    lut = yaml.safe_load(made.out.read_text())
    assert {key: entry["mean"] for key, entry in lut.items()} == {
        key: 1.5 + i for i, key in enumerate(PROXYLESSNAS.values())
    }


def test_s3nas_reads_cycles_at_1_ghz_from_a_file_for_each_name(published, tmp_path):
    made = export(published(S3NAS), tmp_path / "lut", "s3nas")
    div_unit = 1e6  # S3NAS's constraint_div_unit
    for i, names in enumerate(S3NAS.values()):
        for name in names:
            assert json.loads((made.out / name).read_text())["latency"] / div_unit == 1.5 + i
    files = [path for path in made.out.rglob("*") if path.is_file()]
    assert len(files) == made.entries == sum(len(names) for names in S3NAS.values())
    assert made.rows == len(S3NAS)


@pytest.mark.parametrize("op", S3NAS, ids=lambda op: op.label)
def test_the_s3nas_importer_reads_every_name_as_the_same_op(op):
    assert {op_of(*name.split("/")) for name in s3nas_names(op)} == {op}


@pytest.mark.parametrize("form", ["ofa", "proxylessnas"])
def test_the_importer_reads_what_was_exported(published, tmp_path, form):
    from hwprof.lut.importing.formats import import_table
    from hwprof.lut.importing.request import Request

    keys = {"ofa": OFA, "proxylessnas": PROXYLESSNAS}[form]
    made = export(published(keys), tmp_path / "out.yaml", form)
    import_table(made.out, tmp_path / "again.parquet", form, Request(device="phone"))
    again = load_lut(tmp_path / "again.parquet")
    for i, op in enumerate(keys):
        assert again.latency_ms(op) == 1.5 + i


@pytest.mark.parametrize(
    ("name", "form", "unknown"),
    [
        # Kernels larger than their input are no ops of ours.
        ("ofa_note10/160_lookup_table.yaml", "ofa", 3),
        ("proxylessnas/mobile_trim.yaml", "proxylessnas", 0),
    ],
)
def test_a_published_table_comes_out_as_it_went_in(name, form, unknown, tmp_path):
    if not (DATA / name).exists():
        pytest.skip(f"{name} is not at {DATA}")
    from hwprof.lut.importing.formats import import_table
    from hwprof.lut.importing.request import Request

    published = yaml.safe_load((DATA / name).read_text())
    import_table(DATA / name, tmp_path / "lut.parquet", form, Request(device="phone"))
    export(tmp_path / "lut.parquet", tmp_path / "again.yaml", form)
    again = yaml.safe_load((tmp_path / "again.yaml").read_text())
    assert {key: entry["mean"] for key, entry in again.items()} == {
        key: published[key]["mean"] for key in again
    }
    assert len(again) == len(published) - unknown


UNKNOWN = (
    (ofa_keys, ops.mbconv((1, 24, 8, 8), 24, 3, 4, activation="relu6"), "activation is relu6"),
    (ofa_keys, ops.mbconv((1, 24, 8, 8), 24, 3, 4, se_ratio=0.25), "has 6 channels, the form means 24"),
    (ofa_keys, ops.mixconv((1, 24, 8, 8), 24, {3: 24, 5: 24}), "no mixconv"),
    (ofa_keys, ops.head((1, 24, 8, 8), 10, 96), "a head is one op here; the form has Conv_1, AvgPool2D"),
    (ofa_keys, ops.conv((1, 3, 32, 32), 16, 7, stride=2, activation="hswish"), "3x3 convolution"),
    (ofa_keys, ops.pool((1, 8, 8, 8), "max", 3), "no max"),
    (ofa_keys, ops.fc((1, 8), 8, activation="relu"), "no fc"),
    (proxylessnas_keys, ops.mbconv((1, 24, 8, 8), 24, 3, 4), "activation is relu"),
    (
        proxylessnas_keys,
        OpSpec("mbconv", (1, 24, 8, 8), 24, ((3, 60),), activation="relu6"),
        "no multiple",
    ),
    (
        proxylessnas_keys,
        ops.mbconv((1, 24, 8, 8), 24, 3, 4, activation="relu6", se_ratio=0.25),
        "squeeze-and-excitation",
    ),
    (proxylessnas_keys, ops.head((1, 24, 8, 8), 10, 96, activation="relu6"), "a head is one op here"),
    (s3nas_names, ops.conv((1, 3, 32, 24), 16, 3, activation="relu"), "32x24 is not square"),
    (s3nas_names, ops.conv((1, 3, 32, 32), 16, 3, activation="hswish"), "activation is hswish"),
    (s3nas_names, ops.head((1, 24, 8, 8), 10, 96), "Conv2D, GlobalAvgPool and Dense"),
    (s3nas_names, ops.depthwise((1, 24, 8, 8), 3, activation="relu"), "no depthwise"),
    (s3nas_names, OpSpec("mbconv", (1, 24, 8, 8), 24, ((3, 60),), activation="relu"), "no multiple"),
)


@pytest.mark.parametrize(("namer", "op", "reason"), UNKNOWN)
def test_what_a_form_cannot_say_is_refused_with_the_reason(namer, op, reason):
    with pytest.raises(LutError, match=reason):
        namer(op)


def test_the_width_of_squeeze_and_excitation_is_that_of_ofa():
    """Values of `make_divisible(hidden // 4, 8)`."""
    assert {hidden: ofa_se_channels(hidden) for hidden in (16, 72, 120, 408, 672, 960)} == {
        16: 8, 72: 24, 120: 32, 408: 104, 672: 168, 960: 240,
    }  # fmt: skip


def test_rows_without_a_usable_number_are_left_out_by_name(make, tmp_path):
    failed, unstable = list(OFA)[1:3]
    rows = [
        make.row(STEM), make.row(failed, None), make.row(unstable, state="unstable"),
        make.row(ops.fc((8, 64), 10)),
    ]  # fmt: skip
    write_lut(tmp_path / "lut.parquet", rows, metadata=make.metadata)
    made = export(tmp_path / "lut.parquet", tmp_path / "ofa.yaml", "ofa")
    assert dict(made.left_out) == {
        failed.label: "its state is failed",
        unstable.label: "its state is unstable",
        ops.fc((8, 64), 10).label: "its batch is 8, the form is of batch 1",
    }
    assert len(yaml.safe_load(made.out.read_text())) == 1


def test_another_statistic_and_imported_rows(published, tmp_path):
    path = published([*OFA][:1], p50_ms=1.1, samples=None)
    export(path, tmp_path / "ofa.yaml", "ofa", statistic="p50_ms")
    assert yaml.safe_load((tmp_path / "ofa.yaml").read_text()) == {OFA[STEM]: {"mean": 1.1}}


def test_two_environments_need_a_choice(make, tmp_path):
    rows = [make.row(STEM, 1.0), make.row(STEM, 2.0, environment_id=make.there)]
    write_lut(tmp_path / "lut.parquet", rows, metadata=make.metadata)
    with pytest.raises(LutError, match="--environment"):
        export(tmp_path / "lut.parquet", tmp_path / "ofa.yaml", "ofa")
    export(tmp_path / "lut.parquet", tmp_path / "ofa.yaml", "ofa", environment=make.there)
    assert yaml.safe_load((tmp_path / "ofa.yaml").read_text())[OFA[STEM]]["mean"] == 2.0
    with pytest.raises(LutError, match="'mars' is not in"):
        export(tmp_path / "lut.parquet", tmp_path / "x.yaml", "ofa", environment="mars")


def test_two_ops_of_one_key_need_a_choice(make, tmp_path):
    half = OpSpec.from_dict({**STEM.to_dict(), "dtype": "float16"})
    write_lut(tmp_path / "lut.parquet", [make.row(STEM), make.row(half)], metadata=make.metadata)
    with pytest.raises(LutError, match="choose with --dtype"):
        export(tmp_path / "lut.parquet", tmp_path / "ofa.yaml", "ofa")
    made = export(tmp_path / "lut.parquet", tmp_path / "ofa.yaml", "ofa", dtype="float16")
    assert made.rows == 1


def test_a_table_that_a_form_cannot_express_at_all_is_an_error(published, tmp_path):
    with pytest.raises(LutError, match=r"no row of .* can be expressed as proxylessnas: conv_"):
        export(published(list(OFA)[:1]), tmp_path / "out.yaml", "proxylessnas")
    assert not (tmp_path / "out.yaml").exists()


def test_nothing_is_overwritten(published, tmp_path):
    (tmp_path / "there").write_text("mine")
    with pytest.raises(LutError, match="exists; give another name"):
        export(published(OFA), tmp_path / "there", "ofa")
    assert (tmp_path / "there").read_text() == "mine"
    with pytest.raises(LutError, match="create its folder"):
        export(tmp_path / "lut.parquet", tmp_path / "no" / "where.yaml", "ofa")
