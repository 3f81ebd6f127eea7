"""Thirteen well-known networks, built from their papers with weights that keep the variance.

The weights are seeded He-normal, and each BatchNorm's statistics are those of one random image, so that
numbers stay in the range of a trained network's (small or huge ones change the time).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from well_known import classic, mobile

SIDE = 224
SEED = 20261121

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "mobilenet-v1": mobile.mobilenet_v1,
    "mobilenet-v2": mobile.mobilenet_v2,
    "mobilenet-v3-large": mobile.mobilenet_v3_large,
    "mnasnet-a1": mobile.mnasnet_a1,
    "efficientnet-b0": mobile.efficientnet_b0,
    "mixnet-s": mobile.mixnet_s,
    "resnet-18": classic.resnet18,
    "resnet-50": classic.resnet50,
    "squeezenet": classic.squeezenet,
    "shufflenet-v2": classic.shufflenet_v2,
    "densenet-121": classic.densenet121,
    "vgg-11": classic.vgg11,
    "regnetx-400mf": classic.regnetx_400mf,
}

PARAMETERS_M = {
    "mobilenet-v1": 4.2, "mobilenet-v2": 3.5, "mobilenet-v3-large": 5.5, "mnasnet-a1": 3.9,
    "efficientnet-b0": 5.3, "mixnet-s": 4.1, "resnet-18": 11.7, "resnet-50": 25.6, "squeezenet": 1.25,
    "shufflenet-v2": 2.3, "densenet-121": 8.0, "vgg-11": 132.9, "regnetx-400mf": 5.2,
}  # fmt: skip
"""Millions, as published; the exporter holds what was built against them."""


def make(name: str) -> nn.Module:
    """A network in eval mode with its seeded weights."""
    torch.manual_seed(SEED)
    network = NETWORKS[name]()
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.normal_(module.bias, std=0.05)
        elif isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
            nn.init.normal_(module.bias, std=0.05)
    with torch.no_grad():
        network.train()(torch.randn(1, 3, SIDE, SIDE))
    return network.eval()


def parameters_m(network: nn.Module) -> float:
    """Millions of parameters."""
    return sum(parameter.numel() for parameter in network.parameters()) / 1e6


def export(name: str, folder: Path) -> Path:
    """The network as an ONNX file in the folder; one that is there is kept.

    Raises:
        ValueError: what was built has not the published number of parameters, within 4 %.
    """
    path = folder / f"{name}.onnx"
    if path.exists():
        return path
    from hwprof.models.module import export_module

    network = make(name)
    found, published = parameters_m(network), PARAMETERS_M[name]
    if abs(found / published - 1.0) > 0.04:
        raise ValueError(f"{name} has {found:.2f} M parameters, published are {published} M")
    proto = export_module(network, torch.randn(1, 3, SIDE, SIDE))
    partial = path.with_suffix(".partial")
    partial.write_bytes(proto.SerializeToString())
    partial.replace(path)
    return path
