"""MetaSchedule's evolutionary search for one task at a time: candidates are drawn and bred, a cost model
that learns from what was measured picks the most promising, builder processes compile those, and one
runner process times them."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tempfile
import time
import types
from functools import lru_cache
from pathlib import Path
from typing import Any

BATCH = 16
"""Candidates searched, built and measured at a time: what the cost model learns from them serves the
next batch. A killed tuning loses at most one batch."""

POPULATION = 128
"""Candidates a generation, of four."""

BUILD_LIMIT_S = 30.0
_BUILDER_USES = 256


class Search:
    """Searches of one op's tasks, one after the other, with one cost model. `building` is the folder
    for candidates, `threads` what they are timed with (`use_threads` was called)."""

    def __init__(self, native: Any, building: Path, threads: int) -> None:
        from tvm.s_tir import meta_schedule

        _register_intrinsics()
        self._native = native
        self._workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        self._builder = _make_builder(building, _builders(self._workers))
        self._runner = _runner(threads)
        self._costs = meta_schedule.cost_model.XGBModel(num_tuning_cores=self._workers)

    def run(self, task: Any, records: Any, trials: int, seed: int, deadline: float | None) -> None:
        """Measure up to `trials` candidates of one task, ending early at the deadline."""
        from tvm.s_tir import meta_schedule

        context = meta_schedule.TuneContext(
            mod=task.dispatched[0],
            target=self._native,
            space_generator="post-order-apply",
            search_strategy=meta_schedule.search_strategy.EvolutionarySearch(
                population_size=POPULATION, init_min_unmeasured=BATCH
            ),
            task_name=task.task_name,
            rand_state=1 + seed,
            num_threads=self._workers,
        ).clone()
        _make_scheduler(deadline).tune(
            tasks=[context],
            task_weights=[1.0],
            max_trials_global=trials,
            max_trials_per_task=trials,
            num_trials_per_iter=BATCH,
            builder=self._builder,
            runner=self._runner,
            measure_callbacks=meta_schedule.measure_callback.MeasureCallback.create("default"),
            database=records,
            cost_model=self._costs,
        )


def _register_intrinsics() -> None:
    """MetaSchedule wants the CPU's tensor instructions registered, and imports those of every target,
    GPUs too: 22 s of parsing. The package is put in place with the CPUs' modules alone (2 s)."""
    import tvm

    name = "tvm.s_tir.tensor_intrin"
    if name in sys.modules:
        return
    package = types.ModuleType(name)
    package.__path__ = [str(Path(tvm.__file__).parent / "s_tir" / "tensor_intrin")]
    sys.modules[name] = package
    for processor in ("x86", "arm_cpu"):
        importlib.import_module(f"{name}.{processor}")


def _make_scheduler(deadline: float | None) -> Any:
    """TVM's scheduler, for one task and ending after the batch in which its time was up. TVM terminates
    the task after its last batch: a callback that has done so already fails there."""
    from tvm.ir.utils import derived_object
    from tvm.s_tir.meta_schedule.task_scheduler import PyTaskScheduler

    @derived_object
    class OneTask(PyTaskScheduler):  # type: ignore[misc]
        begun = False

        def next_task_id(self) -> int:
            """0 for one more batch, -1 for none. Asked before each batch; TVM ends the task itself when
            the search has found all."""
            if self._outer().tasks_[0].is_terminated:
                return -1
            if self.begun:
                self.join_running_task(0)
            self.begun = True
            return -1 if is_over(deadline) else 0

    return OneTask()


@lru_cache
def _builders(workers: int) -> Any:
    """Processes that compile candidates. TVM starts new ones for every batch; these are kept as long as
    this process lives, since each imports TVM anew, which takes seconds."""
    from tvm.support.popen_pool import PopenPoolExecutor

    return PopenPoolExecutor(
        max_workers=workers,
        timeout=BUILD_LIMIT_S,
        maximum_process_uses=_BUILDER_USES,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@lru_cache
def _runner(threads: int) -> Any:
    """TVM's process that times candidates, kept likewise. It takes its threads from the environment
    that it is started in, so each thread count has one."""
    from tvm.s_tir.meta_schedule.runner import LocalRunner

    return LocalRunner()


def _make_builder(building: Path, pool: Any) -> Any:
    """It links the candidates too, which TVM leaves to the runner."""
    from tvm.ir.utils import derived_object
    from tvm.s_tir.meta_schedule.builder import BuilderResult, PyBuilder
    from tvm.support.popen_pool import StatusKind

    @derived_object
    class KeptBuilder(PyBuilder):  # type: ignore[misc]
        def build(self, build_inputs: list[Any]) -> list[Any]:
            jobs = [(i.mod, i.target, str(building)) for i in build_inputs]
            built = pool.map_with_error_catching(_build_candidate, jobs)
            return [
                BuilderResult(result.value, None)
                if result.status == StatusKind.COMPLETE
                else BuilderResult(None, f"not built: {result.value!r}")
                for result in built
            ]

    return KeptBuilder()


def _build_candidate(job: tuple[Any, Any, str]) -> str:
    """In a builder process: the path of the candidate's library, alone in a folder of its own, which
    TVM removes after measuring."""
    import tvm
    from tvm.s_tir.transform import RemoveWeightLayoutRewriteBlock

    module, target, building = job
    folder = tempfile.mkdtemp(dir=building)
    path = str(Path(folder) / "candidate.so")
    module = RemoveWeightLayoutRewriteBlock(skip_tensor_rewrite=True)(module)
    tvm.compile(module, target).export_library(path, workspace_dir=folder)
    return path


def is_over(deadline: float | None) -> bool:
    return deadline is not None and time.monotonic() > deadline
