"""Inside the worker: one look at a compiled op before it is timed: its numbers, where its nodes ran, its
peak memory and its energy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hwprof.backends.backend import Artifact, Backend, Target
from hwprof.errors import CheckFailed
from hwprof.graph import Graph
from hwprof.measure.messages import Checked

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
        told = session.peak_memory()
    if told is not None:
        return replace(seen, peak_memory_bytes=told[0], peak_memory_source=told[1])
    return seen


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
