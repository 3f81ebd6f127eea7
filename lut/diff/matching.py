"""Rows of two tables put side by side: the same op, granularity and cache state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hwprof.environment import Environment
from hwprof.errors import LutError
from hwprof.lut.diff.visited import plain_frame
from hwprof.lut.missing import environment_list
from hwprof.lut.schema import KEY
from hwprof.lut.table import Lut

if TYPE_CHECKING:
    import pandas as pd

COMPARED = (
    *KEY, "label", "state", "reason", "latency_ms", "latency_low_ms", "latency_high_ms", "build_id",
)  # fmt: skip
MATCHED_BY = ["op_id", "granularity", "cache"]
KIND = ("environment_id", "granularity", "cache", "space", "batch", "dtype")
SHOWN_KINDS = 4


@dataclass(frozen=True)
class EnvironmentPair:
    """An environment of each table whose rows are compared.

    Attributes:
        differences: (field, in a, in b) of the identity; empty if it is the same environment.
        virtual: whether each of the two is a virtual machine.
    """

    a: str
    b: str
    differences: tuple[tuple[str, Any, Any], ...]
    virtual: tuple[bool, bool]


@dataclass(frozen=True)
class Matched:
    """Rows that both tables have, and how many only one of them has.

    Attributes:
        rows: one line each: MATCHED_BY, the other columns of `COMPARED` as NAME_a and NAME_b, `row_a`
            and `row_b` (positions in the tables) and `pair` (position in `pairs`).
    """

    pairs: tuple[EnvironmentPair, ...]
    rows: pd.DataFrame
    only_a: int
    only_b: int


def match(a: Lut, b: Lut, environments: Sequence[str] = ()) -> Matched:
    """Put the rows of two tables side by side.

    Where each table has rows of one environment, these are compared, the same or not; else those that
    both have.

    Args:
        environments: only rows of these environments.

    Raises:
        LutError: an environment that neither table has, several of which none is in both, no row in
            common, or one table against itself.
    """
    import pandas as pd

    frames = [_frame(table, environments) for table in (a, b)]
    _check_known(a, b, environments)
    pairs = _pairs(a, b, frames)
    if a.path.resolve() == b.path.resolve() and any(pair.a == pair.b for pair in pairs):
        raise LutError(f"{a.path} and {b.path} are the same file; give the tables of two builds")
    matched = []
    for number, pair in enumerate(pairs):
        own_a, own_b = (
            frame[frame["environment_id"] == name]
            for frame, name in zip(frames, (pair.a, pair.b), strict=True)
        )
        both = own_a.merge(own_b, on=MATCHED_BY, suffixes=("_a", "_b"))
        matched.append(both.assign(pair=number))
    rows = pd.concat(matched, ignore_index=True)
    if rows.empty:
        raise LutError(
            f"{a.path} and {b.path} have no row in common: {_kinds(a, environments)}; "
            f"{_kinds(b, environments)}; give tables of the same space, batch, dtype and cache state"
        )
    return Matched(pairs, rows, len(frames[0]) - len(rows), len(frames[1]) - len(rows))


def _frame(table: Lut, environments: Sequence[str]) -> pd.DataFrame:
    frame = plain_frame(table, COMPARED)
    frame["row"] = range(len(frame))
    frame["build_id"] = frame["build_id"].fillna("")
    return frame[frame["environment_id"].isin(environments)] if environments else frame


def _check_known(a: Lut, b: Lut, environments: Sequence[str]) -> None:
    for name in environments:
        if name not in a.environments and name not in b.environments:
            raise LutError(
                f"environment {name!r} is in neither table; {a.path} has {environment_list(a)}; "
                f"{b.path} has {environment_list(b)}"
            )


def _pairs(a: Lut, b: Lut, frames: Sequence[pd.DataFrame]) -> tuple[EnvironmentPair, ...]:
    ids = [sorted(frame["environment_id"].unique()) for frame in frames]
    for table, own in zip((a, b), ids, strict=True):
        if not own:
            has = f"it has {environment_list(table)}" if table.environments else "it is empty"
            raise LutError(
                f"{table.path} has no rows to compare; {has}; --environment takes one of each table"
            )
    if len(ids[0]) == len(ids[1]) == 1:
        return (_pair(a, b, ids[0][0], ids[1][0]),)
    both = [name for name in ids[0] if name in ids[1]]
    if not both:
        raise LutError(
            f"{a.path} and {b.path} have no environment in common; {a.path} has "
            f"{environment_list(a, ids[0])}; {b.path} has {environment_list(b, ids[1])}; name one of "
            "each with --environment ID --environment ID"
        )
    return tuple(_pair(a, b, name, name) for name in both)


def _pair(a: Lut, b: Lut, name_a: str, name_b: str) -> EnvironmentPair:
    mine, theirs = (
        Environment.from_dict(table.environments.get(name))  # type: ignore[arg-type]
        for table, name in ((a, name_a), (b, name_b))
    )
    virtual = (bool(mine.identity.get("virtualised")), bool(theirs.identity.get("virtualised")))
    return EnvironmentPair(name_a, name_b, tuple(mine.differences(theirs)), virtual)


def _kinds(table: Lut, environments: Sequence[str]) -> str:
    """`lut.parquet has 152 op rows (warm, s3nas, batch 1, float32) of environment X`."""
    only = table.filter(environment_id=list(environments)) if environments else table
    groups = only.columns(KIND).group_by(list(KIND)).aggregate([([], "count_all")]).to_pylist()
    groups.sort(key=lambda group: -group["count_all"])
    words = [
        f"{g['count_all']} {g['granularity']} rows ({g['cache']}, {g['space'] or 'no space'}, batch "
        f"{g['batch']}, {g['dtype']}) of environment {g['environment_id']}"
        for g in groups[:SHOWN_KINDS]
    ]
    return f"{table.path} has {', '.join(words)}"
