"""Timed work runs on the fast cores, one a physical core, away from core 0."""

from pathlib import Path

import pytest

from hwprof.machine.files import SystemFiles
from hwprof.machine.measuring import measuring_cores

CPU = "sys/devices/system/cpu"


@pytest.fixture
def machine(tmp_path):
    def make(tree):
        for path, text in tree.items():
            file = Path(tmp_path) / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return SystemFiles(str(tmp_path))

    return make


def test_plain_machine_uses_its_last_cores(machine):
    assert measuring_cores((0, 1, 2, 3), 1, machine({})) == (3,)
    assert measuring_cores((0, 1, 2, 3), 2, machine({})) == (2, 3)


def test_one_core_container_uses_that_core(machine):
    assert measuring_cores((5,), 1, machine({})) == (5,)


def test_hybrid_chip_is_not_measured_on_its_slow_last_cores(machine):
    speeds = [5000000] * 4 + [3800000] * 4
    tree = {f"{CPU}/cpu{n}/cpufreq/cpuinfo_max_freq": str(speed) for n, speed in enumerate(speeds)}
    assert measuring_cores(range(8), 1, machine(tree)) == (3,)


def test_big_little_board_is_measured_on_its_big_cores(machine):
    tree = {f"{CPU}/cpu{n}/cpu_capacity": "1024" if n < 2 else "446" for n in range(6)}
    assert measuring_cores(range(6), 2, machine(tree)) == (0, 1)


def test_two_threads_do_not_share_a_physical_core(machine):
    tree = {f"{CPU}/cpu{n}/topology/core_cpus_list": f"{n - n % 2}-{n - n % 2 + 1}" for n in range(4)}
    assert measuring_cores(range(4), 2, machine(tree)) == (1, 3)


def test_more_threads_than_fast_cores_take_all_kinds(machine):
    tree = {f"{CPU}/cpu{n}/cpu_capacity": "1024" if n < 2 else "446" for n in range(4)}
    assert measuring_cores(range(4), 3, machine(tree)) == (1, 2, 3)
