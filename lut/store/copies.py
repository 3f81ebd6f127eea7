"""Copies of what pulls have made, in hwprof's cache, and how many rows each has left out.

stores/SHA256.json    of one pull: the hashes of its table and visits, and what it tells
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path

from hwprof.lut.places.cache import MADE_HERE, cache_folder, file_sha256, undamaged_table, write_small
from hwprof.lut.reading import visits_path_of


@dataclass(frozen=True)
class Copy:
    """A kept table. `repeated` and `replaced` are those of `Resolved`."""

    path: Path
    repeated: int
    replaced: int

    def tell(self, rule: str) -> None:
        """Say on the log how many rows are not in it."""
        log = logging.getLogger(__name__)
        if self.repeated:
            log.warning("%d rows had been appended more than once", self.repeated)
        if self.replaced:
            log.warning("%d rows were left out by the rule %s", self.replaced, rule)


def kept_copy(name: str) -> Copy | None:
    """What was noted under a name; None if that is nothing, or is no longer as it was made."""
    try:
        note = json.loads(_note_path(name).read_bytes())
        sha256, visits = str(note["sha256"]), note["visits"]
        repeated, replaced = int(note["repeated"]), int(note["replaced"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # the note is damaged: the copy is made anew
    path = undamaged_table(sha256, MADE_HERE)
    if path is None or _visits_sha256(path) != visits:
        return None
    return Copy(path, repeated, replaced)


def note_copy(name: str, copy: Copy) -> None:
    """Note a copy under a name.

    Raises:
        LutError: the cache cannot be written.
    """
    note = {
        "sha256": file_sha256(copy.path), "visits": _visits_sha256(copy.path),
        "repeated": copy.repeated, "replaced": copy.replaced,
    }  # fmt: skip
    write_small(_note_path(name), json.dumps(note).encode())


def _visits_sha256(table: Path) -> str | None:
    path = visits_path_of(table)
    return file_sha256(path) if path.is_file() else None


def _note_path(name: str) -> Path:
    return cache_folder() / "stores" / f"{hashlib.sha256(name.encode()).hexdigest()}.json"
