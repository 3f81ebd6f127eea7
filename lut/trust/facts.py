"""What a table says about itself for those who use it: its licence, title and authors."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hwprof.errors import LutError
from hwprof.lut.guard.metadata import check_shape, parse
from hwprof.lut.reading import SIGNATURE, StoredTable, open_table
from hwprof.lut.trust.footer import replace_metadata

FACTS = ("licence", "title", "authors")


def set_facts(path: str | os.PathLike[str], facts: Mapping[str, Any]) -> bool:
    """Set `licence` (an SPDX id or any text), `title` or `authors` (a list of names) of a table; None
    takes one away. A signature no longer fits and is taken away; returns whether there was one.

    Raises:
        LutError: a value is not what its key holds, or the table cannot be read or written.
    """
    signed = SIGNATURE in open_table(Path(path)).stored_metadata
    changes: dict[str, bytes | None] = {SIGNATURE: None}
    for name, value in facts.items():
        if name not in FACTS:
            raise LutError(f"{name!r} cannot be set; choose of {', '.join(FACTS)}")
        changes[name] = json.dumps(value).encode()
        try:
            check_shape(name, parse(json.dumps(value).encode()))
        except ValueError as error:
            raise LutError(f"{name}: {error}") from None
    replace_metadata(path, changes)
    return signed


def facts_of(stored: StoredTable) -> dict[str, Any]:
    """The three, null where a table does not say."""
    return {
        name: parse(stored.stored_metadata[name]) if name in stored.stored_metadata else None
        for name in FACTS
    }
