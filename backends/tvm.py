"""Apache TVM: Relax from the op's ONNX, for this machine's CPU, for another one, or for a GPU.

Untuned code is what TVM's default pipeline makes: fused operators as plain loop nests, on one thread
whatever is asked for. `tuning=metaschedule` searches better ones and keeps what it measured.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import ClassVar

import numpy as np

from hwprof.backends.backend import (
    Artifact,
    Availability,
    Backend,
    Option,
    Scalar,
    Session,
    Target,
    import_runtime,
)
from hwprof.backends.tvm_database import LOCK_LIMIT_S, TuningDatabase
from hwprof.backends.tvm_library import (
    build_library,
    default_passes,
    import_graph,
    load_library,
    require_linker,
)
from hwprof.backends.tvm_rpc import Connection, Tracker
from hwprof.backends.tvm_session import DeviceSession, HostSession, device_failure, use_threads
from hwprof.backends.tvm_target import (
    INSTALL,
    TvmTarget,
    links_here,
    names_cuda,
    resolve_target,
    why_not_here,
)
from hwprof.backends.tvm_tuning import Budget, check_packages, lower_tuned, tune
from hwprof.errors import BackendError, BackendUnavailable, UnsupportedOp
from hwprof.graph import Graph
from hwprof.graph.blocks import hwprof_home

OLDEST = (0, 27)
CRASHING_FFI = (0, 1, 15)

# A bound, not an estimate (that is about one second a trial): an op has fewer than 100 tasks, and no
# candidate may be built or measured for longer than TVM's own 30 s each.
_TASKS, _TRIAL_S, _COMPILE_S = 100, 5.0, 600.0


class TvmBackend(Backend):
    name: ClassVar[str] = "tvm"
    targets: ClassVar[tuple[str, ...]] = ("llvm",)
    open_targets: ClassVar[bool] = True
    options: ClassVar[Mapping[str, Option]] = {
        "tuning": Option("none", "search faster kernels before measuring", ("none", "metaschedule")),
        "trials": Option("64", "candidates that MetaSchedule measures for each task"),
        "tuning_seconds": Option("", "tune each op for no longer than this; empty: no limit"),
        "database": Option("", "folder of tuning records; empty: tvm in hwprof's own folder"),
        "rpc_tracker": Option("", "HOST:PORT of TVM's RPC tracker; empty: run on this machine"),
        "rpc_key": Option("", "key under which the device's RPC server registered"),
    }

    def __init__(self) -> None:
        self._connection: Connection | None = None
        self._connected_to: tuple[Tracker, int] | None = None

    @classmethod
    def probe(cls) -> Availability:
        try:
            version, ffi = metadata.version("apache-tvm"), metadata.version("apache-tvm-ffi")
        except metadata.PackageNotFoundError as error:
            return Availability(False, missing=f"the package {error.name}", install=INSTALL)
        if _numbers(version) < OLDEST:
            missing = f"apache-tvm 0.27 or newer (this is {version})"
            return Availability(False, version, missing, INSTALL)
        if _numbers(ffi) >= CRASHING_FFI:
            missing = f"apache-tvm-ffi 0.1.14 (with {ffi} MetaSchedule dies of a segmentation fault)"
            return Availability(False, version, missing, INSTALL)
        return Availability(True, version)

    def device(self, target: Target) -> str:
        if self.option(target, "rpc_tracker"):
            return "remote"
        return "cuda:0" if names_cuda(target.name) else "host"

    def cache_states(self, target: Target) -> tuple[str, ...]:
        return super().cache_states(target) if self.device(target) == "host" else ("warm",)

    def compile_limit_s(self, target: Target) -> float | None:
        if self.option(target, "tuning") == "none":
            return None
        budget = self._budget(target)
        tuning_s = _TASKS * budget.trials * _TRIAL_S if budget.seconds is None else budget.seconds
        return tuning_s + _COMPILE_S + LOCK_LIMIT_S

    def release(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def check_target(self, target: Target) -> None:
        found = self.probe()
        if not found.available:
            raise BackendUnavailable(f"TVM lacks {found.missing}; run: {found.install}")
        resolved = self._resolve(target)
        tracker = self._tracker(target)
        tuned = self.option(target, "tuning") != "none"
        self._budget(target)
        if tracker is not None:
            tracker.check()
        else:
            _require_here(resolved)
        if links_here(resolved):
            require_linker()
        if tuned:
            _require_tunable(resolved, tracker)

    def environment(self, target: Target) -> Mapping[str, Scalar]:
        resolved = self._resolve(target)
        tracker = self._tracker(target)
        named: dict[str, Scalar] = {
            "runtime": "tvm",
            "runtime_version": self.probe().version,
            "ffi_version": metadata.version("apache-tvm-ffi"),
            "executor": "relax-vm",
            "compiled_for": resolved.text,
            "tuning": self.option(target, "tuning"),
        }
        if named["tuning"] != "none":
            budget = self._budget(target)
            named |= {"trials": budget.trials, "tuning_seconds": budget.seconds}
        if tracker is not None:
            named |= {"device": tracker.key, "reached_by": "tvm-rpc"}
        return named

    def compile(self, graph: Graph, target: Target) -> Artifact:
        if target.dtype not in self.dtypes or graph.dtype not in self.dtypes:
            raise UnsupportedOp(
                f"tvm compiles float32 alone, not {graph.dtype}: TVM would sum float16 products in "
                "float16, which is off by 2 % on a 512-channel convolution"
            )
        resolved = self._resolve(target)
        module = import_graph(graph)
        if self.option(target, "tuning") == "none":
            return build_library(graph, module, resolved, default_passes)
        _require_tunable(resolved, self._tracker(target))
        root = self.option(target, "database") or str(hwprof_home() / "tvm")
        database = TuningDatabase(Path(root).expanduser(), self.probe().version, resolved)
        tuned = tune(module, resolved, target.threads, self._budget(target), database)
        artifact = build_library(graph, tuned.module, resolved, lower_tuned)
        return replace(artifact, metadata={**artifact.metadata, **tuned.described()})

    def prepare(self, artifact: Artifact, rng: np.random.Generator, target: Target) -> Session:
        compiled = _compiled_for(artifact, target)
        tracker = self._tracker(target)
        if tracker is not None:
            connection = self._connect(tracker, target.threads)
            library, device = connection.load(artifact, compiled)
            return DeviceSession(library, device, artifact, rng, connection.failed)
        _require_here(compiled)
        use_threads(target.threads)
        if compiled.kind == "llvm":
            return HostSession(load_library(artifact), artifact, rng)
        import tvm

        return DeviceSession(load_library(artifact), tvm.cuda(0), artifact, rng, device_failure)

    def _connect(self, tracker: Tracker, threads: int) -> Connection:
        if self._connection is None or self._connected_to != (tracker, threads):
            self.release()
            self._connection = Connection(tracker, threads)
            self._connected_to = (tracker, threads)
        return self._connection

    def _resolve(self, target: Target) -> TvmTarget:
        return resolve_target(target.name, target.threads)

    def _tracker(self, target: Target) -> Tracker | None:
        address, key = self.option(target, "rpc_tracker"), self.option(target, "rpc_key")
        if not address and key:
            raise BackendUnavailable("rpc_key needs rpc_tracker=HOST:PORT too")
        return Tracker.parse(address, key) if address else None

    def _budget(self, target: Target) -> Budget:
        trials, seconds = self.option(target, "trials"), self.option(target, "tuning_seconds")
        if not trials.isdecimal() or int(trials) < 1:
            raise BackendUnavailable(f"trials is {trials!r}; give a whole number of 1 or more")
        try:
            limit_s = float(seconds) if seconds else None
        except ValueError:
            limit_s = -1.0
        if limit_s is not None and not 0 < limit_s < float("inf"):
            raise BackendUnavailable(f"tuning_seconds is {seconds!r}; give seconds, or leave it empty")
        return Budget(int(trials), limit_s)


def _require_here(target: TvmTarget) -> None:
    why = why_not_here(target)
    if why:
        raise BackendUnavailable(
            f"code for {target.text} compiles, but cannot run here: {why}; run it on a device with "
            "--option rpc_tracker=HOST:PORT --option rpc_key=KEY, or only export it"
        )


def _require_tunable(target: TvmTarget, tracker: Tracker | None) -> None:
    if tracker is not None:
        raise BackendUnavailable("tuning measures on this machine; leave tuning=none with rpc_tracker")
    if target.kind != "llvm":
        raise BackendUnavailable(f"tuning works for CPUs; leave tuning=none for {target.kind}")
    _require_here(target)
    require_linker()
    check_packages()


def _compiled_for(artifact: Artifact, target: Target) -> TvmTarget:
    """What the artifact itself says: it may come from another machine, where `llvm` is another CPU."""
    import_runtime("tvm", INSTALL)
    try:
        config = str(artifact.metadata["target"])
        json.loads(config)
        text = str(artifact.metadata["target_text"])
    except (KeyError, ValueError):
        raise BackendError("the artifact was not made by the tvm backend; compile it again") from None
    return TvmTarget(text, config, resolve_target(target.name, target.threads).detected)


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: `0.1.14.post1` is (0, 1, 14)."""
    numbers = []
    for part in version.split("."):
        if not part.isdecimal():
            break
        numbers.append(int(part))
    return tuple(numbers)
