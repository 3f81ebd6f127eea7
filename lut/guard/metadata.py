"""A file's metadata: JSON of known shape, so that nothing that shows or uses it needs to ask again."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from hwprof.lut.guard.text import CONTROLS
from hwprof.text import shown

SHA256 = re.compile("[0-9a-f]{64}")
LONGEST_TEXT = 4096
MOST_AUTHORS = 100
MOST_DIGITS = 19
EPOCH = 1970


def parse(raw: bytes) -> Any:
    """The JSON value of one key.

    Raises:
        ValueError: it is no JSON, nested too deep, or holds NaN, a number beyond 64 bits, half a
            character, a control character, or a text of more than 4,096 characters.
    """
    try:
        value = json.loads(raw, parse_constant=_no_constant, parse_float=_finite, parse_int=_of_64_bits)
    except RecursionError:
        raise ValueError("nested too deep") from None
    for text in _texts(value):
        if len(text) > LONGEST_TEXT:
            raise ValueError(f"a text of {len(text):,} characters, {LONGEST_TEXT:,} are allowed")
        if control := CONTROLS.search(text):
            raise ValueError(f"control character U+{ord(control[0]):04X} in {shown(text)!r}")
        text.encode()
    return value


def check_shape(key: str, value: Any) -> None:
    """Check the value of a key of a table's or visits' metadata; keys that are not known pass.

    Raises:
        ValueError: it is not what the key holds.
    """
    if key in SHAPES:
        check, expected = SHAPES[key]
        if not check(value):
            raise ValueError(f"{shown(json.dumps(value))} is not {expected}")


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _of_64_bits(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"{shown(digits)} is too large")
    return int(digits)


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"{shown(digits)} is too large")
    return number


def _texts(value: Any) -> Iterable[str]:
    """All texts in a value, keys included; not recursive, since depth is the file's to choose."""
    waiting = [value]
    while waiting:
        match waiting.pop():
            case str() as text:
                yield text
            case list() as items:
                waiting.extend(items)
            case dict() as items:
                yield from items
                waiting.extend(items.values())


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_hash(value: Any) -> bool:
    return isinstance(value, str) and SHA256.fullmatch(value) is not None


def _is_time(value: Any) -> bool:
    try:
        time = datetime.fromisoformat(value)
        return time.utcoffset() is not None and time.astimezone(UTC).year >= EPOCH
    except (TypeError, ValueError, OverflowError):
        return False


def _is_level(value: Any) -> bool:
    return _is_number(value) and 0 < value < 1


def _has(fields: Mapping[str, Callable[[Any], bool]]) -> Callable[[Any], bool]:
    """A check for an object: the named fields are there and fit; others may be."""
    return lambda value: (
        isinstance(value, dict)
        and all(name in value and check(value[name]) for name, check in fields.items())
    )


def _with(fields: Mapping[str, Callable[[Any], bool]]) -> Callable[[Any], bool]:
    """As `_has`, of an object that another version of hwprof may have written: a field may be absent."""
    return lambda value: (
        isinstance(value, dict)
        and all(check(value[name]) for name, check in fields.items() if name in value)
    )


def _may(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or check(value)


def _list_of(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(check, value))


def _is_identity(value: Any) -> bool:
    """What hwprof computes with or prints; a device may state more."""
    return (
        isinstance(value, dict)
        and _may(_is_text)(value.get("device"))
        and _may(_is_texts)(value.get("core_kinds"))
        and _may(_is_number)(value.get("cpu_limit"))
    )


def _is_environments(value: Any) -> bool:
    check = _has({"identity": _is_identity, "conditions": lambda facts: isinstance(facts, dict)})
    return isinstance(value, dict) and all(check(facts) and len(facts) == 2 for facts in value.values())


_SCOPE: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("space", "statistic", "environment_id", "dtype", "cache"), _is_text),
    "batch": _is_number,
}
_COMPOSITION = _with(
    {
        "scope": _with(_SCOPE),
        "model": _is_text,
        "error": _is_number,
        "networks": lambda value: isinstance(value, list),
    }
)
_VALIDATION = _with(
    {
        **_SCOPE,
        "networks": _is_number,
        **dict.fromkeys(("mean_error", "within_1", "within_2"), _is_number),
        "additive": lambda value: isinstance(value, bool),
    }
)
_MERGED = _has({"content_hash": _is_hash, "created_at": _is_time, "licence": _may(_is_text)})
SHAPES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "spaces": (_is_texts, "a list of names"),
    "environments": (_is_environments, "a JSON object of environment id to {identity, conditions}"),
    "composition": (_may(_list_of(_COMPOSITION)), "null or a list of compositions"),
    "validation": (_may(_list_of(_VALIDATION)), "null or a list of validations"),
    "licence": (_may(_is_text), "null or a text"),
    "merged": (
        _may(lambda value: isinstance(value, dict) and all(map(_MERGED, value.values()))),
        "null or a JSON object of origin to facts of a table",
    ),
    "title": (_may(_is_text), "null or a text"),
    "authors": (
        _may(lambda value: _is_texts(value) and len(value) <= MOST_AUTHORS),
        f"null or a list of at most {MOST_AUTHORS} names",
    ),
    "content_hash": (_is_hash, "a sha256"),
    "visits_hash": (_may(_is_hash), "null or a sha256"),
    "created_at": (_is_time, "a time with its offset"),
    "hwprof_version": (_is_text, "a version"),
    "interval_level": (_is_level, "a number between 0 and 1"),
}
