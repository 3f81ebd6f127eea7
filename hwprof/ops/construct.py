"""Constructors: the short way to write an OpSpec, filling in what follows from the rest."""

from __future__ import annotations

from collections.abc import Mapping

from hwprof.ops.spec import OpSpec

Shape = tuple[int, ...]


def conv(
    shape: Shape,
    out_channels: int,
    kernel: int = 1,
    *,
    stride: int = 1,
    groups: int = 1,
    activation: str = "none",
    dtype: str = "float32",
) -> OpSpec:
    """Convolution with folded BatchNorm and activation; also the stem of a network."""
    return OpSpec(
        "conv", shape, out_channels, mix=((kernel, out_channels),), stride=stride, groups=groups,
        activation=activation, dtype=dtype,
    )  # fmt: skip


def depthwise(
    shape: Shape, kernel: int, *, stride: int = 1, activation: str = "none", dtype: str = "float32"
) -> OpSpec:
    """Depthwise convolution with folded BatchNorm and activation."""
    return OpSpec(
        "depthwise", shape, shape[1], mix=((kernel, shape[1]),), stride=stride,
        activation=activation, dtype=dtype,
    )  # fmt: skip


def mixconv(
    shape: Shape,
    out_channels: int,
    mix: Mapping[int, int],
    *,
    stride: int = 1,
    activation: str = "relu",
    se_ratio: float = 0.0,
    residual: bool | None = None,
    dtype: str = "float32",
) -> OpSpec:
    """MixConv block; `mix` maps a kernel size to its hidden channels. One kernel is an MBConv.

    `se_ratio` is relative to the block's input channels, as in EfficientNet and S3NAS. `residual`
    None means: wherever stride 1 and equal widths allow it.
    """
    return OpSpec(
        "mixconv", shape, out_channels, mix=tuple(mix.items()), stride=stride, activation=activation,
        se_channels=se_width(shape[1], se_ratio),
        residual=_residual(shape, out_channels, stride, residual), dtype=dtype,
    )  # fmt: skip


def mbconv(
    shape: Shape,
    out_channels: int,
    kernel: int,
    expansion: int,
    *,
    stride: int = 1,
    activation: str = "relu",
    se_ratio: float = 0.0,
    residual: bool | None = None,
    dtype: str = "float32",
) -> OpSpec:
    """Inverted residual with `expansion` x input channels in its depthwise stage."""
    return mixconv(
        shape, out_channels, {kernel: expansion * shape[1]}, stride=stride, activation=activation,
        se_ratio=se_ratio, residual=residual, dtype=dtype,
    )  # fmt: skip


def fused_mbconv(
    shape: Shape,
    out_channels: int,
    kernel: int,
    expansion: int,
    *,
    stride: int = 1,
    activation: str = "relu",
    se_ratio: float = 0.0,
    residual: bool | None = None,
    dtype: str = "float32",
) -> OpSpec:
    """Full-convolution block (`ConvBlock_kxk1x1` of S3NAS)."""
    return OpSpec(
        "fused_mbconv", shape, out_channels, mix=((kernel, expansion * shape[1]),), stride=stride,
        activation=activation, se_channels=se_width(shape[1], se_ratio),
        residual=_residual(shape, out_channels, stride, residual), dtype=dtype,
    )  # fmt: skip


def squeeze_excite(shape: Shape, se_ratio: float = 0.25, *, dtype: str = "float32") -> OpSpec:
    """Squeeze-and-excitation alone."""
    return OpSpec("se", shape, shape[1], se_channels=se_width(shape[1], se_ratio), dtype=dtype)


def activation(shape: Shape, name: str, *, dtype: str = "float32") -> OpSpec:
    """One activation alone: relu, relu6, hswish, swish or sigmoid."""
    return OpSpec("activation", shape, shape[1], activation=name, dtype=dtype)


def pool(
    shape: Shape, mode: str, kernel: int | None = None, *, stride: int = 1, dtype: str = "float32"
) -> OpSpec:
    """Max, avg or global_avg pooling (the last without a kernel)."""
    mix = () if kernel is None else ((kernel, shape[1]),)
    return OpSpec("pool", shape, shape[1], mix=mix, stride=stride, pool=mode, dtype=dtype)


def head(
    shape: Shape,
    classes: int,
    hidden: int | None = None,
    *,
    activation: str = "relu",
    dtype: str = "float32",
) -> OpSpec:
    """Classifier: optional 1x1 convolution to `hidden`, activation, global pool, fully connected."""
    mix = () if hidden is None else ((1, hidden),)
    return OpSpec("head", shape, classes, mix=mix, activation=activation, dtype=dtype)


def fc(shape: Shape, out_channels: int, *, activation: str = "none", dtype: str = "float32") -> OpSpec:
    """Fully connected layer on an (N, C) input."""
    return OpSpec("fc", shape, out_channels, activation=activation, dtype=dtype)


def skip(shape: Shape, *, dtype: str = "float32") -> OpSpec:
    """Identity. In a search space a skipped block costs nothing and is not measured."""
    return OpSpec("skip", shape, shape[1], dtype=dtype)


def se_width(channels: int, se_ratio: float) -> int:
    """Reduced width of squeeze-and-excitation: at least 1 where there is one at all."""
    return max(1, int(channels * se_ratio)) if se_ratio > 0 else 0


def _residual(shape: Shape, out_channels: int, stride: int, wanted: bool | None) -> bool:
    return (stride == 1 and shape[1] == out_channels) if wanted is None else wanted
