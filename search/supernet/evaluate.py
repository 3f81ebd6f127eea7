"""How often a model is right, and BatchNorm statistics for the network that is evaluated."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

Batch = tuple[Tensor, Tensor]


@torch.no_grad()
def correct_predictions(
    model: nn.Module, batches: Iterable[Batch], run: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """Whether each image is classified right, in order: bool of shape (images,) on the CPU. Its mean is
    the accuracy; two models' differences on the same images give a paired interval.

    Args:
        model: put into evaluation mode for the time being.
        batches: (images, labels) on the model's device.
        run: what gives the logits, where it is not the model's own call.
    """
    training = model.training
    model.eval()
    try:
        right = [((run or model)(images).argmax(1) == labels).cpu() for images, labels in batches]
    finally:
        model.train(training)
    return torch.cat(right)


@torch.no_grad()
def recalibrate(
    model: nn.Module, batches: Iterable[Batch], run: Callable[[Tensor], Tensor] | None = None
) -> None:
    """Set BatchNorm statistics to the mean over some batches of images, weights unchanged.

    A supernet's running statistics are a mixture over all networks that ran; a network that is
    evaluated with its weights needs its own (Yu and Huang 2019, Guo et al. 2020).
    """
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    training = model.training
    model.eval()
    for norm in norms:
        norm.train()
    try:
        for number, (images, _) in enumerate(batches):
            for norm in norms:
                norm.momentum = 1.0 / (number + 1)
            (run or model)(images)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        model.train(training)
