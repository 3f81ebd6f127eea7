"""Rules on single rows: values that no measurement gives, rows that contradict themselves, doubles."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hwprof.errors import OpError
from hwprof.lut.lint.finding import Finding
from hwprof.lut.lint.view import Flags, View, counted
from hwprof.lut.rows import ABOVE_ZERO, ALLOWED
from hwprof.lut.schema import COLUMNS, KEY, NUMBERLESS_STATES, STATES
from hwprof.ops.spec import OP_ID_VERSION, ops_from_json

ORDERED = (
    ("latency_low_ms", "latency_ms", "latency_high_ms"),
    ("min_ms", "p10_ms", "p50_ms", "p90_ms", "p99_ms"),
)
ROUNDING = 1e-9
WITH_NUMBER = tuple(state for state in STATES if state not in NUMBERLESS_STATES)
ATTRIBUTES = (
    "environment_id", "cache", "kind", "dtype", "pool", "content", "activation", "kernel_mix", "batch",
    "in_channels", "height", "width", "out_channels", "out_height", "out_width", "stride",
    "se_channels", "residual", "groups",
)  # fmt: skip


def values(view: View) -> Iterator[Finding]:
    """Numbers that are no measurement (zero, negative, NaN, infinite), nulls and words that the schema
    does not allow, and numbers or nulls that contradict the row's state."""
    for column in COLUMNS:
        found = view.column(column.name)
        floating = pa.types.is_floating(column.type)
        if not column.null_when:
            yield from _values(view, column.name, found.is_null(), "null")
        if column.name in ALLOWED:
            known = pc.is_in(found, pa.array(ALLOWED[column.name]))
            bad = pc.and_(found.is_valid(), pc.invert(known))
            yield from _values(view, column.name, bad, f"none of {', '.join(ALLOWED[column.name])}")
        if floating:
            yield from _values(view, column.name, pc.invert(pc.is_finite(found)), "no finite number")
        if floating and column.name in ABOVE_ZERO:
            yield from _values(view, column.name, pc.less_equal(found, 0), "zero or negative")
        elif floating or pa.types.is_integer(column.type):
            yield from _values(view, column.name, pc.less(found, 0), "negative")
    there = view.column("latency_ms").is_valid().to_numpy()
    absent = view.is_in("state", WITH_NUMBER) & ~there
    yield from _finding(view, "latency_ms", absent, f"null in state {', '.join(WITH_NUMBER)}")
    strange = view.is_in("state", NUMBERLESS_STATES) & there
    yield from _finding(view, "latency_ms", strange, f"set in state {', '.join(NUMBERLESS_STATES)}")


def order(view: View) -> Iterator[Finding]:
    """Statistics out of order: a latency outside its interval, a 50th percentile above the 90th. Of
    numbers above zero; `values` has the others."""
    for low, high in (pair for names in ORDERED for pair in pairwise(names)):
        with np.errstate(invalid="ignore"):
            bad = view.numbers(low) > view.numbers(high) * (1 + ROUNDING)
            bad &= (view.numbers(low) > 0) & (view.numbers(high) > 0)
        if rows := np.flatnonzero(bad).tolist():
            what = f"{low} is above {high} in {counted(len(rows), 'row')}: {view.names(rows)}"
            yield Finding("error", "order", what, view.ids(rows))


def identity(view: View) -> Iterator[Finding]:
    """Rows whose op_id is not the hash of their op_json: a look-up finds another op's number. Pairs and
    networks whose op_json is no list of ops. Rows of an environment that has no metadata."""
    ops = np.flatnonzero(view.is_in("granularity", ["op"]))
    stored = zip(view.texts("op_id", ops), view.texts("op_json", ops), strict=True)
    wrong = [
        row for row, (op_id, text) in zip(ops.tolist(), stored, strict=True) if op_id != op_id_of(text)
    ]
    if wrong:
        what = f"op_id is not the hash of op_json in {counted(len(wrong), 'row')}: {view.names(wrong)}"
        yield Finding("error", "identity", what, view.ids(wrong))
    chains = np.flatnonzero(view.is_in("granularity", ["pair", "network"]))
    texts = zip(chains.tolist(), view.texts("op_json", chains), strict=True)
    if unread := [row for row, text in texts if not _are_ops(text)]:
        what = f"op_json is no list of ops in {counted(len(unread), 'row')}: {view.names(unread)}"
        yield Finding("error", "identity", what, view.ids(unread))
    strangers = np.flatnonzero(~view.is_in("environment_id", list(view.lut.environments)))
    if len(strangers):
        what = f"{counted(len(strangers), 'row')} of an environment that the metadata do not describe"
        yield Finding("error", "identity", f"{what}: {view.names(strangers)}", view.ids(strangers))


def _are_ops(text: str) -> bool:
    try:
        ops_from_json(text)
    except OpError:
        return False
    return True


def duplicates(view: View) -> Iterator[Finding]:
    """Rows of one key, and one op under two ids."""
    everything = np.ones(len(view), dtype=bool)
    if rows := _repeated(view, everything, KEY):
        what = f"{len(rows)} rows share {', '.join(KEY)} with another: {view.names(rows)}"
        yield Finding("error", "duplicates", what, view.ids(rows))
    everything[rows] = False
    if twins := _repeated(view, everything & view.is_in("granularity", ["op"]), ATTRIBUTES):
        what = f"{len(twins)} rows are of an op that has a row under another op_id: {view.names(twins)}"
        yield Finding("error", "duplicates", what, view.ids(twins))


def op_id_of(text: str) -> str:
    """Op id of an op's canonical JSON."""
    return hashlib.sha256(f"hwprof-op-v{OP_ID_VERSION}:{text}".encode()).hexdigest()[:20]


def _values(view: View, name: str, bad: pa.ChunkedArray, what: str) -> Iterator[Finding]:
    return _finding(view, name, pc.fill_null(bad, False).to_numpy(), what)


def _finding(view: View, name: str, bad: Flags, what: str) -> Iterator[Finding]:
    if rows := np.flatnonzero(bad).tolist():
        first = view.column(name)[rows[0]].as_py()
        shown = "" if first is None else f" (first: {first!r})"
        words = f"{name} is {what} in {counted(len(rows), 'row')}{shown}: {view.names(rows)}"
        yield Finding("error", "values", words, view.ids(rows))


def _repeated(view: View, rows: Flags, names: Sequence[str]) -> list[int]:
    """Rows that agree with another one in all the named columns."""
    chosen = np.flatnonzero(rows)
    columns = [view.codes(name)[chosen] for name in names]
    order = np.lexsort(columns)
    same = np.all([np.diff(column[order]) == 0 for column in columns], axis=0)
    again = np.zeros(len(chosen), dtype=bool)
    again[order[1:][same]] = again[order[:-1][same]] = True
    found: list[int] = chosen[again].tolist()
    return found
