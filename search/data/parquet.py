"""Images in a Parquet file: a column of JPEG bytes, a label, and if there is one the part."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from hwprof.search.data.errors import DataError
from hwprof.search.data.source import PARTS, Source, check_labels
from hwprof.text import shown

COLUMNS = ("jpeg", "label", "split")


def read_parquet(path: Path) -> Source:
    """A file with columns `jpeg` (bytes of a JPEG or another format), `label` (integer from 0) and
    optionally `split` (train, validation, test); class names in the metadata key `classes`, with commas.
    Without them classes are numbers, and at most as many as there are images.

    Raises:
        DataError: the file cannot be read, a column is missing, there twice, of another type, or has
            nulls, a label is no class's, or the class names or parts are not UTF-8.
    """
    try:
        file = pq.ParquetFile(path)
        names = file.schema_arrow.names
        missing = [name for name in COLUMNS[:2] if name not in names]
        if missing:
            raise DataError(
                f"{path} has no column {missing[0]!r} (it has {', '.join(sorted(names))}); images stand "
                f"in the columns {', '.join(COLUMNS)}"
            )
        if twice := [name for name in COLUMNS if names.count(name) > 1]:
            raise DataError(f"{path} has several columns {twice[0]!r}; leave one")
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
    labels = table.column("label").to_numpy()
    if not len(labels):
        raise DataError(f"{path} has no rows; give a file with images")
    classes = _class_names(path, metadata)
    if classes:
        check_labels(str(path), labels, len(classes))
    else:
        check_labels(f"{path} ({len(labels)} images without class names)", labels, len(labels))
        classes = tuple(str(number) for number in range(int(labels.max()) + 1))
    return Source(
        name=str(path),
        labels=labels.astype(np.int64),
        parts=_parts(path, table.column("split")) if "split" in table.column_names else None,
        classes=classes,
        read=lambda index: bytes(jpegs[index].as_py()),
        name_of=lambda index: f"{path}: row {index}",
    )


def _class_names(path: Path, metadata: Mapping[bytes, bytes]) -> tuple[str, ...]:
    """Empty where the file has no names."""
    text = metadata.get(b"classes", b"")
    try:
        return tuple(text.decode().split(",")) if text else ()
    except UnicodeDecodeError:
        raise DataError(
            f"{path}: class names (metadata key classes) are {shown(text)}, not UTF-8; write them in it"
        ) from None


def _parts(path: Path, column: pa.ChunkedArray) -> NDArray[np.str_]:
    try:
        parts = column.cast(pa.string()).to_pylist()
    except (pa.ArrowException, UnicodeDecodeError):
        raise DataError(
            f"{path}: column split ({column.type}) is not text in UTF-8; give each row one of "
            f"{', '.join(PARTS)}"
        ) from None
    if unknown := sorted(set(parts) - set(PARTS)):
        raise DataError(f"{path}: split {shown(unknown[0])!r} is not one of {', '.join(PARTS)}")
    return np.asarray(parts, dtype=np.str_)
