"""Inside the worker: one look at a compiled op before it is timed: its numbers, where its nodes ran, its
peak memory and its energy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hwprof.backends.backend import Artifact, Backend, Target
from hwprof.errors import CheckFailed
from hwprof.graph import Graph
from hwprof.machine.energy import open_energy_meter
from hwprof.machine.memory import PeakMemory, open_peak_memory
from hwprof.measure.messages import Checked
from hwprof.measure.visit import keep_busy

LARGEST_OUTPUT = 1e3


def check(backend: Backend, artifact: Artifact, graph: Graph, target: Target) -> Checked:
    """Run a compiled Graph, look at its numbers, and read what does not need a clock.

    Raises:
        CheckFailed: a wrong shape, NaN, infinity, denormals or values of 1e3 and more: such numbers
            change the time (denormals: 93 ms instead of 6.3 ms) or mean that another op was compiled.
    """
    if not backend.computes:
        return Checked()
    with backend.prepare(artifact, np.random.default_rng(0), target) as session:
        session.run()
        seen = Checked(dict(session.placement()), session.fallback())
        for name, out in zip(graph.outputs, session.outputs(), strict=True):
            _check_output(name, out, graph.shapes[name])
    return _with_energy(_with_memory(seen, backend, artifact, target), backend, artifact, target)


def _with_memory(seen: Checked, backend: Backend, artifact: Artifact, target: Target) -> Checked:
    """Of a second session: the first one also loads what the runtime keeps for all of them."""
    device = backend.device(target)
    reader = open_peak_memory() if device == "host" else f"not known for the device {device!r}"
    if isinstance(reader, PeakMemory):
        reader.begin()
    with backend.prepare(artifact, np.random.default_rng(0), target) as session:
        session.run()
        told = session.peak_memory()
        if told is not None:
            return replace(seen, peak_memory_bytes=told[0], peak_memory_source=told[1])
        if isinstance(reader, str):
            return replace(seen, peak_memory_source=reader)
        peak_bytes = reader.peak_bytes()
    if peak_bytes is None:
        return replace(seen, peak_memory_source="too small to be seen in the process's resident memory")
    return replace(seen, peak_memory_bytes=peak_bytes, peak_memory_source=reader.source)


def _with_energy(seen: Checked, backend: Backend, artifact: Artifact, target: Target) -> Checked:
    """Of calls back to back, for as long as the counter needs."""
    meter = open_energy_meter(backend.device(target))
    if isinstance(meter, str):
        return replace(seen, energy_reason=meter)
    with backend.prepare(artifact, np.random.default_rng(0), target) as session:
        session.run()
        before_mj = meter.read_mj()
        calls = keep_busy(session, backend.device(target), meter.window_ms / 1e3)
        energy_mj = meter.read_mj() - before_mj
    if energy_mj <= 0:
        return replace(seen, energy_reason=f"the counter stands still: {meter.source}")
    return replace(seen, energy_mj=energy_mj / calls)


def _check_output(name: str, out: NDArray[np.generic], shape: tuple[int, ...]) -> None:
    if tuple(out.shape) != tuple(shape):
        raise CheckFailed(f"output {name} has shape {tuple(out.shape)}, the op says {tuple(shape)}")
    values = np.abs(np.asarray(out, dtype=np.float64))
    if not np.isfinite(values).all():
        raise CheckFailed(f"output {name} holds NaN or infinity")
    if values.max(initial=0.0) >= LARGEST_OUTPUT:
        raise CheckFailed(f"output {name} reaches {values.max():.3g}; {LARGEST_OUTPUT:g} is the limit")
    if out.dtype.kind == "f":
        tiny = float(np.finfo(out.dtype.name).tiny)
        denormal = int(((values > 0) & (values < tiny)).sum())
        # float16 has few exponents: an ordinary distribution holds some denormals around zero.
        if denormal > 0.01 * values.size:
            raise CheckFailed(f"output {name} holds {denormal} denormals of {values.size} values")
