"""Static int8 quantisation of a Graph with ONNX Runtime's own quantiser.

Activations are uint8 on x86 and int8 elsewhere: on x86 the runtime fuses fewer nodes around int8
activations, and its int8 kernels are slow (AMD EPYC with VNNI, mbconv 3x3 of 160 channels at 14x14, one
thread: float32 1.34 ms, uint8 0.62 ms, int8 1.21 ms, int8 with the int8 kernels forced 5.11 ms).
"""

from __future__ import annotations

import functools
import platform
import tempfile
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hwprof.backends.backend import Quantisation, random_values
from hwprof.backends.onnxruntime_session import (
    HOST_PROVIDER,
    make_session,
    session_options,
    version_numbers,
)
from hwprof.environment import machine_identity
from hwprof.errors import BackendError, BackendUnavailable, UnsupportedOp
from hwprof.graph import Graph

if TYPE_CHECKING:
    import onnx

# The first whose quantiser takes weights that are quantised already, and quantises around them.
OLDEST_QUANTISER = (1, 21)
CALIBRATION_SEED = 20261121
# Each op is calibrated with about so many input values, within these numbers of samples. With 4 samples
# of a small block, rare large values beyond the calibrated range were cut by up to 37 % of the largest
# output; with 64 by 13 %, and by 1.5 % in most (mbconv 3x3 of 8 channels at 12x12, 6 seeds).
CALIBRATION_VALUES = 65_536
CALIBRATION_SAMPLES = (4, 64)
X86 = ("x86_64", "AMD64", "i386", "i686")
# What the emitter writes. The quantiser's own list lacks HardSwish and Identity.
QUANTISED_KINDS = [
    "Conv", "Gemm", "Add", "Mul", "Relu", "Clip", "HardSwish", "Sigmoid", "GlobalAveragePool",
    "Identity", "Concat", "Split", "MaxPool", "AveragePool", "Flatten",
]  # fmt: skip


@dataclass(frozen=True)
class Scheme:
    """Element type of activations, and how many of the 8 bits of a weight are used."""

    activation: str
    weight_bits: int

    def __str__(self) -> str:
        return f"static QDQ, per channel, {self.activation} activations, {self.weight_bits}-bit weights"


@functools.cache
def scheme() -> Scheme:
    """What suits this processor. On x86 without VNNI two products of uint8 and a full int8 are added in
    16 bits and saturate, so weights use 7 bits there (the runtime's documentation)."""
    if platform.machine() not in X86:
        return Scheme("int8", 8)
    flags = machine_identity()["instruction_sets"] or ()
    return Scheme("uint8", 8 if any("vnni" in flag for flag in flags) else 7)


def require_quantiser(version: str) -> None:
    """Raise BackendUnavailable where this version of onnxruntime has a quantiser that is too old."""
    if version_numbers(version) < OLDEST_QUANTISER:
        oldest = ".".join(map(str, OLDEST_QUANTISER))
        raise BackendUnavailable(
            f"int8 needs onnxruntime {oldest} or newer to quantise (here: {version}); "
            f"run: pip install -U 'onnxruntime>={oldest}'"
        )


def quantise(graph: Graph) -> tuple[bytes, Quantisation]:
    """The Graph as an ONNX model in QDQ form that takes and gives 8-bit tensors, and what they mean.

    Raises:
        BackendUnavailable: as `require_quantiser`.
        UnsupportedOp: an opaque ONNX block, or an input or output that the quantiser leaves in float32.
        BackendError: the quantiser failed.
    """
    import onnx
    import onnxruntime
    from onnxruntime.quantization import QDQQuantizer, QuantType

    from hwprof.graph.onnx_emitter import to_onnx

    require_quantiser(onnxruntime.__version__)
    for node in graph.nodes:
        if node.primitive == "onnx":
            raise UnsupportedOp(
                f"subgraph {node.content[:12]} is float; onnxruntime does not quantise it"
            )
    model = to_onnx(replace(graph, dtype="float32"))
    _shield_inputs(model.graph)
    activations = {"uint8": QuantType.QUInt8, "int8": QuantType.QInt8}[scheme().activation]
    try:
        ranges = _calibrate(model, graph)
        _quantise_weights(model.graph)
        quantiser = QDQQuantizer(
            onnx.shape_inference.infer_shapes(model),
            per_channel=True,
            reduce_range=scheme().weight_bits == 7,
            weight_qType=QuantType.QInt8,
            activation_qType=activations,
            tensors_range=ranges,
            nodes_to_quantize=[],
            nodes_to_exclude=[],
            op_types_to_quantize=QUANTISED_KINDS,
            # Else it leaves a pool in float32 where nothing before it is quantised.
            extra_options={"ForceQuantizeNoInputCheck": True},
        )
        quantiser.quantize_model()
    except Exception as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BackendError(f"onnxruntime's quantiser failed: {first}") from error
    quantised = quantiser.model.model
    stored = _open_borders(quantised.graph)
    return quantised.SerializeToString(), stored


def _calibrate(model: onnx.ModelProto, graph: Graph) -> Any:
    """Smallest and largest value of each tensor over the samples, as the quantiser wants them.

    `quantize_static` would do this on all cores, whose threads wait for each other on the one that a
    worker may use, and would read and write the model three times (10 blocks of s3nas, CPU time with the
    weights quantised before: 36 ms a block with it, 26 ms with its parts).
    """
    import onnx
    from onnxruntime.quantization import MinMaxCalibrater

    with tempfile.TemporaryDirectory(prefix="hwprof-") as folder:
        source, watched = Path(folder) / "float32.onnx", Path(folder) / "watched.onnx"
        onnx.save_model(model, source)
        calibrater = MinMaxCalibrater(source, QUANTISED_KINDS, augmented_model_path=str(watched))
        calibrater.augment_graph()
        options = session_options("ORT_DISABLE_ALL", 1)
        calibrater.infer_session = make_session(watched.read_bytes(), options, [HOST_PROVIDER])
        calibrater.collect_data(_Calibration(graph))
        return calibrater.compute_data()


class _Calibration:
    """Hands the quantiser samples of standard normal inputs, the same for the same Graph."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._rng = np.random.default_rng(CALIBRATION_SEED)
        fewest, most = CALIBRATION_SAMPLES
        values = sum(prod(graph.shapes[name]) for name in graph.inputs)
        self._left = min(max(fewest, CALIBRATION_VALUES // values), most)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        if not self._left:
            return None
        self._left -= 1
        return {name: random_values(self._graph.shapes[name], self._rng) for name in self._graph.inputs}


def _shield_inputs(graph: onnx.GraphProto) -> None:
    """An Identity between an input and a Relu or Clip: the quantiser folds these two into the node
    before them, and leaves them in float32 where there is none."""
    import onnx

    inputs = {value.name for value in graph.input}
    nodes = []
    for node in graph.node:
        if node.op_type in ("Relu", "Clip") and node.input[0] in inputs:
            shield = f"{node.output[0]}_input"
            nodes.append(onnx.helper.make_node("Identity", [node.input[0]], [shield]))
            node.input[0] = shield
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def _quantise_weights(graph: onnx.GraphProto) -> None:
    """Weights of convolutions and products as int8 ones behind a DequantizeLinear, symmetric for each
    output channel (the first axis of both): what the quantiser makes of them itself, in a loop over the
    channels (median of 10 blocks of s3nas: 91 ms of CPU time to quantise one, with this 36 ms)."""
    import onnx
    from onnx import numpy_helper

    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes = []
    for node in graph.node:
        if node.op_type in ("Conv", "Gemm"):
            name = node.input[1]
            stored, scales = stored_weight(numpy_helper.to_array(constants[name]))
            zeros = np.zeros(len(scales), np.int8)
            parts: dict[str, NDArray[Any]] = {"stored": stored, "scale": scales, "zero": zeros}
            graph.initializer.remove(constants[name])
            graph.initializer.extend(
                numpy_helper.from_array(values, f"{name}_{part}") for part, values in parts.items()
            )
            names = [f"{name}_{part}" for part in parts]
            nodes.append(onnx.helper.make_node("DequantizeLinear", names, [name], axis=0))
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def stored_weight(
    weight: NDArray[np.float32],
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """A weight as int8 with a scale for each index of its first axis, as the quantiser computes them."""
    highest = {8: 127, 7: 64}[scheme().weight_bits]
    channels = weight.reshape(len(weight), -1)
    largest = np.abs(channels).max(axis=1).astype(np.float64)
    scales = np.where(largest > 0, largest / highest, 1.0).astype(np.float32)
    stored = np.clip(np.round(channels / scales[:, np.newaxis]), -128, 127)
    return stored.astype(np.int8).reshape(weight.shape), scales


def _open_borders(graph: onnx.GraphProto) -> Quantisation:
    """Take away the QuantizeLinear at each input and the DequantizeLinear at each output, so that the
    tensors keep their names and are 8-bit ones."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    del graph.value_info[:]  # they tell the types from before
    inputs = tuple(_open_input(graph, value, constants) for value in graph.input)
    outputs = tuple(_open_output(graph, value, constants) for value in graph.output)
    return Quantisation(inputs, outputs)


def _open_input(
    graph: onnx.GraphProto, value: onnx.ValueInfoProto, constants: dict[str, onnx.TensorProto]
) -> tuple[float, int]:
    readers = [node for node in graph.node if value.name in node.input]
    if [node.op_type for node in readers] != ["QuantizeLinear"]:
        raise UnsupportedOp(_left_in_float(value.name, readers))
    (quantise_node,) = readers
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name == quantise_node.output[0]:
                node.input[index] = value.name
    graph.node.remove(quantise_node)
    return _stored_as(value, quantise_node, constants)


def _open_output(
    graph: onnx.GraphProto, value: onnx.ValueInfoProto, constants: dict[str, onnx.TensorProto]
) -> tuple[float, int]:
    writers = [node for node in graph.node if value.name in node.output]
    readers = [node for node in graph.node if value.name in node.input]
    if [node.op_type for node in writers] != ["DequantizeLinear"] or readers:
        raise UnsupportedOp(_left_in_float(value.name, [*writers, *readers]))
    (dequantise_node,) = writers
    stored = dequantise_node.input[0]
    graph.node.remove(dequantise_node)
    for node in graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == stored:
                    names[index] = value.name
    return _stored_as(value, dequantise_node, constants)


def _stored_as(
    value: onnx.ValueInfoProto, node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]
) -> tuple[float, int]:
    """Give the border the type of the node's zero point, and tell scale and zero point."""
    from onnx import numpy_helper

    scale, zero = (numpy_helper.to_array(constants[name]) for name in node.input[1:3])
    value.type.tensor_type.elem_type = constants[node.input[2]].data_type
    return float(scale), int(zero)


def _left_in_float(tensor: str, nodes: list[Any]) -> str:
    kinds = ", ".join(sorted({node.op_type for node in nodes})) or "nothing"
    return f"onnxruntime's quantiser leaves {tensor} in float32 (next to it: {kinds})"
