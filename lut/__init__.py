"""Latency tables: schema, look-up, writing, journal and SQL. Names are imported on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hwprof.lut.content import content_hash
    from hwprof.lut.journal import Journal, JournalContent, read_journal
    from hwprof.lut.reading import visits_path_of
    from hwprof.lut.rows import (
        chain_columns,
        check_row,
        check_table,
        null_row,
        op_columns,
        rows_to_table,
    )
    from hwprof.lut.schema import (
        COLUMNS,
        METADATA,
        NUMBERLESS_STATES,
        SCHEMA_VERSION,
        STATES,
        USABLE_STATES,
        VISIT_COLUMNS,
        Column,
    )
    from hwprof.lut.sql import query
    from hwprof.lut.table import Lut, load_lut, verify_lut
    from hwprof.lut.write import check_destination, write_lut

__all__ = [
    "COLUMNS", "METADATA", "NUMBERLESS_STATES", "SCHEMA_VERSION", "STATES", "USABLE_STATES",
    "VISIT_COLUMNS", "Column", "Journal", "JournalContent", "Lut", "chain_columns", "check_destination",
    "check_row",
    "check_table", "content_hash", "load_lut", "null_row", "op_columns", "query", "read_journal",
    "rows_to_table", "verify_lut", "visits_path_of", "write_lut",
]  # fmt: skip

_HOMES = {
    "content": ("content_hash",),
    "journal": ("Journal", "JournalContent", "read_journal"),
    "sql": ("query",),
    "reading": ("visits_path_of",),
    "rows": (
        "chain_columns",
        "check_row",
        "check_table",
        "null_row",
        "op_columns",
        "rows_to_table",
    ),
    "table": ("Lut", "load_lut", "verify_lut"),
    "write": ("check_destination", "write_lut"),
}


def __getattr__(name: str) -> Any:
    """Where a public name comes from; everything not in `_HOMES` is of the schema."""
    if name not in __all__:
        raise AttributeError(f"module 'hwprof.lut' has no attribute {name!r}")
    home = next((module for module, names in _HOMES.items() if name in names), "schema")
    return getattr(import_module(f"hwprof.lut.{home}"), name)
