"""Numbers as text says them."""

from __future__ import annotations

from typing import Any

import pyarrow as pa


def shortest(column: pa.ChunkedArray, kind: pa.DataType) -> list[Any]:
    """A column's values. Of single precision the shortest decimal that stands for it: 0.1, where
    its double would be 0.10000000149."""
    if kind != pa.float32():
        return list(column.to_pylist())
    texts = column.cast(pa.string()).to_pylist()
    return [None if text is None else float(text) for text in texts]
