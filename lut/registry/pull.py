"""Pulling a table out of a registry into the cache."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from hwprof.errors import LutError
from hwprof.lut.places.cache import (
    NO_VISITS,
    fetched,
    keep_table,
    remember,
    undamaged_table,
)
from hwprof.lut.places.place import Place, open_place, shown_url
from hwprof.lut.registry.entry import NAME, Entry, StoredFile
from hwprof.lut.registry.registry import HASH, Registry, matching


def registry_to_cache(text: str, *, offline: bool = False) -> Path:
    """The path of `pull_from_registry`."""
    return pull_from_registry(text, offline=offline)[0]


def pull_from_registry(text: str, *, offline: bool = False) -> tuple[Path, str]:
    """The kept copy of a registry's table, fetched if need be, and the name it was pushed as.

    Args:
        text: the registry's path or URL; then, unless it holds tables of one name only, `/NAME`, and
            if not the latest of that name is wanted, `@` and the start of the table's sha256 or
            content hash (8 digits or more).
        offline: touch no network: take the latest that was seen, of what is kept.

    A table that is named by its hash and kept is taken without asking the registry.

    Raises:
        LutError: there is no such registry, name or table, or what it holds is not what its index says.
    """
    entry, registry = _resolve(text, offline)
    path = undamaged_table(*_hashes(entry))
    if path is None:
        if registry.offline:
            raise LutError(
                f"{entry.name}@{entry.table.sha256[:12]} of {registry.place} is not in the cache; "
                "run the command again without --offline"
            )
        path = _fetch(registry.place, entry)
    sha256, visits = _hashes(entry)
    remember(text, sha256, None, visits)
    return path, entry.name


def split_reference(text: str) -> tuple[str, str | None, str | None]:
    """`PLACE/NAME@HASH` in its three parts; without a hash, all of it is the place.

    Raises:
        LutError: what follows the `@` is no hash.
    """
    place, _, last = text.rstrip("/").rpartition("/")
    name, at, hash_start = last.partition("@")
    if not at or not place or not NAME.fullmatch(name):
        return text, None, None
    if not HASH.fullmatch(hash_start):
        raise LutError(
            f"{hash_start!r} is no hash; give 8 to 64 of the digits that hwprof lut list shows"
        )
    return place, name, hash_start


def _resolve(text: str, offline: bool) -> tuple[Entry, Registry]:
    """Which entry of which registry is meant."""
    place, name, hash_start = split_reference(text)
    if name is not None and hash_start is not None:
        registry = Registry(open_place(place), offline=offline)
        kept = matching(registry.kept_entries(name), hash_start)
        if len(kept) == 1 and undamaged_table(*_hashes(kept[0])) is not None:
            return kept[0], registry
        return registry.find(name, hash_start), registry
    registry = Registry(open_place(text), offline=offline)
    names = registry.names()
    if len(names) == 1:
        return registry.find(names[0]), registry
    if names:
        raise LutError(
            f"{shown_url(text)} holds tables of {len(names)} names; add /NAME: {', '.join(names[:20])}"
        )
    place, _, name = text.rstrip("/").rpartition("/")
    registry = Registry(open_place(place or "."), offline=offline)
    if not NAME.fullmatch(name) or not registry.names():
        raise LutError(
            f"{shown_url(text)} is no registry and no table of one; hwprof lut list PLACE shows its "
            "tables"
        )
    return registry.find(name), registry


def _hashes(entry: Entry) -> tuple[str, str]:
    """What the table of an entry and its visits are kept under."""
    return entry.table.sha256, NO_VISITS if entry.visits is None else entry.visits.sha256


def _fetch(place: Place, entry: Entry) -> Path:
    with ExitStack() as files:
        visits = None
        if entry.visits is not None:
            visits = files.enter_context(_fetched(place, entry.visits))
        table = files.enter_context(_fetched(place, entry.table))
        origin = f"{place}/{entry.name}"
        sha256, visits_sha256 = _hashes(entry)
        return keep_table(
            origin, sha256, table, visits, entry.table.content_hash, visits_sha256=visits_sha256
        )


def _fetched(place: Place, stored: StoredFile) -> AbstractContextManager[Path]:
    file = place.child("objects", stored.name)
    info = file.info()
    if info is None:
        raise LutError(f"{file} is not there, though the index names it; push that table again")
    if info.bytes is not None and info.bytes != stored.bytes:
        raise LutError(
            f"{file} has {info.bytes} bytes, the index says {stored.bytes}; push that table again"
        )
    return fetched(file, stored.bytes, stored.sha256, stored.sha256)
