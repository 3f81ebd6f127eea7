"""Words for a page's numbers, and texts of a table made harmless to read."""

from __future__ import annotations

from math import isfinite

from hwprof.text import visible as spelled_out

LONGEST = 200
UNKNOWN = "–"


def visible(value: object) -> str:
    """A text of a table on one line, as `hwprof.text.visible`. A long text is cut."""
    text = str(value)
    return spelled_out(text if len(text) <= LONGEST else f"{text[:LONGEST]}…")


def number(value: float | None, digits: int = 4) -> str:
    """A number with so many digits that count; null, NaN and infinities are a dash."""
    if value is None or not isfinite(value):
        return UNKNOWN
    return f"{value:.{digits}g}" if abs(value) < 10**digits else f"{value:,.0f}"


def percent(value: float | None, digits: int = 2) -> str:
    """A fraction as a percentage."""
    return UNKNOWN if value is None or not isfinite(value) else f"{value:.{digits}%}"


def signed_percent(value: float | None, digits: int = 2) -> str:
    """A fraction as a percentage with its sign."""
    return UNKNOWN if value is None or not isfinite(value) else f"{value:+.{digits}%}"


def counted(count: int, noun: str) -> str:
    """`1 row`, `2,000 rows`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
