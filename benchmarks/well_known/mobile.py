"""MobileNetV1, V2 and V3-Large, MnasNet-A1, EfficientNet-B0, MixNet-S."""

from __future__ import annotations

from torch import nn

from well_known.blocks import Classifier, InvertedResidual, conv_bn


def mobilenet_v1() -> nn.Module:
    """Howard et al. 2017, table 1."""
    layers: list[nn.Module] = [conv_bn(3, 32, 3, 2, activation=nn.ReLU)]
    ins = 32
    widths = [
        (64, 1),
        (128, 2),
        (128, 1),
        (256, 2),
        (256, 1),
        (512, 2),
        *[(512, 1)] * 5,
        (1024, 2),
        (1024, 1),
    ]
    for outs, stride in widths:
        layers.append(conv_bn(ins, ins, 3, stride, groups=ins, activation=nn.ReLU))
        layers.append(conv_bn(ins, outs, activation=nn.ReLU))
        ins = outs
    return nn.Sequential(*layers, Classifier(ins))


def mobilenet_v2() -> nn.Module:
    """Sandler et al. 2018, table 2."""
    layers: list[nn.Module] = [conv_bn(3, 32, 3, 2, activation=nn.ReLU6)]
    ins = 32
    stages = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
              (6, 320, 1, 1)]  # fmt: skip
    for expansion, outs, count, stride in stages:
        for number in range(count):
            layers.append(
                InvertedResidual(ins, expansion * ins, outs, stride=stride if number == 0 else 1)
            )
            ins = outs
    return nn.Sequential(*layers, conv_bn(ins, 1280, activation=nn.ReLU6), Classifier(1280))


def mobilenet_v3_large() -> nn.Module:
    """Howard et al. 2019, table 1; SE of a quarter of the expansion."""
    relu, hswish = nn.ReLU, nn.Hardswish
    rows = [
        (3, 16, 16, False, relu, 1), (3, 64, 24, False, relu, 2), (3, 72, 24, False, relu, 1),
        (5, 72, 40, True, relu, 2), (5, 120, 40, True, relu, 1), (5, 120, 40, True, relu, 1),
        (3, 240, 80, False, hswish, 2), (3, 200, 80, False, hswish, 1), (3, 184, 80, False, hswish, 1),
        (3, 184, 80, False, hswish, 1), (3, 480, 112, True, hswish, 1), (3, 672, 112, True, hswish, 1),
        (5, 672, 160, True, hswish, 2), (5, 960, 160, True, hswish, 1), (5, 960, 160, True, hswish, 1),
    ]  # fmt: skip
    layers: list[nn.Module] = [conv_bn(3, 16, 3, 2, activation=hswish)]
    ins = 16
    for kernel, hidden, outs, se, activation, stride in rows:
        layers.append(
            InvertedResidual(
                ins, hidden, outs, (kernel,), stride, activation, divisible(hidden / 4) if se else 0,
                nn.ReLU, nn.Hardsigmoid,
            )
        )  # fmt: skip
        ins = outs
    return nn.Sequential(
        *layers, conv_bn(ins, 960, activation=hswish), nn.AdaptiveAvgPool2d(1),
        nn.Conv2d(960, 1280, 1), hswish(), nn.Flatten(), nn.Linear(1280, 1000),
    )  # fmt: skip


def mnasnet_a1() -> nn.Module:
    """Tan et al. 2019, figure 7(a)."""
    layers: list[nn.Module] = [conv_bn(3, 32, 3, 2, activation=nn.ReLU)]
    ins = 32
    stages = [(1, 3, 16, 1, 1, 0.0), (6, 3, 24, 2, 2, 0.0), (3, 5, 40, 3, 2, 0.25),
              (6, 3, 80, 4, 2, 0.0), (6, 3, 112, 2, 1, 0.25), (6, 5, 160, 3, 2, 0.25),
              (6, 3, 320, 1, 1, 0.0)]  # fmt: skip
    for expansion, kernel, outs, count, stride, ratio in stages:
        for number in range(count):
            layers.append(
                InvertedResidual(
                    ins, expansion * ins, outs, (kernel,), stride if number == 0 else 1, nn.ReLU,
                    int(ins * ratio),
                )
            )  # fmt: skip
            ins = outs
    return nn.Sequential(*layers, conv_bn(ins, 1280, activation=nn.ReLU), Classifier(1280))


def efficientnet_b0() -> nn.Module:
    """Tan and Le 2019, table 1; SE of a quarter of a block's input, swish."""
    layers: list[nn.Module] = [conv_bn(3, 32, 3, 2, activation=nn.SiLU)]
    ins = 32
    stages = [(1, 3, 16, 1, 1), (6, 3, 24, 2, 2), (6, 5, 40, 2, 2), (6, 3, 80, 3, 2), (6, 5, 112, 3, 1),
              (6, 5, 192, 4, 2), (6, 3, 320, 1, 1)]  # fmt: skip
    for expansion, kernel, outs, count, stride in stages:
        for number in range(count):
            layers.append(
                InvertedResidual(
                    ins, expansion * ins, outs, (kernel,), stride if number == 0 else 1, nn.SiLU,
                    ins // 4,
                )
            )  # fmt: skip
            ins = outs
    return nn.Sequential(*layers, conv_bn(ins, 1280, activation=nn.SiLU), Classifier(1280))


def mixnet_s() -> nn.Module:
    """Tan and Le 2019 (MixConv), figure 5, with the details of its published code: kernel sizes, parts
    of the two pointwise convolutions, stride, expansion, width, SE relative to a block's input."""
    relu, swish = nn.ReLU, nn.SiLU
    rows = [
        ((3,), 1, 1, 1, 1, 16, 0.0, relu), ((3,), 2, 2, 2, 6, 24, 0.0, relu),
        ((3,), 2, 2, 1, 3, 24, 0.0, relu), ((3, 5, 7), 1, 1, 2, 6, 40, 0.5, swish),
        *[((3, 5), 2, 2, 1, 6, 40, 0.5, swish)] * 3, ((3, 5, 7), 1, 2, 2, 6, 80, 0.25, swish),
        *[((3, 5), 1, 2, 1, 6, 80, 0.25, swish)] * 2, ((3, 5, 7), 2, 2, 1, 6, 120, 0.5, swish),
        *[((3, 5, 7, 9), 2, 2, 1, 3, 120, 0.5, swish)] * 2,
        ((3, 5, 7, 9, 11), 1, 1, 2, 6, 200, 0.5, swish),
        *[((3, 5, 7, 9), 1, 2, 1, 6, 200, 0.5, swish)] * 2,
    ]  # fmt: skip
    layers: list[nn.Module] = [conv_bn(3, 16, 3, 2, activation=relu)]
    ins = 16
    for kernels, expand, project, stride, expansion, outs, ratio, activation in rows:
        layers.append(
            InvertedResidual(
                ins, expansion * ins, outs, kernels, stride, activation, int(ins * ratio),
                expand_parts=expand, project_parts=project,
            )
        )  # fmt: skip
        ins = outs
    return nn.Sequential(*layers, conv_bn(ins, 1536, activation=relu), Classifier(1536))


def divisible(channels: float) -> int:
    """The nearest multiple of 8, not more than 10 % below (Howard et al. 2019's code)."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded
