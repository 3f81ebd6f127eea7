"""The edge ops of a DARTS cell as trainable modules, from the ops that are priced."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from hwprof.errors import SpaceError
from hwprof.ops import OpSpec


class Separable(nn.Module):
    """ReLU, depthwise convolution, 1x1 convolution, BatchNorm."""

    def __init__(
        self, channels: int, out_channels: int, kernel: int, stride: int, dilation: int, affine: bool
    ) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(
            channels, channels, kernel, stride, dilation * (kernel // 2), dilation, channels, bias=False
        )
        self.pointwise = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.pointwise(self.depthwise(functional.relu(x))))
        return y


class ReluConv(nn.Module):
    """ReLU, convolution, BatchNorm."""

    def __init__(self, op: OpSpec, affine: bool) -> None:
        super().__init__()
        kernel = op.mix[0][0]
        self.conv = nn.Conv2d(
            op.in_channels, op.out_channels, kernel, op.stride, kernel // 2, bias=False
        )
        self.norm = nn.BatchNorm2d(op.out_channels, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.conv(functional.relu(x)))
        return y


class FactorizedReduce(nn.Module):
    """ReLU, two 1x1 convolutions of stride 2, the second on the image moved by a pixel, BatchNorm."""

    def __init__(self, op: OpSpec, affine: bool) -> None:
        super().__init__()
        half = op.out_channels // 2
        self.first = nn.Conv2d(op.in_channels, half, 1, op.stride, bias=False)
        self.second = nn.Conv2d(op.in_channels, half, 1, op.stride, bias=False)
        self.norm = nn.BatchNorm2d(op.out_channels, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(x)
        y: Tensor = self.norm(torch.cat([self.first(x), self.second(x[:, :, 1:, 1:])], 1))
        return y


class Pool(nn.Module):
    """Max or average pool, padding not counted, then BatchNorm without weights: DARTS norms pools in its
    search alone, so that their sums with normed ops are of one scale."""

    def __init__(self, op: OpSpec) -> None:
        super().__init__()
        self.mode, self.kernel, self.stride = op.pool, op.mix[0][0], op.stride
        self.norm = nn.BatchNorm2d(op.out_channels, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        pad = self.kernel // 2
        if self.mode == "max":
            pooled = functional.max_pool2d(x, self.kernel, self.stride, pad)
        else:
            pooled = functional.avg_pool2d(x, self.kernel, self.stride, pad, count_include_pad=False)
        y: Tensor = self.norm(pooled)
        return y


def operation(op: OpSpec, affine: bool) -> nn.Module:
    """The module of an op.

    Args:
        affine: whether its BatchNorm has weights; those of a search have none (DARTS), since a weight
            would undo what the gate in front of it says.

    Raises:
        SpaceError: no edge op of a DARTS space.
    """
    channels, out = op.in_channels, op.out_channels
    match op.kind:
        case "sep_conv":
            kernel = op.mix[0][0]
            return nn.Sequential(
                Separable(channels, channels, kernel, op.stride, 1, affine),
                Separable(channels, out, kernel, 1, 1, affine),
            )
        case "dil_conv":
            return Separable(channels, out, op.mix[0][0], op.stride, 2, affine)
        case "relu_conv":
            return ReluConv(op, affine)
        case "factorized_reduce":
            return FactorizedReduce(op, affine)
        case "pool":
            return Pool(op)
    raise SpaceError(f"{op.label} is no op of a DARTS cell; those are sep_conv, dil_conv, relu_conv, "
                     "factorized_reduce and pool")  # fmt: skip
