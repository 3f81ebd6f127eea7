"""What the networks share: convolution with BatchNorm, squeeze-and-excitation, inverted residuals."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

Activation = type[nn.Module] | None


def conv_bn(
    ins: int, outs: int, kernel: int = 1, stride: int = 1, groups: int = 1, activation: Activation = None
) -> nn.Sequential:
    """Convolution without bias, BatchNorm, activation if any."""
    layers: list[nn.Module] = [
        nn.Conv2d(ins, outs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outs),
    ]
    if activation is not None:
        layers.append(activation())
    return nn.Sequential(*layers)


class SqueezeExcite(nn.Module):
    """Hu et al. 2018."""

    def __init__(
        self, channels: int, reduced: int, activation: type[nn.Module], gate: type[nn.Module]
    ) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Conv2d(channels, reduced, 1)
        self.expand = nn.Conv2d(reduced, channels, 1)
        self.activation, self.gate = activation(), gate()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.expand(self.activation(self.reduce(self.pool(x)))))


class Mixed(nn.Module):
    """A convolution whose channels are split evenly over kernel sizes (Tan and Le 2019, MixConv); of a
    pointwise one each part sees its share of the input."""

    def __init__(
        self, ins: int, outs: int, kernels: Sequence[int], stride: int = 1, depthwise: bool = False
    ) -> None:
        super().__init__()
        self.shares = shares(ins, len(kernels))
        parts = zip(self.shares, shares(outs, len(kernels)), kernels, strict=True)
        self.convs = nn.ModuleList(
            nn.Conv2d(i, o, k, stride, k // 2, groups=i if depthwise else 1, bias=False)
            for i, o, k in parts
        )

    def forward(self, x: Tensor) -> Tensor:
        if len(self.convs) == 1:
            return self.convs[0](x)
        parts = torch.split(x, self.shares, dim=1)
        return torch.cat([conv(part) for conv, part in zip(self.convs, parts, strict=True)], dim=1)


class InvertedResidual(nn.Module):
    """MobileNetV2's block with what its successors added: kernel sizes, SE, activations.

    `expand_parts` and `project_parts` split the pointwise convolutions (MixNet).
    """

    def __init__(
        self,
        ins: int,
        hidden: int,
        outs: int,
        kernels: Sequence[int] = (3,),
        stride: int = 1,
        activation: type[nn.Module] = nn.ReLU6,
        se: int = 0,
        se_activation: type[nn.Module] | None = None,
        se_gate: type[nn.Module] = nn.Sigmoid,
        expand_parts: int = 1,
        project_parts: int = 1,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        if hidden != ins:
            layers += [Mixed(ins, hidden, (1,) * expand_parts), nn.BatchNorm2d(hidden), activation()]
        layers += [
            Mixed(hidden, hidden, kernels, stride, depthwise=True), nn.BatchNorm2d(hidden), activation()
        ]  # fmt: skip
        if se:
            layers.append(SqueezeExcite(hidden, se, se_activation or activation, se_gate))
        layers += [Mixed(hidden, outs, (1,) * project_parts), nn.BatchNorm2d(outs)]
        self.body = nn.Sequential(*layers)
        self.residual = stride == 1 and ins == outs

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        return x + y if self.residual else y


class Classifier(nn.Sequential):
    """Global average pool and one fully connected layer."""

    def __init__(self, channels: int, classes: int = 1000) -> None:
        super().__init__(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


def shares(channels: int, parts: int) -> list[int]:
    """Even shares; the first takes what is left over."""
    each = channels // parts
    return [channels - each * (parts - 1), *[each] * (parts - 1)]
