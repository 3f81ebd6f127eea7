"""Text for one line: visible, cut, and lists of which the first few are named."""

from __future__ import annotations

from collections.abc import Sequence

SHOWN = 120


def visible(text: str) -> str:
    """The text with characters that cannot be seen spelled out (controls, marks that turn the writing
    direction), since they could pass one text off as another."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shown(value: object, length: int = SHOWN) -> str:
    """A value of a file, for an error's one line: visible and cut."""
    text = visible(" ".join(str(value).split()))
    return text if len(text) <= length else f"{text[:length]}..."


def listed(words: Sequence[str], most: int, count: int | None = None) -> str:
    """The first few of several things, for one line: `a, b, c and 4 more`.

    Args:
        count: how many there are, where `words` does not hold them all.
    """
    count = len(words) if count is None else count
    first = ", ".join(words[:most])
    return f"{first} and {count - most} more" if count > most else first
