"""Squeeze-and-excitation and activation of a network's blocks: which variants a space has of a choice,
and which of them pay (S3NAS, Lee et al. 2020, post-processing)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hwprof.ops import OpSpec
from hwprof.space import Space


def variant(
    space: Space, position: int, choice: int, *, se: bool | None = None, activation: str | None = None
) -> int | None:
    """The choice that differs from `choice` in squeeze-and-excitation, activation or both (None keeps
    what it has). None where the space has no such choice. Of several SE widths the narrowest counts.
    """
    choices = space.positions[position].choices
    plain = _plain(choices[choice].ops)
    wanted_se = _has_se(choices[choice].ops) if se is None else se
    wanted = _activation(choices[choice].ops) if activation is None else activation
    if not choices[choice].ops:
        return None
    found = [
        index
        for index, other in enumerate(choices)
        if other.ops
        and _plain(other.ops) == plain
        and _has_se(other.ops) == wanted_se
        and _activation(other.ops) == wanted
    ]
    return min(found, key=lambda index: choices[index].ops[0].se_channels, default=None)


def has_se(space: Space, position: int, choice: int) -> bool:
    """Whether an op of the choice has squeeze-and-excitation."""
    return _has_se(space.positions[position].choices[choice].ops)


def keep_what_pays(worth: Sequence[float], extra: Sequence[float], budget: float) -> list[bool]:
    """Which features to keep so that what they cost together is within `budget`: starting with all, the
    one of least worth for its cost is removed until they fit. S3NAS removes by worth alone, whose
    number a user chooses; here the target does.

    Args:
        worth: of each feature; none below or at 0 is kept.
        extra: what it costs; one that costs nothing is kept if it is worth anything.
        budget: in the unit of `extra`.
    """
    kept = [value > 0 for value in worth]
    order = sorted(
        (index for index, cost in enumerate(extra) if kept[index] and cost > 0),
        key=lambda index: worth[index] / extra[index],
    )
    for index in order:
        if sum(cost for cost, keep in zip(extra, kept, strict=True) if keep) <= budget:
            break
        kept[index] = False
    return kept


def _plain(ops: Sequence[OpSpec]) -> list[OpSpec]:
    return [replace(op, se_channels=0, activation="none") for op in ops]


def _has_se(ops: Sequence[OpSpec]) -> bool:
    return any(op.se_channels for op in ops)


def _activation(ops: Sequence[OpSpec]) -> str:
    return ops[0].activation if ops else "none"
