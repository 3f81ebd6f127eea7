"""Journal: what a search has asked and been told, so that one that was stopped goes on."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hwprof.errors import HwprofError
from hwprof.search.discrete.objectives import Point


class Journal:
    """A file of JSON lines: first what the search is of, then a network with its values in each.

    The file is made with the first networks, so that a search whose first network fails leaves nothing.
    A line that a kill cut short is left out, and that network is evaluated again.

    Attributes:
        known: values of the networks that are there.

    Raises:
        HwprofError: the file is of another search (names the first setting that differs), or damaged.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path = path
        self._settings = json.loads(json.dumps(settings))
        self.known: dict[Point, tuple[float, ...]] = {}
        if path.exists():
            self._read()

    def answers(self, count: int) -> dict[Point, tuple[float, ...]]:
        """A copy of `known`.

        Raises:
            HwprofError: a network has not this many values.
        """
        for point, values in self.known.items():
            if len(values) != count:
                raise self._damaged(f"network {list(point)} has {len(values)} values, not {count}")
        return dict(self.known)

    def add(self, entries: Iterable[tuple[Point, tuple[float, ...]]]) -> None:
        """
        Raises:
            HwprofError: the disk refused.
        """
        lines = [{"point": list(point), "values": list(values)} for point, values in entries]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            new = not self.path.exists()
            with self.path.open("ab") as file:
                for line in [self._settings, *lines] if new else lines:
                    file.write(json.dumps(line).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise HwprofError(f"{self.path} cannot be written: {error.strerror or error}") from None

    def _read(self) -> None:
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        try:
            first, *lines = [json.loads(line) for line in whole.splitlines()]
            head = dict(first)
            self.known = {
                tuple(int(choice) for choice in line["point"]): _numbers(line["values"])
                for line in lines
            }
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise self._damaged(str(error)) from None
        theirs = dict(_flat(head))
        for name, value in _flat(self._settings):
            if theirs.get(name) != value:
                raise HwprofError(
                    f"{self.path} is of a search with {name} {theirs.get(name)!r}, not {value!r}; "
                    "give another folder, or the same settings to go on with it"
                )
        if len(whole) < len(content):
            with self.path.open("rb+") as file:
                file.truncate(len(whole))

    def _damaged(self, reason: str) -> HwprofError:
        return HwprofError(
            f"{self.path} is damaged ({reason}); give another folder, or delete it and search again"
        )


def _numbers(values: list[Any]) -> tuple[float, ...]:
    """Raises ValueError where one is no finite number."""
    for value in values:
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"the value {value!r:.80} is no finite number")
    return tuple(map(float, values))


def _flat(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Settings by name; those of a group one by one, as "group of name"."""
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from ((f"{name} of {each}", inner) for each, inner in value.items())
        else:
            yield name, value
