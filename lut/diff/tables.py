"""Two tables compared: what moved all rows, which rows moved by themselves, and how each build ran."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import exp, isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hwprof.lut.diff.matching import EnvironmentPair, match
from hwprof.lut.diff.row_changes import CommonFactor, RowChanges, row_changes
from hwprof.lut.diff.significance import Floats
from hwprof.lut.diff.timeline import Timeline, timelines
from hwprof.lut.diff.visited import possible, visited
from hwprof.lut.schema import NUMBERLESS_STATES, USABLE_STATES
from hwprof.lut.table import Lut

if TYPE_CHECKING:
    import pandas as pd

FALSE_SHARE = 0.05
"""Of the changes that are called significant, so many may be false."""


@dataclass(frozen=True)
class Agreement:
    """How far apart the rows of two tables are: |b / a - 1| as fractions; `own_`: without the common
    factor."""

    rows: int
    mean: float
    median: float
    p95: float
    own_median: float
    own_p95: float


@dataclass(frozen=True)
class RowDifference:
    """A row with a number in both tables.

    Attributes:
        ratio: b / a.
        own_ratio: the same without the common factor, with its interval; the interval is None where
            nothing is known of the row's spread.
        p: after the correction for many comparisons; None without an interval.
        significant: whether `p` is 5 % or less.
    """

    op_id: str
    granularity: str
    cache: str
    label: str
    environment_a: str
    environment_b: str
    a_ms: float
    b_ms: float
    ratio: float
    own_ratio: float
    own_low: float | None
    own_high: float | None
    p: float | None
    significant: bool


@dataclass(frozen=True)
class StateChange:
    """A row whose state is another one in b; `reason` is b's."""

    op_id: str
    label: str
    state_a: str
    state_b: str
    reason: str | None


@dataclass(frozen=True)
class Diff:
    """Two tables compared.

    Attributes:
        same_content: whether the tables hold the same rows to the bit.
        matched: rows that both tables have, with or without a number.
        same_measurement: of the rows usable in both, those of one build and with one value.
        factors: one for each pair of builds with enough rows in common.
        usable, converged: agreement of rows usable in both, and of those converged in both; None where
            there are none.
        interval_holds: share of a's intervals that hold b's value, of rows usable in both.
        from_visits: share of the tested rows whose own noise was taken from the visits of both tables.
        rows: rows usable in both; significant ones first, then by the size of their own change.
        timelines_a, timelines_b: of the builds of the matched rows; empty without visits.
    """

    path_a: Path
    path_b: Path
    same_content: bool
    environments: tuple[EnvironmentPair, ...]
    matched: int
    same_measurement: int
    only_a: int
    only_b: int
    factors: tuple[CommonFactor, ...]
    usable: Agreement | None
    converged: Agreement | None
    interval_holds: float | None
    tested: int
    from_visits: float | None
    rows: tuple[RowDifference, ...]
    state_changes: tuple[StateChange, ...]
    timelines_a: tuple[Timeline, ...]
    timelines_b: tuple[Timeline, ...]

    @property
    def significant(self) -> tuple[RowDifference, ...]:
        """Rows that changed by themselves, the largest change first."""
        return tuple(row for row in self.rows if row.significant)

    @property
    def largest_change(self) -> float:
        """Of the significant ones, as a fraction; 0 without any."""
        return max((abs(row.own_ratio - 1) for row in self.significant), default=0.0)

    @property
    def failures(self) -> tuple[StateChange, ...]:
        """Rows that have a number in a and none in b."""
        gone = (c for c in self.state_changes if c.state_b in NUMBERLESS_STATES)
        return tuple(change for change in gone if change.state_a not in NUMBERLESS_STATES)

    @property
    def state_counts(self) -> Mapping[tuple[str, str], int]:
        """(state in a, state in b) -> rows, the most frequent first."""
        return dict(Counter((c.state_a, c.state_b) for c in self.state_changes).most_common())

    def summary(self, limit: int | None = None) -> dict[str, Any]:
        """JSON-able; `limit` bounds `rows` and `state_changes`."""
        shown = replace(self, rows=self.rows[:limit], state_changes=self.state_changes[:limit])
        plain = asdict(shown)
        for name in ("path_a", "path_b"):
            plain[name] = str(plain[name])
        for name in ("timelines_a", "timelines_b"):
            for timeline in plain[name]:
                timeline["started_at"] = timeline["started_at"].isoformat(timespec="seconds")
        return {
            **plain,
            "compared": len(self.rows),
            "significant": len(self.significant),
            "largest_change": self.largest_change,
            "states": [{"a": a, "b": b, "rows": n} for (a, b), n in self.state_counts.items()],
            "failures": len(self.failures),
        }


def diff(a: Lut, b: Lut, environments: Sequence[str] = ()) -> Diff:
    """Compare two tables row by row.

    Args:
        environments: only rows of these environments; needed where each table has several and they share
            none.

    Raises:
        LutError: as `match`; a table or its visits are damaged.
    """
    found = match(a, b, environments)
    matched = found.rows
    usable = _has_number(matched, "a") & _has_number(matched, "b")
    rows = matched[usable].reset_index(drop=True)
    visits = {side: visited(table) for side, table in zip("ab", (a, b), strict=True)}
    for side, own in visits.items():
        visits[side] = own[own["row"].isin(matched[f"row_{side}"])]
    changes = row_changes(rows, found.pairs, visits, {"a": len(a), "b": len(b)})
    logs = np.log(rows["latency_ms_b"].to_numpy() / rows["latency_ms_a"].to_numpy())
    converged = ((rows["state_a"] == "converged") & (rows["state_b"] == "converged")).to_numpy()
    tested = changes.from_visits[~np.isnan(changes.p)]
    changed = matched[matched["state_a"] != matched["state_b"]]
    return Diff(
        path_a=a.path,
        path_b=b.path,
        same_content=a.metadata["content_hash"] == b.metadata["content_hash"],
        environments=found.pairs,
        matched=len(matched),
        same_measurement=_same_measurement(rows),
        only_a=found.only_a,
        only_b=found.only_b,
        factors=changes.factors,
        usable=_agreement(logs, changes.own),
        converged=_agreement(logs[converged], changes.own[converged]),
        interval_holds=_interval_holds(rows),
        tested=tested.size,
        from_visits=float(tested.mean()) if tested.size else None,
        rows=_differences(rows, found.pairs, changes),
        state_changes=tuple(
            StateChange(
                row["op_id"], row["label_b"], row["state_a"], row["state_b"], _text(row["reason_b"])
            )
            for row in changed.to_dict("records")
        ),
        timelines_a=timelines(visits["a"]),
        timelines_b=timelines(visits["b"]),
    )


def _has_number(rows: pd.DataFrame, side: str) -> pd.Series[bool]:
    """Rows in a usable state whose latency is one: no absurd number. A table of another tool may
    hold what `lut lint` calls an error; one such row would make every median of the rest NaN."""
    latency = rows[f"latency_ms_{side}"]
    return rows[f"state_{side}"].isin(USABLE_STATES) & possible(latency)


def _text(value: object) -> str | None:
    """Text of a frame, whose null is None or NaN depending on the version of pandas."""
    return value if isinstance(value, str) else None


def _agreement(logs: Floats, own: Floats) -> Agreement | None:
    if not logs.size:
        return None
    size, own_size = np.abs(np.expm1(logs)), np.abs(np.expm1(own))
    return Agreement(
        rows=logs.size,
        mean=float(size.mean()),
        median=float(np.median(size)),
        p95=float(np.percentile(size, 95)),
        own_median=float(np.median(own_size)),
        own_p95=float(np.percentile(own_size, 95)),
    )


def _same_measurement(rows: pd.DataFrame) -> int:
    same_build = (rows["build_id_a"] == rows["build_id_b"]) & (rows["build_id_a"] != "")
    return int((same_build & (rows["latency_ms_a"] == rows["latency_ms_b"])).sum())


def _interval_holds(rows: pd.DataFrame) -> float | None:
    rows = rows[rows["latency_low_ms_a"].notna()]
    if rows.empty:
        return None
    value = rows["latency_ms_b"]
    return float(value.between(rows["latency_low_ms_a"], rows["latency_high_ms_a"]).mean())


def _differences(
    rows: pd.DataFrame, pairs: Sequence[EnvironmentPair], changes: RowChanges
) -> tuple[RowDifference, ...]:
    made = []
    numbers = zip(changes.own.tolist(), changes.half_width.tolist(), changes.p.tolist(), strict=True)
    for row, (own, half, p) in zip(rows.to_dict("records"), numbers, strict=True):
        pair, known = pairs[row["pair"]], not isnan(p)
        made.append(
            RowDifference(
                op_id=row["op_id"],
                granularity=row["granularity"],
                cache=row["cache"],
                label=row["label_a"],
                environment_a=pair.a,
                environment_b=pair.b,
                a_ms=row["latency_ms_a"],
                b_ms=row["latency_ms_b"],
                ratio=row["latency_ms_b"] / row["latency_ms_a"],
                own_ratio=exp(own),
                own_low=exp(own - half) if known else None,
                own_high=exp(own + half) if known else None,
                p=p if known else None,
                significant=known and p <= FALSE_SHARE,
            )
        )
    return tuple(sorted(made, key=lambda row: (not row.significant, -abs(row.own_ratio - 1), row.label)))
