"""Reading /proc and /sys. The root folder is a parameter, so that tests can make up a machine."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class SystemFiles:
    """The files under `root`, by paths relative to it. What cannot be read is None or empty, never 0."""

    root: str = "/"

    def text(self, path: str) -> str | None:
        """Content without surrounding white space; None if there is no such file or it says nothing."""
        try:
            with open(os.path.join(self.root, path), encoding="utf-8", errors="replace") as file:
                content = file.read()
        except OSError:
            return None
        # Device-tree strings end with a zero byte.
        return content.strip("\0 \n\t") or None

    def integer(self, path: str) -> int | None:
        try:
            return int(self.text(path) or "")
        except ValueError:
            return None

    def names(self, folder: str) -> tuple[str, ...]:
        """Names in a folder, sorted; empty if it cannot be listed."""
        try:
            return tuple(sorted(os.listdir(os.path.join(self.root, folder))))
        except OSError:
            return ()

    def cores(self, path: str) -> tuple[int, ...]:
        """A core list such as `0-3,8`; empty if it cannot be read."""
        return parse_core_list(self.text(path) or "")

    def pairs(self, path: str, separator: str = ":") -> dict[str, str]:
        """Lines of `name: value`; the first of equal names counts."""
        found: dict[str, str] = {}
        for line in (self.text(path) or "").splitlines():
            name, mark, value = line.partition(separator)
            if mark:
                found.setdefault(name.strip(), value.strip())
        return found


def parse_core_list(text: str) -> tuple[int, ...]:
    """`0-3,8` is (0, 1, 2, 3, 8). Anything that is no such list is empty."""
    cores: set[int] = set()
    for part in text.replace("\n", ",").split(","):
        first, _, last = part.strip().partition("-")
        if not first.isdecimal() or (last and not last.isdecimal()):
            continue
        cores.update(range(int(first), int(last or first) + 1))
    return tuple(sorted(cores))


def format_core_list(cores: tuple[int, ...]) -> str:
    """Inverse of `parse_core_list`: (0, 1, 2, 3, 8) is `0-3,8`."""
    parts: list[list[int]] = []
    for core in sorted(cores):
        if parts and core == parts[-1][1] + 1:
            parts[-1][1] = core
        else:
            parts.append([core, core])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)
