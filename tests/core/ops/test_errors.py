"""A wrong op is refused in one line that names the value and what is allowed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hwprof import ops
from hwprof.errors import HwprofError, OpError
from hwprof.graph import ACTIVATIONS
from hwprof.ops import DTYPES, KINDS, OpSpec, ops_from_json

SHAPE = (1, 32, 14, 14)
CONTENT = "ab" * 32
PLAIN = {"kind": "conv", "shape": [1, 3, 8, 8], "out_channels": 8}

CASES: dict[str, tuple[Callable[[], object], tuple[str, ...]]] = {
    "unknown kind": (lambda: OpSpec("convolution", SHAPE, 8), ("'convolution'", *KINDS)),
    "unknown activation": (
        lambda: ops.conv(SHAPE, 8, activation="gelu"), ("'gelu'", "none", *ACTIVATIONS),
    ),
    "unknown dtype": (lambda: ops.conv(SHAPE, 8, dtype="float64"), ("'float64'", *DTYPES)),
    "unknown pool": (lambda: ops.pool(SHAPE, "median", 3), ("'median'", "max", "avg", "global_avg")),
    "zero output channels": (lambda: ops.head(SHAPE, 0), ("out_channels", "1 or more", "0")),
    "zero input channels": (lambda: ops.conv((1, 0, 14, 14), 8), ("(1, 0, 14, 14)", "below 1")),
    "zero channels in a mix": (lambda: ops.mixconv(SHAPE, 32, {3: 64, 5: 0}), ("5x5", "0 channels")),
    "zero stride": (lambda: ops.conv(SHAPE, 8, stride=0), ("stride", "1 or more")),
    "zero groups": (lambda: ops.conv(SHAPE, 8, groups=0), ("groups", "1 or more")),
    "negative excitation": (
        lambda: OpSpec("mbconv", SHAPE, 32, mix=((3, 64),), se_channels=-1), ("se_channels", "-1"),
    ),
    "excitation of no width": (lambda: OpSpec("se", SHAPE, 32), ("se_channels", "1 or more")),
    "even kernel": (lambda: ops.conv(SHAPE, 8, 4), ("kernel size 4", "odd")),
    "kernel of zero": (lambda: ops.pool(SHAPE, "max", 0), ("kernel size 0", "1 or more")),
    "kernel larger than its input": (
        lambda: ops.mixconv((1, 32, 14, 5), 32, {3: 8, 7: 8}), ("7x7", "larger", "14x5"),
    ),
    "residual with stride": (
        lambda: ops.mbconv(SHAPE, 32, 3, 6, stride=2, residual=True), ("residual", "stride 2"),
    ),
    "residual with another width": (
        lambda: ops.mbconv(SHAPE, 48, 3, 6, residual=True), ("residual", "32 -> 48"),
    ),
    "groups that do not divide": (lambda: ops.conv(SHAPE, 8, groups=3), ("32 -> 8", "3 groups")),
    "depthwise of another width": (
        lambda: OpSpec("depthwise", SHAPE, 64, mix=((3, 64),)), ("keeps its channels", "32 -> 64"),
    ),
    "mix beside the output": (
        lambda: OpSpec("conv", SHAPE, 64, mix=((3, 32),)), ("32 channels", "out_channels is 64"),
    ),
    "two kernels in a convolution": (
        lambda: OpSpec("conv", SHAPE, 8, mix=((3, 4), (5, 4))), ("conv takes 1 to 1", "(3, 4)"),
    ),
    "no kernel": (lambda: OpSpec("mbconv", SHAPE, 32), ("(kernel, channels)", "got ()")),
    "activation without its name": (
        lambda: ops.activation(SHAPE, "none"), ("needs its name", *ACTIVATIONS),
    ),
    "global pool with a kernel": (
        lambda: ops.pool(SHAPE, "global_avg", 3), ("global_avg", "no kernel"),
    ),
    "global pool with a stride": (
        lambda: ops.pool(SHAPE, "global_avg", stride=2), ("global_avg", "no stride", "2"),
    ),
    "pool without a kernel": (lambda: ops.pool(SHAPE, "max"), ("max", "need one")),
    "odd side under a strided basic block": (
        lambda: OpSpec("basic_block", (1, 32, 15, 14), 64, mix=((3, 64),), stride=2),
        ("stride 2", "15x14"),
    ),
    "attribute of another kind": (
        lambda: OpSpec("conv", SHAPE, 8, mix=((1, 8),), se_channels=4), ("conv", "se_channels", "4"),
    ),
    "residual of a convolution": (
        lambda: OpSpec("conv", SHAPE, 32, mix=((1, 32),), residual=True), ("conv", "residual"),
    ),
    "stride of a skip": (lambda: OpSpec("skip", SHAPE, 32, stride=2), ("skip", "stride")),
    "groups of a block": (
        lambda: OpSpec("mbconv", SHAPE, 32, mix=((3, 64),), groups=2), ("mbconv", "groups"),
    ),
    "image into fc": (lambda: ops.fc(SHAPE, 10), ("fc", "rank 2", "(1, 32, 14, 14)")),
    "vector into conv": (lambda: ops.conv((1, 32), 8), ("conv", "rank 4", "(1, 32)")),
    "subgraph without content": (lambda: OpSpec("subgraph", SHAPE, 8), ("sha256", "from_onnx")),
    "subgraph with a path for content": (
        lambda: OpSpec("subgraph", SHAPE, 8, content="../" * 21 + "x"), ("sha256",),
    ),
    "fractional channels": (lambda: ops.conv(SHAPE, 8.0), ("whole number", "8.0")),  # type: ignore[arg-type]
    "truth value for a stride": (lambda: ops.conv(SHAPE, 8, stride=True), ("stride", "True")),
    "number for a truth value": (
        lambda: ops.mbconv(SHAPE, 32, 3, 6, residual=1), ("residual", "true or false"),  # type: ignore[arg-type]
    ),
    "unknown field": (
        lambda: OpSpec.from_dict({"kind": "conv", "kernel": 3}), ("'kernel'", "mix", "out_channels"),
    ),
    "missing field": (lambda: OpSpec.from_dict({"kind": "conv"}), ("not an op", "shape")),
    "text for a shape": (
        lambda: OpSpec.from_dict({"kind": "skip", "shape": "1x3", "out_channels": 3}), ("shape", "'1'"),
    ),
    "fraction in a mix": (
        lambda: OpSpec.from_dict({**PLAIN, "mix": [[3.7, 8]]}),
        ("mix", "3.7"),
    ),
    "number for a mix": (
        lambda: OpSpec.from_dict({**PLAIN, "mix": 3}),
        ("not an op", "'mix': 3"),
    ),
    "no JSON": (lambda: OpSpec.from_json("{kind: conv}"), ("no JSON", "{kind: conv}")),
    "number beyond a table's columns": (
        lambda: ops.conv(SHAPE, 10**400), ("out_channels", "2,147,483,647", "bits"),
    ),
    "JSON nested without end": (lambda: OpSpec.from_json("[" * 100_000), ("no JSON", "[[[[")),
    "JSON of a huge integer": (
        lambda: OpSpec.from_json('{"kind": ' + "9" * 10_000 + "}"),
        ("no JSON", "999"),
    ),
    "JSON list": (lambda: OpSpec.from_json("[1]"), ("no JSON object", "[1]")),
    "empty chain": (lambda: ops.lower([]), ("at least one op",)),
    "chain of two dtypes": (
        lambda: ops.lower([ops.conv(SHAPE, 32), ops.conv(SHAPE, 32, dtype="float16")]),
        ("one dtype", "float16", "float32"),
    ),
    "chain whose shapes do not meet": (
        lambda: ops.lower([ops.conv(SHAPE, 64, stride=2), ops.conv(SHAPE, 32)]),
        ("conv_k1.32_s1_i32_o32_r14", "(1, 32, 14, 14)", "(1, 64, 7, 7)"),
    ),
    "block that is not in the store": (
        lambda: OpSpec("subgraph", SHAPE, 8, content=CONTENT).lower() and _cost_of_missing_block(),
        (CONTENT[:12], "from_onnx", "from_module"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_message_names_value_and_choice_in_one_line(name: str) -> None:
    make, words = CASES[name]
    with pytest.raises(OpError) as caught:
        make()
    message = str(caught.value)
    assert "\n" not in message
    assert not [word for word in words if word not in message], message


@pytest.mark.parametrize("depth", [900, 985, *range(990, 998), 1100, 100_000])
@pytest.mark.parametrize("before", ['{"kind": ', '{"mix": ', '{"shape": '])
def test_json_nested_just_short_of_pythons_limit_once_failed_where_the_error_was_written(
    before: str, depth: int
) -> None:
    nested = before + "[" * depth + "]" * depth + "}"
    with pytest.raises(OpError):
        OpSpec.from_json(nested)
    with pytest.raises(OpError):
        ops_from_json(f"[{nested}]")


@pytest.mark.parametrize("text", ["", "{}", "null", "[1]", "[[]]", '["conv"]', "[{}]", "[null]"])
def test_a_list_of_something_else_is_no_list_of_ops(text: str) -> None:
    with pytest.raises(OpError, match=r"not an op|not ops"):
        ops_from_json(text)


def test_an_op_error_is_one_the_command_line_reports() -> None:
    assert issubclass(OpError, HwprofError)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_refuses_every_attribute_that_it_does_not_use(kind: str) -> None:
    given: dict[str, object] = {
        "mix": ((3, 8),), "stride": 2, "activation": "relu", "se_channels": 2, "residual": True,
        "groups": 2, "pool": "max", "content": CONTENT, "out_side": (3, 3),
    }  # fmt: skip
    shape = (1, 8) if kind == "fc" else (1, 8, 12, 12)
    for field in set(given) - set(KINDS[kind].uses):
        with pytest.raises(OpError) as caught:
            OpSpec(kind, shape, 8, **{field: given[field]})  # type: ignore[arg-type]
        assert f"has no attribute {field}" in str(caught.value)


def _cost_of_missing_block() -> object:
    from hwprof.graph import cost

    return cost(OpSpec("subgraph", SHAPE, 8, content=CONTENT).lower())
