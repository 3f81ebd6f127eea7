"""The rows of a table as a frame for views, and names for their environments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from hwprof.environment import Environment
from hwprof.errors import LutError
from hwprof.lut import Lut, load_lut, visits_path_of
from hwprof.lut.diff.visited import plain_frame
from hwprof.lut.schema import COLUMNS as SCHEMA
from hwprof.lut.schema import TEXT
from hwprof.report.text import UNKNOWN, visible

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "op_id", "environment_id", "granularity", "cache", "kind", "label", "batch", "in_channels",
    "out_channels", "height", "width", "kernel_mix", "stride", "expansion", "activation", "se_channels",
    "residual", "dtype", "backend", "target", "threads", "latency_ms", "latency_low_ms",
    "latency_high_ms", "p50_ms", "state", "reason", "source", "flops", "parameters", "bytes_moved",
    "energy_mj", "peak_memory_bytes", "visits", "space", "started_at",
)  # fmt: skip


MOST_READ = 200_000
"""Rows that a view is made from at most; the rest of a table is counted and not looked at."""
IDS = ("op_id", "environment_id")
NAMES = ["label", "kind", "granularity", "cache", "state"]
"""Texts that views group and sort by; null only in a table that breaks its schema."""
SHOWN_TEXTS = [c.name for c in SCHEMA if c.type == TEXT and c.name in COLUMNS and c.name not in IDS]


def open_table(path: Path, environments: Sequence[str] = ()) -> Lut:
    """A table for views: only the rows of some environments where any is named. A table that came
    without its visits file is taken as one that was written without.

    Raises:
        LutError: as `load_lut`; the table has no such environment.
    """
    table = load_lut(path)
    if not visits_path_of(path).exists():
        table = Lut({**table.metadata, "visits_hash": None}, len(table), table.columns, path)
    for name in environments:
        if name not in table.environments:
            raise LutError(
                f"environment {name!r} is not in {table.path}; it has {', '.join(table.environments)}"
            )
    return table.filter(environment_id=list(environments)) if environments else table


def sampled(table: Lut) -> Lut:
    """The table, or of a very large one a random sample of `MOST_READ` rows."""
    if len(table) <= MOST_READ:
        return table
    drawn = np.random.default_rng(0).choice(len(table), MOST_READ, replace=False)
    rows = pa.array(np.sort(drawn))
    return Lut(table.metadata, MOST_READ, lambda names: table.columns(names).take(rows), table.path)


def rows_frame(table: Lut) -> pd.DataFrame:
    """The columns `COLUMNS` of all rows, texts made visible and infinities null, and three more:
    `series` (the kind of an op, else the granularity), `interval` (half of its width as a fraction) and
    `flops_per_s`."""
    frame = plain_frame(table, COLUMNS)
    for name in SHOWN_TEXTS:
        shown = {text: visible(text) for text in frame[name].dropna().unique()}
        frame[name] = frame[name].map(shown).astype(object)
    frame[NAMES] = frame[NAMES].fillna(UNKNOWN)
    numbers = frame.select_dtypes("float").columns
    frame[numbers] = frame[numbers].replace([np.inf, -np.inf], np.nan)
    latency = frame["latency_ms"]
    frame["series"] = frame["kind"].where(frame["granularity"] == "op", frame["granularity"])
    frame["interval"] = (frame["latency_high_ms"] - frame["latency_low_ms"]) / (2 * latency)
    frame["flops_per_s"] = frame["flops"] / (latency / 1e3)
    return frame


def environment_names(table: Lut) -> dict[str, str]:
    """A short name for each environment of the rows: device and runtime, and the id where two would be
    the same.

    Raises:
        LutError: the metadata say nothing of one of them.
    """
    there = table.columns(["environment_id"]).column(0).unique().to_pylist()
    names = {name: _short(table.environments.get(name)) for name in there}
    often = Counter(names.values())
    return {
        identity: visible(f"{name} ({identity[:6]})" if often[name] > 1 or not name else name)
        for identity, name in names.items()
    }


def _short(facts: Any) -> str:
    identity = Environment.from_dict(facts).identity
    device = str(identity.get("device") or "")
    runtime = " ".join(str(identity[n]) for n in ("runtime", "runtime_version") if identity.get(n))
    return ", ".join(part for part in (device, runtime) if part)
