"""`import-results`: what run.py wrote on a device becomes rows of a table."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path
from typing import Any

from hwprof import __version__
from hwprof.build.options import check_out
from hwprof.build.record import RowRecord
from hwprof.build.seal import count_states, seal
from hwprof.environment import Environment
from hwprof.errors import LutError
from hwprof.lut import check_destination
from hwprof.lut.schema import NUMBERLESS_STATES
from hwprof.measure.judgement import RecordedVisit
from hwprof.measure.messages import Checked, Compiled, Job, Visit
from hwprof.offline.device import device_environment
from hwprof.offline.plan import PLAN, OfflinePlan, PlannedOp
from hwprof.offline.runner.lines import Refused, read_lines

RESULTS = "results.jsonl"
UNCHECKED = "where its nodes ran is not known: its model was not checked in this environment"


@dataclass(frozen=True)
class ImportReport:
    """What an import put into the table.

    Attributes:
        rows: rows of the results that are in the table; `states` counts them; `unfinished` lack visits.
        kept: keys whose row in the table stayed: what came for them has no number, is not finished, or
            is older.
        environments: environment_id to description, one for each state that the device was in.
    """

    out: Path
    rows: int
    states: Mapping[str, int]
    unfinished: int
    kept: int
    environments: Mapping[str, str]

    @property
    def failed(self) -> int:
        return sum(self.states.get(state, 0) for state in ("failed", "timeout"))

    @property
    def next_step(self) -> str:
        """How the unfinished rows become finished ones; empty where there are none."""
        if not self.unfinished:
            return ""
        if len(self.environments) == 1:
            return f"{self.unfinished} rows are not finished: run run.py again and import again"
        # run.py counts the visits of all environments together, so none of them is ever completed.
        return (
            f"{self.unfinished} rows are not finished, and these results cannot be: they hold visits of "
            f"{len(self.environments)} environments. On the device that you want, measure anew with "
            "python3 run.py --results again.jsonl, copy that file beside plan.json and import it too"
        )

    def summary(self) -> dict[str, Any]:
        return {**self.__dict__, "out": str(self.out), "next_step": self.next_step}


@dataclass
class DeviceRecords:
    """The rows measured in one environment, as sealing wants them."""

    environment: Environment
    started_at: float
    rows: dict[str, RowRecord]
    slots: dict[str, set[tuple[int, int]]] = field(default_factory=dict)

    def visits(self) -> Iterator[RecordedVisit]:
        for row in self.rows.values():
            yield from row.visits


def import_results(
    source: Path, out: Path, device: str = "", note: Callable[[str], None] | None = None
) -> ImportReport:
    """Judge and seal the results of a folder (its results.jsonl) or file beside the plan of its export.

    Rows of the same key are replaced as a build replaces them (`seal`): never by one that is not
    finished, has no number or is older. Importing twice changes nothing.

    Args:
        device: replaces the device's own name in the environment's identity.

    Raises:
        LutError: results or plan are missing, damaged, edited or not of one export, or the table cannot
            be read or written.
    """
    check_out(out)
    check_destination(out)
    path = source / RESULTS if source.is_dir() else source
    plan, plan_hash = OfflinePlan.read(path.with_name(PLAN))
    run, groups = _read(path, plan, plan_hash, device)
    sealed: list[dict[str, Any]] = []
    for group in groups.values():
        for op_id, row in group.rows.items():
            row.finished = row.failure is not None or _complete(plan, group, op_id)
        header = _header(plan, group, run)
        if note is not None:
            note(f"environment {header['environment_id']}: {group.environment.describe()}")
        sealed += seal(out, group, header, plan.protocol, "interrupted")
    if not sealed and not out.exists():
        raise LutError(f"{path} holds no visit yet; run run.py on the device first")
    unfinished = sum(
        not any(group.rows[planned.op.op_id].finished for group in groups.values())
        for planned in plan.ops
    )
    return ImportReport(
        out,
        len(sealed),
        count_states(sealed),
        unfinished,
        sum(bool(row.visits or row.failure) for g in groups.values() for row in g.rows.values())
        - len(sealed),
        {g.environment.environment_id: g.environment.describe() for g in groups.values()},
    )


def _read(
    path: Path, plan: OfflinePlan, plan_hash: str, device: str
) -> tuple[str, dict[str, DeviceRecords]]:
    """The run's id, and the records of each environment in which the device made visits."""
    groups: dict[str, DeviceRecords] = {}
    group: DeviceRecords | None = None
    run = ""
    try:
        for number, record, _, _ in read_lines(str(path), plan_hash):
            try:
                match record["type"]:
                    case "header":
                        run = str(record["run"])
                    case "start":
                        environment = device_environment(plan, record["device"], device)
                        made = DeviceRecords(environment, record["at"], _rows(plan))
                        group = groups.setdefault(environment.environment_id, made)
                    case _ if group is None:
                        raise ValueError("it stands before the device is told")
                    case _:
                        _take(plan, group, record)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise LutError(
                    f"{path}, line {number}: {error!r}; measure anew with this plan"
                ) from None
    except Refused as error:
        raise LutError(str(error)) from None
    except OSError as error:
        raise LutError(f"results {path} cannot be read: {error.strerror}") from None
    if not groups:
        raise LutError(f"{path} holds no results yet; run run.py on the device first")
    return run, groups


def _rows(plan: OfflinePlan) -> dict[str, RowRecord]:
    return {planned.op.op_id: _row(planned) for planned in plan.ops}


def _row(planned: PlannedOp) -> RowRecord:
    if planned.failure is not None:
        return RowRecord(Job((planned.op,)), failure=planned.failure)
    compiled = Compiled(
        planned.model,
        planned.compile_ms or 0.0,
        str(planned.metadata.get("tuning") or ""),
        Checked(
            fallback=UNCHECKED,
            peak_memory_source="not measured on the device",
            energy_reason="no sensor is read there",
        ),
    )
    return RowRecord(Job((planned.op,)), compiled)


def _take(plan: OfflinePlan, group: DeviceRecords, record: Mapping[str, Any]) -> None:
    """One line of results into its row.

    Raises:
        ValueError: a line that run.py would not write for this plan.
    """
    kind, op_id = record["type"], record["id"]
    row = group.rows.get(op_id)
    if row is None or row.compiled is None:
        raise ValueError(f"op {op_id} has no model in the plan")
    if kind == "check":
        placement, fallback = dict(record["placement"]), str(record["fallback"])
        checked = replace(row.compiled.checked, placement=placement, fallback=fallback)
        row.compiled = replace(row.compiled, checked=checked)
    elif kind == "failure":
        if record["state"] not in NUMBERLESS_STATES:
            raise ValueError(f"state {record['state']!r} is no failure")
        row.failure = (record["state"], str(record["reason"]))
    elif kind == "visit":
        place = (record["slot"], record["round"])
        if place in group.slots.setdefault(op_id, set()):
            raise ValueError(f"process slot {place[0]} made round {place[1]} of op {op_id} before")
        if place[0] not in range(plan.protocol.processes) or place[1] not in range(plan.protocol.rounds):
            raise ValueError(f"the plan has no process slot {place[0]} with round {place[1]}")
        group.slots[op_id].add(place)
        row.visits.append(RecordedVisit(int(record["process"]), place[1], 1, _visit(record["visit"])))
    elif kind != "crash":
        raise ValueError(f"type {kind!r} is unknown")


def _visit(data: Mapping[str, Any]) -> Visit:
    visit = Visit.from_dict(data)
    numbers = (*visit.calls_ns, visit.group, visit.load_ms, visit.whole_ms, visit.started_at)
    if not visit.calls_ns or not all(isfinite(number) and number > 0 for number in numbers):
        raise ValueError("a visit needs timings above 0")
    return visit


def _complete(plan: OfflinePlan, group: DeviceRecords, op_id: str) -> bool:
    return len(group.slots.get(op_id, ())) == plan.protocol.most_visits


def _header(plan: OfflinePlan, group: DeviceRecords, run: str) -> dict[str, Any]:
    """What sealing wants to know besides the records: as a build's journal begins with."""
    environment_id = group.environment.environment_id
    return {
        "backend": plan.backend,
        "target": plan.target,
        "threads": plan.threads,
        "cache": "warm",
        "regime": "burst",
        "space": plan.space,
        "environment_id": environment_id,
        "environment": group.environment.to_dict(),
        "build_id": hashlib.sha256(f"{run}:{environment_id}".encode()).hexdigest()[:12],
        "hwprof_version": __version__,
        "started_at": group.started_at,
    }
