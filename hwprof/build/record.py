"""What a running build knows of each row, journalled as it happens and read back on resume."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from hwprof.graph import cost
from hwprof.lut.journal import Journal
from hwprof.measure.judgement import RecordedVisit
from hwprof.measure.messages import Compiled, Job, Visit
from hwprof.measure.sentinel import is_dense

UNFINISHED_REASONS = ("interrupted", "time budget")


@dataclass
class RowRecord:
    """One row in the making. `failure` is (state, reason); `finished` says that no visit is due. A row
    that is sealed unfinished has a reason that begins with one of `UNFINISHED_REASONS`."""

    job: Job
    compiled: Compiled | None = None
    visits: list[RecordedVisit] = field(default_factory=list)
    failure: tuple[str, str] | None = None
    finished: bool = False

    @property
    def started_at(self) -> float | None:
        return self.visits[0].visit.started_at if self.visits else None

    @cached_property
    def dense(self) -> bool:
        """Whether the dense sentinel speaks for this row."""
        total = cost(self.job.lower())
        return is_dense(total.flops, total.bytes_moved)


class Records:
    """All rows of a build by job id. Each change is appended to the journal first."""

    def __init__(self, journal: Journal, past: Iterable[Mapping[str, Any]] = ()) -> None:
        self.rows: dict[str, RowRecord] = {}
        self._journal = journal
        for record in past:
            self._apply(record)

    def add(self, job: Job) -> RowRecord:
        """The record of a job, made where there is none."""
        if job.job_id not in self.rows:
            self._write({"type": "job", "id": job.job_id, "job": job.to_dict()})
        return self.rows[job.job_id]

    def compiled(self, row: RowRecord, compiled: Compiled) -> None:
        self._write({"type": "compiled", "id": row.job.job_id, "compiled": compiled.to_dict()})

    def visited(self, row: RowRecord, made: RecordedVisit) -> None:
        place = {"process": made.process, "round": made.round, "phase": made.phase}
        visit = made.visit.to_dict()
        self._journal.append({"type": "visit", "id": row.job.job_id, **place, "visit": visit})
        row.visits.append(made)

    def failed(self, row: RowRecord, state: str, reason: str) -> None:
        self._write({"type": "failure", "id": row.job.job_id, "state": state, "reason": reason})

    def reset(self, row: RowRecord) -> None:
        """Forget a failure and all visits: the row is measured again."""
        self._write({"type": "reset", "id": row.job.job_id})

    def finished(self, row: RowRecord) -> None:
        self._write({"type": "finished", "id": row.job.job_id})

    def sync(self) -> None:
        self._journal.sync()

    @property
    def next_process(self) -> int:
        """The lowest process number that no visit carries yet."""
        return max((made.process for made in self.visits()), default=-1) + 1

    def visits(self) -> Iterator[RecordedVisit]:
        """All visits of all rows."""
        for row in self.rows.values():
            yield from row.visits

    def unfinished(self) -> list[RowRecord]:
        """Rows that still want visits."""
        return [row for row in self.rows.values() if not row.finished]

    def _write(self, record: dict[str, Any]) -> None:
        self._journal.append(record)
        self._apply(record)

    def _apply(self, record: Mapping[str, Any]) -> None:
        if record["type"] == "job":
            self.rows.setdefault(record["id"], RowRecord(Job.from_dict(record["job"])))
            return
        row = self.rows.get(record["id"])
        if row is None:
            return  # its `job` line was damaged; the caller has said so
        match record["type"]:
            case "compiled":
                row.compiled = Compiled.from_dict(record["compiled"])
            case "visit":
                row.visits.append(
                    RecordedVisit(
                        record["process"],
                        record["round"],
                        record["phase"],
                        Visit.from_dict(record["visit"]),
                    )
                )
            case "failure":
                row.failure = (record["state"], record["reason"])
                row.finished = True
            case "finished":
                row.finished = True
            case "reset":
                self.rows[record["id"]] = RowRecord(row.job)
