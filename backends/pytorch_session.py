"""What an artifact of the pytorch backend holds, and a session on the CPU."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hwprof.backends.backend import Artifact, Session, fill_random, place_buffer, require_open
from hwprof.errors import BackendError
from hwprof.graph import Graph
from hwprof.graph.weights import node_weights

if TYPE_CHECKING:
    from torch import Tensor

Array = NDArray[np.generic]
PlaceWeight = Callable[[Array], "Tensor"]


@dataclass(frozen=True)
class Program:
    """A Graph, its weights by name as they are stored, and what a compiler made of it (may be empty).

    The weights travel as bytes although the Graph could draw them again: that takes 10 ms for 0.5
    million weights, at each visit.
    """

    graph: Graph
    weights: Mapping[str, Array]
    package: bytes = b""

    @classmethod
    def seeded(cls, graph: Graph) -> Program:
        """With the Graph's own weights, rounded to its dtype."""
        weights: dict[str, Array] = {}
        for index, kernel_name, bias_name in _weight_names(graph):
            kernel, bias = node_weights(graph, index)
            weights[kernel_name] = kernel.astype(numpy_dtype(graph.dtype))
            weights[bias_name] = bias.astype(numpy_dtype(graph.dtype))
        return cls(graph, weights)

    def to_artifact(self) -> Artifact:
        """All weights in order, then the package; the Graph stands in the metadata."""
        weights = b"".join(array.tobytes() for array in self.weights.values())
        graph = json.dumps(self.graph.to_dict())
        return Artifact(weights + self.package, {"graph": graph, "weight_bytes": len(weights)})

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> Program:
        """Inverse of `to_artifact`; the weights are views of its bytes.

        Raises:
            BackendError: this is no artifact of the pytorch backend, or a damaged one.
        """
        try:
            graph = Graph.from_dict(json.loads(str(artifact.metadata["graph"])))
            dtype, start = numpy_dtype(graph.dtype), 0
            weights: dict[str, Array] = {}
            for index, kernel_name, bias_name in _weight_names(graph):
                shape = graph.weight_shape(graph.nodes[index])
                for name, form in ((kernel_name, shape), (bias_name, shape[:1])):
                    count = prod(form)
                    weights[name] = np.frombuffer(artifact.data, dtype, count, start).reshape(form)
                    start += count * dtype.itemsize
        except (KeyError, TypeError, ValueError) as error:
            raise BackendError(f"this is no whole artifact of pytorch: {error}") from error
        if start != artifact.metadata.get("weight_bytes"):
            raise BackendError(f"pytorch wants {start} bytes of weights, the artifact says otherwise")
        return cls(graph, weights, artifact.data[start:])


class PytorchSession(Session):
    """On the CPU. Weights and inputs lie in buffers of ours, each placed anew; eager convolutions get
    their weights as they are and let oneDNN reorder them at each call, as any eager module does."""

    def __init__(
        self,
        program: Program,
        weights: Mapping[str, Tensor],
        channels_last: bool,
        rng: np.random.Generator,
    ) -> None:
        import torch

        self._torch: Any = torch
        self._graph = program.graph
        dtype = numpy_dtype(program.graph.dtype)
        self._buffers = []
        for name in program.graph.inputs:
            buffer = placed(program.graph.shapes[name], dtype, channels_last, rng)
            fill_random(buffer, rng)
            self._buffers.append(buffer)
        inputs = [tensor_over(buffer) for buffer in self._buffers]
        self._call: Callable[[], Sequence[Tensor]] | None = load_program(program, weights, inputs)
        self._outputs: Sequence[Tensor] = ()

    def run(self) -> None:
        require_open(self._call)
        # Entering the mode takes 1.5 us: a loop of a user's own enters it once, as `time_calls` does.
        if self._torch.is_inference_mode_enabled():
            self._run()
        else:
            with self._torch.inference_mode():
                self._run()

    def _run(self) -> None:
        try:
            self._outputs = self._call()  # type: ignore[misc]
        except RuntimeError as error:
            raise refusal(error) from error

    def time_calls(self, count: int, group: int = 1) -> list[int]:
        with self._torch.inference_mode():
            return super().time_calls(count, group)

    def outputs(self) -> list[Array]:
        """Copies; bfloat16 comes as float32."""
        require_open(self._call)
        return [to_numpy(output) for output in self._outputs]

    def input_buffers(self) -> list[Array]:
        return self._buffers

    def placement(self) -> Mapping[str, int]:
        require_open(self._call)
        devices = {output.device.type for output in self._outputs}
        if devices != {"cpu"}:
            raise BackendError(f"asked for the CPU, the outputs lie on {sorted(devices)}; run it first")
        return {"cpu": len(self._graph.nodes)}

    def close(self) -> None:
        self._call = None
        self._outputs, self._buffers = (), []


def load_program(
    program: Program, weights: Mapping[str, Tensor], inputs: list[Tensor]
) -> Callable[[], Sequence[Tensor]]:
    """A call without arguments that runs the Graph on these very weights and inputs."""
    if program.package:
        from hwprof.backends.pytorch_package import PackagedCall

        return PackagedCall(program.package, weights, inputs)
    from hwprof.graph.torch_emitter import to_torch

    return partial(to_torch(program.graph, weights), *inputs)


def placed(
    shape: tuple[int, ...], dtype: np.dtype[Any], channels_last: bool, rng: np.random.Generator
) -> Array:
    """A fresh buffer at a random place, seen as NCHW; `channels_last` stores an image as NHWC."""
    if channels_last and len(shape) == 4:
        n, c, h, w = shape
        return place_buffer((n, h, w, c), dtype, rng).transpose(0, 3, 1, 2)
    return place_buffer(shape, dtype, rng)


def place_weight(values: Array, channels_last: bool, rng: np.random.Generator) -> Tensor:
    """A copy of a weight at a random place on the host."""
    buffer = placed(values.shape, values.dtype, channels_last, rng)
    buffer[...] = values
    return tensor_over(buffer)


def tensor_over(buffer: Array) -> Tensor:
    """A tensor over the same memory. PyTorch reads no bfloat16 from numpy: its bits go as integers."""
    import torch

    if buffer.dtype.name == "bfloat16":
        return torch.from_numpy(buffer.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(buffer)


def to_numpy(tensor: Tensor) -> Array:
    """A copy on the host, of NCHW order; bfloat16 as float32."""
    import torch

    values = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
    copied: Array = values.cpu().contiguous().numpy().copy()
    return copied


def numpy_dtype(dtype: str) -> np.dtype[Any]:
    """The element type of a Graph as numpy stores it."""
    if dtype == "bfloat16":
        import ml_dtypes

        found: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return found
    return np.dtype(dtype)


def refusal(error: Exception) -> BackendError:
    """What the runtime said, in one line."""
    return BackendError(f"pytorch refused: {first_line(error)}")


def first_line(error: Exception) -> str:
    """The first line of an error's text that is not empty."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0][:300]


def _weight_names(graph: Graph) -> list[tuple[int, str, str]]:
    from hwprof.graph.torch_emitter import weight_names

    return weight_names(graph)
