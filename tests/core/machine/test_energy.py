"""Energy counters of made-up processors and GPUs."""

import os

import pytest

from hwprof.errors import BackendError
from hwprof.machine import energy
from hwprof.machine.energy import open_energy_meter

POWERCAP = "sys/class/powercap"


def zone(path: str, name: str, energy_uj: int, range_uj: int = 262_143_328_850) -> dict[str, str]:
    folder = f"{POWERCAP}/{path}"
    return {
        f"{folder}/name": f"{name}\n",
        f"{folder}/energy_uj": f"{energy_uj}\n",
        f"{folder}/max_energy_range_uj": f"{range_uj}\n",
    }


def laptop(package_uj: int = 1_000_000) -> dict[str, str]:
    """One package with its parts, the whole platform, and the second way to the package's counter."""
    return {
        f"{POWERCAP}/intel-rapl/enabled": "1",
        **zone("intel-rapl:0", "package-0", package_uj),
        **zone("intel-rapl:0:0", "core", 700_000),
        **zone("intel-rapl:0:1", "uncore", 100_000),
        **zone("intel-rapl:1", "psys", 9_000_000),
        **zone("intel-rapl-mmio:0", "package-0", package_uj),
    }


def test_package_is_counted_once_without_its_parts_and_the_platform(machine):
    meter = open_energy_meter("host", machine("nothing", laptop()))
    assert meter.read_mj() == 0
    machine("nothing", zone("intel-rapl:0", "package-0", 1_250_500))
    assert meter.read_mj() == 250.5
    machine("nothing", {**zone("intel-rapl:0:0", "core", 800_000), **zone("intel-rapl:1", "psys", 1)})
    assert meter.read_mj() == 250.5
    assert meter.source == "RAPL of 1 processor package"
    assert meter.window_ms == 100


def test_two_packages_are_added_up(machine):
    packages = {
        **zone("intel-rapl:0", "package-0", 5_000_000),
        **zone("intel-rapl:1", "package-1-die-0", 8_000_000),
    }
    meter = open_energy_meter("host", machine("nothing", packages))
    machine("nothing", zone("intel-rapl:0", "package-0", 5_010_000))
    machine("nothing", zone("intel-rapl:1", "package-1-die-0", 8_002_000))
    assert meter.read_mj() == 12
    assert meter.source == "RAPL of 2 processor packages"


def test_counter_that_starts_again_from_0_goes_on_rising(machine):
    span = 1_000_000
    meter = open_energy_meter(
        "host", machine("nothing", zone("intel-rapl:0", "package-0", 999_000, span))
    )
    readings = []
    for value in (4_000, 500_000, 3_000):
        machine("nothing", zone("intel-rapl:0", "package-0", value, span))
        readings.append(meter.read_mj())
    assert readings == [5, 501, 1004]


def test_machine_without_counters_says_so(machine):
    told = open_energy_meter("host", machine("virtual_machine"))
    assert told.startswith("no energy counter: /sys/class/powercap has no processor package")


def test_platform_counter_alone_is_not_the_processor(machine):
    files = machine("nothing", zone("intel-rapl:0", "psys", 5))
    assert "has no processor package" in open_energy_meter("host", files)


def test_counter_for_root_alone_names_the_command(machine):
    files = machine("nothing", laptop())
    counter = os.path.join(files.root, POWERCAP, "intel-rapl:0/energy_uj")
    os.chmod(counter, 0)
    if os.access(counter, os.R_OK):
        pytest.skip("this user may read every file")
    told = open_energy_meter("host", files)
    assert told.startswith("/sys/class/powercap/intel-rapl:0/energy_uj cannot be read by this user")


def test_counter_that_says_nothing_is_taken_as_unreadable(machine):
    files = machine("nothing", {**laptop(), f"{POWERCAP}/intel-rapl:0/energy_uj": ""})
    assert "cannot be read by this user (often only root may); run: sudo chmod" in open_energy_meter(
        "host", files
    )


@pytest.mark.parametrize(
    ("name", "reason"),
    [("energy_uj", "has no energy_uj"), ("max_energy_range_uj", "cannot be trusted")],
)
def test_package_that_lacks_a_file_says_which(machine, name, reason):
    files = machine("nothing", {**laptop(), f"{POWERCAP}/intel-rapl:0/{name}": None})
    assert reason in open_energy_meter("host", files)


def test_counter_that_goes_away_in_the_middle_is_an_error_not_0(machine):
    meter = open_energy_meter("host", machine("nothing", laptop()))
    machine("nothing", {f"{POWERCAP}/intel-rapl:0/energy_uj": None})
    with pytest.raises(BackendError, match="intel-rapl:0/energy_uj cannot be read"):
        meter.read_mj()


def test_device_without_a_counter_says_so(machine):
    told = open_energy_meter("remote", machine("nothing", laptop()))
    assert told == "no energy counter is known for the device 'remote'"


class MadeUpGpu:
    def __init__(self, *readings):
        self._readings = list(readings)

    def energy_mj(self):
        return self._readings.pop(0)


def test_gpu_is_counted_from_when_it_was_opened(monkeypatch):
    monkeypatch.setattr(energy, "open_gpu", lambda index: (MadeUpGpu(5000, 5250, None), ""))
    meter = open_energy_meter("cuda:1")
    assert meter.read_mj() == 250
    with pytest.raises(BackendError, match="tells no energy"):
        meter.read_mj()


def test_gpu_without_a_counter_says_so(monkeypatch):
    monkeypatch.setattr(energy, "open_gpu", lambda index: (MadeUpGpu(None), ""))
    assert open_energy_meter("cuda:0").startswith("no energy counter: this GPU or its driver")


def test_gpu_that_is_not_there_says_why(monkeypatch):
    monkeypatch.setattr(energy, "open_gpu", lambda index: (None, f"none of them is cuda:{index}"))
    assert open_energy_meter("cuda:7") == "no energy counter: none of them is cuda:7"
