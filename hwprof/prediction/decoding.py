"""Decoding: from a network's row back to the point that it is of."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hwprof.errors import SpaceError
from hwprof.lut.importing.entries import Network
from hwprof.ops import ops_from_json
from hwprof.prediction.errors import PredictionError
from hwprof.space import Space, point_from_string

MAX_CANDIDATES = 20_000
"""Networks of a cell space that are built to find those of the rows, 5 ms each."""
Point = tuple[int, ...]
_STRING = re.compile(r"\|[\w~|+]+\|")
_POINT = re.compile(r"network_[0-9a-f]{8}:([0-9]{1,5}(?:\.[0-9]{1,5}){0,1000})")


class Decoder:
    """Points of one space's network rows.

    A row lists its ops. In a chain they tell the point (of equal networks, the one whose skips come
    last). In a cell space they do not say which edge an op is on: the point then stands in the row's
    label (`network_1a2b3c4d:0.2.1`), or an architecture string in its reason; or all cells with these
    ops are built until one has the row's id.

    Args:
        known: points of row ids, where the caller has them.
    """

    def __init__(self, space: Space, known: Mapping[str, Sequence[int]] | None = None) -> None:
        self.space = space
        self._known = known or {}
        self._choices = [
            [tuple(op.to_json() for op in choice.ops) for choice in p.choices] for p in space.positions
        ]
        self._by_id: dict[str, Point] = {}
        self._built: set[tuple[str, ...]] = set()
        self._candidates = 0

    def point(self, row: Mapping[str, Any]) -> Point:
        """Of a row's `op_id`, `op_json`, `label` and `reason`.

        Raises:
            PredictionError: the row is of no network of the space, or does not tell which.
            OpError: its op_json is no list of ops.
        """
        ops = tuple(op.to_json() for op in ops_from_json(row["op_json"]))
        for told in self._told(row):
            if self._ops_of(told) == ops:
                return told
        if self.space.family == "chain":
            found = next(self._fitting(ops), None)
            if found is None:
                raise self._outside(row)
            return found
        if self.space.family == "darts":
            raise PredictionError(
                f"{row['label']} does not say which genotype of {self.space.name} it is; give --points, "
                "a JSON object of op_id -> choice indices"
            )
        if ops not in self._built:
            self._build(ops)
        if row["op_id"] not in self._by_id:
            raise self._outside(row)
        return self._by_id[row["op_id"]]

    def _told(self, row: Mapping[str, Any]) -> Iterator[Point]:
        if row["op_id"] in self._known:
            yield tuple(self._known[row["op_id"]])
        if match := _POINT.fullmatch(row["label"]):
            yield tuple(map(int, match[1].split(".")))
        match = _STRING.search(row["reason"] or "")
        if match and self.space.family == "cell":
            try:
                yield point_from_string(self.space, match[0])
            except SpaceError:
                return

    def _ops_of(self, point: Point) -> tuple[str, ...] | None:
        try:
            self.space.choices_of(point)
        except SpaceError:
            return None
        chosen = zip(self._choices, point, strict=True)
        return tuple(op for choices, index in chosen for op in choices[index])

    def _fitting(self, ops: tuple[str, ...]) -> Iterator[Point]:
        """All points that run these ops, those whose early positions run something first."""
        count = len(self._choices)
        dead: set[tuple[int, int]] = set()

        def walk(place: int, used: int, point: list[int]) -> Iterator[Point]:
            if place == count:
                if used == len(ops):
                    yield tuple(point)
                return
            if (place, used) in dead:
                return
            found = False
            choices = self._choices[place]
            for index in sorted(range(len(choices)), key=lambda i: not choices[i]):
                wanted = choices[index]
                if ops[used : used + len(wanted)] == wanted:
                    for whole in walk(place + 1, used + len(wanted), [*point, index]):
                        found = True
                        yield whole
            if not found:
                dead.add((place, used))

        return walk(0, 0, [])

    def _build(self, ops: tuple[str, ...]) -> None:
        self._built.add(ops)
        for point in self._fitting(ops):
            self._candidates += 1
            if self._candidates > MAX_CANDIDATES:
                raise PredictionError(
                    f"the rows do not say which networks of {self.space.name} they are, and more than "
                    f"{MAX_CANDIDATES} have the same ops; give --points, a JSON object of op_id -> "
                    "choice indices"
                )
            try:
                graph = self.space.network(point)
            except SpaceError:
                continue
            network = Network.of(self.space.point_ops(point), graph)
            self._by_id.setdefault(network.network_id, point)

    def _outside(self, row: Mapping[str, Any]) -> PredictionError:
        return PredictionError(
            f"{row['label']} is no network of space {self.space.name}: its ops are those of no point; "
            "give the space that it was measured for with --space"
        )
