"""PyTorch on the CPU and on CUDA: eager, compiled by Inductor, or as a CUDA graph."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from importlib import metadata
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from hwprof.backends.backend import (
    Artifact,
    Availability,
    Backend,
    Option,
    Scalar,
    Session,
    Target,
    import_runtime,
)
from hwprof.backends.pytorch_memory import allocator_of, set_allocator
from hwprof.backends.pytorch_package import compile_package, cxx_version, import_inductor
from hwprof.backends.pytorch_session import (
    Program,
    PytorchSession,
    numpy_dtype,
    place_weight,
    refusal,
)
from hwprof.errors import BackendError, BackendUnavailable
from hwprof.graph import Graph

if TYPE_CHECKING:
    from torch import Tensor

INSTALL = "pip install torch"
COMPILE_LIMIT_S = 600.0


class PytorchBackend(Backend):
    """Weights and inputs are placed anew for each session; nothing is timed with autograd on."""

    name: ClassVar[str] = "pytorch"
    targets: ClassVar[tuple[str, ...]] = ("cpu", "cuda")
    open_targets: ClassVar[bool] = True
    dtypes: ClassVar[tuple[str, ...]] = ("float32", "float16", "bfloat16")
    options: ClassVar[Mapping[str, Option]] = {
        "mode": Option(
            "eager",
            "eager; compile: Inductor, ahead of time; cudagraph: a captured eager call (cuda only)",
            ("eager", "compile", "cudagraph"),
        ),
        "layout": Option(
            "contiguous",
            "memory order of images and kernels: NCHW or NHWC",
            ("contiguous", "channels_last"),
        ),
        "allocator": Option(
            "kept",
            "kept: glibc keeps the memory that was freed; system: as the C library does (cpu only)",
            ("kept", "system"),
        ),
        "tf32": Option(
            "off", "whether float32 products may round to TF32 (cuda only)", ("off", "on")
        ),
    }  # fmt: skip

    @classmethod
    def probe(cls) -> Availability:
        try:
            return Availability(True, metadata.version("torch"))
        except metadata.PackageNotFoundError:
            return Availability(False, missing="the package torch", install=INSTALL)

    def device(self, target: Target) -> str:
        index = cuda_index(target)
        return "host" if index is None else f"cuda:{index}"

    def cache_states(self, target: Target) -> tuple[str, ...]:
        if cuda_index(target) is None:
            return super().cache_states(target)
        return ("warm", "evicted")

    def compile_limit_s(self, target: Target) -> float | None:
        """The first compilation on a machine builds headers too: 42 s beside other work, 8 s after."""
        return COMPILE_LIMIT_S if self.option(target, "mode") == "compile" else None

    def release(self) -> None:
        """Hand the memory of GPUs that PyTorch keeps for later back to the driver. A process whose CUDA
        broke cannot; its next session says so."""
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            with contextlib.suppress(RuntimeError):
                torch.cuda.empty_cache()

    def check_target(self, target: Target) -> None:
        self._check_options(target)
        torch = import_runtime("torch", INSTALL)
        index = cuda_index(target)
        if index is not None:
            from hwprof.backends.pytorch_cuda import check_cuda

            check_cuda(torch, index)
        if self.option(target, "mode") == "compile":
            import_inductor()
            cxx_version()
            if index is not None:
                from hwprof.backends.pytorch_cuda import check_cuda_compiler

                check_cuda_compiler()

    def environment(self, target: Target) -> Mapping[str, Scalar]:
        self._check_options(target)
        mode = self.option(target, "mode")
        found: dict[str, Scalar] = {
            "runtime": "pytorch",
            "runtime_version": self.probe().version,
            "mode": mode,
            "layout": self.option(target, "layout"),
        }
        if mode == "compile":
            found["compiler"] = f"AOTInductor, {cxx_version()}"
        index = cuda_index(target)
        if index is not None:
            from hwprof.backends.pytorch_cuda import cuda_environment

            torch = import_runtime("torch", INSTALL)
            found |= cuda_environment(torch, index) | {"tf32": self.option(target, "tf32")}
        else:
            found["allocator"] = allocator_of(self.option(target, "allocator"))
        return found

    def compile(self, graph: Graph, target: Target) -> Artifact:
        from hwprof.graph.torch_emitter import check_emittable

        check_emittable(graph)
        self._configure(target)
        program = Program.seeded(graph)
        if self.option(target, "mode") == "compile":
            try:
                program = replace(program, package=self._package(program, target))
            finally:
                self.release()  # nobody asks a process that only compiles to
        return program.to_artifact()

    def _package(self, program: Program, target: Target) -> bytes:
        """Machine code depends on shapes, strides and device alone: weights and inputs are stand-ins."""
        from hwprof.graph.torch_emitter import to_torch

        index, rng = cuda_index(target), np.random.default_rng(0)
        device = "cpu" if index is None else f"cuda:{index}"
        channels_last = self.option(target, "layout") == "channels_last"
        if index is not None:
            from hwprof.backends.pytorch_cuda import require_working

            require_working(import_runtime("torch", INSTALL), index)

        def stand_in(values: NDArray[np.generic]) -> Tensor:
            return place_weight(values, channels_last, rng).to(device)

        graph, dtype = program.graph, numpy_dtype(program.graph.dtype)
        try:
            weights = {name: stand_in(values) for name, values in program.weights.items()}
            inputs = [stand_in(np.zeros(graph.shapes[name], dtype)) for name in graph.inputs]
            return compile_package(to_torch(graph, weights), inputs)
        except RuntimeError as error:
            raise refusal(error) from error

    def prepare(self, artifact: Artifact, rng: np.random.Generator, target: Target) -> Session:
        self._configure(target)
        program = Program.from_artifact(artifact)
        mode = self.option(target, "mode")
        if bool(program.package) != (mode == "compile"):
            raise BackendError(f"the artifact was not compiled for mode={mode}; compile it anew")
        channels_last = self.option(target, "layout") == "channels_last"
        index = cuda_index(target)
        if index is not None:
            from hwprof.backends.pytorch_cuda import CudaSession

            return CudaSession(program, index, channels_last, mode == "cudagraph", rng)
        set_allocator(self.option(target, "allocator"))
        weights = {
            name: place_weight(values, channels_last, rng) for name, values in program.weights.items()
        }
        return PytorchSession(program, weights, channels_last, rng)

    def _configure(self, target: Target) -> None:
        """Process-wide settings of torch: threads, and on CUDA the choices of kernels."""
        torch = import_runtime("torch", INSTALL)
        torch.set_num_threads(target.threads)
        if cuda_index(target) is not None:
            from hwprof.backends.pytorch_cuda import configure_cuda

            configure_cuda(torch, self.option(target, "tf32") == "on")

    def _check_options(self, target: Target) -> None:
        on_cuda = cuda_index(target) is not None
        for name, option in self.options.items():
            value = self.option(target, name)
            if value not in option.choices:
                raise BackendUnavailable(
                    f"option {name}={value!r} is unknown to pytorch; choose of "
                    f"{', '.join(option.choices)}"
                )
        if not on_cuda and self.option(target, "mode") == "cudagraph":
            raise BackendUnavailable(
                "--option mode=cudagraph needs --target cuda; on cpu choose eager or compile"
            )
        if on_cuda and self.option(target, "allocator") != "kept":
            raise BackendUnavailable(
                "--option allocator=system needs --target cpu; CUDA tensors have an allocator of torch"
            )
        if not on_cuda and self.option(target, "tf32") == "on":
            raise BackendUnavailable("--option tf32=on needs --target cuda; leave it off on cpu")


def cuda_index(target: Target) -> int | None:
    """None for the CPU; `cuda` is GPU 0.

    Raises:
        BackendUnavailable: another target.
    """
    if target.name == "cpu":
        return None
    found = re.fullmatch(r"cuda(?::(\d+))?", target.name)
    if found is None:
        raise BackendUnavailable(
            f"target {target.name!r} is unknown to pytorch; choose of cpu, cuda, cuda:1, cuda:2, ..."
        )
    return int(found[1] or 0)
