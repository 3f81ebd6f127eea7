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
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hwprof.environment import usable_cores
from hwprof.errors import BackendError, BuildError, UnsupportedOp, WorkerDied, WorkerTimeout
from hwprof.machine.measuring import measuring_cores
from hwprof.measure.messages import Compiled, Job, Visit, VisitRequest, WorkerConfig

START_LIMIT_S = 60.0
MEMORY_POLL_S = 1.0
SINGLE_THREADED = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Executor(abc.ABC):
    """Compiles jobs and makes visits, one at a time. `start_s` is the time spent starting workers."""

    start_s: float = 0.0

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
    def retire(self) -> None:
        """End all worker processes; the next requests start new ones."""

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, *_: object) -> None:
        self.retire()


@dataclass(frozen=True)
class Limits:
    """What one worker process may use."""

    op_timeout_s: float = 120.0
    memory_bytes: int = 4 << 30


class LocalExecutor(Executor):
    """Worker processes on this machine, each pinned to the same cores, used one at a time.

    Compiling has a worker of its own, so that a compiler's leftovers never sit beside a timed op.
    """

    COMPILER = -1

    def __init__(
        self,
        backend: str,
        target: str,
        threads: int,
        dtype: str,
        log: Path,
        limits: Limits | None = None,
    ) -> None:
        self._config = (backend, target, threads, dtype)
        self._log = log
        self._limits = limits or Limits()
        self._workers: dict[int, _WorkerProcess] = {}
        self.start_s = 0.0

    def compile(self, job: Job, artifact: Path) -> Compiled:
        request = {"do": "compile", "ops": job.to_list(), "artifact": str(artifact)}
        return Compiled(**self._ask(self.COMPILER, request))

    def visit(self, process: int, request: VisitRequest) -> Visit:
        visit = Visit.from_dict(self._ask(process, {"do": "visit", "visit": asdict(request)}))
        if visit.rss_bytes is not None and visit.rss_bytes > self._limits.memory_bytes:
            self._workers.pop(process).kill()
        return visit

    def retire(self) -> None:
        for worker in self._workers.values():
            worker.kill()
        self._workers.clear()

    def _ask(self, process: int, request: dict[str, Any]) -> dict[str, Any]:
        worker = self._workers.get(process) or self._start(process)
        try:
            try:
                worker.send(request)
            except BrokenPipeError:
                # It died between two requests: this op is innocent and gets another worker.
                self._workers.pop(process).kill()
                worker = self._start(process)
                worker.send(request)
            return _checked(worker.read(self._limits.op_timeout_s))
        except WorkerDied:
            self._workers.pop(process).kill()
            raise

    def _start(self, process: int) -> _WorkerProcess:
        start = time.monotonic()
        cores = measuring_cores(usable_cores(), self._config[2])
        config = WorkerConfig(*self._config, process, cores)
        self._workers[process] = _WorkerProcess(config, self._log, self._limits)
        self.start_s += time.monotonic() - start
        return self._workers[process]


class _WorkerProcess:
    """One worker: a subprocess, its pipes and its limits."""

    def __init__(self, config: WorkerConfig, log: Path, limits: Limits) -> None:
        self._limits = limits
        self._log = log
        environment = {**os.environ, **dict.fromkeys(SINGLE_THREADED, "1"), "PYTHONUNBUFFERED": "1"}
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                # -P: a user's own queue.py in the current folder must not be imported.
                [sys.executable, "-P", "-m", "hwprof.measure.worker", config.to_json()],
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
    if answer.get("failure") == "build":
        raise BuildError(answer["reason"])
    if answer.get("failure"):
        raise BackendError(answer["reason"])
    return answer
