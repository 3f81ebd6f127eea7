"""Rows of several tables that have one key: which of them a merge keeps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hwprof.errors import LutError
from hwprof.lut.schema import COLUMNS, NUMBERLESS_STATES, USABLE_STATES

RULES = ("refuse", "newest", "most-precise")
TOLD = 1000
NAMES = tuple(column.name for column in COLUMNS)
SAME_BUT = "origin"
NAMED = ("label", "op_id", "environment_id", "granularity", "cache")
Order = list[tuple[str, str, str]]


@dataclass(frozen=True)
class Conflict:
    """Rows of one key that differ.

    Attributes:
        kept: origin of the row that stays.
        dropped: origins of those that do not.
    """

    label: str
    op_id: str
    environment_id: str
    granularity: str
    cache: str
    kept: str
    dropped: tuple[str, ...]


@dataclass
class Conflicts:
    """All that a merge came upon.

    Attributes:
        count: keys with rows that differ.
        same: rows that were left out because an equal one is there.
        told: the first `TOLD` conflicts.
        dropped: origin -> rows that lost.
    """

    rule: str
    count: int = 0
    same: int = 0
    told: list[Conflict] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise LutError(f"--on-conflict {self.rule!r} is unknown; choose of {', '.join(RULES)}")

    def resolve(self, rows: pa.Table, key: NDArray[np.int64]) -> tuple[NDArray[np.bool_], ...]:
        """Of rows with several of each key: which stay, and which differ from the one that stays.

        Args:
            key: a number for each row, equal where the keys are.
        """
        rows = plain(rows)
        first = _first_of_each(rows, key, self.rule)
        compared = [name for name in NAMES if name != SAME_BUT]
        same = equal_rows(rows, rows.take(pa.array(first)), compared)
        stays = np.zeros(len(key), bool)
        stays[first] = True
        self.same += int((same & ~stays).sum())
        self._tell(rows, first, ~same)
        return stays, ~same

    def refusal(self) -> LutError:
        """What `refuse` says about the conflicts."""
        shown = ", ".join(
            f"{each.label} ({', '.join((each.kept, *each.dropped))})" for each in self.told[:3]
        )
        more = f" and {self.count - 3} more" if self.count > 3 else ""
        return LutError(
            f"{self.count} rows differ between the tables: {shown}{more}; nothing was written; "
            "--on-conflict newest or most-precise chooses"
        )

    def _tell(self, rows: pa.Table, first: NDArray[np.int64], differs: NDArray[np.bool_]) -> None:
        losers = np.flatnonzero(differs)
        winners, numbers = np.unique(first[losers], return_inverse=True)
        lost = rows.column("origin").take(pa.array(losers))
        self.dropped.update({each["values"]: each["counts"] for each in lost.value_counts().to_pylist()})
        self.count += len(winners)
        for number, winner in enumerate(winners[: TOLD - len(self.told)].tolist()):
            row = rows.slice(winner, 1).to_pylist()[0]
            dropped = lost.filter(pa.array(numbers == number)).to_pylist()
            self.told.append(
                Conflict(
                    **{name: row[name] for name in NAMED},
                    kept=row["origin"],
                    dropped=tuple(sorted(dropped)),
                )
            )


def _first_of_each(rows: pa.Table, key: NDArray[np.int64], rule: str) -> NDArray[np.int64]:
    """For each row the position of the row that stays of its key.

    All columns take part at last, so that of different rows one always wins, whoever is merged
    first; of rows that differ in their origin alone, the first origin.
    """
    sort = rows.append_column("_key", pa.array(key))
    for name, values in _merits(rows).items():
        sort = sort.append_column(name, values)
    merits = {"most-precise": ["_half", "_age"], "newest": ["_age", "_half"]}.get(rule, ["_age"])
    names = ["_key", "_state", *merits, *(name for name in NAMES if name != SAME_BUT), SAME_BUT]
    order = pc.sort_indices(sort, sort_keys=[(name, "ascending") for name in names]).to_numpy()
    sorted_key = key[order]
    starts = np.flatnonzero(np.r_[True, sorted_key[1:] != sorted_key[:-1]])
    lengths = np.diff(np.r_[starts, len(order)])
    first = np.empty(len(key), np.int64)
    first[order] = np.repeat(order[starts], lengths)
    return first


def _merits(rows: pa.Table) -> dict[str, Any]:
    """Smaller is better; null is worst. A row that look-ups use goes before one that they do not."""
    state = rows.column("state")
    unstable = pc.invert(pc.is_in(state, pa.array(USABLE_STATES)))
    numberless = pc.is_in(state, pa.array(NUMBERLESS_STATES))
    low, high, latency = (
        rows.column(f"latency{part}_ms").cast(pa.float64()) for part in ("_low", "_high", "")
    )
    return {
        "_state": pc.add(unstable.cast(pa.int8()), numberless.cast(pa.int8())),
        "_age": pc.negate(rows.column("started_at").cast(pa.int64())),
        "_half": pc.divide(pc.subtract(high, low), latency),
    }


def equal_rows(rows: pa.Table, others: pa.Table, names: Sequence[str]) -> NDArray[np.bool_]:
    """Which rows of two tables without dictionaries are equal in the named columns."""
    same = np.ones(rows.num_rows, bool)
    for name in names:
        a, b = rows.column(name), others.column(name)
        equal = pc.fill_null(pc.equal(a, b), False)
        same &= pc.or_(equal, pc.and_(a.is_null(), b.is_null())).to_numpy()
    return same


def plain(table: pa.Table) -> pa.Table:
    """The table with texts in place of dictionaries."""
    columns = [
        column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
        for column in table.columns
    ]
    return pa.table(columns, names=table.column_names)
