"""RMSProp as TensorFlow has it, which S3NAS and EfficientNet were trained with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class RMSProp(Optimizer):
    """m <- d m + (1 - d) g^2; b <- momentum b + lr g / sqrt(m + eps); w <- w - b. m begins at 1.

    `torch.optim.RMSprop` adds eps outside the root and begins m at 0: at eps 1e-3 a small gradient then
    takes a step thirty times as large. Weight decay is added to the gradient, as the L2 loss of S3NAS.
    A group with `shared` takes the mean of g^2 over each tensor: its elements keep their proportions.
    """

    def __init__(
        self,
        params: Any,
        lr: float,
        *,
        decay: float = 0.9,
        momentum: float = 0.9,
        eps: float = 1e-3,
        weight_decay: float = 0.0,
        shared: bool = False,
    ) -> None:
        defaults = {
            "lr": lr, "decay": decay, "momentum": momentum, "eps": eps, "weight_decay": weight_decay,
            "shared": shared,
        }  # fmt: skip
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient. `closure` is not called."""
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            if not weights:
                continue
            gradients: list[Tensor] = [p.grad for p in weights if p.grad is not None]
            for weight, gradient in zip(weights, gradients, strict=True):
                if not self.state[weight]:
                    first = gradient.square().mean() if group["shared"] else 1.0
                    self.state[weight]["mean_square"] = torch.ones_like(weight) * first
                    self.state[weight]["buffer"] = torch.zeros_like(weight)
            squares = [self.state[weight]["mean_square"] for weight in weights]
            buffers = [self.state[weight]["buffer"] for weight in weights]
            if group["weight_decay"]:
                gradients = list(torch._foreach_add(gradients, weights, alpha=group["weight_decay"]))
            torch._foreach_mul_(squares, group["decay"])
            news = list(torch._foreach_mul(gradients, gradients))
            if group["shared"]:
                news = [new.mean().expand_as(new) for new in news]
            torch._foreach_add_(squares, news, alpha=1.0 - group["decay"])
            roots = torch._foreach_add(squares, group["eps"])
            torch._foreach_sqrt_(roots)
            torch._foreach_mul_(buffers, group["momentum"])
            torch._foreach_addcdiv_(buffers, gradients, roots, group["lr"])
            torch._foreach_sub_(weights, buffers)
