"""Pushing a whole table into a store."""

from __future__ import annotations

import hashlib
import json
import logging

from hwprof.lut.places.local import local_table, table_name
from hwprof.lut.reading import SIGNATURE, open_table
from hwprof.lut.store.store import Appended, Store
from hwprof.lut.table import load_lut
from hwprof.lut.write import GIVEN


def push_to_store(table: str, place: str, name: str | None = None) -> Appended:
    """Append all rows of a table, and its visits, to the store at a place; once, however often.

    The signature of a signed table is of its file and not kept; a note on the log says so.

    Args:
        place: the store's path or URL, with `delta+` before it or not.
        name: what `hwprof lut list` shows; default: the file's name.

    Raises:
        LutError: the table or its visits cannot be read, its intervals are of another level than this
            hwprof writes, or the store cannot be written.
    """
    lut = load_lut(local_table(table))
    told = {key: lut.metadata[key] for key in GIVEN}
    content = [lut.metadata["content_hash"], lut.metadata["visits_hash"], told]
    writer = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]
    done = Store(place).append(
        lut.table,
        told,
        writer=writer,
        sequence=0,
        visits=None if lut.metadata["visits_hash"] is None else lut.visits,
        name=name or table_name(table),
        table=lut.metadata,
    )
    if SIGNATURE in open_table(lut.path).stored_metadata:
        logging.getLogger(__name__).warning(
            "%s is signed; a store keeps rows, not files: what is pulled of it has no signature",
            table_name(table),
        )
    return done
