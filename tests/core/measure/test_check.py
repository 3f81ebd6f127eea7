"""The look at a compiled op before it is timed: numbers, memory, energy."""

import numpy as np
import pytest

from hwprof import ops
from hwprof.backends.backend import Target
from hwprof.backends.onnxruntime import OnnxRuntimeBackend
from hwprof.backends.simulated import SimulatedBackend, SimulatedSession
from hwprof.machine.energy import GpuMeter, open_energy_meter
from hwprof.measure import check as check_module
from hwprof.measure.check import check
from hwprof.measure.visit import keep_busy

CPU = Target("cpu")


def look(op, backend=None, target=CPU):
    backend = backend or OnnxRuntimeBackend()
    graph = op.lower()
    return check(backend, backend.compile(graph, target), graph, target)


def test_memory_of_a_large_op_is_at_least_its_weights_and_far_above_a_small_ones():
    seen = look(ops.fc((1, 4096), 4096))
    if seen.peak_memory_bytes is None:
        pytest.skip(seen.peak_memory_source)
    assert 4 * 4096 * 4096 <= seen.peak_memory_bytes <= 4 * (4 * 4096 * 4096)
    small = look(ops.conv((1, 8, 12, 12), 8, 3))
    assert (small.peak_memory_bytes or 0) < seen.peak_memory_bytes / 8


def test_memory_that_is_not_read_has_a_reason_and_is_never_zero():
    seen = look(ops.conv((1, 8, 12, 12), 8, 3), SimulatedBackend(), Target("exact"))
    assert seen.peak_memory_bytes is None
    assert seen.peak_memory_source == "not known for the device 'simulated'"


class Counter:
    """Counts some millijoules at each reading."""

    source, window_ms = "a counter", 5.0

    def __init__(self, step_mj):
        self.step_mj, self.total_mj = step_mj, 0.0

    def read_mj(self):
        self.total_mj += self.step_mj
        return self.total_mj


def test_energy_of_a_call_is_the_stretchs_energy_over_its_calls(monkeypatch):
    calls = []
    monkeypatch.setattr(check_module, "open_energy_meter", lambda device: Counter(700.0))
    from hwprof.backends.onnxruntime_session import OnnxRuntimeSession

    run = OnnxRuntimeSession.run
    monkeypatch.setattr(OnnxRuntimeSession, "run", lambda self: (calls.append(self), run(self))[1])
    seen = look(ops.conv((1, 8, 12, 12), 8, 3))
    stretch = [session for session in calls if session is calls[-1]]
    assert seen.energy_mj == pytest.approx(700.0 / (len(stretch) - 1))
    assert len(stretch) > 2


def test_energy_is_not_that_of_the_spin_before_each_timing_on_a_gpu(monkeypatch):
    """A timing on a GPU begins with a spin that may last longer than the op; calls do not."""
    from hwprof.backends.onnxruntime_session import OnnxRuntimeSession

    def timed(self, count, group=1):
        raise AssertionError("a timing was made while energy was read")

    monkeypatch.setattr(check_module, "open_energy_meter", lambda device: Counter(700.0))
    monkeypatch.setattr(OnnxRuntimeSession, "time_calls", timed)
    assert look(ops.conv((1, 8, 12, 12), 8, 3)).energy_mj is not None


def test_device_behind_a_network_is_kept_busy_by_groups_of_calls():
    groups = []

    class Far(SimulatedSession):
        def time_calls(self, count, group=1):
            groups.append(group)
            return [group * 1_000_000] * count

    backend = SimulatedBackend()
    artifact = backend.compile(ops.conv((1, 8, 12, 12), 8, 3).lower(), Target("exact"))
    session = backend.prepare(artifact, np.random.default_rng(0), Target("exact"))
    session.__class__ = Far
    calls = keep_busy(session, "remote", 0.05)
    assert max(groups) > 10
    assert calls == sum(groups[1:])


def test_counter_that_stands_still_gives_a_reason_and_no_energy(monkeypatch):
    monkeypatch.setattr(check_module, "open_energy_meter", lambda device: Counter(0.0))
    seen = look(ops.conv((1, 8, 12, 12), 8, 3))
    assert seen.energy_mj is None
    assert seen.energy_reason == "the counter stands still: a counter"


def test_device_without_a_counter_says_why():
    seen = look(ops.conv((1, 8, 12, 12), 8, 3), SimulatedBackend(), Target("exact"))
    assert seen.energy_mj is None
    assert "no energy counter is known for the device 'simulated'" in seen.energy_reason


class FakeGpu:
    def __init__(self, readings):
        self.readings = list(readings)

    def energy_mj(self):
        return self.readings.pop(0)


def test_gpus_energy_counts_from_when_the_meter_was_opened():
    meter = GpuMeter(FakeGpu([5_000, 5_000, 5_250]))
    assert [meter.read_mj(), meter.read_mj()] == [0.0, 250.0]


def test_gpu_that_is_not_there_has_no_meter_and_says_why():
    reason = open_energy_meter("cuda:0")
    if not isinstance(reason, str):
        pytest.skip("this machine has a GPU")
    assert reason.startswith("no energy counter: ")


def test_output_of_the_wrong_shape_is_told(monkeypatch):
    from hwprof.errors import CheckFailed

    backend = OnnxRuntimeBackend()
    made = backend.compile(ops.conv((1, 8, 12, 12), 8, 3).lower(), CPU)
    with pytest.raises(CheckFailed, match=r"has shape \(1, 8, 12, 12\), the op says \(1, 9, 12, 12\)"):
        check(backend, made, ops.conv((1, 8, 12, 12), 9, 3).lower(), CPU)
