"""Every built-in backend keeps the contract, by the suite that ships with the package."""

import numpy as np
import pytest

from hwprof.backends import backend_class
from hwprof.backends.backend import Artifact, Target
from hwprof.backends.conformance import (
    CHECKS,
    DEVICE_CHECKS,
    ConformanceError,
    check_numerics,
    check_silent,
)
from hwprof.backends.onnxruntime import OnnxRuntimeBackend
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


def test_onnxruntime_refuses_garbage_as_an_artifact_in_one_line():
    from hwprof.errors import BackendError

    with pytest.raises(BackendError, match="onnxruntime refused the model") as caught:
        OnnxRuntimeBackend().prepare(Artifact(b"garbage"), np.random.default_rng(0), Target("cpu"))
    assert "\n" not in str(caught.value)
