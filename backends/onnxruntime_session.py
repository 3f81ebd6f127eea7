"""Sessions of ONNX Runtime on this host, and what the nodes of an optimised model compute in."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hwprof.backends.backend import (
    Artifact,
    Quantisation,
    Session,
    fill_random,
    place_buffer,
    require_open,
)
from hwprof.errors import BackendError, UnsupportedOp

if TYPE_CHECKING:
    import onnx

HOST_PROVIDER = "CPUExecutionProvider"
ELEMENT_TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
}


def session_options(level: str, threads: int, profile: Path | None = None) -> Any:
    """Options of a session.

    Args:
        level: a member of GraphOptimizationLevel, such as `ORT_ENABLE_ALL`.
        threads: intra-op threads.
        profile: where the runtime's profiler writes, as the beginning of a file name.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    return options


def make_session(model: bytes, options: Any, providers: Sequence[Any]) -> Any:
    """A session that holds every provider asked for.

    Raises:
        UnsupportedOp: a node has no kernel.
        BackendError: the runtime refused the model, or left out a provider, which it does without a
            word where the provider does not start.
    """
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(
            model, options, providers=list(providers), enable_fallback=0
        )
    except Exception as error:  # noqa: BLE001 - the runtime's own exception classes are not exported
        first = str(error).strip().splitlines()[0]
        if "NOT_IMPLEMENTED" in first or "Could not find an implementation" in first:
            raise UnsupportedOp(f"onnxruntime has no kernel: {first}") from None
        raise BackendError(f"onnxruntime refused the model: {first}") from None
    asked = [p if isinstance(p, str) else p[0] for p in providers]
    if session.get_providers() != asked:
        held = ", ".join(session.get_providers())
        raise BackendError(f"asked for {', '.join(asked)}, the session of onnxruntime holds {held}")
    return session


def version_numbers(version: str) -> tuple[int, ...]:
    """`1.18.0` as (1, 18, 0), up to the first part that is no number."""
    numbers = []
    for part in version.split("."):
        if not part.isdecimal():
            break
        numbers.append(int(part))
    return tuple(numbers)


def element_type(value: Any) -> np.dtype[np.generic]:
    """Of a session's input or output."""
    return np.dtype(ELEMENT_TYPES[value.type])


def stored_as(artifact: Artifact) -> Quantisation | None:
    """Scales and zero points of an int8 artifact."""
    text = artifact.metadata.get("quantisation")
    if text is None:
        return None
    inputs, outputs = (
        tuple((float(scale), int(zero)) for scale, zero in side) for side in json.loads(str(text))
    )
    return Quantisation(inputs, outputs)


def float32_nodes(graph: onnx.GraphProto) -> str:
    """Empty, or which nodes of an optimised float16 or int8 model compute in float32: those that read
    what a DequantizeLinear or a Cast to float32 gives, up to the next one back."""
    from onnx import TensorProto

    wide: set[str] = set()
    kinds: list[str] = []
    for node in graph.node:
        if node.op_type == "DequantizeLinear":
            wide.update(node.output)
        elif node.op_type == "Cast":
            if node.attribute[0].i == TensorProto.FLOAT:
                wide.update(node.output)
        elif node.op_type != "QuantizeLinear" and wide & set(node.input):
            wide.update(node.output)
            kinds.append(node.op_type)
    if not kinds:
        return ""
    return f"{len(kinds)} of {len(graph.node)} nodes compute in float32: {', '.join(sorted(set(kinds)))}"


class OnnxRuntimeSession(Session):
    """Inputs and outputs are bound to buffers of ours, so that a run copies nothing."""

    def __init__(self, session: Any, artifact: Artifact, rng: np.random.Generator) -> None:
        self._session: Any | None = session
        self._artifact = artifact
        self._stored = stored_as(artifact)
        self._binding = session.io_binding()
        self._inputs = [self._bind(self._binding.bind_input, v, rng) for v in session.get_inputs()]
        for index, buffer in enumerate(self._inputs):
            fill_random(buffer, rng, self._stored.inputs[index] if self._stored else None)
        self._outputs = [self._bind(self._binding.bind_output, v, rng) for v in session.get_outputs()]

    def run(self) -> None:
        require_open(self._session)
        self._session.run_with_iobinding(self._binding)  # type: ignore[union-attr]

    def outputs(self) -> list[NDArray[np.generic]]:
        require_open(self._session)
        return [buffer.copy() for buffer in self._outputs]

    def input_buffers(self) -> list[NDArray[np.generic]]:
        return self._inputs

    def placement(self) -> Mapping[str, int]:
        """Every node is on the CPU provider: the session holds no other one."""
        import onnx

        require_open(self._session)
        nodes = onnx.load_model_from_string(self._artifact.data).graph.node
        return Counter({HOST_PROVIDER: len(nodes)})

    def fallback(self) -> str:
        """Nodes that compute in float32 where the op is float16 or int8."""
        return str(self._artifact.metadata.get("float32_nodes") or "")

    def quantisation(self) -> Quantisation | None:
        return self._stored

    def close(self) -> None:
        self._session = self._binding = None
        self._inputs, self._outputs = [], []

    @staticmethod
    def _bind(bind: Any, value: Any, rng: np.random.Generator) -> NDArray[np.generic]:
        buffer = place_buffer(tuple(value.shape), element_type(value), rng)
        bind(value.name, "cpu", 0, buffer.dtype.type, buffer.shape, buffer.ctypes.data)
        return buffer
