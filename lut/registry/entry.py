"""Entry: what the index of a registry says of one table. Written by strangers, so read with care."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from hwprof.errors import LutError
from hwprof.lut.guard.metadata import parse
from hwprof.lut.places.cache import SHA256
from hwprof.lut.places.local import FILE_SUFFIX

FORMAT = 1
FORMAT_KEY = "hwprof_registry"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
ENTRY_BYTES = 1 << 16
TEXT_LENGTH = 500
LIST_LENGTH = 1000
MOST_BYTES = 1 << 50
# Clocks differ; a date further ahead would stay the latest for long.
AHEAD = timedelta(days=1)


@dataclass(frozen=True)
class StoredFile:
    """A file of a registry, stored as `objects/SHA256.parquet`: the hash of its bytes and their
    number, and the content hash of the table or visits in it."""

    sha256: str
    bytes: int
    content_hash: str

    @property
    def name(self) -> str:
        """Its name in `objects`."""
        return f"{self.sha256}.parquet"


@dataclass(frozen=True)
class Entry:
    """One table in a registry.

    Attributes:
        name: what it was pushed as; many entries may share a name, the latest is what it stands for.
        pushed_at: ISO 8601, UTC, by the clock of who pushed it.
        table: its file.
        visits: its visits; None if it was written without.
        environments: a readable line for each.
    """

    name: str
    pushed_at: str
    table: StoredFile
    visits: StoredFile | None
    rows: int
    schema_version: int
    spaces: tuple[str, ...]
    environments: tuple[str, ...]
    licence: str | None
    hwprof_version: str

    @property
    def file_name(self) -> str:
        """Its name in `entries/NAME`: the same table pushed twice is one entry."""
        return f"{self.table.sha256}.json"

    def to_bytes(self) -> bytes:
        """The JSON that stands in the registry."""
        return json.dumps({FORMAT_KEY: FORMAT, **asdict(self)}, sort_keys=True, indent=1).encode()


def parse_entry(data: bytes, name: str, file_name: str) -> Entry:
    """The entry that stands at `entries/NAME/FILE_NAME`.

    Raises:
        LutError: it is no JSON object of an entry, of a newer format, contradicts where it stands, or
            a value is not what an entry may hold. Nothing in an entry can point elsewhere: a file is
            named by its hash alone.
    """
    try:
        told = parse(data)
    except ValueError as error:
        raise _bad(name, file_name, f"is no JSON of an entry ({error})") from None
    if not isinstance(told, dict) or not isinstance(told.get(FORMAT_KEY), int):
        raise _bad(name, file_name, "is no index entry")
    if told[FORMAT_KEY] > FORMAT:
        raise LutError(
            f"entry {name}/{file_name} is of format {told[FORMAT_KEY]}, this hwprof reads {FORMAT}; "
            "upgrade hwprof"
        )
    try:
        entry = Entry(
            name=_text(told["name"]),
            pushed_at=_date(told["pushed_at"]),
            table=_file(told["table"]),
            visits=None if told["visits"] is None else _file(told["visits"]),
            rows=_count(told["rows"]),
            schema_version=_count(told["schema_version"]),
            spaces=_texts(told["spaces"]),
            environments=_texts(told["environments"]),
            licence=None if told["licence"] is None else _text(told["licence"]),
            hwprof_version=_text(told["hwprof_version"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise _bad(name, file_name, f"is no index entry ({error!r})") from None
    if entry.visits is not None and entry.visits.sha256 == entry.table.sha256:
        raise _bad(name, file_name, "names one file as table and visits")
    if entry.name != name or entry.file_name != file_name:
        raise _bad(name, file_name, f"says that it is {entry.name}/{entry.file_name}")
    return entry


def check_name(name: str) -> str:
    """The name, if a table can have it.

    Raises:
        LutError: it is empty, too long, has other than letters, digits, `.`, `_` and `-`, or ends as a
            file's does.
    """
    if not NAME.fullmatch(name):
        raise LutError(
            f"{name!r} is no name for a table; use up to 100 letters, digits, '.', '_' and '-', "
            "the first a letter or digit (--name)"
        )
    if name.endswith(FILE_SUFFIX):
        # `PLACE/NAME` would be taken for a single file.
        bare = re.sub(f"({re.escape(FILE_SUFFIX)})+$", "", name)
        raise LutError(f"{name!r} is the name of a file; give the table --name {bare}")
    return name


def _bad(name: str, file_name: str, what: str) -> LutError:
    return LutError(f"entry {name}/{file_name} {what}; remove it from the registry's folder entries")


def _file(told: Any) -> StoredFile:
    sha256, content = told["sha256"], told["content_hash"]
    for value in (sha256, content):
        if not isinstance(value, str) or not SHA256.fullmatch(value):
            raise ValueError(f"{str(value)[:80]!r} is no sha256")
    return StoredFile(sha256, _count(told["bytes"]), content)


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MOST_BYTES:
        raise ValueError(f"{str(value)[:80]!r} is no count")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > TEXT_LENGTH:
        raise ValueError(f"{str(value)[:80]!r} is no short text")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > LIST_LENGTH:
        raise ValueError(f"{str(value)[:80]!r} is no short list")
    return tuple(_text(item) for item in value)


def _date(value: Any) -> str:
    date = datetime.fromisoformat(value)
    if date.utcoffset() is None or date > datetime.now(UTC) + AHEAD:
        raise ValueError(f"{value!r} is no time that has been")
    return date.astimezone(UTC).isoformat(timespec="microseconds")
