"""The build itself: compile, visit in shuffled rounds, second pass, seal."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

from hwprof.backends import backend_class
from hwprof.build.lease import device_lease
from hwprof.build.options import BuildOptions
from hwprof.build.plan import Plan, Planner, make_plan
from hwprof.build.progress import Progress, Status
from hwprof.build.record import Records, RowRecord
from hwprof.build.resume import JOURNAL, open_records
from hwprof.build.rounds import Rounds
from hwprof.build.seal import count_states, seal
from hwprof.errors import (
    BackendError,
    BackendUnavailable,
    BuildError,
    HwprofError,
    UnsupportedOp,
    WorkerTimeout,
)
from hwprof.graph import cost
from hwprof.measure.artifact import is_whole
from hwprof.measure.executor import Executor, Limits, LocalExecutor

BATCH_ROWS = 256
# The rest of a time budget goes into compiling, starting workers and sealing.
BUDGET_SHARE_OF_VISITS = 0.7


@dataclass(frozen=True)
class BuildReport:
    """What a build did.

    Attributes:
        measured: rows that this build finished, failures included; `states` counts them.
        present: ops of the space whose row was there already.
        unfinished: rows that still want visits; the same command goes on with them.
        interrupted, out_of_time: why there are such rows.
        wall_s: this run's whole time. Of it went `compile_s` into compiling and checking, `start_s`
            into starting workers, `soak_s` into soaks, `visit_s` into whole visits (`timed_s`, of
            those, into timed calls), `exchange_s` into handing requests and answers between pipeline
            and workers.
        visits: visits made by this run.
    """

    out: Path
    measured: int
    present: int
    unfinished: int
    states: Mapping[str, int]
    interrupted: bool
    out_of_time: bool
    visits: int = 0
    wall_s: float = 0.0
    compile_s: float = 0.0
    start_s: float = 0.0
    soak_s: float = 0.0
    visit_s: float = 0.0
    exchange_s: float = 0.0
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
    planner: Planner = make_plan,
) -> BuildReport:
    """Measure what the table under `options.out` lacks of the plan (of the space's ops), and seal it.

    An earlier build of the same table that was killed is taken up where it stopped. SIGINT ends the
    build after the visit in flight and seals what is there. `executor` replaces the local worker
    processes.

    Raises:
        HwprofError: bad options or input, or the disk refused; what was measured is kept.
    """
    progress = progress or Progress(quiet=True)
    folder = work_folder(options.out)
    plan = planner(options)
    if not plan.jobs and not (folder / JOURNAL).exists():
        return BuildReport(options.out, 0, plan.present, 0, {}, False, False)
    with _stop_on_sigint(progress) as interrupted:
        _make_folder(folder)
        with open_records(options, folder, progress.note, planner) as (records, header, plan):
            build = _Build(options, plan, records, header, progress, interrupted)
            make = executor or _local_executor
            with _lease(options, progress, interrupted) as leased, make(options, folder) as owner:
                if leased:
                    _describe(owner, header, records, folder, progress)
                    build.run(owner, folder)
            report = build.finish()
        if not report.unfinished:
            _remove_folder(folder, progress)
    return report


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
    ) -> None:
        self._options, self._plan, self._records, self._header = options, plan, records, header
        self._progress, self._interrupted = progress, interrupted
        self._protocol = plan.protocol
        if options.budget_s is not None and plan.jobs:
            row_ms = BUDGET_SHARE_OF_VISITS * options.budget_s * 1e3 / len(plan.jobs)
            self._protocol = self._protocol.within(row_ms)
        self._started = time.monotonic()
        self._before = sum(1 for _ in records.visits())
        self._start_s = self._compile_s = self._soak_s = 0.0
        self._visit_s = self._exchange_s = self._timed_s = 0.0
        self._status = Status(rows=len(plan.jobs))

    def run(self, executor: Executor, folder: Path) -> None:
        """First pass batch by batch, then the second pass over rows that did not agree."""
        rows = [self._records.add(job) for job in self._plan.jobs]
        self._status.finished = sum(row.finished for row in rows)
        # The budget is this build's own: waiting for another build does not use it up.
        self._started = time.monotonic()
        self._progress.begin()
        for start in range(0, len(rows), BATCH_ROWS):
            batch = rows[start : start + BATCH_ROWS]
            self._compile(executor, [row for row in batch if not row.finished], folder)
            self._pass(executor, [row for row in _due(batch) if not self._had_first(row)], 1)
        if self._protocol.second_pass:
            self._pass(executor, _due(rows), 2)
        if not self._stopped() and self._protocol == self._plan.protocol:
            for row in _due(rows):
                self._records.finished(row)
        self._records.sync()
        self._start_s = executor.start_s

    def finish(self) -> BuildReport:
        """Seal. Rows that are not finished are sealed as such and stay in the journal."""
        unfinished = self._records.unfinished()
        interrupted = self._interrupted()
        out_of_time = not interrupted and bool(unfinished) and self._options.budget_s is not None
        rows: list[dict[str, Any]] = []
        if self._records.rows:
            self._progress.note(f"sealing {self._options.out}")
            stopped = "time budget" if out_of_time else "interrupted"
            rows = seal(self._options.out, self._records, self._header, self._plan.protocol, stopped)
            self._tell_kept({row["op_id"] for row in rows})
        self._progress.end()
        wanted = {job.job_id for job in self._plan.jobs} - {row.job.job_id for row in unfinished}
        measured = [row for row in rows if row["op_id"] in wanted]
        return BuildReport(
            out=self._options.out,
            measured=len(measured),
            present=self._plan.present,
            unfinished=len(unfinished),
            states=count_states(measured),
            interrupted=interrupted,
            out_of_time=out_of_time,
            visits=sum(1 for _ in self._records.visits()) - self._before,
            wall_s=time.monotonic() - self._started,
            compile_s=self._compile_s,
            start_s=self._start_s,
            soak_s=self._soak_s,
            visit_s=self._visit_s,
            exchange_s=self._exchange_s,
            timed_s=self._timed_s,
        )

    def _tell_kept(self, sealed: Set[str]) -> None:
        """Failures that replaced no number."""
        kept = [
            (row.job.label, *row.failure)
            for row in self._records.rows.values()
            if row.failure is not None and row.job.job_id not in sealed
        ]
        if kept:
            first = "{}: {}: {}".format(*kept[0])
            self._progress.note(
                f"{len(kept)} failed where the table has a number, which stays (first: {first})"
            )

    def _stopped(self) -> bool:
        """Whether the build is to end after the visit in flight."""
        budget_s = self._options.budget_s
        over = budget_s is not None and time.monotonic() - self._started > budget_s
        return over or self._interrupted()

    def _compile(self, executor: Executor, rows: Sequence[RowRecord], folder: Path) -> None:
        """Compile a whole batch before its first visit, so that no compiler runs beside a timed op."""
        self._status.stage = "compiling"
        for row in rows:
            if self._stopped():
                return
            self._status.current = row.job.label
            self._progress.update(self._status)
            path = folder / f"{row.job.job_id}.artifact"
            if row.compiled is not None and is_whole(path):
                row.compiled = replace(row.compiled, artifact=str(path))
                continue
            start = time.monotonic() - executor.start_s
            try:
                self._records.compiled(row, executor.compile(row.job, path))
            except BackendUnavailable as error:
                raise BuildError(str(error)) from None
            except BackendError as error:
                self._fail(row, error)
            self._compile_s += time.monotonic() - executor.start_s - start

    def _pass(self, executor: Executor, rows: list[RowRecord], phase: int) -> None:
        """Visit rows in shuffled rounds by new worker processes until they agree or have had all."""
        if not rows:
            return
        executor.retire()
        if not self._soak(executor, rows):
            return
        rows = [row for row in rows if not row.finished]
        rounds = Rounds(self._protocol, self._records, rows, self._options.seed, phase)
        self._status.stage = "measuring" if phase == 1 else "second pass"
        last = 0
        for row, process, request, number in rounds.visits(self._options.cache):
            if self._stopped():
                break
            if number != last:
                # Between two visits, where waiting for the disk disturbs no timed op.
                self._records.sync()
                last = number
            self._status.current = row.job.label
            start = time.monotonic() - executor.start_s
            try:
                visit = executor.visit(process, request)
            except BackendUnavailable as error:
                raise BuildError(str(error)) from None
            except BackendError as error:
                self._fail(row, error)
                continue
            self._exchange_s += time.monotonic() - executor.start_s - start - visit.whole_ms / 1e3
            self._visit_s += visit.whole_ms / 1e3
            self._records.visited(row, rounds.recorded(process, number, visit))
            self._timed_s += sum(visit.calls_ns) / 1e9
            self._status.visits += 1
            self._status.unstable = rounds.disagreeing
            self._status.visits_left = rounds.visits_left
            self._progress.update(self._status)
            self._finish_agreed(rounds)
        self._finish_agreed(rounds)
        self._records.sync()
        executor.retire()

    def _soak(self, executor: Executor, rows: Sequence[RowRecord]) -> bool:
        """Bring the device to the clocks and temperature that it holds under load, by the heaviest op
        that runs. False: none did, and nothing may be measured as sustained."""
        if not self._options.sustain_s or self._stopped():
            return True
        self._status.stage = "soaking"
        for row in sorted(rows, key=lambda row: cost(row.job.lower()).flops, reverse=True):
            assert row.compiled is not None
            self._status.current = row.job.label
            self._progress.update(self._status)
            start = time.monotonic() - executor.start_s
            try:
                executor.soak(self._records.next_process, row.compiled.artifact, self._options.sustain_s)
            except BackendUnavailable as error:
                raise BuildError(str(error)) from None
            except BackendError as error:
                self._fail(row, error)
                continue
            finally:
                self._soak_s += time.monotonic() - executor.start_s - start
            return True
        return False

    def _had_first(self, row: RowRecord) -> bool:
        """Of rows that get both passes: whether an earlier run of this build made the first one."""
        made = sum(visit.phase == 1 for visit in row.visits)
        return self._protocol.twice and made >= self._protocol.least_visits

    def _finish_agreed(self, rounds: Rounds) -> None:
        if self._protocol.twice and rounds.phase == 1:
            return
        for row in rounds.newly_agreed():
            self._records.finished(row)
            self._status.finished += 1

    def _fail(self, row: RowRecord, error: BackendError) -> None:
        state = "failed"
        if isinstance(error, WorkerTimeout):
            state = "timeout"
        elif isinstance(error, UnsupportedOp):
            state = "unsupported"
        self._records.failed(row, state, str(error))
        self._status.failed += 1
        self._status.finished += 1
        self._progress.note(f"{state}: {row.job.label}: {error}")


def _describe(
    executor: Executor, header: Mapping[str, Any], records: Records, folder: Path, progress: Progress
) -> None:
    """Ask for the device before anything is compiled. A build that cannot start leaves nothing."""
    try:
        executor.describe()
        if header["environment"]["identity"].get("gpu", "") is None:
            raise BuildError(
                "the GPU's name cannot be read, so that rows of two GPUs would mix; run: "
                "pip install nvidia-ml-py"
            )
    except HwprofError:
        if not records.rows:
            _remove_folder(folder, progress)
        raise


def _due(rows: Sequence[RowRecord]) -> list[RowRecord]:
    """Compiled rows that still want visits (a build that was stopped leaves some uncompiled)."""
    return [row for row in rows if row.compiled is not None and not row.finished]


def _local_executor(options: BuildOptions, folder: Path) -> Executor:
    return LocalExecutor(
        options.backend,
        options.full_target(),
        folder / "worker.log",
        Limits(options.op_timeout_s, options.compile_timeout_s),
        options.python,
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


def _remove_folder(folder: Path, progress: Progress) -> None:
    """The table is whole by now, so a folder that stays is no failure of the build."""
    try:
        shutil.rmtree(folder)
    except OSError as error:
        progress.note(f"{folder} could not be removed ({error.strerror}); delete it by hand")


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
