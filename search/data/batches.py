"""Batches by number: shuffled, flipped, shifted, normalised, each from seed and number alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from hwprof.search.data.errors import DataError
from hwprof.search.data.images import Images, Normalisation


class Batches:
    """Endless training batches. The same seed and step give the same batch, so that a training can go
    on anywhere.

    Args:
        images: shuffled anew in each epoch; the last ones that fill no batch are left out of it.
        normalisation: of the training images.
        batch_size: images in each batch.
        seed: of shuffling and augmentation.
        shift: images are shifted by up to so many pixels in each direction, black coming in.
        flip: half of the images are mirrored.

    Attributes:
        steps_per_epoch: batches in an epoch.

    Raises:
        DataError: there are fewer images than one batch.
    """

    def __init__(
        self,
        images: Images,
        normalisation: Normalisation,
        batch_size: int,
        *,
        seed: int = 0,
        shift: int = 4,
        flip: bool = True,
    ) -> None:
        if not 1 <= batch_size <= len(images):
            raise DataError(
                f"a batch of {batch_size} images cannot be taken from {len(images)}; choose 1 to "
                f"{len(images)}"
            )
        self.images = images
        self.normalisation = normalisation
        self.batch_size = batch_size
        self.seed = seed
        self.shift = shift
        self.flip = flip
        self.steps_per_epoch = len(images) // batch_size
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.long)

    def at(self, step: int) -> tuple[Tensor, Tensor]:
        """(images (N, 3, height, width) float32 in channels-last memory, labels (N,)) of a step."""
        epoch, number = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._order = torch.randperm(len(self.images), generator=_generator(self.seed, 0, epoch))
            self._epoch = epoch
        chosen = self._order[number * self.batch_size : (number + 1) * self.batch_size]
        chosen = chosen.to(self.images.labels.device)
        pixels = self._augmented(self.images.pixels[chosen], _generator(self.seed, 1, step))
        return self.normalisation.apply(pixels), self.images.labels[chosen]

    def _augmented(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """Each image flipped or not, and shifted, by one indexing of the whole batch."""
        count, height, width, _ = pixels.shape
        offsets = torch.randint(0, 2 * self.shift + 1, (2, count, 1), generator=generator)
        flipped = torch.rand(count, 1, generator=generator) < (0.5 if self.flip else 0.0)
        rows = torch.arange(height) + offsets[0]
        columns = torch.arange(width).expand(count, width)
        columns = torch.where(flipped, width - 1 - columns, columns) + offsets[1]
        border = (0, 0, self.shift, self.shift, self.shift, self.shift)
        padded = torch.nn.functional.pad(pixels, border)
        images = torch.arange(count)[:, None, None]
        places = (images, rows[:, :, None], columns[:, None, :])
        return padded[tuple(place.to(pixels.device) for place in places)]


def evaluation_batches(
    images: Images, normalisation: Normalisation, batch_size: int = 500
) -> Iterator[tuple[Tensor, Tensor]]:
    """All images once, in order, without augmentation."""
    for first in range(0, len(images), batch_size):
        part = slice(first, first + batch_size)
        yield normalisation.apply(images.pixels[part]), images.labels[part]


def _generator(*numbers: int) -> torch.Generator:
    state = np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state))
