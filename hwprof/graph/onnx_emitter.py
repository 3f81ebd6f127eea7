"""Emits a Graph as an ONNX model (opset 17), weights included. The only place that writes ONNX ops."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from hwprof.errors import OpError
from hwprof.graph.blocks import load_block
from hwprof.graph.graph import Graph, Node, conv_padding, pool_padding
from hwprof.graph.weights import node_weights

OPSET = 17
IR_VERSION = 8
ELEMENT_TYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}

_SIMPLE = {
    "add": "Add",
    "mul": "Mul",
    "relu": "Relu",
    "hswish": "HardSwish",
    "sigmoid": "Sigmoid",
    "global_avg_pool": "GlobalAveragePool",
    "identity": "Identity",
}


def to_onnx(graph: Graph) -> onnx.ModelProto:
    """The Graph as a model whose inputs and outputs carry the Graph's tensor names.

    Raises:
        ValueError: the Graph's dtype has no ONNX element type here (int8 is made by quantising).
        OpError: two opaque blocks of one Graph use different versions of the ONNX operators.
    """
    if graph.dtype not in ELEMENT_TYPES:
        raise ValueError(f"dtype {graph.dtype!r} is not emitted; choose of {', '.join(ELEMENT_TYPES)}")
    element = ELEMENT_TYPES[graph.dtype]
    emitter = _Emitter(graph, element)
    for index, node in enumerate(graph.nodes):
        emitter.emit(index, node)
    proto = helper.make_graph(
        emitter.nodes,
        "hwprof",
        [helper.make_tensor_value_info(n, element, graph.shapes[n]) for n in graph.inputs],
        [helper.make_tensor_value_info(n, element, graph.shapes[n]) for n in graph.outputs],
        initializer=emitter.initializers,
    )
    opsets = [helper.make_opsetid(domain, version) for domain, version in emitter.opsets.items()]
    return helper.make_model(
        proto, opset_imports=opsets, ir_version=emitter.ir_version, producer_name="hwprof"
    )


class _Emitter:
    def __init__(self, graph: Graph, element: int) -> None:
        self.graph = graph
        self.element = element
        self.nodes: list[NodeProto] = []
        self.initializers: list[TensorProto] = []
        self.opsets: dict[str, int] = {"": OPSET}
        self.block_opsets: dict[str, int] = {}
        self.ir_version = IR_VERSION

    def emit(self, index: int, node: Node) -> None:
        inputs, outputs = list(node.inputs), list(node.outputs)
        if node.primitive in _SIMPLE:
            self._add(_SIMPLE[node.primitive], inputs, outputs)
            return
        match node.primitive:
            case "conv":
                pad = conv_padding(node.kernel, node.dilation)
                dilated = {"dilations": [node.dilation] * 2} if node.dilation > 1 else {}
                self._add(
                    "Conv", inputs + self._weights(index), outputs,
                    kernel_shape=[node.kernel] * 2, strides=[node.stride] * 2,
                    pads=[pad] * 4, group=node.groups, **dilated,
                )  # fmt: skip
            case "fc":
                self._add("Gemm", inputs + self._weights(index), outputs, transB=1)
            case "concat":
                self._add("Concat", inputs, outputs, axis=1)
            case "split":
                sizes = self._constant(f"sizes{index}", np.asarray(node.sizes, dtype=np.int64))
                self._add("Split", [*inputs, sizes], outputs, axis=1)
            case "crop":
                ends = self.graph.shapes[node.inputs[0]][2:]
                slices = [
                    self._constant(f"{name}{index}", np.asarray(value, dtype=np.int64))
                    for name, value in (("starts", (1, 1)), ("ends", ends), ("axes", (2, 3)))
                ]
                self._add("Slice", inputs + slices, outputs)
            case "max_pool" | "avg_pool":
                kind = "MaxPool" if node.primitive == "max_pool" else "AveragePool"
                pad = pool_padding(node.kernel)
                self._add(
                    kind, inputs, outputs,
                    kernel_shape=[node.kernel] * 2, strides=[node.stride] * 2, pads=[pad] * 4,
                )  # fmt: skip
            case "flatten":
                self._add("Flatten", inputs, outputs, axis=1)
            case "relu6":
                bounds = [self._scalar(f"low{index}", 0.0), self._scalar(f"high{index}", 6.0)]
                self._add("Clip", inputs + bounds, outputs)
            case "swish":
                gate = f"{outputs[0]}_gate"
                self._add("Sigmoid", inputs, [gate])
                self._add("Mul", [*inputs, gate], outputs)
            case "onnx":
                self._inline(index, node)
            case _:
                raise ValueError(f"the ONNX emitter does not know the primitive {node.primitive!r}")

    def _add(self, kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> None:
        self.nodes.append(helper.make_node(kind, inputs, outputs, **attributes))

    def _weights(self, index: int) -> list[str]:
        kernel, bias = node_weights(self.graph, index)
        dtype = helper.tensor_dtype_to_np_dtype(self.element)
        return [
            self._constant(f"w{index}", kernel.astype(dtype)),
            self._constant(f"b{index}", bias.astype(dtype)),
        ]

    def _scalar(self, name: str, value: float) -> str:
        dtype = helper.tensor_dtype_to_np_dtype(self.element)
        return self._constant(name, np.asarray(value, dtype=dtype))

    def _constant(self, name: str, value: NDArray[np.generic]) -> str:
        self.initializers.append(numpy_helper.from_array(value, name))
        return name

    def _inline(self, index: int, node: Node) -> None:
        """Copy a user's block in, its tensors prefixed so that they cannot clash with ours."""
        block = load_block(node.content)
        renamed = onnx.compose.add_prefix(block, f"block{index}_")
        body = renamed.graph
        self._add("Identity", list(node.inputs), [body.input[0].name])
        self.nodes.extend(body.node)
        self.initializers.extend(body.initializer)
        self._add("Identity", [body.output[0].name], list(node.outputs))
        for opset in renamed.opset_import:
            used = self.block_opsets.setdefault(opset.domain, opset.version)
            if used != opset.version:
                raise OpError(
                    f"subgraph {node.content[:12]} uses ONNX opset {opset.version}, another block of "
                    f"this network {used}; export both with one opset"
                )
            self.opsets[opset.domain] = max(opset.version, self.opsets.get(opset.domain, 0))
        self.ir_version = max(self.ir_version, renamed.ir_version)
