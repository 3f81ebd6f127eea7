"""Watcher: what is told how a search goes."""

from __future__ import annotations

from typing import Protocol


class Watcher(Protocol):
    """What is told how the search goes."""

    def note(self, text: str) -> None:
        """A line for people."""

    def scalar(self, name: str, value: float, step: int) -> None:
        """A curve's next value."""
