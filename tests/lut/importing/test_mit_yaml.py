"""ProxylessNAS's and Once-for-All's YAML: keys to ops, means to milliseconds."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hwprof import ops
from hwprof.errors import LutError
from hwprof.lut.importing import Request, import_table
from hwprof.lut.importing.mit_yaml import _divisible, _ofa_op, _proxyless_op

PROXYLESS = {
    "Conv-input:224x224x3-output:112x112x32": ops.conv(
        (1, 3, 224, 224), 32, 3, stride=2, activation="relu6"
    ),
    "Conv_1-input:7x7x320-output:7x7x1280": ops.conv((1, 320, 7, 7), 1280, activation="relu6"),
    "Logits-input:7x7x1280-output:1000": ops.head((1, 1280, 7, 7), 1000, activation="none"),
    "expanded_conv-input:112x112x32-output:112x112x16-expand:1-kernel:3-stride:1-idskip:0": ops.mbconv(
        (1, 32, 112, 112), 16, 3, 1, activation="relu6"
    ),
    "expanded_conv-input:28x28x40-output:28x28x40-expand:3-kernel:7-stride:1-idskip:1": ops.mbconv(
        (1, 40, 28, 28), 40, 7, 3, activation="relu6"
    ),
    "expanded_conv-input:28x28x40-output:14x14x80-expand:6-kernel:5-stride:2-idskip:0": ops.mbconv(
        (1, 40, 28, 28), 80, 5, 6, stride=2, activation="relu6"
    ),
}
OFA = {
    "Conv-input:160x160x3-output:80x80x24": ops.conv(
        (1, 3, 160, 160), 24, 3, stride=2, activation="hswish"
    ),
    "Conv_1-input:5x5x192-output:5x5x1152": ops.conv((1, 192, 5, 5), 1152, activation="hswish"),
    "AvgPool2D-input:5x5x1152-output:1x1x1152": ops.pool((1, 1152, 5, 5), "global_avg"),
    "Conv_2-input:1x1x1152-output:1x1x1536": ops.conv((1, 1152, 1, 1), 1536, activation="hswish"),
    "Logits-input:1x1x1536-output:1000": ops.fc((1, 1536), 1000),
    "expanded_conv-input:20x20x48-output:20x20x48-expand:144-kernel:5-stride:1-idskip:1-se:1-hs:0": (
        ops.OpSpec("mbconv", (1, 48, 20, 20), 48, mix=((5, 144),), activation="relu", se_channels=40,
                   residual=True)
    ),
    "expanded_conv-input:20x20x48-output:10x10x96-expand:192-kernel:3-stride:2-idskip:0-se:0-hs:1": (
        ops.mbconv((1, 48, 20, 20), 96, 3, 4, stride=2, activation="hswish")
    ),
}  # fmt: skip


def table(keys):
    return yaml.safe_dump(
        {key: {"count": 10 + n, "mean": 0.5 + n, "std": 0.1} for n, key in enumerate(keys)}
    )


@pytest.mark.parametrize(("key", "op"), PROXYLESS.items())
def test_each_key_of_proxylessnas_names_its_op(key, op):
    assert _proxyless_op(key) == op


@pytest.mark.parametrize(("key", "op"), OFA.items())
def test_each_key_of_ofa_names_its_op(key, op):
    assert _ofa_op(key) == op


def test_proxylessnas_is_read_in_ms_and_is_of_a_pixel(write, imported):
    made, lut = imported(write("mobile.yaml", table(PROXYLESS)), "proxylessnas")
    for n, op in enumerate(PROXYLESS.values()):
        row = lut.find(op)
        assert row["latency_ms"] == 0.5 + n
        assert row["reason"].endswith(f" ({0.5 + n} ms, mean of {10 + n} runs)")
    (facts,) = lut.environments.values()
    assert facts["identity"]["device"] == "Google Pixel 1"
    assert facts["identity"]["runtime"] == "TensorFlow Lite"
    assert any("ReLU6" in doubt for doubt in facts["conditions"]["doubts"])
    assert (made.entries, made.derived, made.refused) == (len(PROXYLESS), 1, ())


def test_a_head_is_the_sum_of_conv_1_and_logits(write, imported):
    keys = ["Conv_1-input:7x7x320-output:7x7x1280", "Logits-input:7x7x1280-output:1000"]
    made, lut = imported(write("mobile.yaml", table(keys)), "proxylessnas", device="phone")
    row = lut.find(ops.head((1, 320, 7, 7), 1000, 1280, activation="relu6"))
    assert (row["latency_ms"], row["source"], row["state"]) == (2.0, "derived", "imported")
    assert row["reason"].startswith("sum of Conv_1-input:7x7x320-output:7x7x1280 (0.5 ms, mean of 10")
    assert (made.rows, made.entries, made.derived) == (3, 2, 1)
    (facts,) = lut.environments.values()
    assert facts["identity"]["device"] == "phone"


def test_ofa_tables_of_several_resolutions_are_one_table(write, imported, tmp_path):
    keys = list(OFA)
    (tmp_path / "note10").mkdir()
    write("note10/160.yaml", table(keys))
    write("note10/176.yaml", table(reversed(keys)))
    made, lut = imported(tmp_path / "note10", "ofa", device="Note10")
    assert (made.rows, made.entries, made.repeated) == (len(OFA), 2 * len(OFA), len(OFA))
    row = lut.find(OFA[keys[0]])
    assert row["latency_ms"] == (0.5 + 0.5 + len(OFA) - 1) / 2
    assert row["reason"].startswith(
        f"median of 2: 160.yaml: {keys[0]} (0.5 ms, mean of 10 runs), 176.yaml"
    )


def test_ofa_does_not_guess_the_device(write, tmp_path):
    with pytest.raises(LutError, match="OFA latency table does not tell its device; give --device"):
        import_table(write("a.yaml", table(OFA)), tmp_path / "lut.parquet", "ofa")


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        (
            "expanded_conv-input:5x5x8-output:5x5x8-expand:3-kernel:7-stride:1-idskip:1",
            1.0,
            "larger than",
        ),
        (
            "expanded_conv-input:5x5x8-output:5x5x9-expand:3-kernel:3-stride:1-idskip:1",
            1.0,
            "equal widths",
        ),
        (
            "expanded_conv-input:5x5x8-output:2x2x8-expand:3-kernel:3-stride:2-idskip:0",
            1.0,
            "says 2x2x8",
        ),
        (
            "expanded_conv-input:5x5x8-output:5x5x8-expand:3-kernel:4-stride:1-idskip:1",
            1.0,
            "not an odd",
        ),
        (
            "expanded_conv-input:5x5x8-output:5x5x8-expand:0-kernel:3-stride:1-idskip:1",
            1.0,
            "0 channels",
        ),
        ("expanded_conv-input:5x5x8-output:5x5x8-expand:3-kernel:3-stride:0-idskip:1", 1.0, "stride"),
        ("expanded_conv-input:5x5x8-output:5x5x8-expand:3-kernel:3-stride:1-idskip:2", 1.0, "0 or 1"),
        ("expanded_conv-input:5x5x8-output:5x5x8-expand:3-expand:3-stride:1-idskip:1", 1.0, "twice"),
        ("expanded_conv-input:5x5x8-output:5x5x8", 1.0, "no op of ProxylessNAS"),
        ("Attention-input:5x5x8-output:5x5x8", 1.0, "Attention with no fields is no op"),
        ("Logits-input:7x7x8-output:7x7x8", 1.0, "no op of ProxylessNAS"),
        ("../../etc/passwd", 1.0, "KIND-input"),
        ("Conv-input:224x224-output:1", 1.0, "KIND-input"),
        ("Conv_1-input:7x7x3-output:7x7x4", 0, "0 is no latency"),
        ("Conv_1-input:7x7x3-output:7x7x4", -1.0, "is no latency"),
        ("Conv_1-input:7x7x3-output:7x7x4", "fast", "is no number"),
        ("Conv_1-input:7x7x3-output:7x7x4", True, "is no number"),
        ("Conv_1-input:7x7x3-output:7x7x4", 1e12, "is no latency"),
    ],
)
def test_what_cannot_be_expressed_is_named_and_the_rest_is_imported(write, imported, key, value, why):
    good = "Conv-input:224x224x3-output:112x112x32"
    text = yaml.safe_dump({key: {"mean": value}, good: {"mean": 4.0}, "no mean": {"std": 1}})
    made, lut = imported(write("mobile.yaml", text), "proxylessnas")
    assert (made.rows, len(lut)) == (1, 1)
    reasons = dict(made.refused)
    assert why in reasons[key]
    assert reasons["no mean"] == "it has no `mean`"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no mapping of ops"),
        ("- a", "no mapping of ops"),
        ("a: &x 1\nb: *x", "anchors and aliases"),
        ("a: !!python/name:os.system", "tags"),
        ("{}", "holds no number of an op that can be expressed"),
    ],
)
def test_other_yaml_is_one_line_and_writes_nothing(write, tmp_path, text, why):
    with pytest.raises(LutError, match=why):
        import_table(write("a.yaml", text), tmp_path / "lut.parquet", "proxylessnas")
    assert not (tmp_path / "lut.parquet").exists()


def test_a_folder_without_yaml_is_an_error(tmp_path):
    with pytest.raises(LutError, match="holds 0 YAML files"):
        import_table(tmp_path, tmp_path / "lut.parquet", "ofa", Request(device="x"))


@given(st.integers(1, 5000))
def test_se_widths_are_multiples_of_8_and_hardly_below(channels):
    width = _divisible(channels)
    assert width % 8 == 0
    assert width >= 0.9 * channels
    assert width <= channels + 8


@given(
    width=st.integers(1, 512),
    out=st.integers(1, 512),
    side=st.integers(7, 224),
    hidden=st.integers(1, 2000),
    kernel=st.sampled_from([1, 3, 5, 7]),
    stride=st.integers(1, 3),
    flags=st.tuples(st.booleans(), st.booleans()),
)
def test_every_block_of_ofa_is_read_back_from_its_key(width, out, side, hidden, kernel, stride, flags):
    after = (side - 1) // stride + 1
    skip = stride == 1 and width == out
    key = (
        f"expanded_conv-input:{side}x{side}x{width}-output:{after}x{after}x{out}-expand:{hidden}"
        f"-kernel:{kernel}-stride:{stride}-idskip:{skip:d}-se:{flags[0]:d}-hs:{flags[1]:d}"
    )
    op = _ofa_op(key)
    assert (op.shape, op.out_channels, op.mix) == ((1, width, side, side), out, ((kernel, hidden),))
    assert (op.stride, op.residual, bool(op.se_channels)) == (stride, skip, flags[0])
    assert op.activation == ("hswish" if flags[1] else "relu")


@given(st.text(max_size=60) | st.from_regex(r"[A-Za-z_0-9]*-input:[0-9x]{0,12}-output:[0-9x]{0,12}"))
def test_any_key_is_an_op_or_one_line(error_of, key):
    for op_of in (_ofa_op, _proxyless_op):
        assert "\n" not in error_of(op_of, key)
