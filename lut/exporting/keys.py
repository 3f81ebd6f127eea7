"""The names under which published search code looks ops up.

OFA and ProxylessNAS: `MBv3LatencyTable` and `ProxylessNASLatencyTable` of
github.com/mit-han-lab/once-for-all, ofa/nas/efficiency_predictor/latency_lookup_table.py. S3NAS:
`LatencyEstimLUT` and `BlockArgsDecoder` of github.com/cap-lab/S3NAS, graph/latency_estimator.py and
graph/blockargs.py. What a name does not say is what those networks have.
"""

from __future__ import annotations

from collections.abc import Sequence

from hwprof.errors import LutError
from hwprof.ops import OpSpec, output_shape

SE_SHARE, SE_MULTIPLE = 4, 8
SE_DIGITS = 9
S3NAS_BLOCKS = {
    "mbconv": ("MBConvBlock", 0),
    "mixconv": ("MixConvBlock", 100),
    "fused_mbconv": ("ConvBlock_kxk1x1", 15),
}
S3NAS_ACTIVATIONS = {
    "relu": "", "relu6": "_relu6", "swish": "_sw", "hswish": "_hsw", "sigmoid": "_sigmoid",
}  # fmt: skip


def ofa_keys(op: OpSpec) -> list[str]:
    """The key of an op in a table of Once-for-All's MobileNetV3 space.

    Raises:
        LutError: the form has no key for such an op.
    """
    match op.kind:
        case "mbconv":
            if op.activation not in ("relu", "hswish"):
                raise LutError(f"its activation is {op.activation}, the form has relu and hswish")
            wanted = ofa_se_channels(op.hidden_channels)
            if op.se_channels not in (0, wanted):
                raise LutError(
                    f"its squeeze-and-excitation has {op.se_channels} channels, the form means {wanted}"
                )
            fields = (
                f"expand:{op.hidden_channels}", *_block(op), f"se:{int(op.se_channels > 0)}",
                f"hs:{int(op.activation == 'hswish')}",
            )  # fmt: skip
            return [_key("expanded_conv", op, fields)]
        case "conv":
            return [_conv(op, "hswish", ("Conv_1", "Conv_2"))]
        case "pool" if op.pool == "global_avg":
            return [_key("AvgPool2D", op)]
        case "fc" if op.activation == "none":
            return [f"Logits-input:1x1x{op.in_channels}-output:{op.out_channels}"]
    raise LutError(_no_key(op, "Conv_1, AvgPool2D, Conv_2 and Logits"))


def proxylessnas_keys(op: OpSpec) -> list[str]:
    """The key of an op in a table of ProxylessNAS.

    Raises:
        LutError: the form has no key for such an op.
    """
    match op.kind:
        case "mbconv":
            if op.activation != "relu6":
                raise LutError(f"its activation is {op.activation}, the form has relu6")
            if op.se_channels:
                raise LutError("it has squeeze-and-excitation, the form has none")
            fields = (f"expand:{_ratio(op.hidden_channels, op)}", *_block(op))
            return [_key("expanded_conv", op, fields)]
        case "conv":
            return [_conv(op, "relu6", ("Conv_1", "Conv_1"))]
        case "head" if not op.mix and op.activation == "none":
            channels, high, wide = op.shape[1:]
            return [f"Logits-input:{high}x{wide}x{channels}-output:{op.out_channels}"]
    raise LutError(_no_key(op, "Conv_1 and Logits"))


def s3nas_names(op: OpSpec) -> list[str]:
    """The files of an op in S3NAS's folder, `CLASS/DESCRIPTOR_imgsizeSIDE`. A block that can have no
    residual has two: its networks ask for it with `noskip` and without.

    Raises:
        LutError: the form has no name for such an op.
    """
    side = _side(op)
    match op.kind:
        case "conv" if op.activation == "relu" and op.groups == 1:
            ((kernel, _),) = op.mix
            name = f"k{kernel}_s{op.stride}{op.stride}_i{op.in_channels}_o{op.out_channels}"
            return [f"Conv2D/{name}_imgsize{side}"]
        case "conv" if op.groups == 1:
            raise LutError(f"its activation is {op.activation}, the form has relu")
        case "fc" if op.activation == "none":
            return [f"Dense/i{op.in_channels}_o{op.out_channels}_imgsize1"]
        case "pool" if op.pool == "global_avg":
            return [f"GlobalAvgPool/i{op.in_channels}_imgsize{side}"]
        case "mbconv" | "mixconv" | "fused_mbconv":
            return _s3nas_block(op, side)
    raise LutError(_no_key(op, "Conv2D, GlobalAvgPool and Dense"))


def ofa_se_channels(hidden: int) -> int:
    """Reduced width of OFA's squeeze-and-excitation: a quarter, to a multiple of 8 (their
    `make_divisible`)."""
    quarter = hidden // SE_SHARE
    rounded = max(SE_MULTIPLE, (quarter + SE_MULTIPLE // 2) // SE_MULTIPLE * SE_MULTIPLE)
    return rounded + SE_MULTIPLE if rounded < 0.9 * quarter else rounded


def _s3nas_block(op: OpSpec, side: int) -> list[str]:
    if op.activation not in S3NAS_ACTIVATIONS:
        raise LutError(f"its activation is {op.activation}, the form has {', '.join(S3NAS_ACTIVATIONS)}")
    folder, number = S3NAS_BLOCKS[op.kind]
    kernels = ",".join(str(kernel) for kernel, _ in op.mix)
    expansions = ",".join(str(_ratio(channels, op)) for _, channels in op.mix)
    stride = f"s{op.stride}{op.stride}"
    start = f"r1_k{kernels}_{stride}_e{expansions}_i{op.in_channels}_o{op.out_channels}_c{number}"
    start += f"_se{_se_ratio(op)}" if op.se_channels else ""
    end = f"{S3NAS_ACTIVATIONS[op.activation]}_imgsize{side}"
    could_skip = op.stride == 1 and op.in_channels == op.out_channels
    skips = [""] if op.residual else ["_noskip"] if could_skip else ["", "_noskip"]
    return [f"{folder}/{start}{skip}{end}" for skip in skips]


def _se_ratio(op: OpSpec) -> float:
    """The shortest ratio to the input channels that gives the width, rounded down."""
    for digits in range(1, SE_DIGITS + 1):
        ratio = round(op.se_channels / op.in_channels, digits)
        if ratio > 0 and max(1, int(op.in_channels * ratio)) == op.se_channels:
            return ratio
    raise LutError(f"no ratio to its {op.in_channels} channels gives {op.se_channels} channels of SE")


def _conv(op: OpSpec, activation: str, pointwise: tuple[str, str]) -> str:
    """A stem, or a 1x1 convolution on a map or on one pixel."""
    ((kernel, _),) = op.mix
    if op.activation != activation:
        raise LutError(f"its activation is {op.activation}, the form has {activation}")
    if (kernel, op.stride, op.groups, op.in_channels) == (3, 2, 1, 3):
        return _key("Conv", op)
    if (kernel, op.stride, op.groups) == (1, 1, 1):
        return _key(pointwise[op.shape[2:] == (1, 1)], op)
    raise LutError("the form has a 3x3 convolution of stride 2 on 3 channels and 1x1 ones of stride 1")


def _key(name: str, op: OpSpec, fields: Sequence[str] = ()) -> str:
    _, channels, high, wide = op.shape
    _, out_channels, out_high, out_wide = output_shape(op)
    shapes = f"input:{high}x{wide}x{channels}-output:{out_high}x{out_wide}x{out_channels}"
    return "-".join([name, shapes, *fields])


def _block(op: OpSpec) -> tuple[str, str, str]:
    ((kernel, _),) = op.mix
    return f"kernel:{kernel}", f"stride:{op.stride}", f"idskip:{int(op.residual)}"


def _ratio(channels: int, op: OpSpec) -> int:
    if channels % op.in_channels:
        raise LutError(
            f"its {channels} hidden channels are no multiple of its {op.in_channels} input channels"
        )
    return channels // op.in_channels


def _side(op: OpSpec) -> int:
    if len(op.shape) == 2:
        return 1
    high, wide = op.shape[2:]
    if high != wide:
        raise LutError(f"its input of {high}x{wide} is not square")
    return high


def _no_key(op: OpSpec, parts: str) -> str:
    if op.kind == "head":
        return f"a head is one op here; the form has {parts}"
    return f"the form has no {op.pool or op.kind}"
