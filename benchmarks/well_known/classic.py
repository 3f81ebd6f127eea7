"""ResNet-18 and -50, RegNetX-400MF, DenseNet-121, VGG-11, SqueezeNet, ShuffleNetV2."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from well_known.blocks import Classifier, conv_bn


class Residual(nn.Module):
    """A body, a shortcut (a strided projection where the shape changes), ReLU."""

    def __init__(self, body: nn.Module, ins: int, outs: int, stride: int) -> None:
        super().__init__()
        self.body = body
        self.shortcut = conv_bn(ins, outs, 1, stride) if stride > 1 or ins != outs else nn.Identity()
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.body(x) + self.shortcut(x))


def resnet18() -> nn.Module:
    """He et al. 2016, table 1, projection shortcuts where the shape changes (option B)."""
    layers = _resnet_stem()
    ins = 64
    for outs, count in ((64, 2), (128, 2), (256, 2), (512, 2)):
        for number in range(count):
            stride = 2 if number == 0 and outs > 64 else 1
            body = nn.Sequential(
                conv_bn(ins, outs, 3, stride, activation=nn.ReLU), conv_bn(outs, outs, 3)
            )
            layers.append(Residual(body, ins, outs, stride))
            ins = outs
    return nn.Sequential(*layers, Classifier(ins))


def resnet50() -> nn.Module:
    """He et al. 2016, table 1; the stride is in the first 1x1 convolution."""
    layers = _resnet_stem()
    ins = 64
    for width, count in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for number in range(count):
            stride = 2 if number == 0 and width > 64 else 1
            body = nn.Sequential(
                conv_bn(ins, width, 1, stride, activation=nn.ReLU),
                conv_bn(width, width, 3, activation=nn.ReLU),
                conv_bn(width, 4 * width),
            )
            layers.append(Residual(body, ins, 4 * width, stride))
            ins = 4 * width
    return nn.Sequential(*layers, Classifier(ins))


def regnetx_400mf() -> nn.Module:
    """Radosavovic et al. 2020, appendix: depths 1, 2, 7, 12, widths 32, 64, 160, 384, groups of 16."""
    layers: list[nn.Module] = [conv_bn(3, 32, 3, 2, activation=nn.ReLU)]
    ins = 32
    for width, count in ((32, 1), (64, 2), (160, 7), (384, 12)):
        for number in range(count):
            stride = 2 if number == 0 else 1
            body = nn.Sequential(
                conv_bn(ins, width, activation=nn.ReLU),
                conv_bn(width, width, 3, stride, groups=width // 16, activation=nn.ReLU),
                conv_bn(width, width),
            )
            layers.append(Residual(body, ins, width, stride))
            ins = width
    return nn.Sequential(*layers, Classifier(ins))


class DenseLayer(nn.Module):
    """BN-ReLU-conv 1x1 (4 x growth), BN-ReLU-conv 3x3 (growth), joined to its input."""

    def __init__(self, ins: int, growth: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(ins), nn.ReLU(), nn.Conv2d(ins, 4 * growth, 1, bias=False),
            nn.BatchNorm2d(4 * growth), nn.ReLU(),
            nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.body(x)], dim=1)


def densenet121() -> nn.Module:
    """Huang et al. 2017, table 1, growth 32, compression 0.5."""
    layers: list[nn.Module] = _resnet_stem()
    channels = 64
    for number, count in enumerate((6, 12, 24, 16)):
        if number:
            layers += [nn.BatchNorm2d(channels), nn.ReLU(),
                       nn.Conv2d(channels, channels // 2, 1, bias=False), nn.AvgPool2d(2)]  # fmt: skip
            channels //= 2
        for _ in range(count):
            layers.append(DenseLayer(channels, 32))
            channels += 32
    return nn.Sequential(*layers, nn.BatchNorm2d(channels), nn.ReLU(), Classifier(channels))


def vgg11() -> nn.Module:
    """Simonyan and Zisserman 2015, configuration A."""
    layers: list[nn.Module] = []
    ins = 3
    for width in (64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0):
        if width:
            layers += [nn.Conv2d(ins, width, 3, padding=1), nn.ReLU()]
            ins = width
        else:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(
        *layers, nn.Flatten(), nn.Linear(512 * 49, 4096), nn.ReLU(), nn.Dropout(),
        nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 1000),
    )  # fmt: skip


class Fire(nn.Module):
    """SqueezeNet's module: squeeze 1x1, then 1x1 and 3x3 side by side."""

    def __init__(self, ins: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(ins, squeeze, 1)
        self.small = nn.Conv2d(squeeze, expand, 1)
        self.large = nn.Conv2d(squeeze, expand, 3, padding=1)
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.squeeze(x))
        return torch.cat([self.activation(self.small(x)), self.activation(self.large(x))], dim=1)


def squeezenet() -> nn.Module:
    """Iandola et al. 2016, table 1 (version 1.0)."""
    layers: list[nn.Module] = [nn.Conv2d(3, 96, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True)]
    ins = 96
    for squeeze, expand in ((16, 64), (16, 64), (32, 128), (0, 0), (32, 128), (48, 192), (48, 192),
                            (64, 256), (0, 0), (64, 256)):  # fmt: skip
        if squeeze:
            layers.append(Fire(ins, squeeze, expand))
            ins = 2 * expand
        else:
            layers.append(nn.MaxPool2d(3, 2, ceil_mode=True))
    layers += [nn.Dropout(), nn.Conv2d(ins, 1000, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers)


class ShuffleUnit(nn.Module):
    """Ma et al. 2018, figure 3(c) and (d): split (or a second branch at stride 2), concat, shuffle."""

    def __init__(self, ins: int, outs: int, stride: int) -> None:
        super().__init__()
        half = outs // 2
        first = ins if stride > 1 else half
        self.stride = stride
        self.left = (
            nn.Sequential(conv_bn(ins, ins, 3, 2, groups=ins), conv_bn(ins, half, activation=nn.ReLU))
            if stride > 1
            else nn.Identity()
        )
        self.right = nn.Sequential(
            conv_bn(first, half, activation=nn.ReLU), conv_bn(half, half, 3, stride, groups=half),
            conv_bn(half, half, activation=nn.ReLU),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        left, right = (x, x) if self.stride > 1 else x.chunk(2, dim=1)
        y = torch.cat([self.left(left), self.right(right)], dim=1)
        batch, channels, height, width = y.shape
        y = y.view(batch, 2, channels // 2, height, width).transpose(1, 2)
        return y.reshape(batch, channels, height, width)


def shufflenet_v2() -> nn.Module:
    """Ma et al. 2018, table 5, width 1."""
    layers: list[nn.Module] = [conv_bn(3, 24, 3, 2, activation=nn.ReLU), nn.MaxPool2d(3, 2, 1)]
    ins = 24
    for outs, count in ((116, 4), (232, 8), (464, 4)):
        for number in range(count):
            layers.append(ShuffleUnit(ins, outs, 2 if number == 0 else 1))
            ins = outs
    return nn.Sequential(*layers, conv_bn(ins, 1024, activation=nn.ReLU), Classifier(1024))


def _resnet_stem() -> list[nn.Module]:
    return [conv_bn(3, 64, 7, 2, activation=nn.ReLU), nn.MaxPool2d(3, 2, 1)]
