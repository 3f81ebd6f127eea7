"""Replay: objectives from a table of networks whose values are known, such as NAS-Bench-201's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hwprof.errors import SpaceError
from hwprof.search.discrete.decisions import PositionDecisions
from hwprof.search.discrete.errors import ObjectiveError
from hwprof.search.discrete.objectives import Floats, Objective, Point
from hwprof.space import Space
from hwprof.space.cell import CellLayout
from hwprof.space.nb201 import point_from_string

if TYPE_CHECKING:
    import pyarrow as pa

ARCHITECTURE = "arch"


class Replay:
    """Networks of a cell space with known values.

    Attributes:
        points: of the networks.
        columns: name -> (networks,).

    Raises:
        SpaceError: no network is left.
    """

    def __init__(self, space: Space, points: Sequence[Point], columns: Mapping[str, Floats]) -> None:
        if not len(points):
            raise SpaceError(f"there are no networks of {space.name} to replay")
        self.space, self.points, self.columns = space, tuple(points), dict(columns)
        self._places = {point: place for place, point in enumerate(self.points)}

    def decisions(self) -> PositionDecisions:
        """Decisions over the networks that the table has; the others do not exist."""
        return PositionDecisions(self.space, exists=self._places.__contains__)

    def objective(self, column: str, *, larger_is_better: bool = False, unit: str = "") -> Objective:
        """
        Raises:
            ObjectiveError: the table has no such column.
        """
        if column not in self.columns:
            raise ObjectiveError(
                f"the table has no column {column!r}; choose of {', '.join(sorted(self.columns))}"
            )
        values = self.columns[column]
        return Objective(column, lambda p: float(values[self._places[p]]), larger_is_better, unit)


def read_replay(path: Path, space: Space) -> Replay:
    """Read a Parquet with architecture strings of NAS-Bench-201 in `arch` and numbers in other columns.
    Rows whose cell has no path are no networks and are left out.

    Raises:
        SpaceError: a string is of another space.
        ObjectiveError: the file cannot be read, or has no column `arch`, or one that is not all text.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise ObjectiveError(f"{path} cannot be read as Parquet: {error}") from None
    if ARCHITECTURE not in table.column_names:
        raise ObjectiveError(
            f"{path} has no column {ARCHITECTURE!r}; it has {', '.join(table.column_names)}"
        )
    architectures = _texts(table.column(ARCHITECTURE), path)
    columns: dict[str, Any] = {
        field.name: table.column(field.name).to_numpy().astype(np.float64)
        for field in table.schema
        if pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
    }
    points = [point_from_string(space, text) for text in architectures]
    kept = [place for place, point in enumerate(points) if has_path(space, point)]
    return Replay(
        space, [points[place] for place in kept], {name: each[kept] for name, each in columns.items()}
    )


def _texts(column: pa.ChunkedArray, path: Path) -> list[str]:
    """Raises ObjectiveError where a row has no text."""
    import pyarrow as pa

    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise ObjectiveError(
            f"{path} has a column {ARCHITECTURE!r} of type {kind}, not text; store architecture strings "
            "of NAS-Bench-201 there"
        )
    found: list[str | None] = column.to_pylist()
    texts = [text for text in found if text is not None]
    if len(texts) < len(found):
        raise ObjectiveError(
            f"{path} has no architecture in {len(found) - len(texts)} of {len(found)} rows (first: row "
            f"{found.index(None)}); leave those rows out"
        )
    return texts


def has_path(space: Space, point: Point) -> bool:
    """Whether the open edges of a cell lead from its input to its output."""
    layout = space.cell
    assert isinstance(layout, CellLayout)
    reached = {0}
    edges = [
        choice
        for position, choice in zip(space.positions, space.choices_of(point), strict=True)
        if position.kind == "edge"
    ]
    for (source, target), choice in zip(layout.edges, edges, strict=True):
        if source in reached and not choice.cut:
            reached.add(target)
    return layout.nodes - 1 in reached
