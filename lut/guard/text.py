"""Text columns of strangers: nothing that steers a terminal, nothing endless."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hwprof.lut.content import text_bytes
from hwprof.text import shown

# Escape sequences begin with one of these. 0x80 to 0x9f steer some terminals too, and 0x7f deletes.
CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f]")
ARROW_CONTROLS = r"[\x00-\x1f\x7f-\x{9f}]"


def check_text(column: pa.ChunkedArray, longest_bytes: int) -> None:
    """Check all values of a text column, and all of its dictionaries.

    Raises:
        ValueError: one holds a control character or is too long.
    """
    for chunk in column.chunks:
        texts = chunk.dictionary if pa.types.is_dictionary(chunk.type) else chunk
        if not len(texts):
            continue
        longest = pc.max(pc.binary_length(texts)).as_py() or 0
        if longest > longest_bytes:
            raise ValueError(f"a text of {longest:,} bytes, {longest_bytes:,} are allowed")
        data = np.frombuffer(text_bytes(texts), np.uint8)
        if not data.size or (data.min() >= 0x20 and data.max() < 0x7F):
            continue
        found = pc.fill_null(pc.match_substring_regex(texts, ARROW_CONTROLS), False)
        if (index := pc.index(found, True).as_py()) >= 0:
            control = CONTROLS.search(texts[index].as_py())
            code = ord(control[0]) if control else 0
            raise ValueError(f"control character U+{code:04X} in {shown(texts[index].as_py())!r}")


def text_size(column: pa.ChunkedArray) -> int:
    """Bytes that a text column takes as plain text."""
    total = 0
    for chunk in column.chunks:
        if not pa.types.is_dictionary(chunk.type):
            total += len(text_bytes(chunk))
        elif len(chunk) and len(chunk.dictionary):
            lengths = pc.binary_length(chunk.dictionary)
            total += pc.sum(lengths.take(chunk.indices), min_count=0).as_py()
    return total
