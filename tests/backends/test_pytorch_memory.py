"""glibc keeps the memory of PyTorch's tensors, in processes of their own: it cannot be told twice."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest

from hwprof.backends import pytorch_memory
from hwprof.backends.backend import Target
from hwprof.backends.pytorch import PytorchBackend
from hwprof.errors import BackendError

pytest.importorskip("torch", reason="torch is not installed")

FAULTS = """
import json, resource, sys
import numpy as np
from hwprof import ops
from hwprof.backends.backend import Target
from hwprof.backends.pytorch import PytorchBackend
from hwprof.errors import BackendError

backend, found = PytorchBackend(), []
for allocator in sys.argv[1:]:
    target = Target("cpu", options={"allocator": allocator})
    # Outputs of 3 MiB and of 12 MiB.
    op = ops.mbconv((1, 16, 112, 112), 16, 3, 4)
    artifact = backend.compile(op.lower(), target)
    try:
        session = backend.prepare(artifact, np.random.default_rng(0), target)
    except BackendError as error:
        found.append(str(error))
        continue
    counts = []
    for _ in range(21):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        session.run()
        counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    found.append(float(np.median(counts)))  # the heap may still grow in the first calls
print(json.dumps(found))
"""
needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")


def page_faults(*allocators):
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, *allocators], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


@needs_glibc
def test_kept_memory_is_not_taken_from_the_kernel_at_each_call():
    """5,000 page faults a call made networks of PyTorch disagree with themselves by 4 %."""
    (kept,) = page_faults("kept")
    (left_alone,) = page_faults("system")
    assert kept < 10
    assert left_alone > 10 * max(kept, 1)


@needs_glibc
def test_a_process_has_one_allocator():
    faults, refusal = page_faults("kept", "system")
    assert faults < 10
    assert refusal.startswith("allocator=system is asked for in a process whose sessions have")


@pytest.mark.parametrize(
    ("wanted", "has_mallopt", "told"),
    [("kept", True, "kept"), ("system", True, "system"), ("kept", False, "system")],
)
def test_the_environment_names_what_is_in_force(monkeypatch, wanted, has_mallopt, told):
    monkeypatch.setattr(pytorch_memory, "_has_mallopt", lambda: has_mallopt)
    target = Target("cpu", options={"allocator": wanted})
    assert PytorchBackend().environment(target)["allocator"] == told


@needs_glibc
def test_glibc_is_known_where_it_is():
    assert PytorchBackend().environment(Target("cpu"))["allocator"] == "kept"


def test_a_c_library_that_keeps_nothing_is_told(monkeypatch):
    monkeypatch.setattr(pytorch_memory, "_in_force", None)
    monkeypatch.setattr(pytorch_memory, "_has_mallopt", lambda: True)
    refusing = SimpleNamespace(mallopt=lambda name, value: 0)
    monkeypatch.setattr(pytorch_memory.ctypes, "CDLL", lambda name: refusing)
    with pytest.raises(BackendError, match="give --option allocator=system"):
        pytorch_memory.set_allocator("kept")
