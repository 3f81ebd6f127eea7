"""PyTorch on CUDA without a GPU: refusals, and the order of work on a stand-in for the device."""

from __future__ import annotations

import contextlib
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hwprof import ops
from hwprof.backends import pytorch_cuda
from hwprof.backends.backend import Target
from hwprof.backends.conformance import outputs_of
from hwprof.backends.pytorch import PytorchBackend
from hwprof.backends.pytorch_cuda import SPIN_CYCLES_PER_NS, CudaSession, check_cuda, cuda_environment
from hwprof.backends.pytorch_session import Program
from hwprof.errors import BackendError, BackendUnavailable, DeviceLost

# What is refused.


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


def test_the_environment_is_the_same_before_and_after_cuda_has_started(monkeypatch):
    """With GPUs of several kinds NVML can tell which is `cuda:0` only once torch has started CUDA, and
    asking torch for the GPU's name starts it."""
    torch_, gpu = fake_torch(), SimpleNamespace(name="NVIDIA H200", driver="580.159.04")
    started = []
    torch_.cuda.get_device_name = lambda index: started.append(True) or "NVIDIA H200"
    monkeypatch.setattr(
        pytorch_cuda, "open_gpu", lambda index: (gpu, "") if started else (None, "which is not told")
    )
    first = cuda_environment(torch_, 0)
    assert first["driver"] == "580.159.04"
    assert first == cuda_environment(torch_, 0)


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


# The order of work, on a stand-in for the stream whose clock counts what is queued.


class FakeDevice:
    """A GPU that runs on the CPU at once, and logs. Spins and events move a clock of its own."""

    def __init__(self):
        self.log, self.now_ms, self.broken = [], 0.0, False
        self.peak = self.allocated = 0
        self.event_ms = 0.0
        self.placed = []  # weak references to all that lies on it

    def work(self):
        """What the ops of one call take: the stand-in cannot see them, so the module tells."""
        self.log.append("call")
        self.now_ms += 0.25

    def synchronize(self, device=None):
        if self.broken:
            raise RuntimeError("CUDA error: an illegal memory access was encountered\nmore text")
        self.log.append("synchronize")

    def empty_cache(self):
        self.log.append(("empty", sum(reference() is not None for reference in self.placed)))

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
            made.now_ms += made.event_ms

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
        "synchronize": made.synchronize, "_sleep": made.spin, "empty_cache": made.empty_cache,
        "memory_allocated": lambda device: made.allocated,
        "max_memory_allocated": lambda device: made.peak,
        "reset_peak_memory_stats": lambda device: None,
        "get_device_properties": lambda device: SimpleNamespace(L2_cache_size=1 << 16),
    }  # fmt: skip
    for name, value in stand_ins.items():
        monkeypatch.setattr(torch.cuda, name, value, raising=False)
    # The session asks for "cuda:0"; on this machine its memory is the host's.
    monkeypatch.setattr(torch, "device", lambda kind, index: "cpu")

    place = CudaSession._place

    def seen(session, values):
        tensor = place(session, values)
        made.placed.append(weakref.ref(tensor))
        return tensor

    monkeypatch.setattr(CudaSession, "_place", seen)
    pytorch_cuda.work_stream.cache_clear()
    real = pytorch_cuda.load_program

    def counted(program, weights, inputs):
        call = real(program, weights, inputs)

        def run():
            made.work()
            return call()

        return run

    monkeypatch.setattr(pytorch_cuda, "load_program", counted)
    yield made
    pytorch_cuda.work_stream.cache_clear()


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


@pytest.mark.parametrize("state", ["warm", "evicted"])
def test_what_two_events_cost_is_no_part_of_a_timing(device, state):
    """2 us of a call of 3 us, where each is timed alone behind a sweep of the cache."""
    device.event_ms = 0.002
    with session_of(BLOCK) as session:
        if state == "evicted":
            session.flush(state)
        assert session.time_calls(2) == [250_000, 250_000]


def test_an_op_without_a_kernel_takes_a_tick_and_not_a_nanosecond(device, monkeypatch):
    """The number of calls in a group is reckoned from it: of half a million the spin would last for
    seconds."""
    monkeypatch.setattr(device, "work", lambda: None)
    with session_of(BLOCK) as session:
        assert session.time_calls(1) == [pytorch_cuda.TICK_NS]


def test_a_timing_lasts_a_thousand_ticks_of_the_devices_clock(device):
    with session_of(BLOCK) as session:
        assert session.least_timing_ms() * 1e6 >= 1000 * pytorch_cuda.TICK_NS


def test_all_sessions_share_a_stream_so_that_the_next_one_gets_the_memory_of_the_last(device):
    with session_of(BLOCK) as one, session_of(BLOCK) as two:
        assert one._stream is two._stream


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
        with torch.inference_mode():
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
    with pytest.raises(
        DeviceLost, match=r"cuda:0 does not work in this process.*illegal memory"
    ) as caught:
        session_of(BLOCK)
    assert "nvidia-smi" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_device_broken_by_a_compiler_blames_no_later_op(device, monkeypatch):
    monkeypatch.setattr(pytorch_cuda, "configure_cuda", lambda torch_, tf32: None)
    device.broken = True
    with pytest.raises(DeviceLost, match="cuda:0 does not work in this process"):
        PytorchBackend().compile(BLOCK.lower(), Target("cuda", options={"mode": "compile"}))


def test_a_gpu_that_others_have_filled_is_not_lost(device, monkeypatch):
    def full(index):
        raise RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later")

    monkeypatch.setattr(torch.cuda, "synchronize", full)
    with pytest.raises(BackendError, match="pytorch refused: CUDA error: out of memory") as caught:
        session_of(BLOCK)
    assert not isinstance(caught.value, DeviceLost)


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


@pytest.mark.parametrize("where", ["warm calls", "capture", "placing"])
def test_an_op_that_does_not_fit_leaves_no_memory_behind(device, monkeypatch, where):
    """What it had placed is dead when the cache is emptied: else the cache could not give it back."""
    calls = []

    def work():
        calls.append(True)
        if len(calls) > {"warm calls": 1, "capture": pytorch_cuda.WARM_CALLS, "placing": 0}[where]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    if where == "placing":
        monkeypatch.setattr(pytorch_cuda, "load_program", lambda *arguments: work())
    else:
        monkeypatch.setattr(device, "work", work)
    with pytest.raises(BackendError, match="pytorch refused: CUDA out of memory"):
        session_of(BLOCK, captured=where == "capture")
    assert len(device.placed) > 4
    assert device.log[-1] == ("empty", 0)
