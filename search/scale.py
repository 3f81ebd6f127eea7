"""Scaling under a constraint: the largest scaled network whose latency fits a target."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import inf
from pathlib import Path
from typing import Any

import pyarrow as pa

from hwprof.composition.composition import Scope, composition_for
from hwprof.composition.price import pricer_for
from hwprof.errors import LutError, SpaceError
from hwprof.graph import cost
from hwprof.lut import Lut
from hwprof.lut.missing import environment_list
from hwprof.ops import OpSpec, lower
from hwprof.search.scaling_network import Network
from hwprof.search.scaling_rules import ScalingRule, scaled
from hwprof.space import Space, list_spaces, load_space

PHI_STEP = 0.01
MAX_PHI = 10.0
MAX_BYTES = 1 << 20

Price = Callable[[Sequence[OpSpec]], float]
"""Latency in ms of a chain of ops; it measures the rows that are missing, or raises."""


@dataclass(frozen=True)
class Shape:
    """A scaled network and the smallest phi, in steps of `PHI_STEP`, that gives it."""

    phi: float
    network: Network


@dataclass(frozen=True)
class Scaled:
    """The largest network that fits.

    Attributes:
        own_ms: latency of the network that was scaled.
        next: the next larger shape, which exceeds the target, and its latency.
        tried: (phi, latency_ms) of every shape that was priced, in that order.
    """

    shape: Shape
    latency_ms: float
    target_ms: float
    own_ms: float
    next: tuple[Shape, float]
    tried: tuple[tuple[float, float], ...]

    def summary(self) -> dict[str, Any]:
        network = self.shape.network
        of_graph = cost(lower(network.ops()))
        return {
            "target_ms": self.target_ms,
            "latency_ms": self.latency_ms,
            "phi": self.shape.phi,
            "input": list(network.input_shape[1:]),
            "widths": list(network.widths),
            "depths": list(network.depths),
            "parameters": of_graph.parameters,
            "flops": of_graph.flops,
            "own_latency_ms": self.own_ms,
            "next": {"phi": self.next[0].phi, "latency_ms": self.next[1]},
            "tried": [{"phi": phi, "latency_ms": latency} for phi, latency in self.tried],
        }


def scale_to_target(
    network: Network,
    price: Price,
    target_ms: float,
    rule: ScalingRule | None = None,
    *,
    told: Callable[[float, float], None] = lambda phi, latency_ms: None,
) -> Scaled:
    """Bisect phi for the largest shape within the target: its price is at or below it, that of the next
    larger shape above. Where a device runs some larger network faster than a smaller one, a still larger
    one may fit too.

    The search begins where the FLOPs, in proportion, meet the target, so that few shapes are priced.

    Args:
        price: called once for each shape that is tried.
        told: called with phi and latency after each.

    Raises:
        SpaceError: the target is no latency, the network itself exceeds it, or the largest shape
            (phi = 10) is within it.
        HwprofError: what `price` raises.
    """
    if not 0 < target_ms < inf:
        raise SpaceError(f"target {target_ms:g} ms is no latency; give a number of ms above 0")
    shapes = scaled_shapes(network, rule or ScalingRule())
    latencies: dict[int, float] = {}

    def latency(place: int) -> float:
        if place not in latencies:
            latencies[place] = price(shapes[place].network.ops())
            told(shapes[place].phi, latencies[place])
        return latencies[place]

    own_ms = latency(0)
    if own_ms > target_ms:
        raise SpaceError(
            f"target {target_ms:g} ms is below the network's own latency, {own_ms:.4g} ms, and scaling "
            f"only grows it: give {own_ms:.4g} ms or more, or search a faster network"
        )
    found = largest_that_fits(
        lambda place: latency(place) <= target_ms,
        len(shapes),
        _flops_guess(shapes, target_ms / own_ms),
    )
    if found == len(shapes) - 1:
        raise SpaceError(
            f"target {target_ms:g} ms is above what scaling reaches: {own_ms:.4g} ms (phi 0) to "
            f"{latency(found):.4g} ms (phi {shapes[found].phi:g}); give a target between"
        )
    return Scaled(
        shape=shapes[found],
        latency_ms=latency(found),
        target_ms=target_ms,
        own_ms=own_ms,
        next=(shapes[found + 1], latency(found + 1)),
        tried=tuple((shapes[place].phi, ms) for place, ms in latencies.items()),
    )


def scaled_shapes(network: Network, rule: ScalingRule) -> list[Shape]:
    """The different networks that phi from 0 to 10 gives, in that order."""
    phis = [round(step * PHI_STEP, 2) for step in range(round(MAX_PHI / PHI_STEP) + 1)]
    made = [Shape(phi, scaled(network, phi, rule)) for phi in phis]
    return [next(same) for _, same in groupby(made, lambda shape: shape.network)]


def largest_that_fits(fits: Callable[[int], bool], count: int, guess: int) -> int:
    """A place below `count` that fits while the next does not, or the last one. Place 0 fits.

    From the guess in doubling steps until both sides are known, then by bisection.
    """
    low, high = 0, count
    place, step = guess, 1
    below = above = False
    while high - low > 1:
        middle = (low + high) // 2
        place = middle if below and above else min(max(place, low + 1), high - 1)
        if fits(place):
            low, below = place, True
            place += step
        else:
            high, above = place, True
            place -= step
        step *= 2
    return low


def network_price(
    table: Lut, scope: Scope, ops: Sequence[OpSpec], *, allow_unstable: bool = False
) -> float:
    """Latency of a chain of ops by the table's rows and composition.

    Raises:
        MissingRow: ops without a usable row, or edges that the composition needs.
    """
    distinct = list(dict.fromkeys(ops))
    return pricer_for(table, scope, distinct, allow_unstable=allow_unstable).price(ops).latency_ms


def composition_name(table: Lut, scope: Scope) -> str | None:
    """The model that the table's rows are put together by; None: the plain sum, uncalibrated."""
    composition = composition_for(table.metadata, scope)
    return None if composition is None else composition.model


def ops_without_row(table: Lut, scope: Scope, ops: Sequence[OpSpec]) -> list[OpSpec]:
    """The ops that the table has no row of, in whatever state, once each."""
    rows = table.rows_matching("op", scope.cache, scope.environment_id, None)
    there = set(table.columns(["op_id"]).column(0).take(pa.array(rows)).to_pylist())
    return [op for op in dict.fromkeys(ops) if op.op_id not in there]


def only_scope(table: Lut, space: Space, environment: str | None, cache: str | None) -> Scope:
    """The scope of a space's networks in a table whose op rows are of one environment, or in the one
    that is named.

    Raises:
        LutError: the table has no op rows of it, or of several environments.
    """
    rows = table.rows_matching("op", cache or "warm", environment, None)
    ids = table.columns(["environment_id"]).column(0).take(pa.array(rows)).unique().to_pylist()
    if len(ids) != 1:
        has = environment_list(table, ids) if ids else "none with that cache state"
        raise LutError(
            f"{table.path} has op rows of {len(ids)} environments: {has}; name one of its own"
        )
    first = space.ops()[0]
    return Scope(ids[0], space.name, first.shape[0], first.dtype, cache or "warm", "floor")


@dataclass(frozen=True)
class Found:
    """A network of a space.

    Attributes:
        source: the space as `load_space` takes it.
    """

    source: str
    space: Space
    point: tuple[int, ...]


def read_found(path: Path) -> Found:
    """A found network, from a JSON object with `space` (a shipped name, or a file relative to this one)
    and `point` (a choice index for each position); other fields are left alone.

    Raises:
        SpaceError: the file cannot be read, is no such object, or its point does not fit its space.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        content = json.loads(data) if len(data) <= MAX_BYTES else None
    except OSError as error:
        raise SpaceError(f"{path} cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError):
        content = None
    name, point = (content.get(n) if isinstance(content, dict) else None for n in ("space", "point"))
    whole = isinstance(point, list) and all(type(choice) is int for choice in point)
    if not isinstance(name, str) or not isinstance(point, list) or not whole:
        raise SpaceError(
            f'{path} is no found network: a JSON object {{"space": NAME or FILE, "point": [0, 3, ...]}}'
        )
    source = name if name in list_spaces() else str(path.parent / name)
    space = load_space(source)
    space.choices_of(point)
    return Found(source, space, tuple(point))


def _flops_guess(shapes: Sequence[Shape], factor: float) -> int:
    """The last shape with at most so many times the FLOPs of the first."""

    def flops(shape: Shape) -> float:
        return float(cost(lower(shape.network.ops())).flops)

    return max(0, bisect_right(shapes, factor * flops(shapes[0]), key=flops) - 1)
