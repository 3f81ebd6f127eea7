"""ONNX Runtime: on the CPU the embedded default, and its CUDA execution provider.

On the CPU the artifact is the model after the runtime's own graph optimisation (level `all`, which on
x86 changes the layout to NCHWc), saved by the runtime and loaded with optimisation off: the same kernels
as a session made from the original (70 blocks: median time ratio 0.998), in 0.6 instead of 1.0 ms. For
CUDA it is the model as emitted, and each session optimises it: a saved one would hold copies between
host and device that the provider places itself.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import astuple
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

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
from hwprof.backends.onnxruntime_cuda import (
    CUDA_PROVIDER,
    OnnxRuntimeDeviceSession,
    check_cuda,
    cuda_settings,
)
from hwprof.backends.onnxruntime_int8 import quantise, require_quantiser, scheme
from hwprof.backends.onnxruntime_session import (
    HOST_PROVIDER,
    OnnxRuntimeSession,
    float32_nodes,
    make_session,
    session_options,
    version_numbers,
)
from hwprof.errors import BackendUnavailable, UnsupportedOp
from hwprof.graph import Graph

DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu")
OLDEST = (1, 18)
LEVELS = {
    "all": "ORT_ENABLE_ALL",
    "extended": "ORT_ENABLE_EXTENDED",
    "basic": "ORT_ENABLE_BASIC",
    "disabled": "ORT_DISABLE_ALL",
}


class OnnxRuntimeBackend(Backend):
    name: ClassVar[str] = "onnxruntime"
    targets: ClassVar[tuple[str, ...]] = ("cpu", "cuda")
    dtypes: ClassVar[tuple[str, ...]] = ("float32", "float16", "int8")
    options: ClassVar[Mapping[str, Option]] = {
        "graph_optimization": Option("all", "level of the runtime's graph optimisation", tuple(LEVELS)),
        "tf32": Option("off", "cuda: TF32 arithmetic in float32 convolutions", ("on", "off")),
    }

    @classmethod
    def probe(cls) -> Availability:
        found = {}
        for distribution in DISTRIBUTIONS:
            try:
                found[distribution] = metadata.version(distribution)
            except metadata.PackageNotFoundError:
                continue
        if not found:
            return Availability(
                False, missing="the package onnxruntime", install="pip install onnxruntime"
            )
        if len(set(found.values())) > 1:
            told = " and ".join(f"{name} {version}" for name, version in found.items())
            return Availability(
                False,
                missing=f"one version of onnxruntime: {told} overwrite each other's files",
                install=f"pip uninstall -y {' '.join(found)} && pip install {list(found)[-1]}",
            )
        distribution, version = found.popitem()
        if version_numbers(version) < OLDEST:
            oldest = ".".join(map(str, OLDEST))
            return Availability(
                False,
                version,
                missing=f"{distribution} {oldest} or newer (here: {version})",
                install=f"pip install -U '{distribution}>={oldest}'",
            )
        return Availability(True, version)

    def device(self, target: Target) -> str:
        return "cuda:0" if target.name == "cuda" else "host"

    def cache_states(self, target: Target) -> tuple[str, ...]:
        return ("warm",) if target.name == "cuda" else super().cache_states(target)

    def check_target(self, target: Target) -> None:
        self.environment(target)
        onnxruntime = import_runtime("onnxruntime", "pip install --force-reinstall onnxruntime")
        # What an uninstalled package leaves behind is a folder that imports as an empty package.
        if not hasattr(onnxruntime, "InferenceSession"):
            raise BackendUnavailable(
                "onnxruntime imports, but is empty; run: pip install --force-reinstall onnxruntime"
            )
        import_runtime("onnx", "pip install --force-reinstall onnx")
        if target.dtype == "int8":
            import_runtime("onnxruntime.quantization", "pip install 'onnxruntime[quantization]'")
        if target.name == "cuda":
            check_cuda(onnxruntime)

    def environment(self, target: Target) -> Mapping[str, Scalar]:
        if target.name not in self.targets:
            raise BackendUnavailable(
                f"onnxruntime has no target {target.name!r}; choose of {', '.join(self.targets)}"
            )
        told: dict[str, Scalar] = {
            "runtime": "onnxruntime",
            "runtime_version": self.probe().version,
            "provider": HOST_PROVIDER,
            "graph_optimization": self.option(target, "graph_optimization"),
            "execution_mode": "sequential",
        }
        if target.name == "cuda":
            settings = cuda_settings(self._tf32(target))
            told["provider"] = CUDA_PROVIDER
            told["conv_algorithm_search"] = settings["cudnn_conv_algo_search"].lower()
            told["tf32"] = self._tf32(target)
        elif "tf32" in target.options:
            raise BackendUnavailable("option tf32 is for the target cuda; leave it out for cpu")
        return told

    def compiler(self, target: Target) -> Mapping[str, Scalar]:
        """On the CPU: the runtime that optimises the model, and how it quantises.

        Raises:
            BackendUnavailable: int8, and the quantiser is too old.
        """
        if target.name == "cuda":
            return {}
        version = self.probe().version
        told: dict[str, Scalar] = {"compiler_version": version}
        if target.dtype == "int8":
            require_quantiser(version)
            told["quantisation"] = str(scheme())
        return told

    def compile(self, graph: Graph, target: Target) -> Artifact:
        import onnx

        from hwprof.graph.onnx_emitter import to_onnx

        if target.dtype not in self.dtypes:
            raise UnsupportedOp(
                f"onnxruntime does not compile {target.dtype}; choose of {', '.join(self.dtypes)}"
            )
        if target.name == "cuda":
            if target.dtype == "int8":
                raise UnsupportedOp(
                    f"{CUDA_PROVIDER} has no integer convolutions: it would compute in float32"
                )
            model = to_onnx(graph).SerializeToString()
            self._cuda_session(model, target)
            return Artifact(model)
        told: dict[str, Scalar] = {}
        if target.dtype == "int8":
            model, stored = quantise(graph)
            told["quantisation"] = json.dumps(astuple(stored))
        else:
            model = to_onnx(graph).SerializeToString()
        with tempfile.TemporaryDirectory(prefix="hwprof-") as folder:
            path = Path(folder) / "optimized.onnx"
            options = session_options(LEVELS[self.option(target, "graph_optimization")], 1)
            options.optimized_model_filepath = str(path)
            make_session(model, options, [HOST_PROVIDER])
            data = path.read_bytes()
        if target.dtype != "float32":
            told["float32_nodes"] = float32_nodes(onnx.load_model_from_string(data).graph)
        return Artifact(data, told)

    def prepare(self, artifact: Artifact, rng: np.random.Generator, target: Target) -> Session:
        if target.name == "cuda":
            return OnnxRuntimeDeviceSession(
                lambda profile: self._cuda_session(artifact.data, target, profile), rng
            )
        options = session_options("ORT_DISABLE_ALL", target.threads)
        return OnnxRuntimeSession(make_session(artifact.data, options, [HOST_PROVIDER]), artifact, rng)

    def _tf32(self, target: Target) -> bool:
        return self.option(target, "tf32") == "on"

    def _cuda_session(self, model: bytes, target: Target, profile: Path | None = None) -> Any:
        level = LEVELS[self.option(target, "graph_optimization")]
        provider = (CUDA_PROVIDER, cuda_settings(self._tf32(target)))
        options = session_options(level, target.threads, profile)
        return make_session(model, options, [provider, HOST_PROVIDER])
