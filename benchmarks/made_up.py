"""Tables of made-up measurements of real ops, as large as asked for.

The ops are blocks of a mobile search space with free widths; their op_json, op_id and label are what
`OpSpec` writes. Numbers are random where those of a measurement are (latency around the op's cost,
percentiles, visits, times, memory), so that they take as many bytes as real ones.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hwprof import __version__
from hwprof.environment import Environment
from hwprof.lut import COLUMNS, SCHEMA_VERSION, VISIT_COLUMNS
from hwprof.ops.spec import OP_ID_VERSION

WIDTHS = np.arange(8, 520, 8)
SIDES = np.array([7, 10, 14, 20, 28, 40, 56, 80, 112])
KERNELS = {
    "mixconv": ((3, 5), (3, 7), (5, 7), (3, 5, 7)),
    "mbconv": ((3,), (5,), (7,)),
    "fused_mbconv": ((3,), (5,), (7,)),
}
SHARES = (0.45, 0.35, 0.2)
ACTIVATIONS = ("relu", "hswish", "swish")
START_MS = 1_790_000_000_000
MS_A_ROW = 350
"""Of build time; rows are measured in random order."""
VISITS = (48, 72)
"""Visits of most rows and of those that need a second pass (`hwprof build-lut`, default effort)."""

Ops = dict[str, Any]
Numbers = NDArray[Any]


def made_up_ops(count: int, seed: int = 0) -> Ops:
    """`count` distinct blocks, column name -> one value an op."""
    rng = np.random.default_rng(seed)
    blocks: dict[str, dict[str, Any]] = {}
    while len(blocks) < count:
        drawn = zip(
            rng.choice(list(KERNELS), 4096, p=SHARES).tolist(),
            rng.choice(WIDTHS, (4096, 2)).tolist(),
            rng.choice(SIDES, 4096).tolist(),
            rng.integers(1, 7, (4096, 3)).tolist(),
            rng.random((4096, 5)).tolist(),
            strict=True,
        )
        for kind, widths, side, shares, chances in drawn:
            block = _block(kind, widths, side, shares, chances)
            blocks.setdefault(block["op_json"], block)
    ops = [*blocks.values()][:count]
    return {name: [op[name] for op in ops] for name in ops[0]}


def _block(
    kind: str, widths: list[int], side: int, shares: list[int], chances: list[float]
) -> dict[str, Any]:
    """One block's columns. `chances` are five random numbers of 0 to 1."""
    width, out = widths[0], widths[0] if chances[0] < 0.6 else widths[1]
    kernels = KERNELS[kind][int(chances[1] * len(KERNELS[kind]))]
    pairs = [(kernel, width * share) for kernel, share in zip(kernels, shares, strict=False)]
    activation = ACTIVATIONS[int(chances[2] * len(ACTIVATIONS))]
    se_channels = width // 4 if chances[3] < 0.5 else 0
    stride = 2 if chances[4] < 0.2 else 1
    residual = stride == 1 and width == out
    hidden = sum(channels for _, channels in pairs)
    out_side = (side - 1) // stride + 1
    parts = [
        f'"activation":"{activation}","kind":"{kind}"',
        f'"mix":[{",".join(f"[{kernel},{channels}]" for kernel, channels in pairs)}]',
        f'"out_channels":{out}',
        *(['"residual":true'] if residual else []),
        *([f'"se_channels":{se_channels}'] if se_channels else []),
        f'"shape":[1,{width},{side},{side}]',
        *([f'"stride":{stride}'] if stride > 1 else []),
    ]
    text = f"{{{','.join(parts)}}}"
    mixed = "+".join(f"{kernel}.{channels}" for kernel, channels in pairs)
    ends = [f"_se{se_channels}" if se_channels else "", f"_{activation}", "_res" if residual else ""]
    first = width * hidden * (pairs[0][0] ** 2 if kind == "fused_mbconv" else 1)
    depthwise = 0 if kind == "fused_mbconv" else sum(k * k * c for k, c in pairs)
    area, out_area = side * side, out_side * out_side
    weights = first + depthwise + hidden * out + 2 * hidden * se_channels
    return {
        "op_id": hashlib.sha256(f"hwprof-op-v{OP_ID_VERSION}:{text}".encode()).hexdigest()[:20],
        "kind": kind,
        "label": f"{kind}_k{mixed}_s{stride}_i{width}_o{out}_r{side}{''.join(ends)}",
        "op_json": text,
        "in_channels": width,
        "height": side,
        "width": side,
        "out_channels": out,
        "out_height": out_side,
        "out_width": out_side,
        "kernel_mix": ",".join(f"{kernel}:{channels}" for kernel, channels in pairs),
        "kernel_min": pairs[0][0],
        "kernel_max": pairs[-1][0],
        "hidden_channels": hidden,
        "expansion": hidden / width,
        "stride": stride,
        "activation": activation,
        "se_channels": se_channels,
        "se_ratio": se_channels / width,
        "residual": residual,
        "flops": 2 * (area * first + out_area * (depthwise + hidden * out)),
        "parameters": weights + hidden * 2 + out,
        "bytes_moved": 4 * (area * width + 2 * area * hidden + out_area * out + weights),
    }


def made_up_table(ops: Ops, device: str, build: str, seed: int) -> tuple[pa.Table, Environment]:
    """A measurement of all ops on a device: 90 % converged, 8 % budget, 1 % unstable, 1 % failed."""
    rng = np.random.default_rng(seed)
    rows = len(ops["op_id"])
    identity = {"device": device, "runtime": "onnxruntime", "runtime_version": "1.31.1", "threads": 1}
    here = Environment(identity, {})
    state = rng.choice(["converged", "budget", "unstable", "failed"], rows, p=[0.9, 0.08, 0.01, 0.01])
    failed = state == "failed"
    reasons = {
        "converged": "visits and processes agree within 1.0%",
        "budget": "visits agree within 1.8%",
        "unstable": "visits agree within 9.1%",
        "failed": "worker died: signal 11",
    }
    cost = np.array(ops["flops"]) / 1e8 + np.array(ops["bytes_moved"]) / 1e7 + 0.01
    latency = cost * rng.lognormal(0, 0.2, rows)
    half = 0.025 * rng.lognormal(0, 0.1, rows)
    spread = rng.lognormal(0, 0.5, rows)
    statistics = {
        "latency_ms": latency,
        "latency_low_ms": latency / (1 + half),
        "latency_high_ms": latency * (1 + half),
        "min_ms": latency * (1 - 0.004 * spread),
        "p10_ms": latency * (1 + 0.002 * spread),
        "p50_ms": latency * (1 + 0.01 * spread * rng.lognormal(0, 0.5, rows)),
        "p90_ms": latency * (1 + 0.1 * spread * rng.lognormal(0, 0.5, rows)),
        "p99_ms": latency * (1 + 0.3 * spread * rng.lognormal(0, 0.5, rows)),
        "visits": rng.choice(VISITS, rows, p=[0.85, 0.15]),
        "processes": np.full(rows, 6),
        "samples": (280 / latency * rng.uniform(0.95, 1.05, rows)).astype(np.int64) + VISITS[0],
        "load_ms": rng.lognormal(0, 0.2, rows),
    }
    statistics["clean_visits"] = statistics["visits"] - rng.poisson(2, rows)
    started = START_MS + rng.permutation(rows) * MS_A_ROW + rng.integers(0, MS_A_ROW, rows)
    memory = (np.array(ops["bytes_moved"]) + rng.integers(0, 1 << 20, rows)) // 4096 * 4096
    columns: dict[str, Any] = {
        **ops,
        **{name: pa.array(values, mask=failed) for name, values in statistics.items()},
        "compile_ms": rng.lognormal(1.5, 0.6, rows),
        "peak_memory_bytes": memory,
        "started_at": pa.array(started).cast(pa.timestamp("ms", tz="UTC")),
        "state": state,
        "reason": [reasons[each] for each in state.tolist()],
    }
    alike = {
        "environment_id": here.environment_id, "granularity": "op", "cache": "warm", "batch": 1,
        "groups": 1, "dtype": "float32", "backend": "onnxruntime", "target": "cpu", "threads": 1,
        "regime": "burst", "source": "measured", "energy_reason": "no energy counter",
        "peak_memory_source": "peak resident memory of the process", "space": "free-widths",
        "placement": '{"CPUExecutionProvider": 9}', "build_id": build, "hwprof_version": __version__,
        "schema_version": SCHEMA_VERSION,
    }  # fmt: skip
    return pa.table({c.name: _array(c, columns, alike, rows) for c in COLUMNS}), here


def made_up_visits(table: pa.Table, seed: int) -> pa.Table:
    """The visits that the rows of a made-up table could have been made from."""
    rng = np.random.default_rng(seed)
    timed = table.filter(table.column("latency_ms").is_valid())
    counts = timed.column("visits").to_numpy().astype(np.int64)
    row = np.repeat(np.arange(len(counts)), counts)
    number = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    process, turn = number % 6, number // 6
    latency = timed.column("latency_ms").to_numpy()[row]
    # As clocks do: whole nanoseconds.
    p10 = np.round(latency * (1 + 0.01 * rng.exponential(size=len(row))), 6)
    started = START_MS + 14_000 * (process + 6 * turn) + rng.integers(0, 14_000, len(row))
    columns: dict[str, Any] = {
        **{name: timed.column(name).take(pa.array(row)) for name in ("op_id", "environment_id")},
        "process": process,
        "round": turn,
        "phase": np.where(turn < 8, 1, 2),
        "started_at": pa.array(started).cast(pa.timestamp("ms", tz="UTC")),
        "calls": np.maximum(1, (6 / latency)).astype(np.int64),
        "p10_ms": p10,
        "p50_ms": np.round(p10 * (1 + 0.01 * rng.exponential(size=len(row))), 6),
        "p90_ms": np.round(p10 * (1.02 + 0.1 * rng.exponential(size=len(row))), 6),
        "max_ms": np.round(p10 * (1.2 + 0.1 * rng.exponential(size=len(row))), 6),
        "cpu_share": np.minimum(1, 1 - 1e-4 * rng.exponential(size=len(row))),
        "switches": rng.poisson(0.02, len(row)),
        "dense_sentinel_ms": np.round(0.043 * (1 + 0.02 * rng.exponential(size=len(row))), 6),
        "memory_sentinel_ms": np.round(0.048 * (1 + 0.02 * rng.exponential(size=len(row))), 6),
        "clean": rng.random(len(row)) < 0.96,
    }
    alike = {"granularity": "op", "cache": "warm", "group": 1}
    return pa.table({c.name: _array(c, columns, alike, len(row)) for c in VISIT_COLUMNS})


def _array(column: Any, columns: dict[str, Any], alike: dict[str, Any], rows: int) -> Any:
    """A column's values: its own, one for all rows, or null."""
    if column.name in columns:
        values = columns[column.name]
        ready = isinstance(values, pa.Array | pa.ChunkedArray)
        return values.cast(column.type) if ready else pa.array(values).cast(column.type, safe=False)
    value = pa.scalar(alike.get(column.name), column.type)
    return pa.repeat(value, rows)
