"""Images of every depth become 8-bit colours, or are refused."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("PIL")

from PIL import Image

from hwprof.search.data.decode import decode
from hwprof.search.data.errors import DataError

GREY = [[0, 255, 256], [0x1234, 0x8000, 0xFFFF]]
UPPER_BYTES = [[0, 0, 1], [0x12, 0x80, 0xFF]]


def encoded(values: Any, dtype: str, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.array(values, dtype)).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("dtype", "kind"), [("<u2", "PNG"), ("<u2", "TIFF"), (">u2", "TIFF"), ("<i4", "TIFF")]
)
def test_grey_of_16_bits_is_scaled_not_white(dtype: str, kind: str) -> None:
    pixels = decode(encoded(GREY, dtype, kind), "it", 2, 3)
    for channel in range(3):
        assert pixels[:, :, channel].tolist() == UPPER_BYTES


@pytest.mark.parametrize(
    ("values", "dtype", "words"),
    [
        ([[0, 65536]], "<i4", "from 0 to 65536, not 0 to 65535"),
        ([[-1, 5]], "<i4", "from -1 to 5, not 0 to 65535"),
        ([[0.0, 1.0]], "<f4", "pixels of mode F, of no defined range"),
    ],
)
def test_pixels_whose_range_nobody_knows_are_refused(values: Any, dtype: str, words: str) -> None:
    with pytest.raises(DataError, match=rf"^row 3 has .*{words}; save it with 8 or 16 bits$"):
        decode(encoded(values, dtype, "TIFF"), "row 3", 1, 2)
