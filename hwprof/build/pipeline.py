"""The build itself: compile, visit in shuffled rounds, second pass, seal."""

from __future__ import annotations

import shutil
import signal
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

from hwprof.backends import backend_class
from hwprof.build.lease import device_lease
from hwprof.build.options import BuildOptions
from hwprof.build.plan import Plan, make_plan
from hwprof.build.progress import Progress, Status
from hwprof.build.record import Records, RowRecord
from hwprof.build.rounds import Rounds
from hwprof.build.seal import count_states, header_of, seal
from hwprof.errors import BackendError, BuildError, UnsupportedOp, WorkerTimeout
from hwprof.lut.journal import Journal
from hwprof.measure.executor import Executor, Limits, LocalExecutor
from hwprof.measure.protocol import Protocol

BATCH_ROWS = 256
JOURNAL = "journal"
SAME_ROWS = ("environment_id", "backend", "target", "threads", "dtype", "cache")
OPTION_FIELDS = ("backend", "threads", "dtype", "cache", "seed", "space")


@dataclass(frozen=True)
class BuildReport:
    """What a build did. `interrupted` and `out_of_time` say that rows are still due.

    Of `wall_s`, `compile_s` went into compiling, `start_s` into starting workers, `visit_s` into whole
    visits; of those, `timed_s` were inside timed calls. A resumed build counts earlier visits too.
    """

    out: Path
    measured: int
    present: int
    states: Mapping[str, int]
    interrupted: bool
    out_of_time: bool
    visits: int = 0
    wall_s: float = 0.0
    compile_s: float = 0.0
    start_s: float = 0.0
    visit_s: float = 0.0
    timed_s: float = 0.0

    @property
    def failed(self) -> int:
        return sum(self.states.get(state, 0) for state in ("failed", "timeout"))

    def summary(self) -> dict[str, Any]:
        return {**asdict(self), "out": str(self.out), "states": dict(self.states)}


def work_folder(out: Path) -> Path:
    """Where a build keeps journal, artifacts and worker log until its table is whole."""
    return out.with_name(out.name + ".build")


def build_lut(
    options: BuildOptions,
    progress: Progress | None = None,
    executor: Callable[[BuildOptions, Path], Executor] | None = None,
) -> BuildReport:
    """Measure what the table under `options.out` lacks of the space, and seal it.

    An earlier build of the same table that was killed is taken up where it stopped. SIGINT ends the
    build after the visit in flight and seals what is there. `executor` replaces the local worker
    processes.

    Raises:
        HwprofError: bad options or input, or the disk refused; what was measured is kept.
    """
    progress = progress or Progress(quiet=True)
    started = time.monotonic()
    folder = work_folder(options.out)
    plan = make_plan(options)
    if not plan.jobs and not (folder / JOURNAL).exists():
        return BuildReport(options.out, 0, plan.present, {}, False, False)
    with _stop_on_sigint(progress) as interrupted:
        _make_folder(folder)
        with _open_journal(options, plan, folder, progress) as (records, header, plan):
            build = _Build(options, plan, records, header, progress, interrupted, started)
            make = executor or _local_executor
            with _lease(options, progress, interrupted) as leased, make(options, folder) as owner:
                if leased:
                    build.run(owner, folder)
            return build.finish(folder)


class _Build:
    """State of one running build; `run` drives it, `finish` seals."""

    def __init__(
        self,
        options: BuildOptions,
        plan: Plan,
        records: Records,
        header: Mapping[str, Any],
        progress: Progress,
        interrupted: Callable[[], bool],
        started: float,
    ) -> None:
        self._options, self._plan, self._records, self._header = options, plan, records, header
        self._progress, self._interrupted, self._started = progress, interrupted, started
        self._protocol = _affordable(options.protocol(), options.budget_s, len(plan.jobs))
        self._start_s = 0.0
        self._status = Status(rows=len(plan.jobs))

    def run(self, executor: Executor, folder: Path) -> None:
        """First pass batch by batch, then the second pass over rows that did not agree."""
        rows = [self._records.add(job) for job in self._plan.jobs]
        self._progress.begin()
        for start in range(0, len(rows), BATCH_ROWS):
            batch = [row for row in rows[start : start + BATCH_ROWS] if not row.finished]
            self._compile(executor, batch, folder)
            self._pass(executor, _due(batch), 1)
        if self._protocol.second_pass:
            self._pass(executor, _due(rows), 2)
        if not self._stopped():
            for row in rows:
                if not row.finished:
                    self._records.finished(row)
        self._records.sync()
        self._start_s = executor.start_s

    def finish(self, folder: Path) -> BuildReport:
        """Seal, and remove the work folder once nothing is due any more."""
        stopped = self._stopped()
        rows: list[dict[str, Any]] = []
        if self._records.rows:
            self._progress.note(f"sealing {self._options.out}")
            rows = seal(
                self._options.out,
                self._records.rows.values(),
                self._header,
                self._options.protocol(),
                stopped,
            )
        if not stopped:
            shutil.rmtree(folder)
        self._progress.end()
        visits = [v.visit for row in self._records.rows.values() for v in row.visits]
        compiled = [row.compiled for row in self._records.rows.values() if row.compiled is not None]
        return BuildReport(
            out=self._options.out,
            measured=len(rows),
            present=self._plan.present,
            states=count_states(rows),
            interrupted=stopped == "interrupted",
            out_of_time=stopped == "time budget",
            visits=len(visits),
            wall_s=time.monotonic() - self._started,
            compile_s=sum(made.compile_ms for made in compiled) / 1e3,
            start_s=self._start_s,
            visit_s=sum(v.whole_ms for v in visits) / 1e3,
            timed_s=sum(sum(v.calls_ns) for v in visits) / 1e9,
        )

    def _stopped(self) -> str:
        """Why rows stay unfinished; empty while nothing stops the build."""
        if self._interrupted():
            return "interrupted"
        budget_s = self._options.budget_s
        if budget_s is not None and time.monotonic() - self._started > budget_s:
            due = [r for r in self._records.rows.values() if not r.finished]
            return "time budget" if due else ""
        return ""

    def _compile(self, executor: Executor, rows: Sequence[RowRecord], folder: Path) -> None:
        """Compile a whole batch before its first visit, so that no compiler runs beside a timed op."""
        self._status.stage = "compiling"
        for row in rows:
            if self._stopped():
                return
            self._status.current = row.job.label
            self._progress.update(self._status)
            path = folder / f"{row.job.job_id}.artifact"
            if row.compiled is not None and path.exists():
                row.compiled = replace(row.compiled, artifact=str(path))
                continue
            try:
                made = executor.compile(row.job, path)
            except BackendError as error:
                self._fail(row, error)
            else:
                self._records.compiled(row, made)
            self._status.compiled += 1

    def _pass(self, executor: Executor, rows: list[RowRecord], phase: int) -> None:
        """Visit rows in shuffled rounds by new worker processes until they agree or have had all."""
        executor.retire()
        rounds = Rounds(self._protocol, rows, self._options.seed, self._records.next_process, phase)
        self._status.stage = "measuring" if phase == 1 else "second pass"
        for row, process, request, number in rounds.visits(self._options.cache):
            if self._stopped():
                break
            self._status.current = row.job.label
            try:
                visit = executor.visit(process, request)
            except BackendError as error:
                self._fail(row, error)
                continue
            self._records.visited(row, rounds.recorded(process, number, visit))
            self._status.visits += 1
            self._status.finished = sum(r.finished for r in self._records.rows.values())
            self._status.unstable = rounds.disagreeing
            self._status.visits_left = rounds.visits_left
            self._progress.update(self._status)
            for agreed in rounds.newly_agreed():
                self._records.finished(agreed)
        for agreed in rounds.newly_agreed():
            self._records.finished(agreed)
        self._records.sync()
        executor.retire()

    def _fail(self, row: RowRecord, error: BackendError) -> None:
        state = "failed"
        if isinstance(error, WorkerTimeout):
            state = "timeout"
        elif isinstance(error, UnsupportedOp):
            state = "unsupported"
        self._records.failed(row, state, str(error))
        self._status.failed += 1
        self._progress.note(f"{state}: {row.job.label}: {error}")


def _due(rows: Sequence[RowRecord]) -> list[RowRecord]:
    """Compiled rows that still want visits (a build that was stopped leaves some uncompiled)."""
    return [row for row in rows if row.compiled is not None and not row.finished]


def _affordable(protocol: Protocol, budget_s: float | None, rows: int) -> Protocol:
    """With a time budget, shorter turns, so that every row gets its share of it."""
    return protocol if budget_s is None or not rows else protocol.within(budget_s * 1e3 / rows)


def _local_executor(options: BuildOptions, folder: Path) -> Executor:
    return LocalExecutor(
        options.backend,
        options.resolved_target(),
        options.threads,
        options.dtype,
        folder / "worker.log",
        Limits(op_timeout_s=options.op_timeout_s),
    )


@contextmanager
def _lease(options: BuildOptions, progress: Progress, stop: Callable[[], bool]) -> Iterator[bool]:
    if not backend_class(options.backend).leases_device:
        yield True
        return
    with device_lease(progress.note, stop) as leased:
        yield leased


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise BuildError(f"cannot write beside the table: {folder}: {error.strerror}") from None


@contextmanager
def _open_journal(
    options: BuildOptions, plan: Plan, folder: Path, progress: Progress
) -> Iterator[tuple[Records, dict[str, Any], Plan]]:
    """Take up an earlier build's journal, or begin one.

    A journal of another environment or other settings is sealed first, under what it was made with,
    so that nothing measured is lost or mixed.
    """
    path = folder / JOURNAL
    chosen = {name: getattr(options, name) for name in OPTION_FIELDS}
    chosen |= {"target": options.resolved_target(), "space": plan.space.name}
    if options.fresh:
        Journal.discard(path)
    if path.exists() and path.stat().st_size:
        journal, header, past, damaged = Journal.open(path)
        with journal:
            if damaged:
                progress.note(
                    f"{path}: {len(damaged)} damaged lines are left out (first: line {damaged[0]})"
                )
            records = Records(journal, past)
            wanted = {**chosen, "environment_id": plan.environment.environment_id}
            if all(header[name] == wanted[name] for name in SAME_ROWS):
                kept = sum(len(row.visits) for row in records.rows.values())
                done = sum(row.finished for row in records.rows.values())
                progress.note(
                    f"resuming: {kept} visits of {len(records.rows)} rows reused, {done} rows finished"
                )
                yield records, header, plan
                return
            progress.note("an unfinished build of another environment or setting is sealed first")
            protocol = Protocol(**header["protocol"])
            seal(options.out, records.rows.values(), header, protocol, "interrupted")
        Journal.discard(path)
        plan = make_plan(options)
    for environment_id, rows in plan.other_environments.items():
        progress.note(
            f"{options.out}: {rows} rows of environment {environment_id} are kept, not mixed in"
        )
    header = header_of(uuid.uuid4().hex[:12], plan.environment, chosen, asdict(options.protocol()))
    with Journal.create(path, header) as journal:
        yield Records(journal), header, plan


@contextmanager
def _stop_on_sigint(progress: Progress) -> Iterator[Callable[[], bool]]:
    """First Ctrl-C asks the build to stop and seal, a second one ends it at once (journal kept)."""
    pressed: list[int] = []

    def on_sigint(number: int, frame: FrameType | None) -> None:
        pressed.append(number)
        if len(pressed) > 1:
            raise KeyboardInterrupt
        progress.note("interrupted: sealing what is there (Ctrl-C again ends at once)")

    try:
        before = signal.signal(signal.SIGINT, on_sigint)
    except ValueError:  # not the main thread: the caller handles signals
        yield lambda: False
        return
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, before)
