"""Fields of a predictor that were read from JSON: their names, types and sizes are checked."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from hwprof.prediction.predictor import Interval, Tried
from hwprof.prediction.scores import Scores

T = TypeVar("T")


def made_of(kind: type[T], data: Mapping[str, Any]) -> T:
    """A dataclass of exactly these fields, each of its type.

    Raises:
        TypeError, ValueError: they are not; numbers must be finite, counts 0 or more.
    """
    types = get_type_hints(kind)
    if set(data) != set(types):
        raise ValueError(f"fields of {kind.__name__}")
    for name, wanted in types.items():
        if not _is(data[name], wanted):
            raise ValueError(f"{name} of {kind.__name__} is {str(data[name])[:40]!r}")
    return kind(**data)


def interval_of(data: Mapping[str, Any]) -> Interval:
    """Raises as `made_of`, and ValueError where the level or coverage is no share."""
    made = made_of(Interval, data)
    if not (0.5 <= made.level < 1.0 and made.factor >= 1.0 and 0.0 <= made.coverage <= 1.0):
        raise ValueError(f"interval {made}")
    return made


def scores_or_none(data: Mapping[str, Any] | None) -> Scores | None:
    """Raises as `made_of`, and ValueError where the coverage is no share."""
    if data is None:
        return None
    made = made_of(Scores, data)
    if not 0.0 <= made.coverage <= 1.0:
        raise ValueError(f"coverage of Scores is {made.coverage}")
    return made


def tried_of(data: Mapping[str, Any]) -> Tried:
    """Raises as `scores_or_none`."""
    return made_of(Tried, {**data, "scores": scores_or_none(data["scores"])})


def _is(value: Any, wanted: Any) -> bool:
    """Whether a value is of a field's type. True is no number, and a whole number is a float too."""
    if get_origin(wanted) is UnionType:
        return any(_is(value, one) for one in get_args(wanted))
    if get_origin(wanted) is dict:
        return isinstance(value, dict) and all(_is(v, get_args(wanted)[1]) for v in value.values())
    if wanted is float:
        return type(value) in (int, float) and isfinite(value)
    if wanted is int:
        return type(value) is int and value >= 0
    return type(value) is wanted
