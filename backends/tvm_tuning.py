"""Tuning with MetaSchedule: measures candidates of each task and compiles with the best ones.

A task is one fused operator as a loop nest. Ops share tasks, so what one op measured serves the next.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwprof.backends.backend import Scalar
from hwprof.backends.tvm_database import TuningDatabase
from hwprof.backends.tvm_library import first_line
from hwprof.backends.tvm_search import Search, is_over
from hwprof.backends.tvm_session import use_threads
from hwprof.backends.tvm_target import TvmTarget
from hwprof.errors import BackendError, BackendUnavailable

_NUMBERED_SUM = re.compile(r'"lv\d*_red"')

PACKAGES = {"xgboost": "xgboost-cpu", "psutil": "psutil", "cloudpickle": "cloudpickle"}


@dataclass(frozen=True)
class Budget:
    """How long to tune: candidates a task, and seconds for one op (None: no limit)."""

    trials: int
    seconds: float | None


@dataclass(frozen=True)
class Tuned:
    """A module whose tasks run the best candidates found.

    Attributes:
        module: not yet lowered.
        tasks: how many different tasks it has.
        complete: of them, how many had all their trials.
        working: of them, how many have a candidate that ran; the others keep their default code.
        trials: how many candidates a task may have.
        candidates: how many all of them had, chosen from for this op.
        measured: of those, how many were measured now.
        database: its name.
    """

    module: Any
    tasks: int
    complete: int
    working: int
    trials: int
    candidates: int
    measured: int
    database: str

    def described(self) -> dict[str, Scalar]:
        """Metadata of the artifact; `tuning` becomes a column of the row."""
        text = (
            f"metaschedule, {self.trials} trials a task, {_counted(self.tasks, 'task')}, "
            f"{_counted(self.candidates, 'candidate')}, database {self.database}"
        )
        if self.complete < self.tasks:
            text += f"; time was up for {self.tasks - self.complete} of them"
        if self.working < self.tasks:
            text += f"; no candidate ran for {self.tasks - self.working} of them"
        return {"tuning": text, "measured_candidates": self.measured}


def check_packages() -> None:
    """Raises BackendUnavailable where MetaSchedule's own needs are missing."""
    missing = [install for module, install in PACKAGES.items() if not importlib.util.find_spec(module)]
    if missing:
        raise BackendUnavailable(
            f"MetaSchedule needs more packages; run: pip install {' '.join(missing)}"
        )


def tune(
    module: Any, target: TvmTarget, threads: int, budget: Budget, database: TuningDatabase
) -> Tuned:
    """Measure what the database lacks, then put the best candidates in.

    Raises:
        BackendError: TVM failed, or another process keeps the database.
    """
    use_threads(threads)
    native = target.native()
    deadline = None if budget.seconds is None else time.monotonic() + budget.seconds
    try:
        prepared = _prepare(module, native)
        tasks = _extract(prepared, native)
        with database.locked():
            for task in tasks:
                database.mend(task)
            measured = _measure(tasks, native, threads, budget, database, deadline)
            best = _best(tasks, budget.trials, database)
            complete = sum(database.settled(task, budget.trials) for task in tasks)
            candidates = sum(min(database.records(task), budget.trials) for task in tasks)
            name = database.name()
        return Tuned(
            module=_apply(prepared, native, best),
            tasks=len(tasks),
            complete=complete,
            working=len(best),
            trials=budget.trials,
            candidates=candidates,
            measured=measured,
            database=name,
        )
    except BackendError:
        raise
    except Exception as error:  # noqa: BLE001 - TVM raises whatever its C++ side threw
        raise BackendError(f"TVM failed to tune for {target.text}: {first_line(error)}") from None


def lower_tuned(module: Any, native: Any) -> Any:
    """What is left of TVM's pipeline after the best candidates are in."""
    from tvm.relax import get_pipeline

    with native:
        return get_pipeline("default_build")(module)


def _prepare(module: Any, native: Any) -> Any:
    """Fused operators as loop nests, with a mark on the weights, whose layout a candidate may choose."""
    import tvm
    from tvm.relax import get_pipeline, transform

    with native:
        prepared = tvm.transform.Sequential(
            [
                transform.DecomposeOpsForInference(),
                transform.CanonicalizeBindings(),
                get_pipeline("zero"),
                transform.AttachAttrLayoutFreeBuffers(),
            ]
        )(module)
    return _with_equal_names(prepared)


def _with_equal_names(module: Any) -> Any:
    """TVM names the loop nest of a sum after the variable that it reads (`lv7_red`). Loop nests are
    equal whatever their names, but a candidate is replayed by name: it would fail in another op, where
    the same sum is `lv13_red`."""
    from tvm import ir, tirx

    for variable, function in module.functions.items():
        if not isinstance(function, tirx.PrimFunc):
            continue
        text = ir.save_json(function)
        names = list(dict.fromkeys(_NUMBERED_SUM.findall(text)))
        for place, name in enumerate(names):
            text = text.replace(name, f'"sum{place}_red"')
        if names:
            module.update_func(variable, ir.load_json(text))
    return module


def _apply(module: Any, native: Any, best: Any) -> Any:
    """Candidates in, and the weights in the layouts that they chose, computed here once."""
    import tvm
    from tvm.relax import transform

    with native, best, tvm.transform.PassContext(opt_level=3):
        return tvm.transform.Sequential(
            [
                transform.MetaScheduleApplyDatabase(),
                transform.SplitLayoutRewritePreproc(),
                transform.FoldConstant(),
            ]
        )(module)


def _extract(module: Any, native: Any) -> dict[str, Any]:
    """Tasks by the hash of their loop nest."""
    from tvm.s_tir.meta_schedule.relax_integration import extract_tasks
    from tvm.s_tir.meta_schedule.utils import shash2hex

    tasks = extract_tasks(module, native)
    return {str(shash2hex(task.dispatched[0])): task for task in tasks}


def _measure(
    tasks: dict[str, Any],
    native: Any,
    threads: int,
    budget: Budget,
    database: TuningDatabase,
    deadline: float | None,
) -> int:
    """Search each task that lacks trials; how many candidates were measured."""
    wanting = [name for name in tasks if not database.settled(name, budget.trials)]
    for left in database.folder.glob("building-*"):  # of a killed tuning
        shutil.rmtree(left, ignore_errors=True)
    measured = 0
    search: Search | None = None
    with tempfile.TemporaryDirectory(prefix="building-", dir=database.folder) as building:
        for name in wanting:
            if is_over(deadline):
                break
            search = search or Search(native, Path(building), threads)
            records = database.open(name)
            before = database.records(name)
            search.run(tasks[name], records, budget.trials - before, before, deadline)
            measured += database.records(name) - before
            if not is_over(deadline):
                database.settle(name, budget.trials)
    return measured


def _best(tasks: dict[str, Any], trials: int, database: TuningDatabase) -> Any:
    """A database in memory of the best record of each task: TVM reads no file while it compiles."""
    from tvm.s_tir.meta_schedule.database import MemoryDatabase, TuningRecord

    best = MemoryDatabase()
    for name, task in tasks.items():
        record = database.best(name, trials)
        if record is not None:
            workload = best.commit_workload(task.dispatched[0])
            best.commit_tuning_record(TuningRecord.from_json(record, workload))
    return best


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
