"""Numbers of one environment that stand under another one, to the bit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pyarrow as pa

from hwprof.lut.lint.finding import Finding
from hwprof.lut.lint.view import View
from hwprof.lut.table import Lut

KEY = ("op_id", "cache")
DIGITS = 6
FEWEST_ROWS, FEWEST_SHARE = 3, 0.01
# Values of few digits meet by chance: two phones of a published table of whole milliseconds share 20 %
# of 15,625 values. There only nearly all rows of a table of many different values are a copy.
SHORT_ROWS, SHORT_SHARE, SHORT_VALUES = 20, 0.9, 8


@dataclass(frozen=True)
class Measured:
    """Latencies of one environment: columns op_id, cache, latency_ms and row."""

    environment_id: str
    place: str
    latencies: pa.Table


def copies(view: View, others: Sequence[Lut]) -> Iterator[Finding]:
    """Rows whose latency equals that of another environment to the bit, within the table and against
    others: two devices, or two runtimes, never agree so far."""
    own = list(_environments(view, ""))
    foreign = [each for other in others for each in _environments(View(other), f" of {other.path}")]
    pairs = [*combinations(own, 2), *((a, b) for a in own for b in foreign)]
    for mine, theirs in pairs:
        if mine.environment_id != theirs.environment_id:
            yield from _equal(view, mine, theirs)


def _environments(view: View, place: str) -> Iterator[Measured]:
    for (environment,), rows in view.groups(view.timed, "environment_id"):
        chosen = pa.array(rows)
        columns = {name: view.column(name).take(chosen) for name in (*KEY, "latency_ms")}
        yield Measured(str(environment), place, pa.table({**columns, "row": chosen}))


def _equal(view: View, mine: Measured, theirs: Measured) -> Iterator[Finding]:
    common = mine.latencies.join(theirs.latencies, list(KEY), join_type="inner", right_suffix="_theirs")
    latency = common.column("latency_ms").to_numpy()
    same = latency == common.column("latency_ms_theirs").to_numpy()
    equal = latency[same]
    fewest = max(FEWEST_ROWS, FEWEST_SHARE * len(same))
    exact = sum(float(f"{value:.{DIGITS}g}") != value for value in equal) >= fewest
    nearly_all = len(same) >= SHORT_ROWS and len(equal) >= SHORT_SHARE * len(same)
    if exact or (nearly_all and len(np.unique(equal)) >= SHORT_VALUES):
        rows = np.sort(common.column("row").to_numpy()[same])
        words = f"{len(rows)} of {len(same)} rows have the same latency to the bit in environment "
        words += (
            f"{mine.environment_id} and in {theirs.environment_id}{theirs.place}: {view.names(rows)}"
        )
        yield Finding("error", "copies", words, view.ids(rows))
