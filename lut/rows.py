"""From ops and measurements to checked rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hwprof.errors import LutError
from hwprof.graph import Graph, cost
from hwprof.lut.schema import (
    CACHES,
    COLUMNS,
    GRANULARITIES,
    KEY,
    NUMBERLESS_STATES,
    SOURCES,
    STATES,
    VISIT_COLUMNS,
    Column,
    arrow_schema,
)
from hwprof.ops import OpSpec

LATENCIES = (
    "latency_ms", "latency_low_ms", "latency_high_ms", "min_ms", "p10_ms", "p50_ms", "p90_ms", "p99_ms",
    "max_ms",
)  # fmt: skip
ABOVE_ZERO = (*LATENCIES, "energy_mj", "dense_sentinel_ms", "memory_sentinel_ms")
OF_ONE_OP = (
    "kernel_mix", "kernel_min", "kernel_max", "hidden_channels", "expansion", "stride", "activation",
    "se_channels", "se_ratio", "residual", "groups", "pool", "content",
)  # fmt: skip
# In single precision an interval must still hold latency_ms, which is in double.
ROUNDED = {"latency_low_ms": -np.inf, "latency_high_ms": np.inf}
ALLOWED = {"granularity": GRANULARITIES, "cache": CACHES, "state": STATES, "source": SOURCES}


def null_row() -> dict[str, Any]:
    """A row with every column null, to be filled."""
    return {column.name: None for column in COLUMNS}


def op_columns(op: OpSpec) -> dict[str, Any]:
    """The columns that follow from the op alone: its id, attributes, shapes and analytic cost.

    Raises:
        OpError: the op is a subgraph whose ONNX is not in the block store.
    """
    graph = op.lower()
    out_shape = graph.shapes[graph.outputs[0]]
    height, width = _side(op.shape)
    out_height, out_width = _side(out_shape)
    kernels = [kernel for kernel, _ in op.mix]
    analytic = cost(graph)
    return {
        "op_id": op.op_id,
        "kind": op.kind,
        "label": op.label,
        "op_json": op.to_json(),
        "batch": op.shape[0],
        "in_channels": op.in_channels,
        "height": height,
        "width": width,
        "out_channels": op.out_channels,
        "out_height": out_height,
        "out_width": out_width,
        "kernel_mix": ",".join(f"{kernel}:{channels}" for kernel, channels in op.mix) or None,
        "kernel_min": min(kernels, default=None),
        "kernel_max": max(kernels, default=None),
        "hidden_channels": op.hidden_channels if op.mix else None,
        "expansion": op.expansion if op.mix else None,
        "stride": op.stride,
        "activation": op.activation,
        "se_channels": op.se_channels,
        "se_ratio": op.se_channels / op.in_channels,
        "residual": op.residual,
        "groups": op.groups,
        "pool": op.pool or None,
        "content": op.content or None,
        "dtype": op.dtype,
        "flops": analytic.flops,
        "parameters": analytic.parameters,
        "bytes_moved": analytic.bytes_moved,
    }


def chain_columns(chain_id: str, label: str, ops: Sequence[OpSpec], graph: Graph) -> dict[str, Any]:
    """As `op_columns`, of ops that were timed as one (a pair, a network) and lowered to `graph`."""
    (source,), (result,) = graph.inputs, graph.outputs
    shape, out_shape = graph.shapes[source], graph.shapes[result]
    analytic = cost(graph)
    return {
        **dict.fromkeys(OF_ONE_OP),
        "op_id": chain_id,
        "kind": "chain",
        "label": label,
        "op_json": f"[{','.join(op.to_json() for op in ops)}]",
        "batch": shape[0],
        "in_channels": shape[1],
        "height": _side(shape)[0],
        "width": _side(shape)[1],
        "out_channels": out_shape[1],
        "out_height": _side(out_shape)[0],
        "out_width": _side(out_shape)[1],
        "dtype": graph.dtype,
        "flops": analytic.flops,
        "parameters": analytic.parameters,
        "bytes_moved": analytic.bytes_moved,
    }


def rows_to_table(rows: Iterable[Mapping[str, Any]], columns: tuple[Column, ...] = COLUMNS) -> pa.Table:
    """Rows with exactly the given columns as an Arrow table, not yet checked for their values.

    Raises:
        LutError: a column is unknown or missing, or a value is not of its column's type.
    """
    rows = list(rows)
    names = {column.name for column in columns}
    for number, row in enumerate(rows):
        if row.keys() != names:
            _fail_names(row.keys(), columns, f"row {number} ({row.get('label', 'no label')})")
    arrays = []
    for column in columns:
        values = [row[column.name] for row in rows]
        try:
            arrays.append(as_column(column, pa.array(values, _wide(column))))
            if pa.types.is_integer(column.type) and arrays[-1].to_pylist() != values:
                raise pa.ArrowInvalid("a number with a fraction")  # Arrow would cut it off in silence
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
            raise LutError(f"column {column.name} takes {column.type}: {_first_line(error)}") from None
    return pa.table(arrays, schema=arrow_schema(columns))


def conform(table: pa.Table, columns: tuple[Column, ...]) -> pa.Table:
    """The table with the given columns, in order and of their types, dictionaries decoded.

    Raises:
        LutError: a column is unknown or missing, or cannot take its type without loss.
    """
    if set(table.column_names) != {c.name for c in columns} or table.num_columns != len(columns):
        _fail_names(table.column_names, columns, "the table")
    arrays = []
    for column in columns:
        try:
            arrays.append(as_column(column, table.column(column.name)))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise LutError(f"column {column.name} takes {column.type}: {_first_line(error)}") from None
    return pa.table(arrays, schema=arrow_schema(columns))


def _wide(column: Column) -> pa.DataType:
    return pa.float64() if column.name in ROUNDED else column.type


def as_column(column: Column, values: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Values in their column's type; the ends of an interval are rounded outward."""
    if column.name not in ROUNDED or values.type == column.type:
        return values.cast(column.type)
    toward = np.float32(ROUNDED[column.name])
    exact = values.cast(pa.float64()).to_numpy(zero_copy_only=False)
    with np.errstate(over="ignore"):
        near = exact.astype(np.float32)
    inside = near > exact if toward < 0 else near < exact
    near[inside] = np.nextafter(near[inside], toward)
    return pa.array(near, mask=values.is_null().to_numpy(zero_copy_only=False))


def check_row(row: Mapping[str, Any]) -> None:
    """Check one row as `check_table` does, before anything is written.

    Raises:
        LutError: see `rows_to_table` and `check_table`.
    """
    check_table(rows_to_table([row]))


def check_table(table: pa.Table) -> None:
    """Check the values of a conforming table of `COLUMNS`; its keys' uniqueness is `write_lut`'s.

    Raises:
        LutError: names the first row, its column, the value and what is allowed.
    """
    _check_values(table, COLUMNS)
    state = table.column("state")
    numberless = pc.is_in(state, pa.array(NUMBERLESS_STATES))
    latency = table.column("latency_ms")
    _refuse(table, "latency_ms", pc.and_(pc.invert(numberless), latency.is_null()),
            "a row with a number in state converged, budget, imported or unstable")  # fmt: skip
    for name in LATENCIES[:-1]:
        _refuse(table, name, pc.and_(numberless, table.column(name).is_valid()),
                f"null in state {', '.join(NUMBERLESS_STATES)}")  # fmt: skip
    _refuse(table, "reason", pc.and_(numberless, table.column("reason").is_null()),
            f"the reason for state {', '.join(NUMBERLESS_STATES)}")  # fmt: skip
    low, high = table.column("latency_low_ms"), table.column("latency_high_ms")
    _refuse(table, "latency_high_ms", pc.xor(low.is_null(), high.is_null()),
            "null exactly where latency_low_ms is")  # fmt: skip
    _refuse(table, "latency_high_ms", pc.less(high, low), "a number not below latency_low_ms")
    energy, reason = table.column("energy_mj"), table.column("energy_reason")
    _refuse(table, "energy_reason", pc.equal(energy.is_null(), reason.is_null()),
            "a reason exactly where energy_mj is null")  # fmt: skip


def check_visit_values(visits: pa.Table) -> None:
    """Check the values of a conforming table of `VISIT_COLUMNS`.

    Raises:
        LutError: names the first bad visit.
    """
    _check_values(visits, VISIT_COLUMNS)


def check_visits(visits: pa.Table, table: pa.Table) -> None:
    """As `check_visit_values`, and that each visit has its row."""
    check_visit_values(visits)
    keys = list(KEY)
    strays = visits.select(keys).join(table.select(keys), keys, join_type="left anti")
    if strays.num_rows:
        raise LutError(f"a visit has no row in the table: {strays.slice(0, 1).to_pylist()[0]}")


def _check_values(table: pa.Table, columns: tuple[Column, ...]) -> None:
    for column in columns:
        values = table.column(column.name)
        if not column.null_when and values.null_count:
            _refuse(table, column.name, values.is_null(), "any value but null")
        if column.name in ALLOWED:
            allowed = ALLOWED[column.name]
            _refuse(
                table, column.name, pc.invert(pc.is_in(values, pa.array(allowed))), ", ".join(allowed)
            )
        elif pa.types.is_floating(column.type):
            _refuse(table, column.name, pc.invert(pc.is_finite(values)), "finite numbers or null")
            if column.name in ABOVE_ZERO:
                _refuse(table, column.name, pc.less_equal(values, 0), "numbers above 0 or null")
        if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
            _refuse(table, column.name, pc.less(values, 0), "numbers of 0 or more")
    well_formed = pc.match_substring_regex(table.column("op_id"), "^[0-9a-f]{20}$")
    _refuse(table, "op_id", pc.invert(well_formed), "20 lower-case hex digits")


def _refuse(table: pa.Table, name: str, bad: pa.ChunkedArray, allowed: str) -> None:
    """Raise for the first row where `bad` is true."""
    if not pc.any(bad, min_count=0).as_py():
        return
    index = pc.index(bad, True).as_py()
    row = table.slice(index, 1).to_pylist()[0]
    label = row.get("label") or row["op_id"]
    raise LutError(f"row {index} ({label}): {name} is {row[name]!r}; allowed: {allowed}")


def _fail_names(found: Iterable[str], columns: tuple[Column, ...], where: str) -> None:
    found = list(found)
    names = [column.name for column in columns]
    for name in found:
        if name not in names:
            raise LutError(f"{where} has the unknown column {name!r}; schema 1 has {', '.join(names)}")
        if found.count(name) > 1:
            raise LutError(f"{where} has the column {name!r} twice")
    missing = [name for name in names if name not in found]
    raise LutError(f"{where} lacks the columns {', '.join(missing)}")


def _side(shape: tuple[int, ...]) -> tuple[int | None, int | None]:
    padded = (*shape[2:4], None, None)
    return padded[0], padded[1]


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
