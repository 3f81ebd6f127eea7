"""OpSpec: one spelling per op, a JSON round trip, and an id that does not drift."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwprof import ops
from hwprof.graph import ACTIVATIONS
from hwprof.ops import DTYPES, KINDS, OpSpec
from hwprof.ops.vocabulary import POOLS

SHAPE = (1, 32, 14, 14)
QUICK = settings(deadline=None, max_examples=50)


@st.composite
def images(draw: st.DrawFn) -> tuple[int, ...]:
    side = st.integers(7, 40)
    return (draw(st.integers(1, 4)), draw(st.integers(1, 64)), draw(side), draw(side))


@st.composite
def op_specs(draw: st.DrawFn, kind: str | None = None) -> OpSpec:
    """Any op that the vocabulary allows."""
    kind = kind or draw(st.sampled_from(sorted(KINDS)))
    shape = draw(images())
    common = {"dtype": draw(st.sampled_from(DTYPES))}
    channels = st.integers(1, 96)
    kernel = st.sampled_from((1, 3, 5, 7))
    stride = draw(st.sampled_from((1, 2)))
    activation = draw(st.sampled_from(("none", *ACTIVATIONS)))
    same = shape[1]
    match kind:
        case "conv":
            groups = draw(st.sampled_from([g for g in range(1, same + 1) if same % g == 0]))
            out = groups * draw(st.integers(1, 4))
            return OpSpec(
                kind, shape, out, mix=((draw(kernel), out),), stride=stride, groups=groups,
                activation=activation, **common,
            )  # fmt: skip
        case "depthwise":
            return ops.depthwise(shape, draw(kernel), stride=stride, activation=activation, **common)
        case "relu_conv" | "sep_conv" | "dil_conv":
            out = draw(channels)
            return OpSpec(kind, shape, out, mix=((draw(kernel), out),), stride=stride, **common)
        case "mbconv" | "mixconv" | "fused_mbconv":
            most = 16 if kind == "mixconv" else 1
            least = 2 if kind == "mixconv" else 1
            kernels = draw(st.lists(kernel, min_size=least, max_size=min(4, most), unique=True))
            out = draw(st.sampled_from((same, same + 1)))
            return OpSpec(
                kind, shape, out, mix=tuple((k, draw(channels)) for k in kernels), stride=stride,
                activation=activation, se_channels=draw(st.integers(0, 8)),
                residual=stride == 1 and out == same and draw(st.booleans()), **common,
            )  # fmt: skip
        case "factorized_reduce":
            shape = (*shape[:2], 2 * shape[2], 2 * shape[3])
            return OpSpec(kind, shape, 2 * draw(channels), stride=2, **common)
        case "basic_block":
            shape = (*shape[:2], 2 * shape[2], 2 * shape[3])
            out = draw(channels)
            return OpSpec(
                kind, shape, out, mix=((draw(kernel), out),), stride=stride, activation=activation,
                **common,
            )  # fmt: skip
        case "se":
            return OpSpec(kind, shape, same, se_channels=draw(channels), **common)
        case "activation":
            return ops.activation(shape, draw(st.sampled_from(ACTIVATIONS)), **common)
        case "pool":
            mode = draw(st.sampled_from(POOLS))
            if mode == "global_avg":
                return ops.pool(shape, mode, **common)
            return ops.pool(shape, mode, draw(st.sampled_from((2, 3, 5))), stride=stride, **common)
        case "head":
            hidden = draw(st.none() | channels)
            return ops.head(shape, draw(channels), hidden, activation=activation, **common)
        case "fc":
            return ops.fc(shape[:2], draw(channels), activation=activation, **common)
        case "skip":
            return ops.skip(shape[: draw(st.sampled_from((2, 3, 4)))], **common)
        case "subgraph":
            content = draw(st.text("0123456789abcdef", min_size=64, max_size=64))
            return OpSpec(kind, shape, draw(channels), content=content, out_side=shape[2:], **common)
    raise AssertionError(f"write a strategy for the new kind {kind}")


@pytest.mark.parametrize("kind", sorted(KINDS))
@QUICK
@given(data=st.data())
def test_json_gives_back_the_same_op(kind: str, data: st.DataObject) -> None:
    op = data.draw(op_specs(kind))
    again = OpSpec.from_json(op.to_json())
    assert again == op
    assert again.op_id == op.op_id
    assert OpSpec.from_dict(json.loads(json.dumps(op.to_dict()))) == op


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"subgraph"}))
@QUICK
@given(data=st.data())
def test_every_op_lowers_to_the_shape_it_says(kind: str, data: st.DataObject) -> None:
    op = data.draw(op_specs(kind))
    shape = ops.output_shape(op)
    assert shape[:2] == (op.shape[0], op.out_channels)
    assert op.lower().dtype == op.dtype
    if op.kind in ("conv", "depthwise", "relu_conv", "mbconv", "mixconv", "fused_mbconv"):
        assert shape[2:] == tuple(-(-side // op.stride) for side in op.shape[2:])


@QUICK
@given(op=op_specs(), other=op_specs())
def test_ops_are_equal_exactly_where_their_ids_are(op: OpSpec, other: OpSpec) -> None:
    assert (op == other) == (op.op_id == other.op_id)
    assert len(op.op_id) == 20
    assert set(op.op_id) <= set("0123456789abcdef")


@QUICK
@given(op=op_specs())
def test_making_an_op_of_its_own_fields_changes_nothing(op: OpSpec) -> None:
    assert dataclasses.replace(op) == op


def test_a_mixconv_of_one_kernel_is_the_mbconv() -> None:
    mix = OpSpec("mixconv", SHAPE, 32, mix=((5, 192),), activation="relu", residual=True)
    assert mix == ops.mbconv(SHAPE, 32, 5, 6)
    assert mix.kind == "mbconv"


def test_an_mbconv_of_two_kernels_is_the_mixconv() -> None:
    two = OpSpec("mbconv", SHAPE, 32, mix=((3, 64), (5, 32)), activation="relu", residual=True)
    assert two == ops.mixconv(SHAPE, 32, {3: 64, 5: 32})
    assert two.kind == "mixconv"


def test_order_and_duplicates_of_a_mix_do_not_matter() -> None:
    spelled = OpSpec("mixconv", SHAPE, 48, mix=((7, 16), (3, 32), (7, 16), (3, 32)))
    assert spelled == OpSpec("mixconv", SHAPE, 48, mix=((3, 64), (7, 32)))
    assert spelled.mix == ((3, 64), (7, 32))
    assert spelled.hidden_channels == 96


def test_a_mix_that_merges_to_one_kernel_is_an_mbconv() -> None:
    assert OpSpec("mixconv", SHAPE, 48, mix=((3, 32), (3, 32))).kind == "mbconv"


def test_a_stem_is_a_convolution() -> None:
    shape = (1, 3, 224, 224)
    stem = OpSpec("stem", shape, 32, mix=((3, 32),), stride=2, activation="relu")
    assert stem == ops.conv(shape, 32, 3, stride=2, activation="relu")


def test_the_published_name_of_the_full_convolution_block_is_known() -> None:
    named = OpSpec("ConvBlock_kxk1x1", SHAPE, 32, mix=((3, 64),), activation="relu", residual=True)
    assert named == ops.fused_mbconv(SHAPE, 32, 3, 2)


@pytest.mark.parametrize("channels", [1, 32])
def test_a_convolution_with_one_group_per_channel_is_depthwise(channels: int) -> None:
    shape = (1, channels, 14, 14)
    assert ops.conv(shape, channels, 3, groups=channels) == ops.depthwise(shape, 3)


def test_a_channel_multiplier_is_no_depthwise() -> None:
    assert ops.conv(SHAPE, 64, 3, groups=32).kind == "conv"


def test_lists_and_numpy_numbers_are_the_same_op() -> None:
    plain = ops.conv(SHAPE, 64, 3, stride=2)
    other = OpSpec(
        "conv", [np.int64(n) for n in SHAPE], np.int32(64), mix=[[np.int64(3), np.int64(64)]],
        stride=np.int8(2),
    )  # type: ignore[arg-type]  # fmt: skip
    assert other == plain
    assert other.op_id == plain.op_id
    assert hash(other) == hash(plain)


def test_every_field_tells_ops_apart() -> None:
    base = ops.mbconv(SHAPE, 32, 3, 4, se_ratio=0.25)
    changed = {
        "shape": (2, 32, 14, 14), "mix": ((3, 96),), "activation": "hswish", "se_channels": 4,
        "residual": False, "dtype": "float16", "kind": "fused_mbconv",
    }  # fmt: skip
    ids = {dataclasses.replace(base, **{name: value}).op_id for name, value in changed.items()}
    assert len(ids | {base.op_id}) == len(changed) + 1


# Ids are the keys of published tables. If one of these changes, raise OP_ID_VERSION and say so.
GOLDEN = {
    "conv": "1a8bf03e948da98161ee",
    "grouped conv": "4c42a85082abc688494f",
    "depthwise": "5ea642152851c7c49e49",
    "relu_conv": "632689f7b58fa7372588",
    "sep_conv": "03cd7b62b1856b145d8f",
    "dil_conv": "fe7a4e26fefb99260cbe",
    "factorized_reduce": "935135291f8289d06a98",
    "mbconv": "c1c9d5fc337a2a8288aa",
    "mixconv": "1807e09e57a50dd0e8ce",
    "fused_mbconv": "242a0292b658df07f45f",
    "basic_block": "e3c5a668794078c1eda3",
    "se": "c4a107ed11f330a198e1",
    "activation": "3f9ddb23322cb472f001",
    "pool": "60e81ef02b149c438097",
    "global pool": "5f80f86d181c5159cd06",
    "head": "47401be6390c028b792b",
    "fc": "a30214ab197e71b101e4",
    "skip": "bc5abd79c6bddcc11e97",
    "subgraph": "74e7299295eeb09680f6",
    "other dtype": "1d3bfe0dc8ef297eea76",
}


def test_ids_are_pinned() -> None:
    assert ops.OP_ID_VERSION == 1
    assert {name: op.op_id for name, op in _pinned().items()} == GOLDEN
    assert set(KINDS) == {op.kind for op in _pinned().values()}


def test_the_documented_definition_gives_the_id() -> None:
    import hashlib

    text = (
        'hwprof-op-v1:{"activation":"relu","kind":"mbconv","mix":[[3,128]],"out_channels":32,'
        '"residual":true,"shape":[1,32,14,14]}'
    )
    op = ops.mbconv(SHAPE, 32, 3, 4)
    assert op.op_id == hashlib.sha256(text.encode()).hexdigest()[:20]


def test_an_id_does_not_depend_on_the_process() -> None:
    op = ops.mixconv(SHAPE, 32, {5: 32, 3: 64}, se_ratio=0.25)
    program = (
        "from hwprof import ops;"
        "print(ops.mixconv((1, 32, 14, 14), 32, {3: 64, 5: 32}, se_ratio=0.25).op_id)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == op.op_id


def test_the_label_says_what_differs() -> None:
    op = ops.mixconv(
        (8, 32, 14, 28), 32, {3: 64, 5: 32}, se_ratio=0.25, activation="hswish", dtype="float16"
    )
    assert op.label == "mixconv_k3.64+5.32_s1_i32_o32_r14x28_b8_se8_hswish_res_float16"
    assert ops.conv(SHAPE, 64, 3, groups=4).label == "conv_k3.64_s1_i32_o64_r14_g4"
    assert ops.pool(SHAPE, "avg", 3).label == "pool_avg_k3.32_s1_i32_o32_r14"


def test_expansion_is_hidden_over_input_channels() -> None:
    assert ops.mixconv(SHAPE, 32, {3: 64, 5: 32}).expansion == 3.0
    assert ops.skip(SHAPE).expansion == 0.0


def _pinned() -> dict[str, OpSpec]:
    return {
        "conv": ops.conv((1, 3, 224, 224), 32, 3, stride=2, activation="relu"),
        "grouped conv": ops.conv(SHAPE, 64, 3, groups=4),
        "depthwise": ops.depthwise(SHAPE, 5, stride=2, activation="hswish"),
        "relu_conv": OpSpec("relu_conv", SHAPE, 32, mix=((3, 32),)),
        "sep_conv": OpSpec("sep_conv", (1, 16, 32, 32), 16, mix=((3, 16),), stride=2),
        "dil_conv": OpSpec("dil_conv", (1, 16, 32, 32), 16, mix=((5, 16),)),
        "factorized_reduce": OpSpec("factorized_reduce", (1, 64, 32, 32), 32, stride=2),
        "mbconv": ops.mbconv(SHAPE, 32, 3, 6, se_ratio=0.25, activation="hswish"),
        "mixconv": ops.mixconv(SHAPE, 32, {3: 128, 5: 64}),
        "fused_mbconv": ops.fused_mbconv(SHAPE, 64, 3, 4, stride=2, activation="relu6"),
        "basic_block": OpSpec("basic_block", SHAPE, 64, mix=((3, 64),), stride=2, activation="relu"),
        "se": ops.squeeze_excite(SHAPE),
        "activation": ops.activation(SHAPE, "swish"),
        "pool": ops.pool(SHAPE, "max", 3, stride=2),
        "global pool": ops.pool(SHAPE, "global_avg"),
        "head": ops.head((1, 256, 7, 7), 1000, 1280),
        "fc": ops.fc((1, 1280), 1000, activation="sigmoid"),
        "skip": ops.skip(SHAPE),
        "subgraph": OpSpec("subgraph", SHAPE, 48, content="0123456789abcdef" * 4, out_side=(7, 7)),
        "other dtype": ops.conv(SHAPE, 64, dtype="int8"),
    }
