"""Masks that cut a superkernel: a core and rings of a square kernel, groups of its channels.

The public S3NAS code takes `(K + 1) // 2` as a 0-based centre, so its 5x5 mask covers rows and columns
1 to 4, its 3x3 mask 2 to 4, and row and column 0 are never used. Here every mask is centred.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def kernel_masks(kernels: Sequence[int], side: int | None = None) -> Tensor:
    """Disjoint 0/1 masks: the core of the smallest kernel, then the ring that each larger one adds.

    Args:
        kernels: odd sizes, increasing.
        side: of the masks, odd; None takes the largest kernel.

    Returns:
        (kernels, side, side). The first n add up to a centred n-th kernel.
    """
    side = kernels[-1] if side is None else side
    centre = side // 2
    distance = (torch.arange(side) - centre).abs()
    distance = torch.maximum(distance[:, None], distance[None, :])
    masks = torch.zeros(len(kernels), side, side)
    inner = -1
    for mask, kernel in zip(masks, kernels, strict=True):
        mask[(distance > inner) & (distance <= kernel // 2)] = 1.0
        inner = kernel // 2
    return masks


def channel_masks(groups: Sequence[int]) -> Tensor:
    """Disjoint 0/1 masks of consecutive channels, of shape (groups, channels); `groups` are sizes."""
    owner = torch.repeat_interleave(torch.arange(len(groups)), torch.tensor(groups))
    return (owner == torch.arange(len(groups))[:, None]).float()
