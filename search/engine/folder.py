"""The folder of a search: what it is of, and what its parts left."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hwprof.errors import HwprofError
from hwprof.lut.files import NO_LOCKS
from hwprof.search.supernet.files import replace_file

SETTINGS = "search.json"
SPENT = "spent.json"


class SearchFolder:
    """Made if it is not there.

    Raises:
        HwprofError: it cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        make_folder(path)

    def check(self, settings: Mapping[str, Any]) -> bool:
        """Whether the folder says already which search it is of.

        Raises:
            HwprofError: it is of another one; names the first setting that differs.
        """
        path = self.path / SETTINGS
        if not path.exists():
            return False
        there = _read(path)
        for name, value in settings.items():
            if there.get(name) != value:
                raise HwprofError(
                    f"{self.path} holds a search with {name} {there.get(name)!r}, this one has "
                    f"{value!r}; give another folder, or the same settings to go on with it"
                )
        return True

    def claim(self, settings: Mapping[str, Any]) -> None:
        """Say which search the folder is of.

        Raises:
            HwprofError: it is of another one; names the first setting that differs.
        """
        if not self.check(settings):
            _write(self.path / SETTINGS, settings)

    def part(self, name: str, work: Callable[[], Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
        """What an earlier run left of a part, or the part done now.

        Raises:
            HwprofError: the file of the part is damaged.
        """
        if not self.has(name):
            self.replace(name, work())
        found: list[dict[str, Any]] = _read(self.path / f"{name}.json")
        return found

    def has(self, name: str) -> bool:
        """Whether a part is done."""
        return (self.path / f"{name}.json").exists()

    def replace(self, name: str, entries: Sequence[Mapping[str, Any]]) -> None:
        """What a part found, in place of what it had."""
        _write(self.path / f"{name}.json", [dict(entry) for entry in entries])

    @contextlib.contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Adds the block to the minutes that a part took, also where it is interrupted."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.spend("minutes", part, (time.monotonic() - start) / 60)

    def spend(self, what: str, part: str, amount: float) -> None:
        """Add to what a part took, over all runs in this folder."""
        path = self.path / SPENT
        spent = _read(path) if path.exists() else {}
        parts = spent.setdefault(what, {})
        parts[part] = parts.get(part, 0.0) + amount
        _write(path, spent)

    def spent(self, what: str) -> dict[str, float]:
        """What each part took, such as `minutes`, over all runs in this folder."""
        path = self.path / SPENT
        found: dict[str, float] = _read(path).get(what, {}) if path.exists() else {}
        return found


def make_folder(path: Path) -> None:
    """
    Raises:
        HwprofError: it cannot be made, or is a file.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HwprofError(
            f"folder {path} cannot be made ({error.strerror or error}); give --out a folder that you "
            "can write to"
        ) from None


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """A folder that is there, with no other process under this lock in it; it ends with the process.

    Raises:
        HwprofError: another one has it.
    """
    import fcntl  # here, so that the package can be imported where there is no fcntl

    folder = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HwprofError(
                f"another search works in {path}; wait for it, stop it, or give another --out"
            ) from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
        yield
    finally:
        os.close(folder)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise HwprofError(f"{path} is damaged ({error}); delete it and search again") from None


def _write(path: Path, content: Any) -> None:
    replace_file(path, json.dumps(content, indent=1).encode())
