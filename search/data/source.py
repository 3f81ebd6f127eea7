"""Where images come from: labels and parts known at once, the images read one by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hwprof.search.data.decode import check_memory, decode
from hwprof.search.data.errors import DataError
from hwprof.search.data.images import Images
from hwprof.text import listed

PARTS = ("train", "validation", "test")
CLASSES_SHOWN = 10


@dataclass(frozen=True)
class Source:
    """Images not yet decoded.

    Attributes:
        name: file or folder, for messages.
        labels: int64 (images,).
        parts: for each image one of `PARTS`; None where the source does not say.
        classes: names.
        read: bytes of an image by index.
        name_of: what to call an image in a message.
    """

    name: str
    labels: NDArray[np.int64]
    parts: NDArray[np.str_] | None
    classes: tuple[str, ...]
    read: Callable[[int], bytes]
    name_of: Callable[[int], str]

    def images(self, indices: NDArray[np.int64], height: int, width: int) -> Images:
        """Some of the images, decoded.

        Raises:
            DataError: an image is broken, or they do not fit into memory.
        """
        check_memory(len(indices), height, width)
        pixels = np.empty((len(indices), height, width, 3), dtype=np.uint8)
        for place, index in enumerate(indices.tolist()):
            pixels[place] = decode(self.read(index), self.name_of(index), height, width)
        labels = torch.from_numpy(self.labels[indices])
        return Images(torch.from_numpy(pixels), labels, self.classes)


def check_labels(name: str, labels: NDArray[np.integer[Any]], classes: int) -> None:
    """That every label is the number of a class.

    Raises:
        DataError: names a label that is not.
    """
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0 or highest >= classes:
        wrong = lowest if lowest < 0 else highest
        raise DataError(f"{name}: label {wrong} is not one of 0 to {classes - 1}; correct it")


def check_classes(name: str, part: str, labels: NDArray[np.int64], classes: tuple[str, ...]) -> None:
    """That a part has an image of every class and no other label.

    Raises:
        DataError: names the classes that are missing, or the label.
    """
    if not len(labels):
        raise DataError(f"{name}: no image for {part}; give more images")
    check_labels(name, labels, len(classes))
    absent = np.flatnonzero(np.bincount(labels, minlength=len(classes)) == 0).tolist()
    if absent:
        missing = listed([f"{number} ({classes[number]})" for number in absent], CLASSES_SHOWN)
        raise DataError(
            f"{name}: {part} has no image of class {missing}; give images of every class, or "
            "more of them"
        )
