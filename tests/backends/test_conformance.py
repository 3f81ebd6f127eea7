"""Every built-in backend keeps the contract, by the suite that ships with the package."""

import numpy as np
import pytest

from hwprof.backends import backend_class
from hwprof.backends.backend import Artifact, Target
from hwprof.backends.conformance import (
    CHECKS,
    DEVICE_CHECKS,
    TOLERANCES,
    ConformanceError,
    check_close_frees_inputs,
    check_numerics,
    check_placement,
    check_silent,
    tolerance,
)
from hwprof.backends.onnxruntime import OnnxRuntimeBackend
from hwprof.backends.onnxruntime_session import OnnxRuntimeSession
from hwprof.backends.simulated import SimulatedBackend

CASES = [
    ("onnxruntime", "cpu", "float32"),
    ("onnxruntime", "cpu", "float16"),
    ("simulated", "exact", "float32"),
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(("name", "target", "dtype"), CASES)
def test_backend_keeps_the_contract(check, name, target, dtype):
    check(backend_class(name)(), Target(target, 1, dtype))


@pytest.mark.device
@pytest.mark.parametrize("check", DEVICE_CHECKS, ids=lambda check: check.__name__)
def test_onnxruntime_runs_synchronously_and_works_for_its_time(check):
    check(OnnxRuntimeBackend(), Target("cpu"))


class WrongNumbers(OnnxRuntimeBackend):
    """Compiles every op with its activations left out."""

    def compile(self, graph, target):
        from dataclasses import replace

        nodes = tuple(
            replace(n, primitive="identity") if n.primitive in ("relu", "hswish") else n
            for n in graph.nodes
        )
        return super().compile(replace(graph, nodes=nodes), target)


class Chatty(SimulatedBackend):
    def compile(self, graph, target):
        import os

        os.write(1, b"hello from native code\n")
        return super().compile(graph, target)


def test_suite_catches_a_backend_that_computes_something_else():
    with pytest.raises(ConformanceError, match="differs from the reference"):
        check_numerics(WrongNumbers(), Target("cpu"))


def test_suite_catches_output_of_native_code_on_stdout():
    with pytest.raises(ConformanceError, match="hello from native code"):
        check_silent(Chatty(), Target("exact"))


class LyingSession(OnnxRuntimeSession):
    told: dict = {}  # noqa: RUF012 - each test sets what it tells
    excuse = ""

    def placement(self):
        return self.told

    def fallback(self):
        return self.excuse


class Lying(OnnxRuntimeBackend):
    """Runs on the CPU, tells another device, and places nodes as it likes."""

    def __init__(self, device, told, excuse=""):
        self._device, self._told, self._excuse = device, told, excuse

    def device(self, target):
        return self._device

    def prepare(self, artifact, rng, target):
        session = super().prepare(artifact, rng, target)
        session.__class__ = LyingSession
        session.told, session.excuse = self._told, self._excuse
        return session


@pytest.mark.parametrize(
    ("device", "told"),
    [
        ("cuda:0", {"CUDAExecutionProvider": 4, "CPUExecutionProvider": 2}),
        ("cuda:0", {"llvm": 6}),
        ("cuda:0", {"cuda:1 NVIDIA H200": 6}),
        ("host", {"CUDAExecutionProvider": 6}),
    ],
    ids=["partly on the host", "all on the host", "another gpu", "a gpu in place of the host"],
)
def test_suite_catches_nodes_on_another_device_without_a_word_of_it(device, told):
    with pytest.raises(ConformanceError, match=f"device is {device}, nodes ran on .*fallback is empty"):
        check_placement(Lying(device, told), Target("cpu"))
    check_placement(Lying(device, told, "6 of 6 nodes ran elsewhere"), Target("cpu"))


@pytest.mark.parametrize(
    ("device", "told"),
    [
        ("cuda:0", {"CUDAExecutionProvider": 6}),
        ("cuda:0", {"cuda:0 NVIDIA GeForce RTX 4090": 6}),
        ("host", {"XNNPACK": 3, "TFLite kernels": 1}),
        ("remote", {"llvm": 6}),
    ],
)
def test_suite_takes_names_that_fit_the_device(device, told):
    check_placement(Lying(device, told), Target("cpu"))


class Hoarding(OnnxRuntimeBackend):
    """Keeps what its sessions were given in a list of its own."""

    hoard: list = []  # noqa: RUF012 - outlives the session, which is the fault

    def prepare(self, artifact, rng, target):
        session = super().prepare(artifact, rng, target)
        self.hoard += session.input_buffers()
        return session


class Keeping(OnnxRuntimeBackend):
    """Its sessions keep their buffers when they are closed."""

    def prepare(self, artifact, rng, target):
        session = super().prepare(artifact, rng, target)
        kept, close = session.input_buffers(), session.close
        session.close = lambda: (close(), setattr(session, "_kept", [buffer[:] for buffer in kept]))
        return session


@pytest.mark.parametrize("backend", [Hoarding, Keeping], ids=lambda backend: backend.__name__)
def test_suite_catches_input_buffers_that_outlive_their_session(backend):
    with pytest.raises(ConformanceError, match="live on after the session was closed"):
        check_close_frees_inputs(backend(), Target("cpu"))


def test_tf32_is_held_to_the_bits_that_it_keeps():
    assert tolerance(Target("cuda", options={"tf32": "on"})) == TOLERANCES["float16"]
    assert tolerance(Target("cuda", options={"tf32": "off"})) == TOLERANCES["float32"]
    assert tolerance(Target("cuda", 1, "bfloat16")) == TOLERANCES["bfloat16"]


def test_onnxruntime_refuses_garbage_as_an_artifact_in_one_line():
    from hwprof.errors import BackendError

    with pytest.raises(BackendError, match="onnxruntime refused the model") as caught:
        OnnxRuntimeBackend().prepare(Artifact(b"garbage"), np.random.default_rng(0), Target("cpu"))
    assert "\n" not in str(caught.value)
