"""Lowering of each op kind to primitives. Every function takes (builder, tensor, spec, gain).

A convolution whose input is linear (no activation before it) gets gain sqrt(1/2), since He weights
assume a rectified input; that keeps the variance through a chain of blocks.
"""

from __future__ import annotations

from math import sqrt

from hwprof.graph import GraphBuilder
from hwprof.ops.spec import OpSpec

LINEAR_INPUT = sqrt(0.5)


def conv(builder: GraphBuilder, x: str, spec: OpSpec, gain: float) -> str:
    kernel = spec.mix[0][0]
    y = builder.conv(x, spec.out_channels, kernel, spec.stride, spec.groups)
    return builder.activation(y, spec.activation)


def depthwise(builder: GraphBuilder, x: str, spec: OpSpec, gain: float) -> str:
    y = builder.conv(x, spec.out_channels, spec.mix[0][0], spec.stride, groups=spec.out_channels)
    return builder.activation(y, spec.activation)


def relu_conv(builder: GraphBuilder, x: str, spec: OpSpec, gain: float) -> str:
    """ReLU-Conv-BN of DARTS and NAS-Bench-201 cells."""
    y = builder.activation(x, "relu")
    return builder.conv(y, spec.out_channels, spec.mix[0][0], spec.stride)


def sep_conv(builder: GraphBuilder, x: str, spec: OpSpec, gain: float) -> str:
    """Separable convolution of DARTS (Liu et al. 2019): ReLU, depthwise, 1x1, twice; the first has the
    stride."""
    kernel = spec.mix[0][0]
    y = _separable(builder, x, spec.in_channels, kernel, spec.stride)
    return _separable(builder, y, spec.out_channels, kernel)


def dil_conv(builder: GraphBuilder, x: str, spec: OpSpec, gain: float) -> str:
    """Dilated separable convolution of DARTS: ReLU, depthwise of dilation 2, 1x1."""
    return _separable(builder, x, spec.out_channels, spec.mix[0][0], spec.stride, dilation=2)


def factorized_reduce(builder: GraphBuilder, x: str, spec: OpSpec, gain: float) -> str:
    """Halves both sides (DARTS): ReLU, then two 1x1 convolutions of stride 2 for half of the channels
    each, the second one on the image moved by one pixel."""
    y = builder.activation(x, "relu")
    half = spec.out_channels // 2
    halves = [builder.conv(part, half, stride=spec.stride) for part in (y, builder.crop(y))]
    return builder.concat(halves)


def mixconv(builder: GraphBuilder, x: str, spec: OpSpec, gain: float) -> str:
    """MBConv (Sandler et al. 2018) and MixConv (Tan and Le 2019): expand, depthwise per kernel size,
    squeeze-and-excitation, project. No expansion convolution where hidden and input widths agree."""
    hidden = spec.hidden_channels
    y = x
    if hidden != spec.in_channels:
        y = builder.conv(y, hidden, gain=LINEAR_INPUT)
        y = builder.activation(y, spec.activation)
    if len(spec.mix) == 1:
        y = builder.conv(y, hidden, spec.mix[0][0], spec.stride, groups=hidden)
    else:
        parts = builder.split(y, [channels for _, channels in spec.mix])
        branches = [
            builder.conv(part, channels, kernel, spec.stride, groups=channels)
            for part, (kernel, channels) in zip(parts, spec.mix, strict=True)
        ]
        y = builder.concat(branches)
    y = builder.activation(y, spec.activation)
    return _project(builder, x, y, spec, gain)


def fused_mbconv(builder: GraphBuilder, x: str, spec: OpSpec, gain: float) -> str:
    """Full-convolution block: `ConvBlock_kxk1x1` of S3NAS, Fused-MBConv of EfficientNet-EdgeTPU."""
    kernel, hidden = spec.mix[0]
    y = builder.conv(x, hidden, kernel, spec.stride, gain=LINEAR_INPUT)
    y = builder.activation(y, spec.activation)
    return _project(builder, x, y, spec, gain)


def basic_block(builder: GraphBuilder, x: str, spec: OpSpec, gain: float) -> str:
    """ResNet basic block. Where the shape changes, the shortcut is an average pool and a 1x1
    convolution, as in the reduction block of NAS-Bench-201 (Dong and Yang 2020)."""
    kernel = spec.mix[0][0]
    y = builder.conv(x, spec.out_channels, kernel, spec.stride, gain=LINEAR_INPUT)
    y = builder.activation(y, spec.activation)
    y = builder.conv(y, spec.out_channels, kernel, gain=gain)
    shortcut = x
    if spec.stride > 1:
        shortcut = builder.pool(shortcut, "avg", spec.stride, spec.stride)
    if spec.in_channels != spec.out_channels or spec.stride > 1:
        shortcut = builder.conv(shortcut, spec.out_channels, gain=LINEAR_INPUT)
    return builder.add(y, shortcut)


def squeeze_excite(builder: GraphBuilder, x: str, reduced: int) -> str:
    """Squeeze-and-excitation (Hu et al. 2018): pool, reduce, ReLU, expand, sigmoid, scale."""
    channels = builder.shape(x)[1]
    y = builder.global_avg_pool(x)
    y = builder.activation(builder.conv(y, reduced), "relu")
    y = builder.activation(builder.conv(y, channels), "sigmoid")
    return builder.mul(x, y)


def pool(builder: GraphBuilder, x: str, spec: OpSpec, gain: float) -> str:
    if spec.pool == "global_avg":
        return builder.global_avg_pool(x)
    return builder.pool(x, spec.pool, spec.mix[0][0], spec.stride)


def head(builder: GraphBuilder, x: str, spec: OpSpec, gain: float) -> str:
    if spec.mix:
        x = builder.conv(x, spec.hidden_channels, spec.mix[0][0], gain=LINEAR_INPUT)
    x = builder.activation(x, spec.activation)
    x = builder.flatten(builder.global_avg_pool(x))
    return builder.fc(x, spec.out_channels)


def fc(builder: GraphBuilder, x: str, spec: OpSpec, gain: float) -> str:
    return builder.activation(builder.fc(x, spec.out_channels), spec.activation)


def _separable(
    builder: GraphBuilder, x: str, channels: int, kernel: int, stride: int = 1, dilation: int = 1
) -> str:
    width = builder.shape(x)[1]
    y = builder.activation(x, "relu")
    y = builder.conv(y, width, kernel, stride, groups=width, dilation=dilation)
    return builder.conv(y, channels, gain=LINEAR_INPUT)


def _project(builder: GraphBuilder, x: str, y: str, spec: OpSpec, gain: float) -> str:
    if spec.se_channels:
        y = squeeze_excite(builder, y, spec.se_channels)
    y = builder.conv(y, spec.out_channels, gain=gain if spec.residual else 1.0)
    return builder.add(x, y) if spec.residual else y
