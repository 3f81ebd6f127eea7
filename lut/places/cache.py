"""Copies of what was fetched, in `$HWPROF_HOME/cache`: each table under the hashes of its two files.

    tables/VISITS/SHA256/lut.parquet          a table and its visits, whole
    tables/VISITS/SHA256/lut.visits.parquet
    partial/NAME                              what was fetched of a file so far
    latest/SHA256.json                        which table a place held when it was last asked
    entries/...                               index entries of registries
    stores/SHA256.json                        copies made of a store, and what each left out

SHA256 is the table's. VISITS is the visits' own: only its footer ties a visits file to a table, and that
anybody can copy, so that the visits of one place must not be found beside the table of another. It is
`none` where no visits came with the table, `here` where hwprof wrote both files itself, from a store.

Everything in it can be fetched again, and the folder may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from hwprof.errors import LutError
from hwprof.graph.blocks import hwprof_home
from hwprof.lut.files import locked, partial_path, sync_folder
from hwprof.lut.places.place import Place, check_utf8, shown_url
from hwprof.lut.places.transfer import download
from hwprof.lut.reading import StoredTable, open_table, open_visits, visits_path_of
from hwprof.lut.write import check_destination

SHA256 = re.compile(r"[0-9a-f]{64}")
TABLE_NAME = "lut.parquet"
NO_VISITS = "none"
MADE_HERE = "here"


@dataclass(frozen=True)
class Latest:
    """What a place held when it was last asked.

    Attributes:
        sha256: of the table's file.
        visits: sha256 of its visits' file, `NO_VISITS` or `MADE_HERE`.
        version: what the place knew the table's file by.
        visits_version: as `version`, of the visits' file.
        asked_at: when that was.
    """

    sha256: str
    visits: str
    version: str | None
    visits_version: str | None
    asked_at: str


def cache_folder() -> Path:
    """The cache's folder; it need not exist."""
    return hwprof_home() / "cache"


def told_offline() -> bool:
    """Whether `HWPROF_OFFLINE` says that no network may be touched."""
    return os.environ.get("HWPROF_OFFLINE", "") not in ("", "0")


def undamaged_table(sha256: str, visits: str = MADE_HERE) -> Path | None:
    """The kept table of that hash with those visits beside it, if it is kept and both files still hash
    to what they are kept under; of visits that were made here, if they are there and say that they are
    the table's.

    Args:
        visits: sha256 of the visits' file, `NO_VISITS` or `MADE_HERE`.
    """
    path = _cached_table(sha256, visits)
    if path is None or file_sha256(path) != sha256:
        return None
    if SHA256.fullmatch(visits) and file_sha256(visits_path_of(path)) != visits:
        return None
    return path if visits != MADE_HERE or _has_its_visits(path) else None


def _cached_table(sha256: str, visits: str) -> Path | None:
    path = _table_path(sha256, visits)
    needed = [path] if visits in (NO_VISITS, MADE_HERE) else [path, visits_path_of(path)]
    return path if all(file.is_file() for file in needed) else None


def _has_its_visits(path: Path) -> bool:
    try:
        told = check_pair(path).metadata["visits_hash"]
    except LutError:
        return False
    return told is None or visits_path_of(path).is_file()


def keep_table(
    origin: Place | str,
    sha256: str,
    table: Path,
    visits: Path | None,
    content_hash: str | None = None,
    visits_sha256: str = MADE_HERE,
) -> Path:
    """Move a fetched table of that hash, and its visits, into the cache, once they are seen to be one.

    Args:
        origin: where they are from, for messages.
        content_hash: what the table must say of its content; None: anything.
        visits_sha256: of the visits' file, `NO_VISITS` or `MADE_HERE`.

    Raises:
        LutError: they are no table and its visits, or have another content.
    """
    kept = _table_path(sha256, visits_sha256)
    staging = cache_folder() / "tables" / f".{sha256[:12]}.{secrets.token_hex(8)}.partial"
    staged = staging / TABLE_NAME
    with _worded(staged):
        staging.mkdir(parents=True)
        try:
            os.replace(table, staged)
            if visits is not None:
                os.replace(visits, visits_path_of(staged))
            found = check_pair(staged).metadata["content_hash"]
            if content_hash not in (None, found):
                raise LutError(
                    f"{origin} has the content hash {str(found)[:12]}, not {content_hash:.12}"
                )
            kept.parent.mkdir(parents=True, exist_ok=True)
            # The table last: until it is there, none is kept. What stands there has the same bytes,
            # unless it is damaged.
            if visits is not None:
                os.replace(visits_path_of(staged), visits_path_of(kept))
            os.replace(staged, kept)
            sync_folder(kept.parent)
        except LutError as error:
            line = str(error).replace(str(visits_path_of(staged)), f"the visits of {origin}")
            raise LutError(line.replace(str(staged), str(origin))) from None
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return kept


def _table_path(sha256: str, visits: str) -> Path:
    return cache_folder() / "tables" / visits / sha256 / TABLE_NAME


def check_pair(path: Path) -> StoredTable:
    """Open a table and see that the visits beside it, if there are any, are its own.

    Raises:
        LutError: the table or its visits cannot be read, or the visits are of another table.
    """
    stored = open_table(path)
    visits = visits_path_of(path)
    if stored.metadata["visits_hash"] is not None and visits.exists():
        found = open_visits(visits).metadata["content_hash"]
        if found != stored.metadata["visits_hash"]:
            raise LutError(
                f"{visits} hold the visits of another table than {path}; give both of one build"
            )
    return stored


@contextlib.contextmanager
def fetched(place: Place, size: int | None, mark: str | None, sha256: str | None) -> Iterator[Path]:
    """A file of a place, fetched whole into the cache; the caller moves it away or it is removed.

    Args:
        size: what it must come to, in bytes; None where nobody tells.
        mark: what the bytes at the place are known by (a hash, an ETag): an interrupted transfer goes
            on only under the same mark; None: there is none, start anew.
        sha256: what the file must hash to; None where nobody tells.

    Raises:
        LutError: it cannot be fetched, or is not what the hash says; nothing wrong is kept.
    """
    folder = cache_folder() / "partial"
    with _worded(folder):
        folder.mkdir(parents=True, exist_ok=True)
    whole = folder / f"{secrets.token_hex(16)}.whole"
    try:
        if mark is None:
            _fetch(place, whole, size, sha256)
        else:
            known_as = hashlib.sha256(f"{place}\n{mark}".encode()).hexdigest()[:32]
            with _worded(folder), locked(folder / known_as) as partial:
                _fetch(place, partial, size, sha256)
                os.replace(partial, whole)
        yield whole
    finally:
        whole.unlink(missing_ok=True)


def _fetch(place: Place, into: Path, size: int | None, sha256: str | None) -> None:
    went_on = into.exists() and into.stat().st_size > 0
    download(place, into, size)
    if sha256 is None:
        return
    found = file_sha256(into)
    if found != sha256 and went_on:
        # What an earlier try had left may have been damaged.
        os.truncate(into, 0)
        download(place, into, size)
        found = file_sha256(into)
    if found != sha256:
        into.unlink()
        raise LutError(f"{place} is damaged: its sha256 is {found[:12]}, not {sha256[:12]}")


def latest(place: str) -> Latest | None:
    """What a place held when it was last asked, by its full URL; None if it never was."""
    try:
        known = json.loads(_latest_path(place).read_bytes())
        return Latest(
            str(known["sha256"]), str(known["visits"]), known["version"], known["visits_version"],
            str(known["asked_at"]),
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError):
        return None  # never asked, or the note is damaged: the place will be asked


def remember(
    place: str,
    sha256: str,
    version: str | None,
    visits: str = MADE_HERE,
    visits_version: str | None = None,
) -> None:
    """Note which table a place holds now; the arguments are those of `Latest`."""
    note = {
        "place": shown_url(place), "sha256": sha256, "visits": visits, "version": version,
        "visits_version": visits_version, "asked_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }  # fmt: skip
    write_small(_latest_path(place), json.dumps(note).encode())


def write_small(path: Path, data: bytes) -> None:
    """Write a small file of the cache, whole or not at all."""
    partial = partial_path(path)
    with _worded(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.write_bytes(data)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


def copy_table(cached: Path, out: Path, *, overwrite: bool) -> bool:
    """Copy a kept table, and its visits first, to where it is wanted.

    Returns:
        Whether anything was written: not if the same table is there already.

    Raises:
        LutError: another table or other visits are there and may not be overwritten, or `out` cannot
            be written or is no UTF-8.
    """
    check_utf8(out)
    target = check_destination(out)
    pairs = [(cached, target), (visits_path_of(cached), visits_path_of(target))]
    parts = [(source, place) for source, place in pairs if source.exists() and not _same(source, place)]
    for _, place in parts:
        if place.exists() and not overwrite:
            what = f"{out} holds another table"
            if place != target:
                what = f"{place} holds the visits of another table"
            raise LutError(f"{what}; give another --out, or --overwrite")
    with contextlib.ExitStack() as partials, _worded(target):
        moves = []
        for source, place in reversed(parts):
            partial = partial_path(place)
            partials.callback(partial.unlink, missing_ok=True)
            with source.open("rb") as here, partial.open("wb") as there:
                shutil.copyfileobj(here, there)
                there.flush()
                os.fsync(there.fileno())
            moves.append((partial, place))
        for partial, place in moves:
            os.replace(partial, place)
        sync_folder(target.parent)
    return bool(parts)


def file_sha256(path: Path) -> str:
    """sha256 (hex) of a file's bytes.

    Raises:
        LutError: it cannot be read.
    """
    with _worded(path, "read"), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _same(one: Path, other: Path) -> bool:
    return other.exists() and file_sha256(one) == file_sha256(other)


def _latest_path(place: str) -> Path:
    return cache_folder() / "latest" / f"{hashlib.sha256(place.encode()).hexdigest()}.json"


@contextlib.contextmanager
def _worded(path: Path, what: str = "written") -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LutError(
            f"{path} cannot be {what}: {error.strerror or error}; free space or give a path elsewhere"
        ) from None
