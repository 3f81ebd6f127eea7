"""From the file names of an S3NAS latency folder to ops.

The names are written by S3NAS's `BlockArgsDecoder._encode_block_string` and the layers' `get_str`
(github.com/cap-lab/S3NAS, graph/blockargs.py, graph/latency_estimator.py): what the op is, then
`_imgsize` and the side of its input.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial

from hwprof import ops
from hwprof.errors import LutError
from hwprof.ops import OpSpec

NETWORK_ACTIVATION = "relu"
"""S3NAS's networks have ReLU wherever a name says nothing else."""

ACTIVATIONS = {
    "relu": "relu", "relu6": "relu6", "sw": "swish", "hsw": "hswish", "sigmoid": "sigmoid",
}  # fmt: skip
_NUMBER, _NUMBERS = "([0-9]{1,5})", "([0-9,]{1,80})"
_STRIDE, _SIDE = "s([0-9])([0-9])", f"imgsize{_NUMBER}"
_CONV = re.compile(f"k{_NUMBER}_{_STRIDE}_i{_NUMBER}_o{_NUMBER}_{_SIDE}")
_DENSE = re.compile(f"i{_NUMBER}_o{_NUMBER}_imgsize1")
_POOL = re.compile(f"i{_NUMBER}_{_SIDE}")
_BLOCK = re.compile(
    f"r1_k{_NUMBERS}_{_STRIDE}_e{_NUMBERS}_i{_NUMBER}_o{_NUMBER}_c{_NUMBER}"
    r"(?:_se([0-9]{1,3}(?:\.[0-9]{1,9})?))?(_noskip)?(?:_([a-z][a-z0-9]{0,20}))?"
    f"_{_SIDE}"
)


def op_of(layer: str, name: str) -> OpSpec:
    """The op of one file, batch 1 and float32.

    Args:
        layer: the folder's name: S3NAS's class of layer or block.
        name: the file's name.

    Raises:
        LutError: the class is unknown, or the name is none of its names.
        OpError: such an op cannot be, e.g. a kernel larger than its input.
    """
    if layer not in _READERS:
        raise LutError(f"class {layer!r} is unknown; known are {', '.join(_READERS)}")
    return _READERS[layer](name)


def _conv(name: str) -> OpSpec:
    kernel, high, wide, width, out_channels, side = map(int, _match(_CONV, name))
    shape = (1, width, side, side)
    return ops.conv(
        shape, out_channels, kernel, stride=_stride(high, wide), activation=NETWORK_ACTIVATION
    )


def _dense(name: str) -> OpSpec:
    width, out_channels = map(int, _match(_DENSE, name))
    return ops.fc((1, width), out_channels)


def _pool(name: str) -> OpSpec:
    width, side = map(int, _match(_POOL, name))
    return ops.pool((1, width, side, side), "global_avg")


def _block(kind: str, number: str, name: str) -> OpSpec:
    """`number` is S3NAS's conv_type of the class. `noskip` leaves the residual out; where stride or
    widths allow none, the name with and the name without it are the same op."""
    kernels, high, wide, expansions, width, out, conv_type, se, noskip, act, side = _match(_BLOCK, name)
    if conv_type != number:
        raise LutError(f"c{conv_type} is not the c{number} of its folder")
    if act and act not in ACTIVATIONS:
        raise LutError(f"activation {act!r} is none of ours; known are {', '.join(ACTIVATIONS)}")
    sides, shares = kernels.split(","), expansions.split(",")
    if len(sides) != len(shares) or not all((*sides, *shares)):
        raise LutError(f"kernels {kernels} and expansions {expansions} are not as many")
    channels = int(width)
    return OpSpec(
        kind,
        (1, channels, int(side), int(side)),
        int(out),
        mix=tuple((int(k), int(e) * channels) for k, e in zip(sides, shares, strict=True)),
        stride=_stride(int(high), int(wide)),
        activation=ACTIVATIONS.get(act, NETWORK_ACTIVATION),
        se_channels=max(1, int(channels * float(se))) if se and float(se) > 0 else 0,
        residual=not noskip and (high, wide) == ("1", "1") and width == out,
    )


_READERS: Mapping[str, Callable[[str], OpSpec]] = {
    "Conv2D": _conv,
    "Dense": _dense,
    "GlobalAvgPool": _pool,
    "MBConvBlock": partial(_block, "mbconv", "0"),
    "MixConvBlock": partial(_block, "mixconv", "100"),
    "ConvBlock_kxk1x1": partial(_block, "fused_mbconv", "15"),
}


def _match(pattern: re.Pattern[str], name: str) -> tuple[str, ...]:
    """The groups, "" for those that are not there."""
    found = pattern.fullmatch(name)
    if found is None:
        raise LutError("the name is not of the form that S3NAS writes for its class")
    return found.groups(default="")


def _stride(high: int, wide: int) -> int:
    if high != wide:
        raise LutError(f"stride {high}x{wide} differs by direction")
    return high
