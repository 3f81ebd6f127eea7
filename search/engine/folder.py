"""The folder of a search: what it is of, and what its parts left."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hwprof.errors import HwprofError
from hwprof.search.supernet.files import replace_file

SETTINGS = "search.json"


class SearchFolder:
    """Made if it is not there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)

    def claim(self, settings: Mapping[str, Any]) -> None:
        """Say which search the folder is of.

        Raises:
            HwprofError: it is of another one; names the first setting that differs.
        """
        path = self.path / SETTINGS
        if not path.exists():
            _write(path, settings)
            return
        there = _read(path)
        for name, value in settings.items():
            if there.get(name) != value:
                raise HwprofError(
                    f"{self.path} holds a search with {name} {there.get(name)!r}, this one has "
                    f"{value!r}; give another folder, or the same settings to go on with it"
                )

    def part(self, name: str, work: Callable[[], Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
        """What an earlier run left of a part, or the part done now.

        Raises:
            HwprofError: the file of the part is damaged.
        """
        path = self.path / f"{name}.json"
        if not path.exists():
            _write(path, [dict(entry) for entry in work()])
        found: list[dict[str, Any]] = _read(path)
        return found


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise HwprofError(f"{path} is damaged ({error}); delete it and search again") from None


def _write(path: Path, content: Any) -> None:
    replace_file(path, json.dumps(content, indent=1).encode())
