"""Images in memory, and their normalisation."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Images:
    """Decoded images with their labels.

    Attributes:
        pixels: uint8 (images, height, width, 3).
        labels: int64 (images,), indices into `classes`.
        classes: names.
    """

    pixels: Tensor
    labels: Tensor
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: Tensor) -> Images:
        """The images with these indices, in that order."""
        return replace(self, pixels=self.pixels[indices], labels=self.labels[indices])

    def to(self, device: torch.device | str) -> Images:
        return replace(self, pixels=self.pixels.to(device), labels=self.labels.to(device))


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation of each channel, of values from 0 to 1."""

    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]

    @classmethod
    def of(cls, images: Images) -> Normalisation:
        """Of all pixels of some images."""
        total = torch.zeros(3, dtype=torch.float64)
        squares = torch.zeros(3, dtype=torch.float64)
        for first in range(0, len(images), 1024):
            values = images.pixels[first : first + 1024].reshape(-1, 3).double() / 255
            total += values.sum(0).cpu()
            squares += values.square().sum(0).cpu()
        count = images.pixels.numel() // 3
        mean = total / count
        # A colour that never changes would divide by 0.
        deviation = (squares / count - mean.square()).clamp_min(1e-6).sqrt()
        return cls((*mean.tolist(),), (*deviation.tolist(),))

    def apply(self, pixels: Tensor) -> Tensor:
        """float32 (images, 3, height, width) in channels-last memory, from uint8 (images, height, width,
        3)."""
        scale = 1.0 / (255 * torch.tensor(self.deviation))
        shift = -torch.tensor(self.mean) / torch.tensor(self.deviation)
        values = pixels.float() * scale.to(pixels.device) + shift.to(pixels.device)
        return values.permute(0, 3, 1, 2)
