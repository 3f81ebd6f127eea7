"""The visits of a table's rows, each beside its row's value and build, as a frame to compute with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hwprof.lut.reading import visits_path_of
from hwprof.lut.schema import KEY, VISIT_COLUMNS

if TYPE_CHECKING:
    import pandas as pd

    from hwprof.lut.table import Lut

SENTINELS = ("dense_sentinel_ms", "memory_sentinel_ms")
VISIT = (
    *KEY, "process", "started_at", "p10_ms", "cpu_share", *SENTINELS, "clean",
)  # fmt: skip
SHORTEST_MS, LONGEST_MS = 1e-12, 1e12
ROW = (*KEY, "latency_ms", "build_id")


def visited(table: Lut) -> pd.DataFrame:
    """One line a visit of the rows that have a number: the columns `VISIT` (`started_at` in seconds, a
    sentinel's time NaN where it is none), the row's `latency_ms` and `build_id` ("" where unknown), and
    `row`, its position in the table. Empty where the table was written without visits or came without
    its visits file.

    Raises:
        LutError: the visits file is damaged or belongs to another table.
    """
    import pandas as pd

    there = table.metadata["visits_hash"] is not None and visits_path_of(table.path).exists()
    if not there:
        return pd.DataFrame(columns=[*VISIT, "latency_ms", "build_id", "row"])
    rows = plain_frame(table, ROW)
    rows["row"] = range(len(rows))
    rows["build_id"] = rows["build_id"].fillna("")
    names = [column.name for column in VISIT_COLUMNS if column.name in VISIT]
    visits = as_text(table.visits.select(names).to_pandas())
    visits["started_at"] = visits["started_at"].astype("datetime64[ms, UTC]").astype("int64") / 1e3
    for name in SENTINELS:
        visits[name] = visits[name].where(possible(visits[name]))
    timed = rows[possible(rows["latency_ms"])]
    return visits[possible(visits["p10_ms"])].merge(timed, on=list(KEY))


def plain_frame(table: Lut, names: tuple[str, ...]) -> pd.DataFrame:
    """Columns of a table, text as text (categories of two tables do not compare)."""
    return as_text(table.columns(names).to_pandas())


def as_text(frame: pd.DataFrame) -> pd.DataFrame:
    """Categories turned into what they stand for."""
    return frame.astype(dict.fromkeys(frame.select_dtypes("category").columns, object))


def possible(latency_ms: pd.Series[float]) -> pd.Series[bool]:
    """Which numbers can be latencies: outside, ratios and their logarithms would overflow."""
    return (latency_ms >= SHORTEST_MS) & (latency_ms <= LONGEST_MS)


def positions_by(labels: NDArray[Any]) -> Iterator[NDArray[np.int64]]:
    """The positions of each label that occurs."""
    if labels.size:
        order = np.argsort(labels, kind="stable")
        yield from np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
