"""Images from a torch Dataset."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from hwprof.search.data.decode import check_memory
from hwprof.search.data.errors import DataError
from hwprof.search.data.images import Images


def read_dataset(dataset: Dataset[Any], name: str) -> Images:
    """All items of a Dataset of (image, label): images (3, height, width), uint8 or floats from 0 to 1.
    Class names are its attribute `classes`, or numbers, at most as many as there are items.

    Raises:
        DataError: it is empty, an item is of another kind or size or has a label that is no class's
            (names its index), or the images do not fit into memory.
    """
    count = len(dataset)  # type: ignore[arg-type]
    if not count:
        raise DataError(f"the {name} dataset is empty; give one with images")
    names = tuple(str(name) for name in getattr(dataset, "classes", ()))
    most = len(names) or count
    pixels = torch.empty(0)
    labels = torch.empty(count, dtype=torch.long)
    for index in range(count):
        image, label = dataset[index]
        item = _pixels(image, f"item {index} of the {name} dataset")
        if index == 0:
            check_memory(count, item.shape[0], item.shape[1])
            pixels = torch.empty((count, *item.shape), dtype=torch.uint8)
        if item.shape != pixels.shape[1:]:
            raise DataError(
                f"item {index} of the {name} dataset is {tuple(item.shape[:2])}, the first one "
                f"{tuple(pixels.shape[1:3])}; give images of one size"
            )
        if not 0 <= int(label) < most:
            there = f"{most} class names" if names else f"{count} items and no class names"
            raise DataError(
                f"item {index} of the {name} dataset ({there}) has label {int(label)}, not one of 0 to "
                f"{most - 1}; correct it"
            )
        pixels[index] = item
        labels[index] = int(label)
    return Images(pixels, labels, names or tuple(map(str, range(int(labels.max()) + 1))))


def _pixels(image: Any, name: str) -> Tensor:
    """uint8 (height, width, 3)."""
    if not isinstance(image, Tensor) or image.ndim != 3 or image.shape[0] != 3:
        shape = tuple(image.shape) if isinstance(image, Tensor) else type(image).__name__
        raise DataError(f"{name} is {shape}, not a tensor (3, height, width); convert it in the dataset")
    if image.dtype != torch.uint8:
        if not image.is_floating_point() or not bool(((image >= 0) & (image <= 1)).all()):
            raise DataError(
                f"{name} is {image.dtype} from {image.min().item():g} to {image.max().item():g}; give "
                "uint8, or floats from 0 to 1, not normalised"
            )
        image = (image * 255).round().to(torch.uint8)
    pixels: Tensor = image.permute(1, 2, 0)
    return pixels
