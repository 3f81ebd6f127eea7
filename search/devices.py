"""Latency on several devices as one number to search with."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import torch
from torch import Tensor

from hwprof.errors import LutError
from hwprof.search.expectation import Expectation
from hwprof.search.stacked import Stacked

WAYS = ("mean", "weighted", "worst")


class AcrossDevices(Stacked):
    """Mean, weighted mean or worst case of expectations over one space, one for each device (table,
    environment, or whatever gives another latency).

    With targets everything is relative to them: x_d = T_d / target_d, so that a result of 1 is at the
    target. Without, x_d = T_d in its own unit. The worst case is a smooth maximum,

        S = t log(sum_d exp(x_d / t)),    max x <= S <= max x + t log(devices)

    so an upper bound that tends to the maximum as t to 0; its gradient is the devices' gradients
    weighted by softmax(x / t). t is `temperature` itself with targets, and `temperature` times the
    largest latency of a device under uniform choices without.

    Args:
        devices: an `ExpectedLatency` (or another expectation) for each device.
        how: one of `WAYS`.
        weights: for `weighted`: one of 0 or more for each device; they are divided by their sum.
        targets: one above 0 for each device, in the unit of its latency.
        temperature: of the smooth maximum, relative; above 0.

    Attributes:
        temperature: t above, in the unit of x.

    Raises:
        LutError: an argument is not one of its allowed values.
        SpaceError: the devices' expectations are of different spaces.
    """

    _weights: Tensor
    _targets: Tensor

    def __init__(
        self,
        devices: Sequence[Expectation],
        how: str = "worst",
        *,
        weights: Sequence[float] | None = None,
        targets: Sequence[float] | None = None,
        temperature: float = 0.01,
    ) -> None:
        if how not in WAYS:
            raise LutError(f"how {how!r} is unknown; choose of {', '.join(WAYS)}")
        if (how == "weighted") != (weights is not None):
            raise LutError(f"weights go with how='weighted', got how={how!r} and weights={weights}")
        if not 0.0 < temperature < inf:
            raise LutError(f"temperature must be a number above 0, got {temperature}")
        super().__init__(devices)
        count = len(devices)
        shares = [1.0] * count if weights is None else [float(weight) for weight in weights]
        if len(shares) != count or not all(0.0 <= share < inf for share in shares) or not sum(shares):
            raise LutError(f"weights are {count} numbers of 0 or more, not all 0, got {weights}")
        aims = [1.0] * count if targets is None else [float(target) for target in targets]
        if len(aims) != count or not all(0.0 < aim < inf for aim in aims):
            raise LutError(f"targets are {count} numbers above 0, got {targets}")
        self.how = how
        self.temperature = temperature
        if targets is None:
            with torch.no_grad():
                uniform = self.probabilities(torch.zeros_like(self._costs[..., 0]))
                self.temperature *= float(super().forward(uniform).max())
        like = self._borders
        self.register_buffer("_weights", like.new_tensor(shares) / sum(shares), persistent=False)
        self.register_buffer("_targets", like.new_tensor(aims), persistent=False)

    def forward(self, probabilities: Tensor | Sequence[Tensor]) -> Tensor:
        """Of shape (...), from probabilities as `Expectation.forward` takes them."""
        return self._together(super().forward(probabilities))

    def each(self, probabilities: Tensor | Sequence[Tensor]) -> Tensor:
        """Latency on each device, of shape (..., devices), in its own unit."""
        return super().forward(probabilities)

    def price(self, points: Tensor | Sequence[Sequence[int]]) -> Tensor:
        """Of whole networks, of shape (...), from choice indices (..., positions)."""
        return self._together(super().price(points))

    def _together(self, latencies: Tensor) -> Tensor:
        relative = latencies / self._targets
        if self.how == "worst":
            return self.temperature * torch.logsumexp(relative / self.temperature, -1)
        return (relative * self._weights).sum(-1)
