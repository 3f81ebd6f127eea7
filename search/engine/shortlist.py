"""Shortlist: candidates with the SE and the activations that paid, as many as are measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hwprof.search.features import variant
from hwprof.space import Space

Point = tuple[int, ...]


def dressed_networks(
    space: Space,
    bases: Sequence[Point],
    like: Point,
    first: Sequence[Point],
    *,
    count: int,
    price: Callable[[Sequence[Point]], Sequence[float]],
    target_ms: float,
) -> list[Point]:
    """`first`, then the bases in order, with SE and activations of `like` where they fit; at most
    `count`. Points that skip one or the other of two equal blocks are one network."""
    networks = {space.point_ops(point): point for point in first}
    for base in bases:
        if len(networks) >= count:
            break
        point = _dressed(space, base, like, price, target_ms)
        networks.setdefault(space.point_ops(point), point)
    return list(networks.values())


def _dressed(
    space: Space,
    base: Point,
    like: Point,
    price: Callable[[Sequence[Point]], Sequence[float]],
    target_ms: float,
) -> Point:
    """A network with SE and activation of another one, position by position as long as it meets the
    target."""
    point = base
    for position, choice in enumerate(like):
        ops = space.positions[position].choices[choice].ops
        if not ops:
            continue
        wanted = variant(
            space, position, point[position], se=bool(ops[0].se_channels), activation=ops[0].activation
        )
        if wanted is None:
            continue
        changed = (*point[:position], wanted, *point[position + 1 :])
        if price([changed])[0] <= target_ms:
            point = changed
    return point
