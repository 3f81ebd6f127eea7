"""The NVML reader against a stand-in of `pynvml` that answers like the real package."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from types import SimpleNamespace

import pytest

from hwprof.machine.nvml import GpuConditions, open_gpu, throttle_words

H200, A100 = "NVIDIA H200", "NVIDIA A100-SXM4-80GB"


class NVMLError(Exception):
    """As in pynvml: one subclass an error code, the text from a table."""

    text = "Unknown Error"

    def __str__(self) -> str:
        return self.text


class NVMLError_NotSupported(NVMLError):
    text = "Not Supported"


class NVMLError_FunctionNotFound(NVMLError):
    text = "Function Not Found"


class NVMLError_LibraryNotFound(NVMLError):
    text = "NVML Shared Library Not Found"


class FakeNvml:
    """A driver with GPUs in it. Handles are numbers."""

    NVMLError = NVMLError
    NVML_CLOCK_SM = 1
    NVML_CLOCK_MEM = 2
    NVML_TEMPERATURE_GPU = 0

    def __init__(self, names=(H200,), reasons=0, unsupported=(), old=()):
        self.names, self.reasons = names, reasons
        self.unsupported, self.old = unsupported, old

    def _answer(self, name, value):
        if name in self.old:
            raise NVMLError_FunctionNotFound()
        if name in self.unsupported:
            raise NVMLError_NotSupported()
        return value

    def nvmlInit(self):
        return None

    def nvmlSystemGetDriverVersion(self):
        return "580.159.04"

    def nvmlDeviceGetCount(self):
        return len(self.names)

    def nvmlDeviceGetHandleByIndex(self, index):
        return index

    def nvmlDeviceGetHandleByUUID(self, uuid):
        return {"MIG-5": 0}[uuid]

    def nvmlDeviceGetUUID(self, handle):
        return f"GPU-{handle}a6b-77"

    def nvmlDeviceGetName(self, handle):
        return self.names[handle]

    def nvmlDeviceGetClockInfo(self, handle, type):
        return self._answer("clock", {1: 1980, 2: 3201}[type])

    def nvmlDeviceGetMaxClockInfo(self, handle, type):
        return self._answer("max", {1: 1980, 2: 3201}[type])

    def nvmlDeviceGetTemperatureV(self, handle, sensor, version=0):
        return self._answer("temperatureV", 41)

    def nvmlDeviceGetTemperature(self, handle, sensor):
        return self._answer("temperature", 42)

    def nvmlDeviceGetPowerUsage(self, handle):
        return self._answer("power", 123_456)

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        return self._answer("energy", 987_654_321)

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle):
        return self._answer("event reasons", self.reasons)

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle):
        return self._answer("throttle reasons", self.reasons)


@pytest.fixture
def install(monkeypatch):
    """Puts a stand-in in pynvml's place, with no torch and no choice of GPUs around it."""
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)

    def put(**settings):
        fake = FakeNvml(**settings)
        monkeypatch.setitem(sys.modules, "pynvml", fake)
        return fake

    return put


def opened(index=0):
    gpu, reason = open_gpu(index)
    assert gpu is not None, reason
    return gpu


def refused(index=0):
    gpu, reason = open_gpu(index)
    assert gpu is None
    assert "\n" not in reason
    return reason


def test_a_gpu_tells_name_driver_and_conditions(install):
    install(reasons=0x4)
    gpu = opened()
    assert (gpu.name, gpu.driver) == (H200, "580.159.04")
    assert gpu.conditions() == GpuConditions(1980, "power cap", 41, 123.456)
    assert (gpu.clock_mhz("MEM"), gpu.max_clock_mhz("SM"), gpu.energy_mj()) == (3201, 1980, 987_654_321)


def test_what_a_gpu_does_not_support_is_none_and_never_zero(install):
    install(
        unsupported=("clock", "max", "power", "energy", "temperatureV", "temperature", "event reasons",
                     "throttle reasons"),
    )  # fmt: skip
    gpu = opened()
    assert gpu.conditions() == GpuConditions(None, None, None, None)
    assert (gpu.max_clock_mhz("MEM"), gpu.energy_mj()) == (None, None)


def test_an_older_driver_is_asked_by_the_older_names(install):
    install(reasons=0x40, old=("temperatureV", "event reasons"))
    assert opened().conditions() == GpuConditions(1980, "thermal, by hardware", 42, 123.456)


def test_an_older_package_lacks_the_newer_functions(install, monkeypatch):
    install(reasons=0)
    monkeypatch.delattr(FakeNvml, "nvmlDeviceGetCurrentClocksEventReasons")
    monkeypatch.delattr(FakeNvml, "nvmlDeviceGetTemperatureV")
    assert opened().conditions() == GpuConditions(1980, "none", 42, 123.456)


@pytest.mark.parametrize(
    ("bits", "words"),
    [
        (0, "none"),
        (0x1, "idle"),
        (0x4 | 0x20, "power cap; thermal, by software"),
        (0x8 | 0x80, "hardware slowdown; power brake"),
        (0x8 | 0x4000, "hardware slowdown; 0x4000"),
    ],
)
def test_throttle_bits_become_words(bits, words):
    assert throttle_words(bits) == words


def test_a_missing_package_is_told_with_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert refused() == "the package nvidia-ml-py is not installed; run: pip install nvidia-ml-py"


def test_a_missing_driver_is_told(install):
    fake = install()

    def no_library():
        raise NVMLError_LibraryNotFound()

    fake.nvmlInit = no_library
    assert refused() == "NVML says: NVML Shared Library Not Found; is NVIDIA's driver installed?"


def test_an_absent_gpu_is_told(install):
    install(names=(H200, H200))
    assert opened(1).name == H200
    assert refused(2) == "NVML lists 2 GPUs, none of them is cuda:2"


@pytest.mark.parametrize(("visible", "handle"), [("1", 1), ("2,0", 2), ("GPU-1a", 1), ("MIG-5", 0)])
def test_visible_devices_are_followed(install, monkeypatch, visible, handle):
    install(names=(H200, H200, H200))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert opened()._handle == handle


@pytest.mark.parametrize(
    ("visible", "reason"),
    [
        ("", "CUDA_VISIBLE_DEVICES='' leaves no cuda:0"),
        ("-1", "NVML lists 1 GPUs, none of them is cuda:0"),
        ("GPU-9", "NVML knows no GPU GPU-9"),
    ],
)
def test_hidden_devices_are_not_read(install, monkeypatch, visible, reason):
    install()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert refused() == reason


def test_gpus_of_several_kinds_are_not_guessed_at(install, monkeypatch):
    """CUDA puts the fastest first, NVML goes by the bus."""
    install(names=(A100, H200))
    assert "CUDA_DEVICE_ORDER=PCI_BUS_ID" in refused()
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    assert opened(1).name == H200


def test_torch_tells_which_gpu_it_is(install, monkeypatch):
    """Even where order and kinds leave it open."""
    install(names=(A100, H200))
    cuda = SimpleNamespace(
        is_available=lambda: True,
        is_initialized=lambda: True,
        get_device_properties=lambda index: SimpleNamespace(uuid="1a6b-77"),
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    assert opened(0).name == H200


@pytest.mark.skipif(
    importlib.util.find_spec("pynvml") is None, reason="the package nvidia-ml-py is not installed"
)
def test_the_stand_in_has_the_signatures_of_the_real_package():
    import pynvml

    for name, function in inspect.getmembers(FakeNvml(), inspect.ismethod):
        if name.startswith("nvml"):
            real = list(inspect.signature(getattr(pynvml, name)).parameters)
            assert list(inspect.signature(function).parameters) == real, name
    for name in ("NVML_CLOCK_SM", "NVML_CLOCK_MEM", "NVML_TEMPERATURE_GPU"):
        assert getattr(FakeNvml, name) == getattr(pynvml, name)


@pytest.mark.skipif(
    importlib.util.find_spec("pynvml") is None, reason="the package nvidia-ml-py is not installed"
)
def test_this_machine_is_read_or_the_reason_told():
    gpu, reason = open_gpu(0)
    assert (gpu is None) == bool(reason)
    if gpu is not None:
        assert gpu.name
        assert gpu.conditions().throttle
