"""Images in a Parquet file: a column of JPEG bytes, a label, and if there is one the part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hwprof.search.data.errors import DataError
from hwprof.search.data.source import PARTS, Source

COLUMNS = ("jpeg", "label", "split")


def read_parquet(path: Path) -> Source:
    """A file with columns `jpeg` (bytes of a JPEG or another format), `label` (integer from 0) and
    optionally `split` (train, validation, test); class names in the metadata key `classes`, with commas.

    Raises:
        DataError: the file cannot be read, or a column is missing, of another type, or has nulls.
    """
    try:
        file = pq.ParquetFile(path)
        names = set(file.schema_arrow.names)
        missing = [name for name in COLUMNS[:2] if name not in names]
        if missing:
            raise DataError(
                f"{path} has no column {missing[0]!r} (it has {', '.join(sorted(names))}); images stand "
                f"in the columns {', '.join(COLUMNS)}"
            )
        table = file.read([name for name in COLUMNS if name in names])
        metadata = file.schema_arrow.metadata or {}
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is no Parquet file or a broken one ({error})") from None
    for name in table.column_names:
        if table.column(name).null_count:
            row = pc.index(pc.is_null(table.column(name)), True).as_py()
            raise DataError(f"{path}: row {row} has no {name}; fill it or remove the row")
    if not pa.types.is_integer(table.schema.field("label").type):
        raise DataError(
            f"{path}: column label is {table.schema.field('label').type}, not an integer from 0"
        )
    jpegs = table.column("jpeg")
    if not (pa.types.is_binary(jpegs.type) or pa.types.is_large_binary(jpegs.type)):
        raise DataError(f"{path}: column jpeg is {jpegs.type}, not binary: the bytes of an image")
    labels = table.column("label").to_numpy().astype(np.int64)
    if not len(labels):
        raise DataError(f"{path} has no rows; give a file with images")
    classes = tuple(metadata.get(b"classes", b"").decode().split(","))
    if classes == ("",):
        classes = tuple(str(number) for number in range(int(labels.max()) + 1))
    parts = None
    if "split" in table.column_names:
        parts = np.asarray(table.column("split").cast(pa.string()).to_pylist(), dtype=np.str_)
        if unknown := sorted(set(parts.tolist()) - set(PARTS)):
            raise DataError(f"{path}: split {unknown[0]!r} is not one of {', '.join(PARTS)}")
    return Source(
        name=str(path),
        labels=labels,
        parts=parts,
        classes=classes,
        read=lambda index: bytes(jpegs[index].as_py()),
        name_of=lambda index: f"{path}: row {index}",
    )
