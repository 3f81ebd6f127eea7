"""What superblocks are made of: normalisation and convolution of a share of the channels, initial
weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn import functional

from hwprof.errors import SpaceError
from hwprof.ops import OpSpec

# S3NAS, as EfficientNet: momentum 0.99 of the old value, which PyTorch calls 0.01.
NORM_MOMENTUM = 0.01
NORM_EPS = 1e-3

# In place where autograd allows it: what comes before is a BatchNorm, which does not keep its output.
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu_,
    "relu6": partial(functional.relu6, inplace=True),
    "hswish": functional.hardswish,
    "swish": functional.silu,
    "sigmoid": torch.sigmoid,
}


def activate(x: Tensor, name: str) -> Tensor:
    """An activation of the op vocabulary by name, on the output of a BatchNorm; it may overwrite it."""
    return x if name == "none" else _ACTIVATIONS[name](x)


def new_norm(channels: int) -> nn.BatchNorm2d:
    """BatchNorm with S3NAS's settings."""
    return nn.BatchNorm2d(channels, eps=NORM_EPS, momentum=NORM_MOMENTUM)


def fan_out_deviation(kernel: int, out_channels: int, groups: int = 1) -> float:
    """Standard deviation of initial convolution weights: sqrt(2 / fan out), as EfficientNet."""
    return sqrt(2.0 * groups / (kernel * kernel * out_channels))


def initialise_linear(layer: nn.Linear, generator: torch.Generator | None = None) -> None:
    """Uniform within 1 / sqrt(outputs), bias 0, as EfficientNet."""
    bound = 1.0 / sqrt(layer.out_features)
    nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
    nn.init.zeros_(layer.bias)


class ConvNorm(nn.Module):
    """Convolution without bias, then BatchNorm; on request of some of its channels only."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        generator: torch.Generator,
        *,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False
        )
        self.norm = new_norm(out_channels)
        deviation = fan_out_deviation(kernel, out_channels, groups)
        nn.init.normal_(self.conv.weight, 0.0, deviation, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.conv(x))
        return y

    def outputs(self, x: Tensor, channels: Tensor | None) -> Tensor:
        """Some output channels (indices; None: all) of a 1x1 convolution."""
        return normalise(functional.conv2d(x, pick(self.conv.weight, channels)), self.norm, channels)

    def inputs(self, x: Tensor, channels: Tensor | None) -> Tensor:
        """All outputs of a 1x1 convolution from some of its input channels."""
        y: Tensor = self.norm(functional.conv2d(x, pick(self.conv.weight, channels, 1)))
        return y


def pick(weight: Tensor, channels: Tensor | None, dimension: int = 0) -> Tensor:
    """A share of a weight; None: all of it, without a copy."""
    return weight if channels is None else weight.index_select(dimension, channels)


def normalise(x: Tensor, norm: nn.BatchNorm2d, channels: Tensor | None) -> Tensor:
    """BatchNorm of a share of its channels, whose running statistics follow where it is training."""
    if channels is None:
        y: Tensor = norm(x)
        return y
    assert norm.running_mean is not None
    assert norm.running_var is not None
    mean, variance = norm.running_mean[channels], norm.running_var[channels]
    y = functional.batch_norm(
        x, mean, variance, norm.weight[channels], norm.bias[channels],
        norm.training, norm.momentum or 0.0, norm.eps,
    )  # fmt: skip
    if norm.training:
        norm.running_mean.index_copy_(0, channels, mean)
        norm.running_var.index_copy_(0, channels, variance)
    return y


class Stem(nn.Module):
    """The first convolution of a chain, with BatchNorm and activation."""

    def __init__(self, op: OpSpec, generator: torch.Generator) -> None:
        super().__init__()
        if op.kind != "conv":
            raise SpaceError(f"a supernet begins with a convolution, not with {op.label}")
        self.convolution = ConvNorm(
            op.in_channels, op.out_channels, generator,
            kernel=op.mix[0][0], stride=op.stride, groups=op.groups,
        )  # fmt: skip
        self.activation = op.activation

    def forward(self, x: Tensor) -> Tensor:
        return activate(self.convolution(x), self.activation)


class Head(nn.Module):
    """Optional 1x1 convolution, activation, global average pool, dropout, classifier."""

    def __init__(self, op: OpSpec, generator: torch.Generator, dropout: float) -> None:
        super().__init__()
        if op.kind != "head":
            raise SpaceError(f"a supernet ends with a head, not with {op.label}")
        width = op.hidden_channels or op.in_channels
        self.convolution: nn.Module = nn.Identity()
        if op.mix:
            self.convolution = ConvNorm(op.in_channels, width, generator, kernel=op.mix[0][0])
        self.activation = op.activation
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(width, op.out_channels)
        initialise_linear(self.classifier, generator)

    def forward(self, x: Tensor) -> Tensor:
        y = activate(self.convolution(x), self.activation).mean((2, 3))
        logits: Tensor = self.classifier(self.dropout(y))
        return logits
