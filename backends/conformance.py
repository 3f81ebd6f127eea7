"""The conformance suite: what every backend must do, usable by third parties.

`hwprof check-backend NAME` runs all checks; under pytest, parametrise over `CHECKS`:

    @pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
    def test_my_backend(check): check(MyBackend(), Target("cpu"))

A check raises ConformanceError (an AssertionError) with what it saw. Checks in `DEVICE_CHECKS` need a
clock and a quiet machine.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import io
import json
import os
import re
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hwprof import ops
from hwprof.backends.backend import Backend, Session, Target
from hwprof.errors import BackendError, BackendUnavailable, UnsupportedOp
from hwprof.graph import ACTIVATIONS, Graph
from hwprof.graph.reference import run_reference
from hwprof.ops import OpSpec

TOLERANCES = {"float32": 1e-4, "float16": 2e-2, "bfloat16": 1e-1, "int8": 2e-1}
# How runtimes call a processor and a GPU where they name a device, a provider or a kind of code.
HOST_WORDS = ("cpu", "host", "llvm")
GPU_WORDS = ("cuda", "gpu", "rocm", "opencl", "vulkan")

Check = Callable[[Backend, Target], None]


class ConformanceError(AssertionError):
    """A backend does not keep the contract."""


def run_check(check: Check, backend: Backend, target: Target) -> str:
    """Empty where the check passes, else what it saw, in one line."""
    try:
        check(backend, target)
    except ConformanceError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - a third party's backend may raise anything
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    return ""


def tolerance(target: Target) -> float:
    """Largest difference from the reference that is allowed, as a share of its largest value. TF32 keeps
    as many bits of a factor as float16."""
    return TOLERANCES["float16" if target.options.get("tf32") == "on" else target.dtype]


def sample_ops(dtype: str) -> tuple[OpSpec, ...]:
    """One or more ops of every kind: mixes, SE, activations, strides, odd sizes, residuals."""
    image, odd = (1, 8, 12, 12), (1, 8, 15, 15)
    return (
        ops.conv((1, 3, 17, 17), 8, 7, stride=2, activation="relu", dtype=dtype),
        ops.conv(image, 12, 3, groups=4, activation="swish", dtype=dtype),
        ops.depthwise(odd, 5, stride=2, activation="hswish", dtype=dtype),
        OpSpec("relu_conv", image, 8, mix=((3, 8),), dtype=dtype),
        ops.mbconv(image, 8, 3, 6, activation="relu6", dtype=dtype),
        ops.mbconv(image, 16, 5, 1, stride=2, activation="relu6", dtype=dtype),
        ops.mixconv(odd, 8, {3: 16, 5: 16, 7: 16}, se_ratio=0.25, activation="hswish", dtype=dtype),
        ops.mixconv(odd, 12, {3: 32, 5: 16}, stride=2, activation="swish", dtype=dtype),
        ops.fused_mbconv(image, 8, 3, 4, se_ratio=0.25, dtype=dtype),
        OpSpec("basic_block", image, 16, mix=((3, 16),), stride=2, activation="relu", dtype=dtype),
        ops.squeeze_excite(image, 0.25, dtype=dtype),
        *(ops.activation(image, name, dtype=dtype) for name in ACTIVATIONS),
        ops.pool(odd, "max", 3, stride=2, dtype=dtype),
        ops.pool(image, "avg", 3, dtype=dtype),
        ops.pool(image, "global_avg", dtype=dtype),
        ops.head(image, 10, 32, activation="hswish", dtype=dtype),
        ops.fc((2, 16), 10, activation="relu", dtype=dtype),
        ops.skip(image, dtype=dtype),
    )  # fmt: skip


@contextlib.contextmanager
def opened(backend: Backend, graph: Graph, target: Target, seed: int = 0) -> Iterator[Session]:
    """Compile, prepare, and close afterwards."""
    artifact = backend.compile(graph, target)
    with backend.prepare(artifact, np.random.default_rng(seed), target) as session:
        yield session


def outputs_of(
    session: Session, graph: Graph
) -> tuple[list[NDArray[np.generic]], list[NDArray[np.float64]]]:
    """What the backend computed, and what the float64 reference computes from the same inputs."""
    stored = session.quantisation()
    inputs = _real_values(session.inputs(), stored.inputs if stored else None)
    session.run()
    results = _real_values(session.outputs(), stored.outputs if stored else None)
    return results, run_reference(graph, dict(zip(graph.inputs, inputs, strict=True)))


def _real_values(
    arrays: list[NDArray[np.generic]], stored: tuple[tuple[float, int], ...] | None
) -> list[NDArray[np.generic]]:
    if stored is None:
        return arrays
    return [
        scale * (np.asarray(array, dtype=np.float64) - zero)
        for array, (scale, zero) in zip(arrays, stored, strict=True)
    ]


def check_probe(backend: Backend, target: Target) -> None:
    """`probe` answers the same twice, with a version, or with what is missing and how to get it."""
    first, second = backend.probe(), backend.probe()
    _require(first == second, f"probe answered {first}, then {second}")
    if first.available:
        _require(bool(first.version), "an available backend has no version")
    else:
        _require(bool(first.missing and first.install), "probe does not say what installs it")


def check_environment(backend: Backend, target: Target) -> None:
    """The environment names runtime and version, is plain JSON and the same twice."""
    first = dict(backend.environment(target))
    _require(first == dict(backend.environment(target)), "environment differs from call to call")
    for name in ("runtime", "runtime_version"):
        _require(bool(first.get(name)), f"environment has no {name}")
    for name, value in first.items():
        _require(isinstance(value, (str, int, float, bool, type(None))), f"{name} is {type(value)}")


def check_numerics(backend: Backend, target: Target) -> None:
    """Every op kind agrees with the float64 reference, or is said to be unsupported."""
    supported = 0
    for op in sample_ops(target.dtype):
        graph = op.lower()
        try:
            with opened(backend, graph, target) as session:
                results, expected = outputs_of(session, graph)
        except UnsupportedOp:
            continue
        supported += 1
        for result, reference in zip(results, expected, strict=True):
            _close(op.label, result, reference, tolerance(target))
    _require(supported > 0, "no op kind at all is supported")


def check_chain(backend: Backend, target: Target) -> None:
    """A chain of ops is one graph and agrees with the reference."""
    image = (1, 8, 12, 12)
    chain = [
        ops.mbconv(image, 8, 3, 6, dtype=target.dtype),
        ops.mbconv(image, 12, 5, 6, dtype=target.dtype),
    ]
    graph = ops.lower(chain)
    with opened(backend, graph, target) as session:
        results, expected = outputs_of(session, graph)
    _close("chain", results[0], expected[0], 2 * tolerance(target))


def check_fresh_sessions(backend: Backend, target: Target) -> None:
    """Two sessions of one artifact are independent, with buffers at different places; the same seed
    gives the same inputs, another seed other ones."""
    graph = _small_op(target).lower()
    artifact = backend.compile(graph, target)
    one, two, three = (
        backend.prepare(artifact, np.random.default_rng(seed), target) for seed in (1, 1, 2)
    )
    with one, two, three:
        places = [tuple(s.addresses()) for s in (one, two, three)]
        _require(len(set(places)) == 3 or not any(places), "sessions share their input buffer")
        same, other = (np.array_equal(one.inputs()[0], s.inputs()[0]) for s in (two, three))
        _require(same and not other, "inputs do not follow the seed")
        two.run()
        before = two.outputs()[0]
        one.set_inputs([np.zeros_like(values) for values in one.inputs()])
        one.run()
        _require(np.array_equal(before, two.outputs()[0]), "a run changed another session's output")


def check_input_is_live(backend: Backend, target: Target) -> None:
    """Another input changes the next run (the op is not folded away)."""
    graph = _small_op(target).lower()
    with opened(backend, graph, target) as session:
        session.run()
        first = session.outputs()[0]
        session.set_inputs([np.flip(values, axis=-1) for values in session.inputs()])
        session.run()
        _require(not np.array_equal(first, session.outputs()[0]), "the output ignores the input")


def check_no_global_rng(backend: Backend, target: Target) -> None:
    """Neither Python's nor numpy's global random state is touched."""
    import random

    before = (random.getstate(), np.random.get_state()[1].tolist())  # type: ignore[index]
    with opened(backend, _small_op(target).lower(), target) as session:
        session.run()
    after = (random.getstate(), np.random.get_state()[1].tolist())  # type: ignore[index]
    _require(before == after, "a global random state was used")


def check_close(backend: Backend, target: Target) -> None:
    """`close` twice is fine; a run after it raises BackendError."""
    artifact = backend.compile(_small_op(target).lower(), target)
    session = backend.prepare(artifact, np.random.default_rng(0), target)
    session.close()
    session.close()
    try:
        session.run()
    except BackendError:
        return
    raise ConformanceError("a closed session still runs")


def check_close_frees_inputs(backend: Backend, target: Target) -> None:
    """On the host nothing holds the input buffers of a closed session, not even the session itself."""
    if backend.device(target) != "host":
        return
    artifact = backend.compile(_small_op(target).lower(), target)
    session = backend.prepare(artifact, np.random.default_rng(0), target)
    session.run()
    held = [reference for buffer in session.input_buffers() for reference in _memory_of(buffer)]
    session.close()
    gc.collect()
    _require(
        all(reference() is None for reference in held),
        "the input buffers live on after the session was closed",
    )


def _memory_of(array: NDArray[np.generic]) -> Iterator[weakref.ref[NDArray[np.generic]]]:
    """The array, and the arrays whose memory it is a view of."""
    shown: object = array
    while isinstance(shown, np.ndarray):
        yield weakref.ref(shown)
        shown = shown.base


def check_placement(backend: Backend, target: Target) -> None:
    """Placement names where the nodes ran, with positive counts and the same after each run. Where a
    name speaks of another device than the target's, `fallback` says so in a sentence of one line."""
    device = backend.device(target)
    with opened(backend, _small_op(target).lower(), target) as session:
        session.run()
        placement, fallback = dict(session.placement()), session.fallback()
        session.run()
        later = dict(session.placement())
    _require(bool(placement), "placement is empty")
    _require(all(isinstance(n, int) and n > 0 for n in placement.values()), f"placement: {placement}")
    _require(placement == later, f"placement was {placement}, then {later}")
    _require("\n" not in fallback, f"fallback has more than one line: {fallback!r}")
    strangers = [name for name in placement if _speaks_of_another(name, device)]
    _require(
        not strangers or bool(fallback.strip()),
        f"the target's device is {device}, nodes ran on {', '.join(strangers)}, and fallback is empty",
    )


def _speaks_of_another(name: str, device: str) -> bool:
    """Whether a name in a placement is of another device. A name that is neither of a host nor of a GPU
    (a delegate, `simulated`) says nothing."""
    words = name.lower()
    if device == "host":
        return any(word in words for word in GPU_WORDS)
    if not device.startswith("cuda:"):
        return False
    index = re.search(r"cuda:\d+", words)
    return any(word in words for word in HOST_WORDS) or bool(index and index[0] != device)


def check_timings(backend: Backend, target: Target) -> None:
    """Timings are as many as asked for, positive whole nanoseconds."""
    with opened(backend, _small_op(target).lower(), target) as session:
        session.run()
        timings = session.time_calls(7)
    _require(len(timings) == 7, f"asked for 7 timings, got {len(timings)}")
    _require(all(isinstance(t, int) and t > 0 for t in timings), f"timings: {timings}")


def check_unsupported_dtype(backend: Backend, target: Target) -> None:
    """A dtype that is not declared is refused as unsupported, never compiled as something else."""
    for dtype in ("float32", "float16", "bfloat16", "int8"):
        if dtype in backend.dtypes:
            continue
        other = replace(target, dtype=dtype)
        try:
            backend.compile(_small_op(other).lower(), other)
        except UnsupportedOp:
            continue
        raise ConformanceError(f"dtype {dtype} is not declared, yet compiles")


def check_silent(backend: Backend, target: Target) -> None:
    """Nothing is printed to standard output, neither by Python nor by the runtime's own code."""
    sys.stdout.flush()
    printed = io.StringIO()
    with tempfile.TemporaryFile() as file:
        saved = os.dup(1)
        try:
            os.dup2(file.fileno(), 1)
            with (
                contextlib.redirect_stdout(printed),
                opened(backend, _small_op(target).lower(), target) as s,
            ):
                s.run()
            ctypes.CDLL(None).fflush(None)  # what C code printed may still be in its own buffer
        finally:
            os.dup2(saved, 1)
            os.close(saved)
        file.seek(0)
        text = file.read().decode(errors="replace") + printed.getvalue()
    _require(not text, f"printed to standard output: {text[:100]!r}")


def check_options_are_identity(backend: Backend, target: Target) -> None:
    """Two values of an option are two environments, so that their numbers never mix."""
    for name, option in backend.options.items():
        seen: dict[str, str] = {}
        for choice in option.choices:
            other = replace(target, options={**target.options, name: choice})
            try:
                identity = json.dumps(dict(backend.environment(other)), sort_keys=True)
            except BackendUnavailable:
                continue  # this value makes no sense beside the others
            twin = seen.setdefault(identity, choice)
            _require(twin == choice, f"environment is the same for {name}={twin} and {name}={choice}")


def check_work_takes_time(backend: Backend, target: Target) -> None:
    """Eight times the work is at least twice as slow (median of 20 calls; three tries)."""
    small = ops.conv((1, 64, 28, 28), 64, 3, dtype=target.dtype)
    large = ops.conv((1, 64, 56, 56), 128, 3, dtype=target.dtype)
    ratios = []
    for _ in range(3):
        medians = []
        for op in (small, large):
            with opened(backend, op.lower(), target) as session:
                session.time_calls(3)
                medians.append(float(np.median(session.time_calls(20))))
        ratios.append(medians[1] / medians[0])
        if ratios[-1] >= 2:
            return
    raise ConformanceError(f"8x the work took only {max(ratios):.2f}x the time")


def check_synchronous(backend: Backend, target: Target) -> None:
    """A group of 2n calls takes 1.6 to 2.4 times a group of n (three tries)."""
    op = ops.conv((1, 64, 56, 56), 64, 3, dtype=target.dtype)
    ratios = []
    for _ in range(3):
        with opened(backend, op.lower(), target) as session:
            session.time_calls(3)
            one = float(np.median(session.time_calls(9, group=4)))
            two = float(np.median(session.time_calls(9, group=8)))
        ratios.append(two / one)
        if 1.6 <= ratios[-1] <= 2.4:
            return
    raise ConformanceError(f"twice the calls took {ratios[-1]:.2f}x the time: runs are not synchronous")


CHECKS: tuple[Check, ...] = (
    check_probe, check_environment, check_numerics, check_chain, check_fresh_sessions,
    check_input_is_live, check_no_global_rng, check_close, check_close_frees_inputs, check_placement,
    check_timings, check_unsupported_dtype, check_options_are_identity, check_silent,
)  # fmt: skip
DEVICE_CHECKS: tuple[Check, ...] = (check_work_takes_time, check_synchronous)


def _small_op(target: Target) -> OpSpec:
    return ops.mbconv((1, 8, 12, 12), 8, 3, 6, dtype=target.dtype)


def _close(
    name: str, result: NDArray[np.generic], reference: NDArray[np.float64], tolerance: float
) -> None:
    """Largest difference against the reference's largest value."""
    _require(result.shape == reference.shape, f"{name}: shape {result.shape}, not {reference.shape}")
    difference = float(np.abs(np.asarray(result, dtype=np.float64) - reference).max())
    scale = float(np.abs(reference).max())
    _require(
        difference <= tolerance * scale,
        f"{name}: differs from the reference by {difference / scale:.2e} of its largest value, "
        f"{tolerance:g} is allowed",
    )


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConformanceError(message)
