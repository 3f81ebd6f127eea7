"""Executors: take jobs, give measurements back. The local one owns worker processes on this machine.

The pipeline only knows `Executor`; a device behind a network is another executor on the same seam.
"""

from __future__ import annotations

import abc
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Self

from hwprof.backends.backend import Target
from hwprof.backends.registry import backend_class
from hwprof.environment import usable_cores
from hwprof.errors import (
    BackendError,
    BackendUnavailable,
    BuildError,
    UnsupportedOp,
    WorkerDied,
    WorkerTimeout,
)
from hwprof.machine.measuring import measuring_cores
from hwprof.measure.interpreter import check_interpreter, make_bundle
from hwprof.measure.messages import Checked, Compiled, Job, Visit, VisitRequest, WorkerConfig

START_LIMIT_S = 60.0
MEMORY_POLL_S = 1.0
SINGLE_THREADED = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Executor(abc.ABC):
    """Compiles jobs and makes visits, one at a time. `start_s` is the time spent starting workers."""

    start_s: float = 0.0

    @abc.abstractmethod
    def describe(self) -> dict[str, Any]:
        """The runtime's part of the environment, told where the ops will run.

        Raises:
            BackendUnavailable: runtime, device or driver is missing there.
            BuildError: no worker can start.
        """

    @abc.abstractmethod
    def compile(self, job: Job, artifact: Path) -> Compiled:
        """Compile and check one job; its artifact goes to the given file.

        Raises:
            UnsupportedOp, BackendError: as the backend said.
            WorkerTimeout, WorkerDied: it hung, crashed or outgrew its memory; the worker is gone
                and the next request gets a new one.
            BuildError: no worker can start, or the disk is full; no op is to blame.
        """

    @abc.abstractmethod
    def visit(self, process: int, request: VisitRequest) -> Visit:
        """One visit by worker process number `process`. Raises as `compile`."""

    @abc.abstractmethod
    def soak(self, process: int, artifact: str, seconds: float) -> None:
        """Keep the device busy with a compiled job for so long. Raises as `compile`."""

    @abc.abstractmethod
    def retire(self) -> None:
        """End all worker processes; the next requests start new ones."""

    def close(self) -> None:
        """End all worker processes for good."""
        self.retire()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class Limits:
    """What one worker process may use. `compile_timeout_s` None: the backend's own limit where it has
    one (tuning takes long), else `op_timeout_s`."""

    op_timeout_s: float = 120.0
    compile_timeout_s: float | None = None
    memory_bytes: int = 8 << 30


class LocalExecutor(Executor):
    """Worker processes on this machine, each pinned to the same cores, used one at a time.

    Compiling has a worker of its own, so that a compiler's leftovers never sit beside a timed op, and
    so has checking, whose memory is watched. `python` is the interpreter of all but the compiler.
    """

    COMPILER, CHECKER = -1, -2

    def __init__(
        self,
        backend: str,
        target: Target,
        log: Path,
        limits: Limits | None = None,
        python: Path | None = None,
    ) -> None:
        self._backend, self._target = backend, target
        self._log = log
        self._limits = limits or Limits()
        self._python = python
        self._bundle = make_bundle() if python else None
        self._workers: dict[int, _WorkerProcess] = {}
        self._holder: int | None = None
        self.start_s = 0.0

    def describe(self) -> dict[str, Any]:
        answer: dict[str, Any] = self._ask(self.CHECKER, {"do": "describe"})["environment"]
        return answer

    def compile(self, job: Job, artifact: Path) -> Compiled:
        request = {"do": "compile", "job": job.to_dict(), "artifact": str(artifact)}
        limit_s = self._limits.compile_timeout_s
        if limit_s is None:
            own = backend_class(self._backend)().compile_limit_s(self._target)
            limit_s = max(own or 0.0, self._limits.op_timeout_s)
        compiled = Compiled.from_dict(self._ask(self.COMPILER, request, limit_s))
        request = {"do": "check", "job": job.to_dict(), "artifact": str(artifact)}
        return replace(compiled, checked=Checked(**self._ask(self.CHECKER, request)))

    def visit(self, process: int, request: VisitRequest) -> Visit:
        visit = Visit.from_dict(self._ask(process, {"do": "visit", "visit": asdict(request)}))
        if visit.rss_bytes is not None and visit.rss_bytes > self._limits.memory_bytes:
            self._end(process)
        return visit

    def soak(self, process: int, artifact: str, seconds: float) -> None:
        request = {"do": "soak", "artifact": artifact, "seconds": seconds}
        self._ask(process, request, seconds + self._limits.op_timeout_s)

    def retire(self) -> None:
        for process in [*self._workers]:
            self._end(process)

    def close(self) -> None:
        self.retire()
        if self._bundle is not None:
            self._bundle.cleanup()

    def _ask(
        self, process: int, request: dict[str, Any], limit_s: float | None = None
    ) -> dict[str, Any]:
        self._hand_over(process)
        worker = self._workers.get(process) or self._start(process)
        try:
            try:
                worker.send(request)
            except BrokenPipeError:
                # It died between two requests: this op is innocent and gets another worker.
                self._end(process)
                worker = self._start(process)
                worker.send(request)
            answer = worker.read(limit_s or self._limits.op_timeout_s)
            if answer.get("failure") == "lost":
                # For this process: a kernel that fails on a GPU ends CUDA for the process that ran it,
                # and the next op sees it. A new one tells whether the device itself is gone.
                self._end(process)
                worker = self._start(process)
                worker.send(request)
                answer = worker.read(limit_s or self._limits.op_timeout_s)
            return _checked(answer)
        except WorkerDied:
            self._end(process)
            raise

    def _hand_over(self, process: int) -> None:
        """Have the worker that last used the device give up what it holds of it: a remote device
        serves one connection, and a GPU's memory is shared by all workers."""
        if process == self.COMPILER:
            return
        last, self._holder = self._holder, process
        if last is None or last == process or last not in self._workers:
            return
        try:
            self._workers[last].send({"do": "release"})
            _checked(self._workers[last].read(self._limits.op_timeout_s))
        except (WorkerDied, BrokenPipeError):
            self._end(last)

    def _end(self, process: int) -> None:
        self._workers.pop(process).kill()

    def _start(self, process: int) -> _WorkerProcess:
        start = time.monotonic()
        compiles = process == self.COMPILER
        config = WorkerConfig(
            backend=self._backend,
            target=self._target.name,
            threads=self._target.threads,
            dtype=self._target.dtype,
            options=self._target.options,
            process=process,
            cores=measuring_cores(usable_cores(), self._target.threads),
            runs=not compiles or self._python is None,
        )
        environment = {**os.environ, **dict.fromkeys(SINGLE_THREADED, "1"), "PYTHONUNBUFFERED": "1"}
        python = sys.executable
        if self._python is not None and self._bundle is not None and not compiles:
            python = str(self._python)
            environment["PYTHONPATH"] = self._bundle.name
        self._workers[process] = _WorkerProcess(python, environment, config, self._log, self._limits)
        self.start_s += time.monotonic() - start
        return self._workers[process]


@cache
def _described(backend: str, target_json: str, python: Path) -> dict[str, Any]:
    check_interpreter(python)
    with tempfile.TemporaryDirectory(prefix="hwprof-") as folder:
        target = Target(**json.loads(target_json))
        with LocalExecutor(backend, target, Path(folder) / "worker.log", python=python) as executor:
            return executor.describe()


def described(backend: str, target: Target, python: Path) -> dict[str, Any]:
    """The runtime's part of the environment as another interpreter tells it. Asked once a process.

    Raises:
        BuildError: the path is no Python that can run a worker.
        BackendUnavailable: the runtime is not in that interpreter.
    """
    return dict(_described(backend, json.dumps(asdict(target)), python))


class _WorkerProcess:
    """One worker: a subprocess, its pipes and its limits."""

    def __init__(
        self,
        python: str,
        environment: Mapping[str, str],
        config: WorkerConfig,
        log: Path,
        limits: Limits,
    ) -> None:
        self._limits = limits
        self._log = log
        self._scratch = tempfile.TemporaryDirectory(prefix="hwprof-worker-", ignore_cleanup_errors=True)
        if config.process != LocalExecutor.COMPILER:
            # What a runtime leaves in the temporary folder goes with the worker, which is killed. What a
            # compiler keeps there serves the next build: 20 to 40 s of AOTInductor's first block.
            environment = {**environment, "TMPDIR": self._scratch.name}
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                # -P: a user's own queue.py in the current folder must not be imported.
                [python, "-P", "-m", "hwprof.measure.worker", config.to_json()],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment,
                start_new_session=True,
            )
        self._pending = b""
        try:
            _checked(self.read(START_LIMIT_S))
        except BackendUnavailable:
            self.kill()
            raise
        except BackendError as error:
            self.kill()
            raise BuildError(f"a worker process cannot start: {error}") from None
        except BaseException:
            self.kill()
            raise

    def send(self, request: dict[str, Any]) -> None:
        """Hand over one request.

        Raises:
            BrokenPipeError: the worker is gone.
        """
        assert self._process.stdin is not None
        line = memoryview(json.dumps(request).encode() + b"\n")
        while line:
            line = line[self._process.stdin.write(line) or 0 :]

    def kill(self) -> None:
        """End the worker and whatever it started."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._scratch.cleanup()

    def read(self, limit_s: float) -> dict[str, Any]:
        """The worker's next answer.

        Raises:
            WorkerTimeout, WorkerDied: none came; the caller ends the worker.
        """
        assert self._process.stdout is not None
        deadline = time.monotonic() + limit_s
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._pending:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise WorkerTimeout(f"no answer within {limit_s:g} s; the worker was killed")
                if selector.select(min(left, MEMORY_POLL_S)):
                    chunk = os.read(self._process.stdout.fileno(), 1 << 16)
                    if not chunk:
                        raise self._death()
                    self._pending += chunk
                else:
                    self._check_memory()
        line, _, self._pending = self._pending.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _check_memory(self) -> None:
        try:
            pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        except (OSError, IndexError):
            return
        resident = pages * os.sysconf("SC_PAGE_SIZE")
        if resident > self._limits.memory_bytes:
            raise WorkerDied(
                f"the worker used {resident / 2**30:.1f} GiB, more than its limit of "
                f"{self._limits.memory_bytes / 2**30:.1f} GiB, and was killed"
            )

    def _death(self) -> WorkerDied:
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return WorkerDied("the worker closed its pipe without an answer")
        if code < 0:
            return WorkerDied(f"the worker died of {signal.Signals(-code).name}{self._last_words()}")
        return WorkerDied(f"the worker ended with exit code {code}{self._last_words()}")

    def _last_words(self) -> str:
        """The last line that it wrote to standard error: the log itself goes with the build's folder."""
        lines = self._log.read_bytes()[-2000:].decode(errors="replace").split("\n")
        written = [line.strip() for line in lines if line.strip()]
        return f": {written[-1][:200]}" if written else ""


def _checked(answer: dict[str, Any]) -> dict[str, Any]:
    if answer.get("failure") == "unsupported":
        raise UnsupportedOp(answer["reason"])
    if answer.get("failure") == "unavailable":
        raise BackendUnavailable(answer["reason"])
    if answer.get("failure") in ("build", "lost"):
        raise BuildError(answer["reason"])
    if answer.get("failure"):
        raise BackendError(answer["reason"])
    return answer
