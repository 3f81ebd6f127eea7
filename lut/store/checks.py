"""What a Delta table must be before a store's rows are taken from it: its log may be a stranger's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import unquote

import pyarrow as pa

from hwprof.errors import LutError
from hwprof.text import shown

FORMAT = 1
FORMAT_KEY = "hwprof.store"


def check_format(settings: Mapping[str, str | None], store: str) -> None:
    """Check the settings of a table.

    Raises:
        LutError: it is no store's, or that of a newer hwprof.
    """
    told = settings.get(FORMAT_KEY) or ""
    if not told.isdecimal():
        raise LutError(f"{store} is a Delta table of another kind; give a store that hwprof made")
    if int(told) > FORMAT:
        raise LutError(
            f"{store} is of store format {shown(told)}, this hwprof reads {FORMAT}; upgrade hwprof"
        )


def check_inside(paths: Iterable[str], store: str) -> None:
    """Check the paths of a log's files, which are percent-encoded.

    Raises:
        LutError: one is not in the table's folder, or may be understood as such.
    """
    for path in paths:
        # Of what is encoded twice, readers differ in how often they decode it.
        plain = unquote(path)
        outside = plain.startswith("/") or ".." in plain.split("/")
        if outside or any(mark in plain for mark in ":%\\"):
            raise LutError(f"{store} names the file {shown(path)!r}, which is not in its folder")


def check_columns(found: pa.Schema, expected: pa.Schema, store: str) -> None:
    """Check that all expected columns are there and of their types; whether they may be null is not
    asked.

    Raises:
        LutError: one is missing or of another type.
    """
    for field in expected:
        there = found.get_all_field_indices(field.name)
        if not there:
            raise LutError(f"store {store} has no column {field.name}; another tool changed it")
        kind = found.field(there[0]).type
        if kind != field.type:
            raise LutError(
                f"store {store} has the column {field.name} as {shown(kind)}, it must be {field.type}; "
                "another tool changed it; pull an earlier --version"
            )
