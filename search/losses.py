"""Losses that draw a search to a latency target, and the constraint that hits it.

Each is called with a latency (or another metric; the target is in the same unit) and gives a tensor of
its shape; `total` joins it to the task's loss as its paper does, by a sum or a product.
"""

from __future__ import annotations

import inspect
from math import inf, isfinite
from typing import ClassVar

import torch
from torch import Tensor, nn

from hwprof.errors import HwprofError


class LatencyLoss(nn.Module):
    """A loss with a target.

    Attributes:
        target: in the latency's unit.
        factor: whether the task's loss is multiplied by it; else it is added.

    Raises:
        HwprofError: the target is not finite and above 0, or a setting is no finite number.
    """

    factor: ClassVar[bool] = False

    def __init__(self, target: float, **settings: float) -> None:
        super().__init__()
        if not 0.0 < target < inf:
            raise HwprofError(f"target must be a finite number above 0, got {target}")
        for name, value in settings.items():
            if not isfinite(value):
                raise HwprofError(f"{name} must be a finite number, got {value}")
            setattr(self, name, float(value))
        self.target = float(target)
        self._settings = tuple(settings)

    def total(self, task_loss: Tensor, latency: Tensor) -> Tensor:
        """The task's loss and this one together, of the shape of `latency`."""
        penalty: Tensor = self(latency)
        return task_loss * penalty if self.factor else task_loss + penalty

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={getattr(self, name):g}" for name in ("target", *self._settings))


class LogHinge(LatencyLoss):
    """lambda1 log(1 + lambda2 relu(T - target)), added: S3NAS (Lee et al. 2020), whose defaults are for
    ms. Zero, with zero gradient, at and below the target; steep just above it."""

    lambda1: float
    lambda2: float

    def __init__(self, target: float, *, lambda1: float = 15.0, lambda2: float = 100.0) -> None:
        super().__init__(target, lambda1=lambda1, lambda2=lambda2)

    def forward(self, latency: Tensor) -> Tensor:
        return self.lambda1 * torch.log1p(self.lambda2 * torch.relu(latency - self.target))


class Weighted(LatencyLoss):
    """weight x T, added: LA-DARTS (Xu et al. 2020), ProxylessNAS. It knows no target: the weight, in
    1 / unit of T, has no default and must be swept until the network found is at the target."""

    weight: float

    def __init__(self, target: float, *, weight: float) -> None:
        super().__init__(target, weight=weight)

    def forward(self, latency: Tensor) -> Tensor:
        return self.weight * latency


class LogRatio(LatencyLoss):
    """weight x log(T / target), added: the logarithm of MnasNet's factor. 0 at the target, negative
    below it."""

    weight: float

    def __init__(self, target: float, *, weight: float = 0.07) -> None:
        super().__init__(target, weight=weight)

    def forward(self, latency: Tensor) -> Tensor:
        return self.weight * torch.log(latency / self.target)


class PowerRatio(LatencyLoss):
    """(T / target)^weight, a factor: MnasNet (Tan et al. 2019, equation 2), whose reward has the
    exponent -0.07 on both sides of the target; a loss has its opposite."""

    factor = True
    weight: float

    def __init__(self, target: float, *, weight: float = 0.07) -> None:
        super().__init__(target, weight=weight)

    def forward(self, latency: Tensor) -> Tensor:
        return (latency / self.target).pow(self.weight)


class LogPower(LatencyLoss):
    """alpha log(scale x T)^beta, a factor: FBNet (Wu et al. 2019, equation 2). It knows no target: alpha
    and beta must be swept. `scale` turns T into a unit in which it is well above 1, the default ms into
    the microseconds of FBNet's public implementations.

    Raises:
        HwprofError: scale x target is not above 1, where the logarithm has no power.
    """

    factor = True
    alpha: float
    beta: float
    scale: float

    def __init__(
        self, target: float, *, alpha: float = 0.2, beta: float = 0.6, scale: float = 1000.0
    ) -> None:
        super().__init__(target, alpha=alpha, beta=beta, scale=scale)
        if self.scale * self.target <= 1.0:
            raise HwprofError(
                f"scale must be above 1 / target = {1.0 / self.target:g}, got {self.scale:g}"
            )

    def forward(self, latency: Tensor) -> Tensor:
        return self.alpha * torch.log(self.scale * latency).pow(self.beta)


class LearnedMultiplier(LatencyLoss):
    """multiplier x g + damping / 2 x g^2 with g = T / target - 1, added. The multiplier starts at 0,
    rises by `rate` x g at each call and may go negative, so that a search ends at the target from above
    and from below: LightNAS (Luo et al. 2022), which has no damping and a rate of 0.0005 over some ten
    thousand steps. The square damps the swing around the target and leaves its place as it is (Platt and
    Barr 1987): without it the searches of tests/search/test_losses.py still swing by more than 10 %
    after 600 steps, with it they are within 1 %.

    Driven past the target by more than `reach`, the multiplier is halved at each call: what it learnt on
    a long way is too much at the target. A search of `s3nas-cifar` from six times its target had learnt
    7, closed every block with it, and ended at a third of its target.

    A call in training mode with gradients on is one step of the multiplier; `eval()` or `no_grad` only
    looks. A batch moves it by its mean. The multiplier is part of the `state_dict`.

    Raises:
        HwprofError: `reach` is not above 0.
    """

    multiplier: Tensor
    rate: float
    damping: float
    reach: float

    def __init__(
        self, target: float, *, rate: float = 0.05, damping: float = 3.0, reach: float = 0.25
    ) -> None:
        super().__init__(target, rate=rate, damping=damping, reach=reach)
        if self.reach <= 0.0:
            raise HwprofError(f"reach must be above 0, got {self.reach:g}")
        self.register_buffer("multiplier", torch.zeros(()))

    def forward(self, latency: Tensor) -> Tensor:
        gap = latency / self.target - 1.0
        loss = self.multiplier.clone() * gap + 0.5 * self.damping * gap.square()
        if self.training and torch.is_grad_enabled():
            mean = gap.detach().mean()
            too_far = (mean.abs() > self.reach) & (mean * self.multiplier < 0)
            raised = self.multiplier + self.rate * mean
            self.multiplier.copy_(torch.where(too_far, 0.5 * self.multiplier, raised))
        return loss


LOSSES: dict[str, type[LatencyLoss]] = {
    "log_hinge": LogHinge,
    "weighted": Weighted,
    "log_ratio": LogRatio,
    "power_ratio": PowerRatio,
    "log_power": LogPower,
    "multiplier": LearnedMultiplier,
}


def make_loss(name: str, target: float, **settings: float) -> LatencyLoss:
    """A loss by name.

    Args:
        name: of `LOSSES`.
        target: above 0, in the metric's unit (ms).
        settings: of that loss, in place of its defaults.

    Raises:
        HwprofError: an unknown name or setting, a setting that is missing, or a number that is not one
            of the allowed.
    """
    if name not in LOSSES:
        raise HwprofError(f"loss {name!r} is unknown; choose of {', '.join(LOSSES)}")
    known = {
        key: parameter.default
        for key, parameter in inspect.signature(LOSSES[name]).parameters.items()
        if key != "target"
    }
    if unknown := sorted(set(settings) - set(known)):
        raise HwprofError(f"loss {name} has no setting {unknown[0]!r}; it has {', '.join(known)}")
    for key, default in known.items():
        if default is inspect.Parameter.empty and key not in settings:
            raise HwprofError(f"loss {name} needs {key}=: it has no default, because it knows no target")
    return LOSSES[name](target, **settings)
