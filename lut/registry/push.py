"""Pushing a table into a registry."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from hwprof.environment import Environment
from hwprof.errors import LutError
from hwprof.lut.places.cache import check_pair, file_sha256, told_offline
from hwprof.lut.places.local import local_table, table_name
from hwprof.lut.places.place import WEB, Place, open_place
from hwprof.lut.places.transfer import sha256_at, upload_bytes, upload_file
from hwprof.lut.reading import StoredTable, open_visits, visits_path_of
from hwprof.lut.registry.entry import ENTRY_BYTES, Entry, StoredFile, check_name, parse_entry

DAMAGED = "%s was damaged and is written anew"


@dataclass(frozen=True)
class Pushed:
    """The entry of a pushed table, whether it is new, and the bytes of table and visits that had to be
    sent."""

    entry: Entry
    new: bool
    sent_bytes: int


def push(table: str, place: str, name: str | None = None) -> Pushed:
    """Put a table and its visits into the registry at a place, which is made if there is none.

    Files go first and the entry last, each shown only when whole: whatever interrupts a push, no
    reader ever sees a part of it, and the same command goes on. A table that is there already under
    that name is left as it is, but its files and entry are read through: a damaged one is written anew.

    Args:
        name: what to push it as; default: the file's name.

    Raises:
        LutError: the table or its visits cannot be read, the name is none, or the place cannot be
            written.
    """
    path = local_table(table)
    entry = _entry(path, check_name(name or table_name(table)))
    registry = open_place(place)
    if registry.protocol in WEB:
        raise LutError(f"{registry} can only be read; push to the folder that the web server shows")
    if told_offline() and not registry.is_local:
        raise LutError(f"{registry} is not local and HWPROF_OFFLINE is set; unset it to push there")
    sent = 0
    for stored, file in ((entry.visits, visits_path_of(path)), (entry.table, path)):
        if stored is not None:
            sent += _put(registry.child("objects", stored.name), file, stored)
    index = registry.child("entries", entry.name, entry.file_name)
    new = not _stands(index, entry)
    if new:
        upload_bytes(index, entry.to_bytes())
    return Pushed(entry, new, sent)


def _put(place: Place, file: Path, stored: StoredFile) -> int:
    """Upload a file unless it is there and whole; the bytes that were sent."""
    info = place.info()
    if info is not None:
        if info.bytes == stored.bytes and sha256_at(place, stored.bytes) == stored.sha256:
            return 0
        logging.getLogger(__name__).warning(DAMAGED, place)
    upload_file(place, file, stored.sha256)
    return stored.bytes


def _stands(index: Place, entry: Entry) -> bool:
    """Whether the entry is there and whole."""
    if index.info() is None:
        return False
    try:
        parse_entry(index.read(ENTRY_BYTES), entry.name, entry.file_name)
    except LutError:
        logging.getLogger(__name__).warning(DAMAGED, index)
        return False
    return True


def _entry(path: Path, name: str) -> Entry:
    opened = check_pair(path)
    told = opened.metadata
    return Entry(
        name=name,
        pushed_at=datetime.now(UTC).isoformat(timespec="microseconds"),
        table=StoredFile(file_sha256(path), path.stat().st_size, told["content_hash"]),
        visits=_visits(path, opened),
        rows=opened.num_rows,
        schema_version=told["schema_version"],
        spaces=tuple(told["spaces"]),
        environments=tuple(
            Environment.from_dict(facts).describe() for facts in told["environments"].values()
        ),
        licence=told["licence"],
        hwprof_version=told["hwprof_version"],
    )


def _visits(path: Path, opened: StoredTable) -> StoredFile | None:
    if opened.metadata["visits_hash"] is None:
        return None
    visits = visits_path_of(path)
    content = open_visits(visits).metadata["content_hash"]
    return StoredFile(file_sha256(visits), visits.stat().st_size, content)
