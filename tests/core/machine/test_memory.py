"""Peak memory of a process, seen in real processes and on made-up systems."""

import os
import subprocess
import sys

import pytest

from hwprof.machine.files import SystemFiles
from hwprof.machine.memory import open_peak_memory, resident_bytes

MIB = 1 << 20
FC_WEIGHT_BYTES = 4 * 4096 * 4096

here = open_peak_memory()
counted = pytest.mark.skipif(isinstance(here, str), reason=str(here))


def in_new_process(code: str) -> list[float]:
    """Numbers that the code prints, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return [float(word) for word in done.stdout.split()]


@counted
def test_memory_that_was_freed_again_is_part_of_the_peak():
    peak, later = in_new_process(
        "import numpy as np\n"
        "from hwprof.machine.memory import open_peak_memory\n"
        "peak = open_peak_memory()\n"
        "for size in (64 << 20, 4096):\n"
        "    peak.begin()\n"
        "    values = np.ones(size, dtype=np.uint8)\n"
        "    del values\n"
        "    print(peak.peak_bytes() or 0)\n"
    )
    assert 63 * MIB < peak < 72 * MIB
    assert later < 2 * MIB, "the second look starts anew"


@counted
def test_what_was_held_before_is_not_part_of_it():
    (peak,) = in_new_process(
        "import numpy as np\n"
        "from hwprof.machine.memory import open_peak_memory\n"
        "before = np.ones(64 << 20, dtype=np.uint8)\n"
        "peak = open_peak_memory()\n"
        "values = np.ones(16 << 20, dtype=np.uint8)\n"
        "print(peak.peak_bytes())\n"
    )
    assert 15 * MIB < peak < 24 * MIB


@counted
def test_weights_of_a_runtime_session_are_seen():
    first, second = in_new_process(
        "import numpy as np\n"
        "from hwprof import ops\n"
        "from hwprof.backends import load_backend\n"
        "from hwprof.backends.backend import Target\n"
        "from hwprof.machine.memory import open_peak_memory\n"
        "backend, target = load_backend('onnxruntime'), Target('cpu')\n"
        "artifact = backend.compile(ops.fc((1, 4096), 4096).lower(), target)\n"
        "peak = open_peak_memory()\n"
        "for seed in range(3):\n"
        "    peak.begin()\n"
        "    with backend.prepare(artifact, np.random.default_rng(seed), target) as session:\n"
        "        session.run()\n"
        "        if seed:\n"
        "            print(peak.peak_bytes())\n"
    )
    assert FC_WEIGHT_BYTES < first < 4 * FC_WEIGHT_BYTES
    assert first == pytest.approx(second, rel=0.25)


@pytest.fixture
def made_up(tmp_path):
    folder = tmp_path / "proc" / "self"
    folder.mkdir(parents=True)
    status = folder / "status"

    def tell(**kib):
        status.write_text("Name:\tpython\n" + "".join(f"{n}:\t{v} kB\n" for n, v in kib.items()))
        return SystemFiles(str(tmp_path))

    return tell


def test_peak_is_what_rose_above_the_baseline(made_up):
    files = made_up(VmHWM=9000, VmRSS=1000)
    peak = open_peak_memory(files)
    assert files.text("proc/self/clear_refs") == "5"
    made_up(VmHWM=1500, VmRSS=1200)
    assert peak.peak_bytes() == 500 * 1024
    assert resident_bytes(files) == 1200 * 1024


def test_peak_that_did_not_rise_is_none_not_0(made_up):
    peak = open_peak_memory(made_up(VmHWM=1000, VmRSS=1000))
    assert peak.peak_bytes() is None


def test_system_without_proc_says_so(tmp_path):
    files = SystemFiles(str(tmp_path))
    assert open_peak_memory(files) == "no peak memory: /proc/self/status tells no VmRSS here"
    assert resident_bytes(files) is None


def test_system_that_does_not_tell_the_peak_says_so(made_up):
    told = open_peak_memory(made_up(VmRSS=1000))
    assert told == "no peak memory: /proc/self/status tells no VmHWM here"


def test_kernel_that_does_not_reset_the_peak_says_so(made_up):
    files = made_up(VmHWM=1000, VmRSS=1000)
    os.mkdir(os.path.join(files.root, "proc/self/clear_refs"))
    assert open_peak_memory(files) == (
        "no peak memory: /proc/self/clear_refs, which resets it, cannot be written (Is a directory)"
    )
