"""PyTorch on CUDA: refusals and the order of work without a GPU; the contract and the clock on one."""

from __future__ import annotations

import contextlib
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hwprof import ops
from hwprof.backends import pytorch_cuda
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
from hwprof.backends.pytorch_cuda import SPIN_CYCLES_PER_NS, CudaSession, check_cuda, cuda_environment
from hwprof.backends.pytorch_session import Program
from hwprof.errors import BackendError, BackendUnavailable, DeviceLost

needs_gpu = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="this machine has no GPU that torch can use"
)


# Without a GPU: what is refused.


def fake_torch(cuda="13.0", available=True, count=1):
    return SimpleNamespace(
        __version__="2.11.0",
        version=SimpleNamespace(cuda=cuda),
        backends=SimpleNamespace(cudnn=SimpleNamespace(version=lambda: 91_200)),
        cuda=SimpleNamespace(
            is_available=lambda: available,
            device_count=lambda: count,
            get_device_name=lambda index: "NVIDIA H200",
        ),
    )


@pytest.mark.parametrize(
    ("torch_", "index", "reason"),
    [
        (fake_torch(cuda=None), 0, r"this torch \(2.11.0\) has no CUDA; install a CUDA build"),
        (fake_torch(available=False), 0, r"finds no GPU; install NVIDIA's driver.*CUDA_VISIBLE_DEVICES"),
        (fake_torch(count=2), 2, "cuda:2 is not here; choose of cuda:0, cuda:1"),
    ],
    ids=["no CUDA", "no GPU", "no such GPU"],
)
def test_what_is_missing_is_named(torch_, index, reason):
    with pytest.raises(BackendUnavailable, match=reason) as caught:
        check_cuda(torch_, index)
    assert "\n" not in str(caught.value)


def test_the_environment_holds_gpu_driver_and_libraries(monkeypatch):
    gpu = SimpleNamespace(name="NVIDIA H200", driver="580.159.04")
    monkeypatch.setattr(pytorch_cuda, "open_gpu", lambda index: (gpu, ""))
    with_nvml = cuda_environment(fake_torch(), 0)
    monkeypatch.setattr(pytorch_cuda, "open_gpu", lambda index: (None, "no nvidia-ml-py"))
    without = cuda_environment(fake_torch(), 0)
    assert with_nvml == {
        "gpu": "NVIDIA H200", "driver": "580.159.04", "cuda": "13.0", "cudnn": 91_200,
        "cudnn_benchmark": True, "deterministic": False,
    }  # fmt: skip
    assert without == {**with_nvml, "driver": None}


def test_modes_of_the_process_are_set_explicitly():
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = (matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic)
    try:
        for tf32 in (True, False):
            pytorch_cuda.configure_cuda(torch, tf32)
            assert (matmul.allow_tf32, cudnn.allow_tf32) == (tf32, tf32)
            assert cudnn.benchmark
    finally:
        matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic = before


# Without a GPU: the order of work, on a stand-in for the stream whose clock counts what is queued.


class FakeDevice:
    """A GPU that runs on the CPU at once, and logs. Spins and events move a clock of its own."""

    def __init__(self):
        self.log, self.now_ms, self.broken = [], 0.0, False
        self.peak = self.allocated = 0

    def work(self):
        """What the ops of one call take: the stand-in cannot see them, so the module tells."""
        self.log.append("call")
        self.now_ms += 0.25

    def synchronize(self, device=None):
        if self.broken:
            raise RuntimeError("CUDA error: an illegal memory access was encountered\nmore text")
        self.log.append("synchronize")

    def spin(self, cycles):
        self.log.append(("spin", cycles))
        self.now_ms += 1.0


@pytest.fixture
def device(monkeypatch):
    """torch.cuda's own names lead to a stand-in; tensors lie on the CPU."""
    made = FakeDevice()

    class Stream:
        def __init__(self, device):
            pass

        def synchronize(self):
            made.synchronize()

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self, stream):
            made.log.append("event")
            self.at_ms = made.now_ms

        def elapsed_time(self, end):
            return end.at_ms - self.at_ms

    class CUDAGraph:
        def replay(self):
            made.work()

        def reset(self):
            made.log.append("reset")

    @contextlib.contextmanager
    def capture(graph, stream):
        made.log.append("capture")
        yield
        made.log.append("captured")

    stand_ins = {
        "Stream": Stream, "Event": Event, "CUDAGraph": CUDAGraph, "graph": capture,
        "device": lambda device: contextlib.nullcontext(),
        "stream": lambda stream: contextlib.nullcontext(),
        "synchronize": made.synchronize, "_sleep": made.spin, "empty_cache": lambda: None,
        "memory_allocated": lambda device: made.allocated,
        "max_memory_allocated": lambda device: made.peak,
        "reset_peak_memory_stats": lambda device: None,
        "get_device_properties": lambda device: SimpleNamespace(L2_cache_size=1 << 16),
    }  # fmt: skip
    for name, value in stand_ins.items():
        monkeypatch.setattr(torch.cuda, name, value, raising=False)
    # The session asks for "cuda:0"; on this machine its memory is the host's.
    monkeypatch.setattr(torch, "device", lambda kind, index: "cpu")

    real = pytorch_cuda.load_program

    def counted(program, weights, inputs):
        call = real(program, weights, inputs)

        def run():
            made.work()
            return call()

        return run

    monkeypatch.setattr(pytorch_cuda, "load_program", counted)
    return made


def session_of(op, *, captured=False, channels_last=False, seed=0):
    return CudaSession(
        Program.seeded(op.lower()), 0, channels_last, captured, np.random.default_rng(seed)
    )


BLOCK = ops.mbconv((1, 8, 12, 12), 8, 3, 6)


@pytest.mark.parametrize("dtype", PytorchBackend.dtypes)
@pytest.mark.parametrize("channels_last", [False, True])
def test_placed_weights_and_inputs_give_the_right_numbers(device, dtype, channels_last):
    op = ops.mbconv((1, 8, 12, 12), 8, 3, 6, dtype=dtype)
    with session_of(op, channels_last=channels_last) as session:
        (got,), (want,) = outputs_of(session, op.lower())
        assert np.abs(got - want).max() <= 0.03 * np.abs(want).max()
        session.set_inputs([np.flip(values, axis=-1) for values in session.inputs()])
        (flipped,), (want,) = outputs_of(session, op.lower())
        assert np.abs(flipped - want).max() <= 0.03 * np.abs(want).max()
        assert not np.array_equal(got, flipped)


def test_each_session_lies_elsewhere_and_aligned(device):
    with session_of(BLOCK, seed=1) as one, session_of(BLOCK, seed=2) as two:
        assert one.addresses() != two.addresses()
        # The host's allocator aligns to 64 bytes, CUDA's to 512: the offsets keep either.
        assert all(address % 64 == 0 for address in one.addresses() + two.addresses())


def test_all_launches_of_a_group_are_queued_behind_a_spin(device):
    with session_of(BLOCK) as session:
        session._launch_ns = 10_000
        device.log.clear()
        timings = session.time_calls(2, group=3)
    spin = ("spin", SPIN_CYCLES_PER_NS * (2 * 10_000 * 3 + pytorch_cuda.SPIN_MARGIN_NS))
    one = [spin, "event", "call", "call", "call", "event"]
    assert device.log[:13] == [*one, *one, "synchronize"]
    assert timings == [750_000, 750_000]  # three calls of 0.25 ms, and no spin


def test_a_launch_is_timed_on_an_idle_device(device):
    with session_of(BLOCK) as session:
        device.log.clear()
        timings = session.launch_calls(3)
    assert device.log[:7] == ["synchronize", "call"] * 3 + ["synchronize"]
    assert len(timings) == 3
    assert min(timings) > 0


def test_nothing_runs_between_the_sweep_of_the_cache_and_the_timed_call(device):
    with session_of(BLOCK) as session:
        session.flush("evicted")
        assert session._sweep.numel() == 2 << 16
        session._sweep.fill_(1)
        device.log.clear()
        session.flush("evicted")
        assert device.log == []
        assert int(session._sweep.max()) == 0
        session.time_calls(1)
        assert device.log[1:4] == ["event", "call", "event"]
        with pytest.raises(BackendError, match="'in_chain' is unknown on cuda; choose of warm, evicted"):
            session.flush("in_chain")


def test_a_graph_is_captured_after_the_warm_calls_and_then_replayed(device):
    with session_of(BLOCK, captured=True) as session:
        warm = device.log.index("capture")
        assert device.log[:warm].count("call") == pytorch_cuda.WARM_CALLS
        assert device.log[warm : warm + 3] == ["capture", "call", "captured"]
        (got,), (want,) = outputs_of(session, BLOCK.lower())
        assert np.abs(got - want).max() <= 1e-4 * np.abs(want).max()
    assert device.log[-1] == "reset"


def test_peak_memory_is_weights_inputs_and_what_a_call_adds(device):
    device.allocated, device.peak = 5000, 12_000
    op = ops.conv((1, 4, 8, 8), 8, 3)
    with session_of(op) as session:
        peak, source = session.peak_memory()
    placed = 4 * (8 * 4 * 9 + 8 + 4 * 64)
    assert peak == 12_000 - 5000 + placed
    assert "max_memory_allocated" in source


def test_a_device_broken_by_an_earlier_op_blames_no_later_one(device):
    device.broken = True
    with pytest.raises(DeviceLost, match=r"cuda:0 stopped working before this op.*illegal memory"):
        session_of(BLOCK)


def test_a_device_that_breaks_in_a_call_fails_that_op_and_can_be_closed(device):
    session = session_of(BLOCK)
    device.broken = True
    with pytest.raises(BackendError, match="pytorch refused: CUDA error: an illegal") as caught:
        session.run()
    assert not isinstance(caught.value, DeviceLost)
    assert "\n" not in str(caught.value)
    session.close()
    session.close()
    for use in (session.run, lambda: session.time_calls(1), session.outputs, session.placement):
        with pytest.raises(BackendError, match="closed"):
            use()


def test_out_of_memory_is_the_rows_failure(device, monkeypatch):
    def full(*size, **named):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nSee docs")

    monkeypatch.setattr(torch, "empty", full)
    with pytest.raises(BackendError, match=r"pytorch refused: CUDA out of memory\. Tried"):
        session_of(BLOCK)


# On a GPU.

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
    if check in (check_numerics, check_chain):
        # TF32 keeps 10 bits, so the bound is float16's: the dtype is what picks it.
        check(PytorchBackend(), target_of("eager", "float16", layout="channels_last"))
        return
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
