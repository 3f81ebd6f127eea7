"""Files of an export: they appear under their name only when whole."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import yaml

from hwprof.errors import LutError
from hwprof.lut.exporting.numbers import shortest
from hwprof.lut.files import partial_path, sync_folder
from hwprof.lut.reading import open_table
from hwprof.lut.rows import check_table
from hwprof.lut.schema import COLUMNS

BLOCK_ROWS = 1 << 14
NAMES = [column.name for column in COLUMNS]
Only = Mapping[str, str]


def write_csv(path: Path, target: Path, only: Only) -> int:
    """All rows with the given values, one a line; null is an empty field. The number of rows."""
    rows = 0
    with _partial(target) as partial, partial.open("wb") as file:
        schema = pa.schema([(column.name, column.type) for column in COLUMNS])
        with pa_csv.CSVWriter(file, schema) as writer:
            for block in _blocks(path, only):
                writer.write_table(block.cast(schema))
                rows += block.num_rows
        _sync(file)
    return rows


def write_json(path: Path, target: Path, only: Only) -> int:
    """One object: `metadata`, `columns` (name, type, unit, meaning) and `rows`, one a line."""
    rows = 0
    head = {
        "metadata": dict(open_table(path).metadata),
        "columns": [
            {"name": c.name, "type": str(c.type), "unit": c.unit or None, "meaning": c.meaning}
            for c in COLUMNS
        ],
    }
    with _partial(target) as partial, partial.open("w", encoding="utf-8") as file:
        file.write(json.dumps(head)[:-1] + ', "rows": [')
        for block in _blocks(path, only):
            values = [shortest(block.column(column.name), column.type) for column in COLUMNS]
            for row in zip(*values, strict=True):
                file.write(",\n" if rows else "\n")
                file.write(json.dumps(dict(zip(NAMES, map(_plain, row), strict=True)), allow_nan=False))
                rows += 1
        file.write("\n]}\n")
        _sync(file)
    return rows


def write_text(target: Path, entries: Mapping[str, Mapping[str, float | int]]) -> None:
    """A YAML mapping."""
    with _partial(target) as partial, partial.open("w", encoding="utf-8") as file:
        yaml.safe_dump(dict(entries), file, sort_keys=True)
        _sync(file)


def write_folder(target: Path, entries: Mapping[str, Mapping[str, float | int]]) -> None:
    """A folder of JSON files, named FOLDER/FILE."""
    with _partial(target) as partial:
        for name, entry in entries.items():
            place = partial / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(json.dumps(entry))


def _blocks(path: Path, only: Only) -> Iterator[pa.Table]:
    """The rows with the given values, checked."""
    for block in open_table(path).batches(NAMES, BLOCK_ROWS):
        try:
            check_table(block)
        except LutError as error:
            raise LutError(f"{path}: {error}") from None
        for name, value in only.items():
            block = block.filter(pc.equal(block.column(name).cast(pa.string()), value))
        yield block


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _sync(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


@contextlib.contextmanager
def _partial(target: Path) -> Iterator[Path]:
    """A temporary name beside the target, which is renamed if all goes well and else removed."""
    partial = partial_path(target)
    try:
        yield partial
        partial.rename(target)
        sync_folder(target.parent)
    except OSError as error:
        reason = error.strerror or str(error).splitlines()[0]
        raise LutError(
            f"{target} could not be written: {reason}; free space, create its folder or give another "
            "path"
        ) from error
    finally:
        if os.path.isdir(partial):
            shutil.rmtree(partial)
        elif os.path.lexists(partial):
            partial.unlink()
