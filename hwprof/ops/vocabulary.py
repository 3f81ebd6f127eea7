"""The op vocabulary: one `Kind` per op kind, saying which attributes it uses and how it lowers.

A new op kind is one entry of `KINDS` (and, for a new block, one function in `hwprof.ops.blocks`).
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from hwprof.errors import OpError
from hwprof.graph import ACTIVATIONS, GraphBuilder
from hwprof.ops import blocks
from hwprof.ops.spec import DTYPES, OpSpec

LARGEST = (1 << 31) - 1
"""Of a number in an op: a table's columns are of 32 bits."""
ALIASES = {"stem": "conv", "ConvBlock_kxk1x1": "fused_mbconv"}
POOLS = ("max", "avg", "global_avg")
COMMON = ("kind", "shape", "out_channels", "dtype")
NUMBERS = ("out_channels", "stride", "groups", "se_channels")


@dataclass(frozen=True)
class Kind:
    """An op kind: what it is, the attributes it uses beyond the common ones, how it lowers.

    `mix_size` is the number of (kernel, channels) pairs as (least, most). `lower(builder, tensor,
    spec, gain)` appends the primitives and returns the result; `gain` scales the last projection of
    a residual branch.
    """

    summary: str
    uses: tuple[str, ...]
    mix_size: tuple[int, int]
    lower: Callable[[GraphBuilder, str, OpSpec, float], str]


BLOCK = ("mix", "stride", "activation", "se_channels", "residual")

KINDS: dict[str, Kind] = {
    "conv": Kind(
        "convolution, BatchNorm folded, and activation (a stem is one)",
        ("mix", "stride", "activation", "groups"), (1, 1), blocks.conv,
    ),
    "depthwise": Kind(
        "depthwise convolution and activation", ("mix", "stride", "activation"), (1, 1),
        blocks.depthwise,
    ),
    "relu_conv": Kind(
        "ReLU, then convolution with BatchNorm folded (the edge op of cell spaces)",
        ("mix", "stride"), (1, 1), blocks.relu_conv,
    ),
    "sep_conv": Kind(
        "ReLU, depthwise, 1x1, twice over (an edge op of DARTS cells)", ("mix", "stride"), (1, 1),
        blocks.sep_conv,
    ),
    "dil_conv": Kind(
        "ReLU, depthwise of dilation 2, 1x1 (an edge op of DARTS cells)", ("mix", "stride"), (1, 1),
        blocks.dil_conv,
    ),
    "factorized_reduce": Kind(
        "ReLU, two 1x1 convolutions of stride 2, one moved by a pixel (skip of a DARTS reduction)",
        ("stride",), (0, 0), blocks.factorized_reduce,
    ),
    "mbconv": Kind(
        "inverted residual: expand 1x1, depthwise, optional SE, project 1x1", BLOCK, (1, 1),
        blocks.mixconv,
    ),
    "mixconv": Kind(
        "inverted residual whose depthwise stage mixes kernel sizes over channel shares", BLOCK,
        (2, 16), blocks.mixconv,
    ),
    "fused_mbconv": Kind(
        "full k x k convolution that expands, optional SE, project 1x1", BLOCK, (1, 1),
        blocks.fused_mbconv,
    ),
    "basic_block": Kind(
        "ResNet basic block: two k x k convolutions and a shortcut", ("mix", "stride", "activation"),
        (1, 1), blocks.basic_block,
    ),
    "se": Kind(
        "squeeze-and-excitation alone", ("se_channels",), (0, 0),
        lambda builder, x, spec, gain: blocks.squeeze_excite(builder, x, spec.se_channels),
    ),
    "activation": Kind(
        "relu, relu6, hswish, swish or sigmoid alone", ("activation",), (0, 0),
        lambda builder, x, spec, gain: builder.activation(x, spec.activation),
    ),
    "pool": Kind(
        "max, average or global average pooling", ("mix", "stride", "pool"), (0, 1), blocks.pool,
    ),
    "head": Kind(
        "optional 1x1 convolution, activation, global average pool, classifier", ("mix", "activation"),
        (0, 1), blocks.head,
    ),
    "fc": Kind("fully connected layer and activation", ("activation",), (0, 0), blocks.fc),
    "skip": Kind(
        "identity", (), (0, 0), lambda builder, x, spec, gain: builder.identity(x),
    ),
    "subgraph": Kind(
        "a user's ONNX block, by content hash", ("content", "out_side"), (0, 0),
        lambda builder, x, spec, gain: builder.onnx(
            x, spec.content, (spec.shape[0], spec.out_channels, *spec.out_side)
        ),
    ),
}  # fmt: skip


def canonicalise(spec: OpSpec) -> dict[str, Any]:
    """Checked fields of a spec in their one spelling; called by `OpSpec` itself.

    Equal ops that become equal specs: a mix is merged and sorted by kernel; a MixConv of one kernel
    is an MBConv and the reverse; a convolution with one group per channel is a depthwise; a stem is
    a convolution; whole numbers of any type (numpy's too) are plain ints.

    Raises:
        OpError: names the field, its value and what is allowed.
    """
    name = ALIASES.get(spec.kind, spec.kind)
    if name not in KINDS:
        raise OpError(f"op kind {spec.kind!r} is unknown; choose of {', '.join(KINDS)}")
    numbers: dict[str, int] = {field: _whole(field, getattr(spec, field)) for field in NUMBERS}
    shape = tuple(_whole("shape", side) for side in spec.shape)
    _check_common(spec, name)
    mix = _canonical_mix(spec)
    if name in ("mbconv", "mixconv"):
        name = "mbconv" if len(mix) == 1 else "mixconv"
    if name == "conv" and numbers["groups"] == shape[1] == numbers["out_channels"]:
        name, numbers["groups"] = "depthwise", 1
    kind = KINDS[name]
    out_side = tuple(_whole("out_side", side) for side in spec.out_side)
    canonical = {**numbers, "kind": name, "mix": mix, "shape": shape, "out_side": out_side}
    for field in fields(OpSpec):
        value = canonical.get(field.name, getattr(spec, field.name))
        if field.name not in (*COMMON, *kind.uses) and value != field.default:
            raise OpError(f"{name} has no attribute {field.name} (got {value!r})")
    least, most = kind.mix_size
    if not least <= len(mix) <= most:
        raise OpError(f"{name} takes {least} to {most} (kernel, channels) pairs, got {mix}")
    _check_kind(spec, name, mix)
    return canonical


def _check_common(spec: OpSpec, name: str) -> None:
    if spec.dtype not in DTYPES:
        raise OpError(f"dtype {spec.dtype!r} is unknown; choose of {', '.join(DTYPES)}")
    ranks = (2,) if name == "fc" else (2, 3, 4) if name in ("subgraph", "skip") else (4,)
    if len(spec.shape) not in ranks:
        raise OpError(f"{name} wants an input of rank {ranks[-1]}, got shape {tuple(spec.shape)}")
    for value in spec.shape:
        if value < 1:
            raise OpError(f"shape {tuple(spec.shape)} has a length below 1")
    for field in ("out_channels", "stride", "groups"):
        if getattr(spec, field) < 1:
            raise OpError(f"{field} must be 1 or more, got {getattr(spec, field)}")
    if spec.se_channels < 0:
        raise OpError(f"se_channels must be 0 or more, got {spec.se_channels}")
    if not isinstance(spec.residual, bool):
        raise OpError(f"residual must be true or false, got {spec.residual!r}")
    if spec.activation not in ("none", *ACTIVATIONS):
        raise OpError(
            f"activation {spec.activation!r} is unknown; choose of none, {', '.join(ACTIVATIONS)}"
        )


def _whole(field: str, value: Any) -> int:
    """The value as a plain int; 8.0 or True would hash to another op_id than 8."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise OpError(f"{field} must be a whole number, got {value!r}")
    found = operator.index(value)
    if abs(found) > LARGEST:
        raise OpError(f"{field} must be at most {LARGEST:,}, got a number of {found.bit_length()} bits")
    return found


def _canonical_mix(spec: OpSpec) -> tuple[tuple[int, int], ...]:
    merged: dict[int, int] = {}
    for pair in spec.mix:
        kernel, channels = (_whole("mix", value) for value in pair)
        if channels < 1:
            raise OpError(
                f"the {kernel}x{kernel} share of the mix has {channels} channels; give 1 or more"
            )
        if kernel < 1 or (kernel % 2 == 0 and spec.kind != "pool"):
            raise OpError(f"kernel size {kernel} is not an odd number of 1 or more")
        if len(spec.shape) == 4 and kernel > min(spec.shape[2:]):
            side = "x".join(str(v) for v in spec.shape[2:])
            raise OpError(f"kernel {kernel}x{kernel} is larger than its input of {side}")
        merged[kernel] = merged.get(kernel, 0) + channels
    return tuple(sorted(merged.items()))


def _check_kind(spec: OpSpec, name: str, mix: tuple[tuple[int, int], ...]) -> None:
    """What one kind asks beyond the common checks."""
    same_width = spec.in_channels == spec.out_channels
    if spec.residual and (spec.stride != 1 or not same_width):
        raise OpError(
            f"a residual {name} needs stride 1 and equal widths, got stride {spec.stride} and "
            f"{spec.in_channels} -> {spec.out_channels} channels"
        )
    plain = ("conv", "depthwise", "relu_conv", "sep_conv", "dil_conv", "basic_block", "pool")
    if name in plain and mix and mix[0][1] != spec.out_channels:
        raise OpError(f"{name}: the mix has {mix[0][1]} channels, out_channels is {spec.out_channels}")
    if name in ("depthwise", "se", "activation", "skip", "pool") and not same_width:
        raise OpError(f"{name} keeps its channels; got {spec.in_channels} -> {spec.out_channels}")
    if name == "conv" and (spec.in_channels % spec.groups or spec.out_channels % spec.groups):
        raise OpError(
            f"{spec.in_channels} -> {spec.out_channels} channels do not divide by {spec.groups} groups"
        )
    if name == "activation" and spec.activation == "none":
        raise OpError(f"an activation op needs its name; choose of {', '.join(ACTIVATIONS)}")
    if name == "se" and spec.se_channels < 1:
        raise OpError(f"se_channels must be 1 or more, got {spec.se_channels}")
    if name == "pool" and spec.pool not in POOLS:
        raise OpError(f"pool {spec.pool!r} is unknown; choose of {', '.join(POOLS)}")
    if name == "pool" and (spec.pool == "global_avg") == bool(mix):
        raise OpError("a global_avg pool has no kernel; max and avg pools need one")
    if name == "pool" and spec.pool == "global_avg" and spec.stride != 1:
        raise OpError(f"a global_avg pool has no stride, got {spec.stride}")
    if name == "basic_block" and spec.stride % 2 == 0 and any(v % spec.stride for v in spec.shape[2:]):
        raise OpError(
            f"a basic_block of stride {spec.stride} needs sides that divide by it, got "
            f"{spec.shape[2]}x{spec.shape[3]}; its shortcut is an unpadded average pool"
        )
    if name == "factorized_reduce" and (
        spec.stride != 2 or spec.out_channels % 2 or any(v % 2 for v in spec.shape[2:])
    ):
        raise OpError(
            f"a factorized_reduce has stride 2, even channels and even sides, got stride {spec.stride}, "
            f"{spec.out_channels} channels and {spec.shape[2]}x{spec.shape[3]}"
        )
    if name == "subgraph" and not re.fullmatch("[0-9a-f]{64}", spec.content):
        raise OpError("a subgraph needs the sha256 of its ONNX as content; use hwprof.ops.from_onnx")
