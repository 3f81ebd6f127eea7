"""Registry: a folder of tables and the index of what is in it.

    objects/SHA256.parquet          tables and visits, named by the hash of their bytes
    entries/NAME/SHA256.json        one small file for each table that was pushed as NAME

A push adds files whose names follow from what is in them, and the index is the listing of `entries`. So
no two pushes can undo each other, whatever the place can promise. An entry that was deleted may come
back with another date: entries are read anew each time, the kept ones are for when there is no network.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from hwprof.errors import LutError
from hwprof.lut.places.cache import cache_folder, told_offline, write_small
from hwprof.lut.places.place import Place, open_place
from hwprof.lut.registry.entry import ENTRY_BYTES, NAME, Entry, parse_entry
from hwprof.text import visible

# Of all entries that are held at a time: about 50,000 of usual size.
MOST_INDEX_BYTES = 32 << 20
READ_AT_ONCE = 256
ENTRY_FILE = re.compile(r"[0-9a-f]{64}\.json")
HASH = re.compile(r"[0-9a-f]{8,64}")


@dataclass(frozen=True)
class Listing:
    """Tables of a registry: the entries by name and newest first, and what is wrong with the files
    that are no entries, one line each."""

    entries: tuple[Entry, ...]
    refused: tuple[str, ...]


class Room:
    """How much of a registry's index may still be held at a time."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._left = MOST_INDEX_BYTES

    def take(self, count: int) -> None:
        """Take so many bytes of it.

        Raises:
            LutError: they are not left.
        """
        self._left -= count
        if self._left < 0:
            raise LutError(
                f"{self._place} has more than {MOST_INDEX_BYTES >> 20} MiB of index entries; "
                "remove those that nobody needs from its folder entries"
            )


class Registry:
    """A registry to look into. Entries of a place that is not local are kept in the cache."""

    def __init__(self, place: Place, *, offline: bool = False) -> None:
        """A registry at a place.

        Args:
            offline: answer from the kept entries; a local place is read all the same.
        """
        self.place = place
        self.offline = (offline or told_offline()) and not place.is_local
        key = hashlib.sha256(place.shown.encode()).hexdigest()[:32]
        self._kept = open_place(cache_folder() / "entries" / key)
        self._index = self._kept if self.offline else place

    def names(self) -> list[str]:
        """Names under which tables were pushed.

        Raises:
            LutError: the place cannot be listed.
        """
        names = [name for name in self._index.child("entries").names() if NAME.fullmatch(name)]
        if names:  # else it may be a place that is away for a while
            self._forget(self._kept.child("entries"), names)
        return names

    def entries(self, name: str, room: Room | None = None) -> Listing:
        """What was pushed under a name, newest first.

        Args:
            room: what is left for its entries; None: as much as there is for one name.

        Raises:
            LutError: the place cannot be listed, or there is no room for its entries.
        """
        room = Room(self.place) if room is None else room
        folder = self._index.child("entries", name)
        files, entries, refused = [], [], []
        for file in folder.names():
            if ENTRY_FILE.fullmatch(file):
                files.append(file)
            elif not file.startswith("."):
                refused.append(f"{folder}/{visible(file)} is no index entry; remove it")
                room.take(len(refused[-1]))
        for start in range(0, len(files), READ_AT_ONCE):
            several = files[start : start + READ_AT_ONCE]
            for file, data in zip(several, folder.read_each(several, ENTRY_BYTES), strict=True):
                try:
                    if isinstance(data, LutError):
                        raise data
                    entries.append(parse_entry(data, name, file))
                except LutError as error:
                    refused.append(self._said(name, file, error))
                    room.take(len(refused[-1]))
                    continue
                room.take(len(data))
                self._keep(name, file, data)
        self._forget(self._kept.child("entries", name), files)
        entries.sort(key=lambda entry: (entry.pushed_at, entry.table.sha256), reverse=True)
        return Listing(tuple(entries), tuple(refused))

    def find(self, name: str, hash_start: str | None = None) -> Entry:
        """The latest entry of a name, or the one whose file's or content's hash starts so.

        Raises:
            LutError: there is none, there is more than one, or an entry of that name is not to be
                trusted.
        """
        listing = self.entries(name)
        if listing.refused:
            raise LutError(listing.refused[0])
        if not listing.entries:
            known = ", ".join(self.names()[:20]) or "no table"
            raise LutError(f"{self.place} has no table {name!r}; it has {known}")
        if hash_start is None:
            return listing.entries[0]
        found = matching(listing.entries, hash_start)
        if len(found) != 1:
            several = ", ".join(entry.table.sha256[:12] for entry in found or listing.entries)
            what = "more than one table" if found else "no table"
            raise LutError(f"{self.place} has {what} {name}@{hash_start}; choose of {several[:300]}")
        return found[0]

    def kept_entries(self, name: str) -> tuple[Entry, ...]:
        """The entries of a name that the cache keeps."""
        return Registry(self.place, offline=True).entries(name).entries

    @property
    def _keeps(self) -> bool:
        """Whether what is read is kept for later."""
        return not (self.offline or self.place.is_local)

    def _keep(self, name: str, file: str, data: bytes) -> None:
        if not self._keeps:
            return
        path = Path(self._kept.child("entries", name, file).path)
        if not path.exists() or path.read_bytes() != data:
            write_small(path, data)

    def _forget(self, folder: Place, listed: list[str]) -> None:
        """Remove what is kept of a listing and is there no more."""
        if not self._keeps:
            return
        for gone in set(folder.names()).difference(listed):
            path = Path(folder.child(gone).path)
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def _said(self, name: str, file: str, error: LutError) -> str:
        if not self.offline:
            return str(error)
        return f"the kept entry {name}/{file} is damaged; run the command again without --offline"


def matching(entries: tuple[Entry, ...], hash_start: str) -> list[Entry]:
    """The entries whose file or content has a hash that starts so."""
    return [
        entry
        for entry in entries
        if entry.table.sha256.startswith(hash_start) or entry.table.content_hash.startswith(hash_start)
    ]


def list_tables(place: str, *, offline: bool = False) -> Listing:
    """All tables of a registry.

    Args:
        place: the registry's folder, a path or URL.
        offline: list what was seen when the place was last asked.

    Raises:
        LutError: the place cannot be listed, holds no registry, or more entries than there is room for.
    """
    registry = Registry(open_place(place), offline=offline)
    names = registry.names()
    if not names:
        raise LutError(f"{registry.place} holds no registry{' in the cache' * registry.offline}; "
                       "hwprof lut push TABLE PLACE makes one")  # fmt: skip
    room = Room(registry.place)
    listings = [registry.entries(name, room) for name in names]
    return Listing(
        tuple(entry for listing in listings for entry in listing.entries),
        tuple(line for listing in listings for line in listing.refused),
    )
