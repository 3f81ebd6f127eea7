"""From records to table rows, and the table written whole under its name."""

from __future__ import annotations

import json
import typing
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from hwprof import stats
from hwprof.build.record import UNFINISHED_REASONS, RowRecord
from hwprof.environment import Environment
from hwprof.lut import chain_columns, load_lut, null_row, op_columns, write_lut
from hwprof.lut.files import stamp_of
from hwprof.lut.reading import open_visits, visits_path_of
from hwprof.lut.schema import KEY, SCHEMA_VERSION, VISIT_COLUMNS
from hwprof.lut.write import GIVEN
from hwprof.measure.judgement import (
    RecordedVisit,
    SentinelFloors,
    Verdict,
    clean_mask,
    judge,
    sentinel_floors,
)
from hwprof.measure.messages import Checked, Job
from hwprof.measure.protocol import Protocol

Row = dict[str, Any]


class Sealable(typing.Protocol):
    """What a table is sealed from: the records of a build, or of results that were imported."""

    @property
    def rows(self) -> Mapping[str, RowRecord]: ...

    def visits(self) -> Iterable[RecordedVisit]: ...


def table_row(
    record: RowRecord,
    header: Mapping[str, Any],
    protocol: Protocol,
    floors: SentinelFloors,
    stopped: str,
) -> Row | None:
    """The row of a record; None where it has neither a number nor a failure yet.

    `stopped` is the reason of a row that is not finished.
    """
    row: Row = {**null_row(), **_job_columns(record.job), **_where(header), **_resources(record, header)}
    row["started_at"] = _timestamp(record.started_at or header["started_at"])
    if record.failure is not None:
        state, reason = record.failure
        return row | {"state": state, "reason": reason}
    if not record.visits:
        return None
    verdict = judge(
        protocol, record.visits, record.dense, floors, "" if record.finished else stopped,
        _host_drift(record, header),
    )  # fmt: skip
    fallback = record.compiled.checked.fallback if record.compiled is not None else ""
    result = _result(record.visits, verdict)
    # Last, because a reason that begins with why a row is unfinished is looked for.
    reason = "; ".join(part for part in (verdict.reason, fallback) if part)
    return row | result | {"reason": reason}


def _job_columns(job: Job) -> Row:
    if job.granularity == "op":
        columns = op_columns(job.ops[0])
    else:
        columns = chain_columns(job.job_id, job.label, job.ops, job.lower())
    return {**columns, "granularity": job.granularity}


def _host_drift(record: RowRecord, header: Mapping[str, Any]) -> float:
    """What the host may move between builds: only where it is a virtual machine's and timed the op."""
    timed_by_host = record.visits[0].visit.dense_ms is not None
    virtual = header["environment"]["identity"].get("virtualised")
    return stats.VIRTUAL_HOST_DRIFT if timed_by_host and virtual else 0.0


def _where(header: Mapping[str, Any]) -> Row:
    return {
        "environment_id": header["environment_id"],
        "cache": header["cache"],
        "backend": header["backend"],
        "target": header["target"],
        "threads": header["threads"],
        "regime": header["regime"],
        "source": "measured",
        "space": header["space"],
        "build_id": header["build_id"],
        "hwprof_version": header["hwprof_version"],
        "schema_version": SCHEMA_VERSION,
    }


def _resources(record: RowRecord, header: Mapping[str, Any]) -> Row:
    checked = record.compiled.checked if record.compiled is not None else Checked()
    energy_mj, why = checked.energy_mj, checked.energy_reason
    if energy_mj is not None and (header["cache"] != "warm" or header["regime"] != "burst"):
        energy_mj, why = None, "read for warm calls in bursts only"
    row: Row = {
        "energy_mj": energy_mj,
        "energy_reason": why if energy_mj is None else None,
        "peak_memory_bytes": checked.peak_memory_bytes,
        "peak_memory_source": checked.peak_memory_source,
    }
    if record.compiled is not None:
        row["compile_ms"] = record.compiled.compile_ms
        row["tuning"] = record.compiled.tuning or None
        row["placement"] = json.dumps(dict(checked.placement), sort_keys=True)
    if record.visits:
        row["load_ms"] = float(np.median([v.visit.load_ms for v in record.visits]))
        launches = [v.visit.launch_ms for v in record.visits if v.visit.launch_ms is not None]
        row["launch_ms"] = float(np.median(launches)) if launches else None
    return row


def _result(visits: Sequence[RecordedVisit], verdict: Verdict) -> Row:
    """Quantiles are over all calls of the visits that the estimate is made from."""
    calls_ms = np.concatenate([made.calls_ms for made in verdict.used])
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
        "clean_visits": verdict.clean,
        "processes": len({v.process for v in visits}),
        "samples": sum(len(v.visit.calls_ns) * v.visit.group for v in visits),
        "state": verdict.state,
        "reason": verdict.reason,
    }


def visit_rows(record: RowRecord, header: Mapping[str, Any], floors: SentinelFloors) -> list[Row]:
    """One row of the visits file per visit."""
    key = {
        "op_id": record.job.job_id,
        "environment_id": header["environment_id"],
        "granularity": record.job.granularity,
        "cache": header["cache"],
    }
    rows = []
    for made, clean in zip(record.visits, clean_mask(record.visits, record.dense, floors), strict=True):
        p10, p50, p90 = (float(q) for q in made.quantiles_ms)
        rows.append(
            {
                **key,
                "process": made.process,
                "round": made.round,
                "phase": made.phase,
                "started_at": _timestamp(made.visit.started_at),
                "calls": len(made.calls_ms),
                "group": made.visit.group,
                "p10_ms": p10,
                "p50_ms": p50,
                "p90_ms": p90,
                "max_ms": float(made.calls_ms.max()),
                "cpu_share": made.visit.cpu_share,
                "switches": made.visit.switches,
                "dense_sentinel_ms": made.visit.dense_ms,
                "memory_sentinel_ms": made.visit.memory_ms,
                "device_mhz": made.visit.device_mhz,
                "device_throttle": made.visit.device_throttle,
                "device_temperature_c": made.visit.device_temperature_c,
                "clean": clean,
            }
        )
    return rows


def seal(
    out: Path, records: Sealable, header: Mapping[str, Any], protocol: Protocol, stopped: str
) -> list[Row]:
    """Write the table: the rows that were there, less those measured anew, and the new ones.

    A row that is not finished never replaces one that is, one without a number (a crash, a timeout)
    never one with a number, and no row a newer one. Returns the new rows.

    Raises:
        LutError: the table cannot be read or written, or another process wrote it meanwhile; what was
            under its name stays as it was.
    """
    before = stamp_of(out.resolve())
    old = load_lut(out) if out.exists() else None
    old_rows = {} if old is None else {_key(row): row for row in old.table.to_pylist()}
    floors = sentinel_floors(records.visits())
    new_rows, new_visits = {}, []
    for record in records.rows.values():
        row = table_row(record, header, protocol, floors, stopped)
        if row is None or _stays(old_rows.get(_key(row)), row, record.finished):
            continue
        new_rows[_key(row)] = row
        new_visits += visit_rows(record, header, floors)
    metadata: dict[str, Any] = {
        "environments": {header["environment_id"]: header["environment"]},
        "spaces": [header["space"]],
    }
    kept_visits: list[Row] = []
    if old is not None:
        metadata["environments"] = {**old.metadata["environments"], **metadata["environments"]}
        metadata["spaces"] = sorted({*old.metadata["spaces"], *metadata["spaces"]})
        metadata |= {
            name: old.metadata[name] for name in (*GIVEN, "interval_level") if name not in metadata
        }
        kept_visits = _old_visits(out, old_rows.keys() - new_rows.keys())
    rows = [*{**old_rows, **new_rows}.values()]
    if rows:
        write_lut(out, rows, metadata=metadata, visits=kept_visits + new_visits, expected=before)
    return [*new_rows.values()]


def _stays(old: Row | None, new: Row, finished: bool) -> bool:
    if old is None:
        return False
    if (new["latency_ms"] is None) != (old["latency_ms"] is None):
        return new["latency_ms"] is None
    if (old["reason"] or "").startswith(UNFINISHED_REASONS):
        return False
    times = old["started_at"], new["started_at"]
    return not finished or (None not in times and times[0] > times[1])


def _old_visits(out: Path, keys: Set[tuple[Any, ...]]) -> list[Row]:
    """Visits of the rows that stay. Read without holding them to the table's hash: a seal that was
    killed between its two renames leaves newer visits beside the older table, and these too belong to
    their rows. Where the file is gone, the rows stay without their visits."""
    path = visits_path_of(out)
    if not path.exists():
        return []
    visits = open_visits(path).read([column.name for column in VISIT_COLUMNS]).to_pylist()
    return [visit for visit in visits if _key(visit) in keys]


def header_of(build_id: str, environment: Environment, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """First line of a journal: all that sealing needs besides the records."""
    return {
        **chosen,
        "build_id": build_id,
        "environment": environment.to_dict(),
        "started_at": datetime.now(UTC).timestamp(),
    }


def count_states(rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """How many rows are in which state."""
    return dict(Counter(row["state"] for row in rows))


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in KEY)


def _timestamp(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
