"""PyTorch on a GPU: the contract, memory and the clock. Skipped where torch can use none."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from hwprof import ops
from hwprof.backends.backend import Artifact, Target
from hwprof.backends.conformance import (
    CHECKS,
    DEVICE_CHECKS,
    check_chain,
    check_numerics,
    opened,
    outputs_of,
)
from hwprof.backends.pytorch import PytorchBackend
from hwprof.errors import BackendError, BackendUnavailable

needs_gpu = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="this machine has no GPU that torch can use"
)
BLOCK = ops.mbconv((1, 8, 12, 12), 8, 3, 6)
MODES = ("eager", "cudagraph", "compile")


def target_of(mode="eager", dtype="float32", **options):
    return Target("cuda", 1, dtype, {"mode": mode, **options})


class Remembering(PytorchBackend):
    """Compiles each Graph once."""

    compiled: dict[str, Artifact] = {}  # noqa: RUF012 - one for the whole module

    def compile(self, graph, target):
        key = repr((graph, target))
        if key not in self.compiled:
            self.compiled[key] = super().compile(graph, target)
        return self.compiled[key]


def ready(target):
    """Skip with the reason where this GPU machine lacks what the mode needs."""
    try:
        Remembering().check_target(target)
    except BackendUnavailable as error:
        pytest.skip(str(error))


@needs_gpu
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("dtype", PytorchBackend.dtypes)
@pytest.mark.parametrize("mode", ["eager", "cudagraph"])
def test_cuda_keeps_the_contract(check, dtype, mode):
    check(PytorchBackend(), target_of(mode, dtype))


@needs_gpu
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_cuda_keeps_the_contract_in_channels_last_and_tf32(check):
    check(PytorchBackend(), target_of("eager", layout="channels_last", tf32="on"))


@needs_gpu
@pytest.mark.parametrize(
    "check",
    [c for c in CHECKS if c not in (check_numerics, check_chain)],
    ids=lambda check: check.__name__,
)
def test_cuda_compiled_keeps_the_contract(check):
    ready(target_of("compile"))
    check(Remembering(), target_of("compile"))


@needs_gpu
@pytest.mark.parametrize("mode", MODES)
def test_modes_agree_with_the_reference_on_a_network(mode):
    ready(target_of(mode))
    image = (1, 16, 28, 28)
    graph = ops.lower([ops.mixconv(image, 16, {3: 48, 5: 48}, se_ratio=0.25), ops.head(image, 10, 32)])
    with opened(Remembering(), graph, target_of(mode)) as session:
        (got,), (want,) = outputs_of(session, graph)
    assert np.abs(got - want).max() <= 1e-4 * np.abs(want).max()


@needs_gpu
def test_every_tensor_lies_on_the_gpu_and_is_counted():
    with opened(PytorchBackend(), BLOCK.lower(), target_of()) as session:
        session.run()
        ((place, nodes),) = session.placement().items()
    assert place == f"cuda:0 {torch.cuda.get_device_name(0)}"
    assert nodes == len(BLOCK.lower().nodes)


@needs_gpu
@pytest.mark.parametrize("mode", ["eager", "cudagraph"])
def test_peak_memory_holds_weights_inputs_and_outputs(mode):
    op = ops.conv((1, 64, 56, 56), 128, 3)
    with opened(PytorchBackend(), op.lower(), target_of(mode)) as session:
        peak, _ = session.peak_memory()
    least = 4 * (64 * 56 * 56 + 128 * 56 * 56 + 128 * 64 * 9)
    assert least <= peak < least + (1 << 30)


@needs_gpu
def test_an_op_beyond_the_memory_fails_and_the_next_one_works():
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((64 << 20) / total)
    backend, target = PytorchBackend(), target_of()
    try:
        with (
            pytest.raises(BackendError, match="out of memory"),
            opened(backend, ops.activation((1, 64, 1024, 1024), "relu").lower(), target),
        ):
            pass
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    with opened(backend, BLOCK.lower(), target) as session:
        session.run()


@needs_gpu
def test_memory_of_closed_sessions_goes_back_to_the_driver_between_workers():
    backend, op = PytorchBackend(), ops.activation((1, 64, 512, 512), "relu")
    with opened(backend, op.lower(), target_of()) as session:
        session.run()
    kept = torch.cuda.memory_reserved(0)
    backend.release()
    assert torch.cuda.memory_reserved(0) <= kept - 4 * 64 * 512 * 512


AFTER_A_BAD_KERNEL = """
import numpy as np, torch
from hwprof import ops
from hwprof.backends.backend import Target
from hwprof.backends.pytorch import PytorchBackend
from hwprof.errors import DeviceLost

backend, target = PytorchBackend(), Target("cuda")
artifact = backend.compile(ops.skip((1, 8, 4, 4)).lower(), target)
try:
    torch.zeros(1, device="cuda")[torch.tensor([5], device="cuda")]
    torch.cuda.synchronize()
except RuntimeError:
    pass
backend.release()
try:
    backend.prepare(artifact, np.random.default_rng(0), target)
except DeviceLost as error:
    print(error)
"""


@needs_gpu
def test_a_process_whose_cuda_broke_blames_no_later_op():
    done = subprocess.run(
        [sys.executable, "-c", AFTER_A_BAD_KERNEL], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("cuda:0 does not work in this process: ")


@needs_gpu
@pytest.mark.device
@pytest.mark.parametrize("check", DEVICE_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("mode", MODES)
def test_cuda_runs_synchronously_and_works_for_its_time(check, mode):
    ready(target_of(mode))
    check(Remembering(), target_of(mode))


@needs_gpu
@pytest.mark.device
def test_events_agree_with_the_wall_clock_on_long_work():
    op = ops.conv((32, 256, 56, 56), 256, 3)
    with opened(PytorchBackend(), op.lower(), target_of()) as session:
        by_events = float(np.median(session.time_calls(10, group=10)))
        start = time.perf_counter_ns()
        with session._working() as call:
            for _ in range(100):
                call()
            session._stream.synchronize()
        by_wall = (time.perf_counter_ns() - start) / 10
    assert 0.8 < by_events / by_wall < 1.25


@needs_gpu
@pytest.mark.device
def test_short_kernels_are_timed_without_the_launch():
    with opened(PytorchBackend(), BLOCK.lower(), target_of()) as session:
        kernel = float(np.median(session.time_calls(20)))
        launch = float(np.median(session.launch_calls(20)))
    assert kernel < launch


@needs_gpu
@pytest.mark.device
def test_a_graph_takes_less_launch_time_than_eager_calls():
    launches = {}
    for mode in ("eager", "cudagraph"):
        with opened(PytorchBackend(), BLOCK.lower(), target_of(mode)) as session:
            launches[mode] = float(np.median(session.launch_calls(20)))
    assert launches["cudagraph"] < launches["eager"]


@needs_gpu
@pytest.mark.device
def test_a_swept_cache_slows_an_op_that_fits_it():
    side = int((torch.cuda.get_device_properties(0).L2_cache_size / 4 / 4 / 64) ** 0.5)
    op = ops.activation((1, 64, side, side), "relu")
    with opened(PytorchBackend(), op.lower(), target_of()) as session:
        session.time_calls(10)
        warm = float(np.median(session.time_calls(20)))
        cold = []
        for _ in range(20):
            session.flush("evicted")
            cold += session.time_calls(1)
    assert float(np.median(cold)) > 1.1 * warm
