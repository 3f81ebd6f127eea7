"""A third-party backend that misbehaves on ops with a stride of 2, in the way its target names.

It is a real out-of-tree distribution: the tests put this folder on the path, and hwprof finds it by
its entry point.
"""

import ctypes
import os
import tempfile
import time
from typing import ClassVar

import numpy as np

from hwprof.backends.backend import Artifact, Option, Target
from hwprof.backends.simulated import SimulatedBackend, SimulatedSession
from hwprof.errors import BackendError, BackendUnavailable, DeviceLost

HOARD = []
POISON = []


class FaultySession(SimulatedSession):
    fault = ""

    def time_calls(self, count, group=1):
        if self.fault == "segfault-in-visit":
            ctypes.string_at(0)
        if self.fault == "hang-in-visit":
            time.sleep(3600)
        if self.fault == "hoard-in-visit":
            HOARD.append(np.ones(400 << 20, dtype=np.uint8))
            time.sleep(3600)
        if self.fault == "poison":
            POISON.append(self)
            raise BackendError("an illegal memory access was encountered")
        if self.fault == "litter":
            tempfile.mkdtemp(prefix="litter-")
        if self.fault == "lost":
            raise DeviceLost("the device answers no more")
        return super().time_calls(count, group)

    def fallback(self):
        return "2 of 7 nodes ran on another device" if self.fault == "fallback" else ""

    def launch_calls(self, count):
        return [2_000] * count if self.fault == "gpu" else None

    def peak_memory(self):
        return (12_345, "the runtime's own count") if self.fault == "gpu" else None

    def outputs(self):
        out = super().outputs()
        if self.fault == "nan":
            out[0][:] = np.nan
        if self.fault == "denormal":
            out[0] = np.full(out[0].shape, 1e-40, dtype=np.float32)
        if self.fault == "huge":
            out[0][:] = 1e6
        if self.fault == "shape":
            out[0] = out[0][:, :1]
        return out


class FaultyBackend(SimulatedBackend):
    name = "faulty"
    targets = (
        "none", "segfault", "hang", "print", "raise", "nan", "denormal", "huge", "shape", "leave",
        "segfault-in-visit", "hang-in-visit", "hoard-in-visit", "fallback", "lost", "absent", "gpu",
        "poison", "litter", "nameless-gpu",
    )  # fmt: skip
    dtypes = ("float32",)

    options: ClassVar = {"heat": Option("mild", "how hot", ("mild", "hot"))}

    def check_target(self, target: Target):
        if target.name == "absent":
            raise BackendUnavailable("no such device; install its driver: apt install driver")

    def environment(self, target: Target):
        flavour = os.environ.get("FAULTY_FLAVOUR", "plain")
        return {
            **super().environment(target),
            "flavour": flavour,
            "heat": self.option(target, "heat"),
        }

    def compile(self, graph, target: Target) -> Artifact:
        bad = any(node.stride == 2 for node in graph.nodes)
        if bad and target.name == "segfault":
            ctypes.string_at(0)
        if bad and target.name == "hang":
            time.sleep(3600)
        if bad and target.name == "raise":
            raise BackendError("the compiler gave up\non this op")
        if bad and target.name == "leave":
            os._exit(3)
        if target.name == "print":
            os.write(1, b"a compiler's chatter\n")
            print("more chatter")
        made = super().compile(graph, target)
        return Artifact(made.data, {**made.metadata, "bad": bad})

    def device(self, target: Target):
        return "cuda:7" if target.name == "nameless-gpu" else super().device(target)

    def prepare(self, artifact, rng, target: Target):
        if POISON:
            raise DeviceLost("CUDA has ended in this process")
        exact = Target("exact", target.threads, target.dtype)
        session = super().prepare(artifact, rng, exact)
        session.__class__ = FaultySession
        session.fault = target.name if artifact.metadata["bad"] else ""
        return session
