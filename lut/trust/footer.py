"""A table's metadata, changed without touching its rows: the footer of the file is written anew."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from hwprof.errors import LutError
from hwprof.lut.files import partial_path, replacing, stamp_of, sync_folder
from hwprof.lut.guard.limits import MAGIC, TAIL_BYTES, footer_start
from hwprof.lut.guard.thrift import BINARY, LIST, STRUCT, Field, Items, Struct, read_struct, write_struct
from hwprof.lut.reading import PREFIX, open_table

KEY_VALUES, KEY, VALUE = 5, 1, 2
COPY_BYTES = 1 << 20


def replace_metadata(path: str | os.PathLike[str], changes: Mapping[str, bytes | None]) -> None:
    """Give keys of a table's metadata other values (JSON as bytes), or none; the rest of the file is
    copied byte by byte. The table changes whole or not at all.

    Raises:
        LutError: the table cannot be read, its folder cannot be written, or another process wrote the
            table meanwhile.
    """
    target = Path(path).resolve()
    before = stamp_of(target)
    open_table(target)
    partial = partial_path(target)
    try:
        with contextlib.ExitStack() as cleanup:
            cleanup.callback(partial.unlink, missing_ok=True)
            _copy(target, partial, changes)
            open_table(partial)
            with replacing(target, before):
                os.replace(partial, target)
                sync_folder(target.parent)
    except OSError as error:
        raise LutError(
            f"{target} could not be written: {error.strerror}; nothing was replaced; free space, or "
            "copy the table to a folder you can write to"
        ) from error
    except ValueError as error:
        raise LutError(f"the footer of {target} cannot be written anew: {error}") from None


def _copy(source: Path, target: Path, changes: Mapping[str, bytes | None]) -> None:
    """A copy of a Parquet file with other metadata, synced."""
    with pa.OSFile(str(source)) as old, target.open("wb") as new:
        end = footer_start(old)
        stored = old.read_at(old.size() - TAIL_BYTES - end, end)
        footer = write_struct(_changed(read_struct(stored)[0], changes))
        for start in range(0, end, COPY_BYTES):
            new.write(old.read_at(min(COPY_BYTES, end - start), start))
        new.write(footer + len(footer).to_bytes(4, "little") + MAGIC)
        new.flush()
        os.fsync(new.fileno())


def _changed(footer: Struct, changes: Mapping[str, bytes | None]) -> Struct:
    stored = footer.get(KEY_VALUES, Field(LIST, Items(STRUCT, ())))
    if stored.type != LIST or stored.value.type != STRUCT:
        raise ValueError("its metadata are no list")
    names = {(PREFIX + name).encode(): value for name, value in changes.items()}
    kept = [pair for pair in stored.value.values if pair.get(KEY, stored).value not in names]
    added = [
        {KEY: Field(BINARY, name), VALUE: Field(BINARY, value)}
        for name, value in names.items()
        if value is not None
    ]
    fields = {**footer, KEY_VALUES: Field(LIST, Items(STRUCT, (*kept, *added)))}
    return dict(sorted(fields.items()))
