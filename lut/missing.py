"""Words for a look-up that found nothing: which op, what is near it, which command measures it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hwprof.environment import Environment
from hwprof.errors import MissingRow
from hwprof.ops import OpSpec

if TYPE_CHECKING:
    from hwprof.lut.table import Choice, Lut

NAMED = 5
NEAREST = 3
SIZES = (
    "batch", "in_channels", "height", "width", "out_channels", "kernel_min", "kernel_max",
    "hidden_channels", "stride", "se_channels", "groups",
)  # fmt: skip
TEXTS = {"kind": 100.0, "dtype": 10.0, "activation": 0.5}
SHOWN = 4


def missing_rows(
    lut: Lut, wanted: Mapping[OpSpec | str, int], matching: NDArray[np.int64], allow_unstable: bool
) -> MissingRow:
    """One error for all ops that have no usable row.

    Args:
        wanted: the distinct ops (or op ids) and the row of each, -1 for none.
        matching: the rows that were searched.
    """
    absent = [op for op, row in wanted.items() if row < 0]
    first, first_row = next(iter(wanted.items()))
    if absent and _source(lut, matching) != "measured":
        step = "its rows are imported, so none can be measured: import the missing ones too"
    elif absent:
        step = (
            f"measure {'it' if len(wanted) == 1 else 'them'}: {build_command(lut, absent[0], matching)}"
        )
    else:
        step = _remedy(lut, first_row)
    if len(wanted) == 1 and absent:
        near = _nearest_text(lut, first, matching, allow_unstable) if isinstance(first, OpSpec) else ""
        return MissingRow(f"{_name(first)} has no row in {lut.path}{near}; {step}")
    if len(wanted) == 1:
        return MissingRow(f"{_unusable(lut, first_row)} in {lut.path}; {step}")
    named = [
        f"{_name(op)} has no row" if row < 0 else _unusable(lut, row)
        for op, row in list(wanted.items())[:NAMED]
    ]
    if len(wanted) > NAMED:
        named.append(f"and {len(wanted) - NAMED} more")
    return MissingRow(f"{len(wanted)} ops have no usable row in {lut.path}: {'; '.join(named)}; {step}")


def without_value(lut: Lut, rows: NDArray[np.int64], column: str) -> MissingRow:
    """The error for rows that are there but null in the wanted column."""
    labels = lut.columns(["label"]).column(0).take(pa.array(rows[:NAMED])).to_pylist()
    return MissingRow(
        f"{column} is null in {len(rows)} of the rows looked up in {lut.path}, first "
        f"{', '.join(labels)}; choose another column, or build those rows again"
    )


def nothing_matches(lut: Lut, choice: Choice) -> MissingRow:
    """The error for a granularity, cache state, environment and threads that no row has."""
    granularity, cache, environment, threads = choice
    asked = f"granularity {granularity}, cache {cache}"
    asked += f", environment {environment}" if environment else ""
    asked += f", {threads} threads" if threads is not None else ""
    names = ["granularity", "cache", "threads"]
    groups = lut.columns(names).group_by(names).aggregate([([], "count_all")]).to_pylist()
    has = sorted(
        f"{g['granularity']}, {g['cache']}, {g['threads']} threads: {g['count_all']} rows"
        for g in groups
    )
    return MissingRow(f"{lut.path} has no row with {asked}; it has {'; '.join(has) or 'no rows at all'}")


def environment_list(lut: Lut, ids: Sequence[str] | None = None) -> str:
    """`id (what sets it apart)` of environments, all of the table's by default."""
    chosen = list(lut.environments) if ids is None else sorted(ids)
    described = {name: Environment.from_dict(lut.environments.get(name, {})) for name in chosen}
    words = []
    for name, own in described.items():
        differing = {
            field: mine for other in described.values() for field, mine, _ in own.differences(other)
        }
        apart = ", ".join(f"{field} {str(differing[field])[:40]}" for field in list(differing)[:SHOWN])
        words.append(f"{name} ({apart or own.describe()})")
    return ", ".join(words)


def build_command(lut: Lut, op: OpSpec | str, matching: NDArray[np.int64]) -> str:
    """The `hwprof build-lut` command that adds an op to this table."""
    names = ["backend", "target", "threads", "cache"]
    like = lut.columns(names).slice(int(matching[0]), 1).to_pylist()[0]
    words = ["hwprof", "build-lut", "--backend", like["backend"], "--target", like["target"]]
    words += ["--threads", str(like["threads"])]
    if like["cache"] != "warm":
        words += ["--cache", like["cache"]]
    space = None
    if isinstance(op, OpSpec):
        space = _space_with(op, lut.metadata["spaces"])
        if op.shape[0] != 1:
            words += ["--batch", str(op.shape[0])]
        if op.dtype != "float32":
            words += ["--dtype", op.dtype]
    words += ["--space", space or "SPACE.yaml", "--out", str(lut.path)]
    return shlex.join(words) + ("" if space else ", SPACE.yaml being a space that holds the op")


def _source(lut: Lut, matching: NDArray[np.int64]) -> str:
    source: str = lut.columns(["source"]).slice(int(matching[0]), 1).to_pylist()[0]["source"]
    return source


def _space_with(op: OpSpec, preferred: Sequence[str]) -> str | None:
    """A shipped space that holds the op, the table's own first; a user's file cannot be known here."""
    from hwprof.space import list_spaces, load_space

    shipped = list_spaces()
    names = [n for n in preferred if n in shipped] + [n for n in shipped if n not in preferred]
    for name in names:
        if op in load_space(name).with_options(op.shape[0], op.dtype).ops():
            return name
    return None


def nearest(
    lut: Lut, op: OpSpec, rows: NDArray[np.int64], allow_unstable: bool = False
) -> list[dict[str, Any]]:
    """Up to 3 usable rows, nearest first: of the same kind if there are any, then by the sum of
    distances of shapes, channels and kernels on a logarithmic scale."""
    rows = rows[lut.usable(allow_unstable)[rows]]
    table = lut.columns([*SIZES, *TEXTS]).take(pa.array(rows))
    height, width = (*op.shape[2:4], 0, 0)[:2]
    kernels = [kernel for kernel, _ in op.mix] or [0]
    own = {
        "batch": op.shape[0], "height": height, "width": width, "kernel_min": min(kernels),
        "kernel_max": max(kernels),
    }  # fmt: skip
    distance = np.zeros(len(rows))
    for name in SIZES:
        values = pc.fill_null(table.column(name), 0).to_numpy()
        distance += np.abs(np.log1p(values) - np.log1p(own.get(name, getattr(op, name, 0))))
    for name, weight in TEXTS.items():
        same = pc.fill_null(pc.equal(table.column(name), getattr(op, name)), False)
        distance += weight * ~same.to_numpy()
    order = np.argsort(distance, kind="stable")[:NEAREST]
    return list(lut.columns(["label", "latency_ms"]).take(pa.array(rows[order])).to_pylist())


def _nearest_text(lut: Lut, op: OpSpec, rows: NDArray[np.int64], allow_unstable: bool) -> str:
    found = nearest(lut, op, rows, allow_unstable)
    words = ", ".join(f"{row['label']} ({row['latency_ms']:.4g} ms)" for row in found)
    return f"; nearest rows: {words}" if words else "; no row near it is usable"


def _unusable(lut: Lut, row: int) -> str:
    values = lut.columns(["label", "state", "reason"]).slice(row, 1).to_pylist()[0]
    return f"{values['label']} is in state {values['state']} ({values['reason'] or 'no reason given'})"


def _remedy(lut: Lut, row: int) -> str:
    state = lut.columns(["state"]).column(0)[row].as_py()
    again = f"measure it again: its `hwprof build-lut ... --out {lut.path}` command with --retry-failed"
    return f"pass allow_unstable=True to use it, or {again}" if state == "unstable" else again


def _name(op: OpSpec | str) -> str:
    return f"{op.label} (op id {op.op_id})" if isinstance(op, OpSpec) else f"op id {op}"
