"""From records to table rows, and the table written whole under its name."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from hwprof import __version__
from hwprof.build.record import RowRecord
from hwprof.environment import Environment
from hwprof.graph import cost
from hwprof.lut import load_lut, null_row, op_columns, write_lut
from hwprof.lut.schema import KEY, SCHEMA_VERSION
from hwprof.measure.judgement import RecordedVisit, Verdict, clean_mask, judge
from hwprof.measure.protocol import Protocol
from hwprof.measure.sentinel import is_dense
from hwprof.ops import lower

Row = dict[str, Any]


def is_dense_job(record: RowRecord) -> bool:
    """Whether the dense sentinel speaks for this row."""
    total = cost(lower(record.job.ops))
    return is_dense(total.flops, total.bytes_moved)


def table_row(
    record: RowRecord, header: Mapping[str, Any], protocol: Protocol, stopped: str
) -> Row | None:
    """The row of a record; None where it has neither a number nor a failure yet."""
    if record.failure is None and not record.visits:
        return None
    row: Row = {**null_row(), **op_columns(record.job.ops[0]), **_where(header), **_resources(record)}
    if record.failure is not None:
        state, reason = record.failure
        row |= {"state": state, "reason": reason}
        row["started_at"] = _timestamp(record.started_at or header["started_at"])
        return row
    dense = is_dense_job(record)
    verdict = judge(protocol, record.visits, dense, "" if record.finished else stopped)
    row |= _result(record.visits, verdict, clean_mask(record.visits, dense))
    row["started_at"] = _timestamp(record.started_at)
    return row


def _where(header: Mapping[str, Any]) -> Row:
    return {
        "environment_id": header["environment_id"],
        "granularity": "op",
        "cache": header["cache"],
        "backend": header["backend"],
        "target": header["target"],
        "threads": header["threads"],
        "regime": "burst",
        "source": "measured",
        "space": header["space"],
        "build_id": header["build_id"],
        "hwprof_version": header["hwprof_version"],
        "schema_version": SCHEMA_VERSION,
    }


def _resources(record: RowRecord) -> Row:
    row: Row = {
        "energy_reason": "no energy sensor is read yet",
        "peak_memory_source": "not measured yet",
    }
    if record.compiled is not None:
        row["compile_ms"] = record.compiled.compile_ms
        row["placement"] = json.dumps(dict(record.compiled.placement), sort_keys=True)
    if record.visits:
        row["load_ms"] = float(np.median([v.visit.load_ms for v in record.visits]))
    return row


def _result(visits: list[RecordedVisit], verdict: Verdict, clean: Iterable[np.bool_]) -> Row:
    """Quantiles are over all calls of the visits that the estimate is made from."""
    mask = list(clean)
    used = [v for v, ok in zip(visits, mask, strict=True) if ok] or visits
    calls_ms = np.concatenate([np.array(v.visit.calls_ns) / v.visit.group for v in used]) / 1e6
    p10, p50, p90, p99 = (float(q) for q in np.percentile(calls_ms, [10, 50, 90, 99]))
    return {
        "latency_ms": verdict.estimate.latency_ms,
        "latency_low_ms": verdict.estimate.low_ms,
        "latency_high_ms": verdict.estimate.high_ms,
        "min_ms": float(calls_ms.min()),
        "p10_ms": p10,
        "p50_ms": p50,
        "p90_ms": p90,
        "p99_ms": p99,
        "visits": len(visits),
        "clean_visits": int(sum(mask)),
        "processes": len({v.process for v in visits}),
        "samples": sum(len(v.visit.calls_ns) * v.visit.group for v in visits),
        "state": verdict.state,
        "reason": verdict.reason,
    }


def visit_rows(record: RowRecord, header: Mapping[str, Any]) -> list[Row]:
    """One row of the visits file per visit."""
    if not record.visits:
        return []
    key = {
        "op_id": record.job.job_id,
        "environment_id": header["environment_id"],
        "granularity": "op",
        "cache": header["cache"],
    }
    rows = []
    for made, clean in zip(record.visits, clean_mask(record.visits, is_dense_job(record)), strict=True):
        visit = made.visit
        calls_ms = np.array(visit.calls_ns) / visit.group / 1e6
        p10, p50, p90 = (float(q) for q in np.percentile(calls_ms, [10, 50, 90]))
        rows.append(
            {
                **key,
                "process": made.process,
                "round": made.round,
                "phase": made.phase,
                "started_at": _timestamp(visit.started_at),
                "calls": len(calls_ms),
                "group": visit.group,
                "p10_ms": p10,
                "p50_ms": p50,
                "p90_ms": p90,
                "max_ms": float(calls_ms.max()),
                "cpu_share": visit.cpu_share,
                "switches": visit.switches,
                "dense_sentinel_ms": visit.dense_ms,
                "memory_sentinel_ms": visit.memory_ms,
                "clean": bool(clean),
            }
        )
    return rows


def seal(
    out: Path,
    records: Iterable[RowRecord],
    header: Mapping[str, Any],
    protocol: Protocol,
    stopped: str = "",
) -> list[Row]:
    """Write the table: the rows that were there, less those measured anew, and the new ones.

    Returns the new rows.

    Raises:
        LutError: the table cannot be read or written; what was under its name stays as it was.
    """
    measured = [(r, row) for r in records if (row := table_row(r, header, protocol, stopped))]
    rows = measured_rows = [row for _, row in measured]
    visits = [visit for record, _ in measured for visit in visit_rows(record, header)]
    replaced = {_key(row) for row in rows}
    metadata: dict[str, Any] = {
        "environments": {header["environment_id"]: header["environment"]},
        "spaces": [header["space"]],
    }
    if out.exists():
        old = load_lut(out)
        metadata["environments"] = {**old.metadata["environments"], **metadata["environments"]}
        metadata["spaces"] = sorted({*old.metadata["spaces"], *metadata["spaces"]})
        metadata |= {name: old.metadata[name] for name in ("composition", "licence")}
        rows = [r for r in old.table.to_pylist() if _key(r) not in replaced] + rows
        visits = [v for v in old.visits.to_pylist() if _key(v) not in replaced] + visits
    write_lut(out, rows, metadata=metadata, visits=visits)
    return measured_rows


def header_of(
    build_id: str, environment: Environment, options: Mapping[str, Any], protocol: Mapping[str, Any]
) -> dict[str, Any]:
    """First line of a journal: all that sealing needs besides the records."""
    return {
        **options,
        "build_id": build_id,
        "environment_id": environment.environment_id,
        "environment": environment.to_dict(),
        "protocol": dict(protocol),
        "started_at": datetime.now(UTC).timestamp(),
        "hwprof_version": __version__,
        "schema_version": SCHEMA_VERSION,
    }


def count_states(rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """How many rows are in which state."""
    return dict(Counter(row["state"] for row in rows))


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in KEY)


def _timestamp(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
