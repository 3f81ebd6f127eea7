"""From a compressed image to pixels."""

from __future__ import annotations

import io
import os

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from hwprof.search.data.errors import DataError

MEMORY_SHARE = 0.5
MOST_OF_16_BITS = 0xFFFF


def decode(data: bytes, name: str, height: int, width: int) -> NDArray[np.uint8]:
    """(height, width, 3) of a JPEG, PNG or the like; another size is scaled to cover and cut to the
    centre.

    Raises:
        DataError: the bytes are no image, or a broken one, or its values have no defined range; `name`
            says which.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            # A large JPEG is decoded at about the size that is needed.
            image.draft("RGB", (width, height))
            colours = _colours(image, name)
            if colours.size != (width, height):
                colours = ImageOps.fit(colours, (width, height), Image.Resampling.BILINEAR)
            return np.asarray(colours)
    except (
        UnidentifiedImageError,
        OSError,
        SyntaxError,
        ValueError,
        Image.DecompressionBombError,
    ) as error:
        raise DataError(f"{name} is no image or a broken one ({error}); repair or remove it") from None


def _colours(image: Image.Image, name: str) -> Image.Image:
    """As RGB of 8 bits. Of 16-bit grey the upper byte counts, as Pillow has it for 16-bit colours. Mode
    I is taken as such grey: older Pillows open 16-bit PNGs in it."""
    if image.mode == "F":
        raise DataError(f"{name} has pixels of mode F, of no defined range; save it with 8 or 16 bits")
    if not image.mode.startswith("I"):
        return image.convert("RGB")
    values = np.asarray(image)
    if values.min() < 0 or values.max() > MOST_OF_16_BITS:
        raise DataError(
            f"{name} has pixels of mode I from {values.min()} to {values.max()}, not 0 to "
            f"{MOST_OF_16_BITS}; save it with 8 or 16 bits"
        )
    return Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")


def check_memory(count: int, height: int, width: int) -> None:
    """That so many decoded images fit into memory.

    Raises:
        DataError: they take more than half of it.
    """
    needed = count * height * width * 3
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > MEMORY_SHARE * there:
        raise DataError(
            f"{count} images of {height}x{width} need {needed / 2**30:.1f} GiB, more than half of this "
            f"machine's {there / 2**30:.1f} GiB; take fewer (limit) or smaller ones"
        )
