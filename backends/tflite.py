"""TFLite on the CPU: hwprof writes the model itself, LiteRT or tflite-runtime runs it.

float32 computes as it says. float16 means weights stored in float16, as the converter's post-training
quantisation makes them: activations, inputs and outputs are float32. int8 is integer throughout.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from importlib import metadata
from typing import Any, ClassVar

import numpy as np

from hwprof.backends.backend import (
    Artifact,
    Availability,
    Backend,
    Option,
    Scalar,
    Target,
    import_runtime,
)
from hwprof.backends.tflite_int8 import INSTALL as INSTALL_QUANTIZER
from hwprof.backends.tflite_int8 import RECIPE, quantise
from hwprof.backends.tflite_session import TfliteSession, load, nodes_taken
from hwprof.errors import BackendError, BackendUnavailable, UnsupportedOp
from hwprof.graph import Graph

INSTALL = "pip install 'hwprof[tflite]' (or: pip install ai-edge-litert)"
# Distribution, module and what brings it, by the value of the option `runtime`.
RUNTIMES = {
    "litert": ("ai-edge-litert", "ai_edge_litert.interpreter", INSTALL),
    "tflite-runtime": (
        "tflite-runtime",
        "tflite_runtime.interpreter",
        "hwprof make-interpreter tflite-runtime, and pass the Python that it makes as --python "
        "(it needs Python 3.11 or older and numpy below 2)",
    ),
}
# One RELU of float32[1, 1], as hwprof.graph.tflite_emitter writes it: to see a runtime work before the
# first op. Written down since an interpreter that only runs models cannot write one.
PROBE_MODEL = (
    "eNptUcsKwjAQHGuoQUUFi3jwIxSvHkU89ODBuwi2WvCF70/w6Ad49Kv8mTqbRKniwpDszsxml7QAjAdhN0ALTQSooQwNCcUM"
    "rAE34k48iGsOyPPkQa1E0XkUb+AN7AT0iCqxj3anZD2fzKJ4elwejE802nm066UIjzh08NEAvtH4Gf7Strw2NWXqwi/O290m"
    "tlxgvJXMPoqZrctsQyIkRq7vapqs8bOTndHupN08uQzwJ5f5+q7nM01Tod7e927el6dh5oN7w0aBVds+65W9vZ83a4Yvo+T+"
    "S7R1662/ADwHGac="
)


class TfliteBackend(Backend):
    name: ClassVar[str] = "tflite"
    dtypes: ClassVar[tuple[str, ...]] = ("float32", "float16", "int8")
    options: ClassVar[Mapping[str, Option]] = {
        "runtime": Option("litert", "which runtime runs the model", tuple(RUNTIMES)),
        "xnnpack": Option("on", "whether the XNNPACK delegate takes what it can", ("on", "off")),
    }

    @classmethod
    def probe(cls) -> Availability:
        """LiteRT, which also brings the schema that models are written with."""
        version = _version("ai-edge-litert")
        if version:
            return Availability(True, version)
        return Availability(False, missing="the package ai-edge-litert", install=INSTALL)

    def check_target(self, target: Target) -> None:
        """Load and run a model of one node in the runtime, with the delegate if it is asked for."""
        runtime, install = self._runtime(target)
        name, xnnpack = self._choice(target, "runtime"), self._choice(target, "xnnpack") == "on"
        try:
            interpreter = load(runtime, zlib.decompress(base64.b64decode(PROBE_MODEL)), 1, xnnpack)
            interpreter.invoke()
        except (BackendError, SystemError, RuntimeError, ValueError) as error:
            raise BackendUnavailable(
                f"{name} does not run with numpy {np.__version__}: {error}; run: {install}"
            ) from error
        if xnnpack and not nodes_taken(interpreter)[0]:
            distribution, _, _ = RUNTIMES[name]
            raise BackendUnavailable(
                f"this build of {distribution} has no XNNPACK delegate; "
                "take another build of it, or give --option xnnpack=off"
            )

    def environment(self, target: Target) -> Mapping[str, Scalar]:
        name = self._choice(target, "runtime")
        distribution, _, install = RUNTIMES[name]
        version = _version(distribution)
        if not version:
            raise BackendUnavailable(f"the package {distribution} is not here; run: {install}")
        facts: dict[str, Scalar] = {
            "runtime": name,
            "runtime_version": version,
            "xnnpack": self._choice(target, "xnnpack") == "on",
            "weights": target.dtype,
            "activations": "int8" if target.dtype == "int8" else "float32",
        }
        return facts

    def compiler(self, target: Target) -> Mapping[str, Scalar]:
        """Of int8: what quantises, and how.

        Raises:
            BackendUnavailable: ai-edge-quantizer is not installed.
        """
        if target.dtype != "int8":
            return {}
        version = _version("ai-edge-quantizer")
        if not version:
            raise BackendUnavailable(
                f"int8 needs the package ai-edge-quantizer; run: {INSTALL_QUANTIZER}"
            )
        return {"quantizer": f"ai-edge-quantizer {version}, {RECIPE}"}

    def compile(self, graph: Graph, target: Target) -> Artifact:
        if target.dtype not in self.dtypes:
            raise UnsupportedOp(
                f"tflite does not compile {target.dtype}; choose of {', '.join(self.dtypes)}"
            )
        import_runtime("ai_edge_litert.schema_py_generated", INSTALL)
        from hwprof.graph.tflite_emitter import to_tflite

        model = to_tflite(graph, "float16" if target.dtype == "float16" else "float32")
        if target.dtype != "int8":
            return Artifact(model)
        return Artifact(quantise(model, graph), self.compiler(target))

    def prepare(self, artifact: Artifact, rng: np.random.Generator, target: Target) -> TfliteSession:
        runtime, _ = self._runtime(target)
        xnnpack = self._choice(target, "xnnpack") == "on"
        return TfliteSession(runtime, artifact.data, rng, target.threads, xnnpack)

    def _runtime(self, target: Target) -> tuple[Any, str]:
        """The module with the runtime's Interpreter, and what installs it."""
        _, module, install = RUNTIMES[self._choice(target, "runtime")]
        return import_runtime(module, install), install

    def _choice(self, target: Target, name: str) -> str:
        value = self.option(target, name)
        choices = self.options[name].choices
        if value not in choices:
            raise BackendUnavailable(f"{name}={value!r}: tflite takes {' or '.join(choices)}")
        return value


def _version(distribution: str) -> str:
    """The installed version, empty where it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""
