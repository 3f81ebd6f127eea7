"""`export-jobs`: compile every op of a space here and write a folder that a device can measure."""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

from hwprof import __version__
from hwprof.backends import load_backend
from hwprof.backends.backend import Artifact, Backend, Target
from hwprof.backends.tflite import PROBE_MODEL
from hwprof.build.plan import expected_ms
from hwprof.errors import BackendError, BackendUnavailable, BuildError, OpError, UnsupportedOp
from hwprof.graph import Graph
from hwprof.measure import sentinel
from hwprof.measure.protocol import protocol
from hwprof.offline.carried import readme, runner_source
from hwprof.offline.device import FACT_FILES
from hwprof.offline.options import EXPORTED, ExportOptions
from hwprof.offline.plan import PLAN, OfflinePlan, PlannedOp
from hwprof.ops import OpSpec
from hwprof.space import Space, load_space

OP_TIMEOUT_S = 120.0
RUNNER = "run.py"


@dataclass(frozen=True)
class ExportReport:
    """What an export wrote.

    Attributes:
        exported: models in the folder.
        failures: op ids that could not be compiled, with the reason; `failed` counts those among them
            that are not just unsupported.
        minutes: about how long the device will take, were it as fast as a server's core.
    """

    out: Path
    exported: int
    failures: Mapping[str, str]
    minutes: float
    failed: int

    def summary(self) -> dict[str, Any]:
        return {**self.__dict__, "out": str(self.out), "failures": dict(self.failures)}


def export_jobs(options: ExportOptions, note: Callable[[str], None] | None = None) -> ExportReport:
    """Compile the ops of a space and write models, plan, runner and README; the folder appears whole or
    not at all. `note` is told what cannot be compiled.

    Raises:
        HwprofError: a bad option, a backend that cannot be exported, or no op that compiles.
    """
    options.check()
    backend = load_backend(options.backend)
    backend.check_target(_target_here(options))
    space = load_space(options.space).with_options(batch=options.batch, dtype=options.dtype)
    ops = space.ops()[: options.limit]
    try:
        with tempfile.TemporaryDirectory(
            prefix=f".{options.out.name}.", dir=options.out.absolute().parent
        ) as above:
            folder = Path(above) / options.out.name
            (folder / "models").mkdir(parents=True)
            planned = tuple(_planned(backend, options.target_there(), op, folder, note) for op in ops)
            plan = _plan(options, backend, space, planned)
            minutes = _minutes(plan)
            (folder / PLAN).write_text(plan.to_json())
            (folder / RUNNER).write_text(runner_source())
            (folder / "README.txt").write_text(readme(plan, options.out.name, minutes))
            folder.replace(options.out)
    except OSError as error:
        raise BuildError(f"--out {options.out} cannot be written: {error.strerror}") from None
    failures = {p.op.op_id: p.failure for p in planned if p.failure is not None}
    return ExportReport(
        options.out,
        len(planned) - len(failures),
        {op_id: reason for op_id, (_, reason) in failures.items()},
        minutes,
        sum(state == "failed" for state, _ in failures.values()),
    )


def _plan(
    options: ExportOptions, backend: Backend, space: Space, planned: tuple[PlannedOp, ...]
) -> OfflinePlan:
    reasons = [p.failure[1] for p in planned if p.failure is not None]
    if len(reasons) == len(planned):
        raise BuildError(f"no op of {space.name} compiles; the first: {reasons[0]}")
    target = options.target_there()
    runtime = backend.option(target, "runtime") if "runtime" in backend.options else backend.name
    here = _target_here(options)
    environment = {**backend.compiler(here), **backend.environment(here), "runtime": runtime}
    environment.pop("runtime_version", None)
    return OfflinePlan(
        backend=options.backend,
        target=target.name,
        runtime=runtime,
        options=dict(options.options),
        environment=environment,
        threads=options.threads,
        batch=options.batch,
        dtype=options.dtype,
        space=space.name,
        space_hash=space.space_hash,
        seed=options.seed,
        # The device makes every round of one pass: whether visits agree is judged at the import.
        protocol=replace(protocol(options.effort), second_pass=False),
        op_timeout_s=OP_TIMEOUT_S,
        probe=PROBE_MODEL if options.backend == "tflite" else "",
        facts=FACT_FILES,
        sentinels={
            "dense_side": sentinel.DENSE_SIDE,
            "memory_bytes": sentinel.MEMORY_BYTES,
            "dense_repeats": sentinel.DENSE_REPEATS,
            "memory_repeats": sentinel.MEMORY_REPEATS,
        },
        hwprof_version=__version__,
        ops=planned,
    )


def _minutes(plan: OfflinePlan) -> float:
    # Every round is made, where a build drops rows that agree.
    every = replace(plan.protocol, least_rounds=plan.protocol.rounds)
    return sum(expected_ms(p.op.lower(), every, 0.0) for p in plan.ops if p.model) / 60_000


def _target_here(options: ExportOptions) -> Target:
    """The target with a runtime that this interpreter has: compiling takes no other, and tflite-runtime,
    which needs one of its own, runs on the device only."""
    target = options.target_there()
    kept = {name: value for name, value in target.options.items() if name != "runtime"}
    return replace(target, options=kept)


def _planned(
    backend: Backend,
    target: Target,
    op: OpSpec,
    folder: Path,
    note: Callable[[str], None] | None,
) -> PlannedOp:
    graph = op.lower()
    start = time.perf_counter()
    try:
        artifact = _model(backend, graph, target)
    except BackendUnavailable:
        raise
    except (BackendError, OpError) as error:
        state = "unsupported" if isinstance(error, (UnsupportedOp, OpError)) else "failed"
        if note is not None:
            note(f"{state}: {op.label}: {error}")
        return PlannedOp(op, failure=(state, str(error)))
    compile_ms = (time.perf_counter() - start) * 1e3
    model = f"models/{op.op_id}{EXPORTED[backend.name]}"
    (folder / model).write_bytes(artifact.data)
    return PlannedOp(
        op,
        model,
        hashlib.sha256(artifact.data).hexdigest(),
        outputs=_output_shapes(backend, graph),
        nodes=_nodes(backend, artifact),
        metadata=dict(artifact.metadata),
        compile_ms=compile_ms,
    )


def _output_shapes(backend: Backend, graph: Graph) -> tuple[tuple[int, ...], ...]:
    """In the layout of the model: TFLite's is channels-last."""
    from hwprof.graph.tflite_emitter import nhwc

    shapes = (graph.shapes[name] for name in graph.outputs)
    return tuple(nhwc(s) if backend.name == "tflite" else tuple(s) for s in shapes)


def _nodes(backend: Backend, artifact: Artifact) -> int | None:
    """onnxruntime does not tell how many nodes a session has; these are before its optimisation."""
    if backend.name != "onnxruntime":
        return None
    import onnx

    return len(onnx.load_model_from_string(artifact.data).graph.node)


def _model(backend: Backend, graph: Graph, target: Target) -> Artifact:
    """What the device loads. onnxruntime's own artifact is optimised for this machine's processor by
    this version, whose kernels another one refuses (1.31's in 1.19: `GetFusedActivationAttr`). So the
    device gets the model as emitted, and optimises it itself."""
    if backend.name != "onnxruntime":
        return backend.compile(graph, target)
    from hwprof.backends.onnxruntime_int8 import quantise
    from hwprof.graph.onnx_emitter import to_onnx

    if target.dtype != "int8":
        return Artifact(to_onnx(graph).SerializeToString())
    model, stored = quantise(graph)
    return Artifact(model, {"quantisation": json.dumps(astuple(stored))})
