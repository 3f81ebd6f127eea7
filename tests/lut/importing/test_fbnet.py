"""FBNet's latencies: rows of layers as text and as JSON, and the database of Caffe2 operators."""

import json
import re

import pytest

from hwprof import ops
from hwprof.errors import LutError
from hwprof.lut.importing import Request, import_table
from hwprof.lut.importing.fbnet_layers import BLOCKS, block_op, layers_of

NAMES = ("ir_k3_e1", "ir_k3_s2", "ir_k3_e3", "ir_k3_e6", "ir_k5_e1", "ir_k5_s2", "ir_k5_e3", "ir_k5_e6",
         "skip")  # fmt: skip
EXPRESSED = ("ir_k3_e3", "ir_k3_e6", "ir_k5_e3", "ir_k5_e6", "skip")
TOLD = {"device": "laptop", "runtime": "PyTorch", "layers": "imagenet"}


def microseconds(layer, place):
    return 1000.0 * (layer + 1) + place


def text_table(names=NAMES, layers=22):
    lines = [
        " ".join(str(microseconds(layer, place)) for place in range(len(names)))
        for layer in range(layers)
    ]
    return "\n".join([" ".join(names), *lines])


def record(kind, shapes, p50=960.0, device="SM-G950U-7.0-24", **arguments):
    """A line of Facebook's database, arguments as Caffe2's protobuf prints them."""
    told = [
        f'name: "{name}"\ni: {value}\n' if isinstance(value, int) else f'name: "{name}"\ns: "{value}"\n'
        for name, value in sorted(arguments.items())
    ]
    return json.dumps(
        {
            "op_type": kind, "op_args": told, "input_shapes": shapes, "input_dtypes": [6, 6, 4],
            "runtime_us_p0": p50 - 10, "runtime_us_p10": p50 - 5, "runtime_us_p50": p50,
            "runtime_us_p90": p50 + 50, "runtime_us_p100": p50 + 500, "device": device,
        }
    )  # fmt: skip


def test_the_layers_are_those_of_fbnets_table_1():
    layers = layers_of("imagenet")
    assert len(layers) == 22
    assert [layer.shape[2] for layer in layers] == [112] * 2 + [56] * 4 + [28] * 4 + [14] * 8 + [7] * 4
    assert [layer.out_channels for layer in layers] == (
        [16] + [24] * 4 + [32] * 4 + [64] * 4 + [112] * 4 + [184] * 4 + [352]
    )
    assert layers_of("112:1,2,2,2,1,2,1") == layers
    assert [layer.shape[2] for layer in layers_of("cifar10")][-1] == 4
    assert layers_of("imagenet", batch=32)[0].shape == (32, 16, 112, 112)


@pytest.mark.parametrize(
    "text", [None, "", "cifar", "112:1,2", "0x70:1,2,2,2,1,2,1", "112:1,2,2,2,1,2,9"]
)
def test_other_layers_are_an_error(text):
    with pytest.raises(LutError, match="give --layers imagenet, --layers cifar10, or --layers SIDE:S"):
        layers_of(text)


def test_blocks_that_differ_from_ours_are_refused_by_what_differs():
    layer = layers_of("imagenet")[2]
    assert block_op("k3_e3", layer) == ops.mbconv((1, 24, 56, 56), 24, 3, 3)
    assert block_op("skip", layer) == ops.skip((1, 24, 56, 56))
    downsample = layers_of("imagenet")[1]
    assert block_op("skip", downsample) == ops.conv(
        (1, 16, 112, 112), 24, 1, stride=2, activation="relu"
    )
    for name, why in (("ir_k3_s2", "2 groups"), ("k5_e1_g2", "2 groups"), ("k3_e1", "does not expand"),
                      ("ir_k3_e3_se", "is none of"), ("quant_a1_w1", "is none of")):  # fmt: skip
        with pytest.raises(LutError, match=why):
            block_op(name, layer)


def test_a_text_table_is_microseconds_by_layer_and_block(write, imported):
    made, lut = imported(write("lookup_table.txt", text_table()), "fbnet", **TOLD)
    first = lut.find(ops.mbconv((1, 16, 112, 112), 16, 3, 3))
    assert first["latency_ms"] == pytest.approx(1.002, rel=1e-12)
    assert first["reason"] == "layer 1 (112x112x16->16, stride 1) ir_k3_e3 (1002.0 of 1000 a ms)"
    repeated = lut.find(ops.mbconv((1, 24, 56, 56), 24, 5, 6))  # layers 3, 4 and 5
    assert repeated["latency_ms"] == pytest.approx(4.007, rel=1e-12)
    assert repeated["reason"].startswith("median of 3: layer 3")
    assert made.entries == 22 * len(EXPRESSED)
    assert len(made.refused) == 22 * (len(NAMES) - len(EXPRESSED))
    (facts,) = lut.environments.values()
    assert facts["identity"]["layers"] == "imagenet"
    assert any("microseconds" in doubt for doubt in facts["conditions"]["doubts"])


def test_a_json_table_has_the_blocks_of_table_2_in_order_and_null_elsewhere(write, imported):
    rows = [[microseconds(layer, place) for place in range(9)] for layer in range(22)]
    rows[1] = rows[1][:8]  # no skip where stride or width change
    text = json.dumps([None, None, *rows, None])
    made, lut = imported(write("pi.json", text), "fbnet", **{**TOLD, "layers": "32:1,2,2,1,1,1,1"})
    op = ops.mbconv((1, 16, 32, 32), 24, 3, 6, stride=2)
    assert lut.latency_ms(op) == pytest.approx(2.003, rel=1e-12)
    assert made.entries == 22 * 5 - 1
    assert BLOCKS[3] == "k3_e6"


def test_another_unit_is_taken_as_told(write, imported):
    _, lut = imported(write("t.txt", text_table()), "fbnet", **TOLD, per_ms=1.0)
    assert lut.latency_ms(ops.mbconv((1, 16, 112, 112), 16, 3, 3)) == 1002.0


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "does not begin with a line of block names"),
        ("a b c\n1 2 3", "does not begin with a line of block names"),
        ("ir_k3_e3 ir_k3_e3\n1 2", "does not begin with a line of block names"),
        (text_table(layers=17), "has 17 layers; FBNet's search space has 22"),
        (text_table().replace("1002.0 ", ""), "layer 1 has 8 numbers for 9 blocks"),
        ("[1, 2]", "layer 1 is no list of 8 or 9 numbers"),
        ("[" * 100_000, "nested deeper than 64"),
        (json.dumps([[1.0] * 9] * 23), "has 23 layers"),
    ],
)
def test_other_tables_are_one_line(write, tmp_path, text, why):
    with pytest.raises(LutError, match=why):
        import_table(write("t.txt", text), tmp_path / "lut.parquet", "fbnet", Request(**TOLD))
    assert not (tmp_path / "lut.parquet").exists()


def test_a_bad_number_is_named_and_the_rest_is_imported(write, imported):
    text = text_table().replace("1002.0", "nan").replace("1003.0", "x")
    made, _ = imported(write("t.txt", text), "fbnet", **TOLD)
    reasons = {name: reason for name, reason in made.refused if name.startswith("layer 1 ")}
    assert "nan is no latency" in reasons["layer 1 (112x112x16->16, stride 1) ir_k3_e3"]
    assert "'x' is no number" in reasons["layer 1 (112x112x16->16, stride 1) ir_k3_e6"]


INT8 = {"order": "NHWC"}
RECORDS = {
    record("Int8ConvRelu", [[1, 224, 224, 3], [32, 3, 3, 3], [32]], stride=2, pad=1, kernel=3, **INT8): (
        ops.conv((1, 3, 224, 224), 32, 3, stride=2, activation="relu", dtype="int8")
    ),
    record("Int8Conv", [[1, 56, 56, 16], [24, 1, 1, 16], [24]], kernel=1, **INT8): ops.conv(
        (1, 16, 56, 56), 24, 1, dtype="int8"
    ),
    record(
        "Int8ConvRelu", [[1, 112, 112, 32], [32, 3, 3, 1], [32]], group=32, pad=1, kernel=3, **INT8
    ): (ops.depthwise((1, 32, 112, 112), 3, activation="relu", dtype="int8")),
    record("Int8AveragePool", [[1, 7, 7, 1984]], kernel=7, **INT8): ops.pool(
        (1, 1984, 7, 7), "global_avg", dtype="int8"
    ),
    record("Int8FC", [[1, 1984], [1000, 1984], [1000]]): ops.fc((1, 1984), 1000, dtype="int8"),
    record("Conv", [[1, 3, 32, 32], [8, 3, 3, 3], [8]], pad=1, kernel=3): ops.conv((1, 3, 32, 32), 8, 3),
    record("MaxPool", [[1, 8, 32, 32]], kernel=3, stride=2, pad=1): ops.pool(
        (1, 8, 32, 32), "max", 3, stride=2
    ),
    record("Relu", [[1, 8, 32, 32]]): ops.activation((1, 8, 32, 32), "relu"),
}


def test_facebooks_database_tells_device_type_and_percentiles(write, imported):
    made, lut = imported(write("db.json", "\n".join(RECORDS)), "fbnet")
    assert (made.rows, made.refused) == (len(RECORDS), ())
    for op in RECORDS.values():
        row = lut.find(op)
        assert (row["latency_ms"], row["p50_ms"], row["min_ms"]) == pytest.approx((0.96, 0.96, 0.95))
        assert (row["p10_ms"], row["p90_ms"]) == pytest.approx((0.955, 1.01))
        assert row["p99_ms"] is None
        assert row["latency_low_ms"] is None
        assert row["bytes_moved"] is not None
    (facts,) = lut.environments.values()
    assert facts["identity"]["device"] == "SM-G950U-7.0-24"


def test_records_of_one_operator_are_their_median_and_devices_are_apart(write, imported):
    line = ("Int8FC", [[1, 8], [4, 8], [4]])
    text = "\n".join([record(*line), record(*line, p50=980.0), record(*line, device="S7")])
    made, lut = imported(write("db.json", text), "fbnet")
    assert (made.rows, made.repeated, len(made.environment_ids)) == (2, 1, 2)
    assert sorted(lut.table.column("latency_ms").to_pylist()) == [0.96, 0.97]
    assert lut.table.column("p50_ms").to_pylist().count(None) == 1


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (record("Int8Quantize", [[1, 224, 224, 3]]), "'Int8Quantize' has no op of ours"),
        (
            record("Int8Conv", [[1, 56, 56, 16], [24, 3, 3, 16], [24]]),
            "pad 0 is none of ours, which is half the kernel of 3",
        ),
        (record("Int8Conv", [[1, 56, 56, 16], [24, 1, 3, 16], [24]], pad=1), "1x3 is not square"),
        (record("Conv", [[1, 3, 8, 8], [8, 3, 3, 3]], pad_t=1, pad_l=0), "differs by side"),
        (record("Conv", [[1, 3, 8, 8], [8, 2, 3, 3]], pad=1), "do not divide into groups"),
        (record("Conv", [], pad=1), "no input_shapes"),
        (record("Conv", [[1, -3, 8, 8]], pad=1), "is not 1 to"),
        (record("Conv", [[10**30]] * 2, pad=1), "is not 1 to"),
        (record("Relu", [[1, 8]]), "not of rank 4"),
        (record("Int8FC", [[1, 8], [4, 8]], p50=-1.0), "is no latency"),
    ],
)
def test_operators_that_are_none_of_ours_are_named(write, imported, line, why):
    good = record("Int8FC", [[1, 8], [4, 8], [4]])
    made, _ = imported(write("db.json", f"{good}\n{line}\n"), "fbnet")
    ((name, reason),) = made.refused
    assert name.startswith("line 2: ")
    assert why in reason


def by_side(kind, shapes, **arguments):
    """A record whose arguments stand once a side: `name: "strides" ints: 2 ints: 1`."""
    told = [
        f'name: "{name}"\n' + "".join(f"{kind_of(value)}: {value}\n" for value in values)
        for name, values in arguments.items()
    ]
    return json.dumps({**json.loads(record(kind, shapes)), "op_args": told})


def kind_of(value):
    return "s" if isinstance(value, str) else "f" if isinstance(value, float) else "ints"


CONV_SHAPES = [[1, 3, 8, 8], [4, 3, 3, 3], [4]]


def test_arguments_that_are_the_same_on_each_side_are_read(write, imported):
    lines = [
        by_side("Conv", CONV_SHAPES, kernels=[3, 3], strides=[2, 2], pads=[1] * 4, dilations=[1, 1]),
        by_side("Conv", CONV_SHAPES, stride_h=[2], stride_w=[2], **{f"pad_{s}": [1] for s in "tlbr"}),
        by_side("MaxPool", [[1, 8, 9, 9]], kernels=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    ]  # fmt: skip
    made, lut = imported(write("db.json", "\n".join(lines)), "fbnet")
    assert (made.rows, made.refused) == (2, ())
    assert lut.latency_ms(ops.conv((1, 3, 8, 8), 4, 3, stride=2)) == 0.96
    assert lut.latency_ms(ops.pool((1, 8, 9, 9), "max", 3, stride=2)) == 0.96


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"strides": [2, 1], "pads": [1] * 4}, r"stride \[2, 1\] differs by side"),
        ({"stride_h": [2], "pad": [1]}, r"stride \[2, 1\] differs by side"),
        ({"pads": [1, 0, 1, 0]}, r"pad \[1, 0, 1, 0\] differs by side"),
        ({"pads": [2, 2, 2, 2]}, "pad 2 "),
        ({"pad": [1], "dilations": [1, 2]}, r"dilation \[1, 2\] differs by side"),
        ({"pad": [1], "dilations": [2, 2]}, "dilation 2 "),
        ({"pad": [1], "legacy_pad": [2]}, "legacy_pad 2 "),
        ({"pad": [1], "stride": ['"\u00b2"']}, "argument stride is '\u00b2'"),
        ({"pad": [1], "stride": [2.0]}, r"argument stride is '2\.0'"),
        ({"pad": [1], "stride": []}, "argument stride is ''"),
        ({"pad": [1], "stride": [-1]}, "argument stride is '-1'"),
    ],
)
def test_arguments_that_ours_do_not_have_are_named(write, imported, arguments, why):
    good = record("Int8FC", [[1, 8], [4, 8], [4]])
    line = by_side("Conv", CONV_SHAPES, **arguments)
    made, _ = imported(write("db.json", f"{good}\n{line}\n"), "fbnet")
    ((name, reason),) = made.refused
    assert name.startswith("line 2: ")
    assert re.search(why, reason)


@pytest.mark.parametrize(
    ("kind", "arguments", "why"),
    [
        ("MaxPool", {"kernels": [1, 3], "pad": [0]}, r"kernel \[1, 3\] differs by side"),
        ("MaxPool", {"kernel": [3], "pad": [1], "dilation": [2]}, "dilation 2 "),
        ("MaxPool", {"global_pooling": [1]}, "a global MaxPool"),
        ("AveragePool", {"kernel": [2], "stride": [2], "legacy_pad": [3]}, "legacy_pad 3 "),
    ],
)
def test_pools_that_ours_do_not_have_are_named(write, imported, kind, arguments, why):
    good = record("Int8FC", [[1, 8], [4, 8], [4]])
    line = by_side(kind, [[1, 8, 8, 8]], **arguments)
    made, _ = imported(write("db.json", f"{good}\n{line}\n"), "fbnet")
    ((_, reason),) = made.refused
    assert re.search(why, reason)


def test_a_line_that_is_no_record_is_one_line(write, tmp_path):
    source = write("db.json", record("Int8FC", [[1, 8], [4, 8], [4]]) + "\n[1]\n")
    with pytest.raises(LutError, match=r"db.json:2 is no record with op_type"):
        import_table(source, tmp_path / "lut.parquet", "fbnet")
