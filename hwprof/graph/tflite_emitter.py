"""Emits a Graph as a TFLite model, weights included. The only place that writes TFLite operators.

TFLite is NHWC: every image tensor is, the model's inputs and outputs too, so that no operator is wrapped
in transposes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from hwprof.errors import UnsupportedOp
from hwprof.graph.graph import Graph, Node, Shape, conv_padding, pool_padding
from hwprof.graph.tflite_fusion import Fusion
from hwprof.graph.tflite_writer import TfliteWriter
from hwprof.graph.weights import node_weights

ACTIVATION_FUNCTIONS = {
    "": schema.ActivationFunctionType.NONE,
    "relu": schema.ActivationFunctionType.RELU,
    "relu6": schema.ActivationFunctionType.RELU6,
}
# The oldest version of an operator that knows groups, dilation, or float16 input.
GROUPED_CONV = 6
DILATED_DEPTHWISE = 2
DEQUANTIZE_FLOAT16 = 3
LOWEST = float(np.finfo(np.float32).min)

_SIMPLE = {
    "relu": ("RELU", None),
    "relu6": ("RELU6", None),
    "hswish": ("HARD_SWISH", schema.HardSwishOptionsT),
    "sigmoid": ("LOGISTIC", None),
}


def nhwc(shape: Shape) -> Shape:
    """A Graph's shape in TFLite's order of axes; one of other than four axes stays as it is."""
    if len(shape) != 4:
        return tuple(shape)
    n, c, h, w = shape
    return (n, h, w, c)


def to_tflite(graph: Graph, weights: str = "float32") -> bytes:
    """The Graph as a .tflite file that computes in float32, with one signature whose inputs and outputs
    carry the Graph's tensor names and have the shapes `nhwc(...)`.

    Args:
        weights: `float32`, or `float16`: stored so and followed by a DEQUANTIZE, as the converter's
            post-training float16 quantisation does.

    Raises:
        UnsupportedOp: a node has no form in TFLite's built-in operators.
    """
    emitter = _Emitter(graph, weights)
    for index, node in enumerate(graph.nodes):
        if node.outputs[0] not in emitter.fusion.done:
            emitter.emit(index, node)
    return emitter.writer.finish(
        {name: emitter.tensors[name] for name in graph.inputs},
        {name: emitter.tensors[name] for name in graph.outputs},
    )


class _Emitter:
    def __init__(self, graph: Graph, weights: str) -> None:
        self.graph = graph
        self.fusion = Fusion(graph)
        self.writer = TfliteWriter()
        self.tensors: dict[str, int] = {}
        self._weights = weights
        for name in graph.inputs:
            self._tensor(name)

    def emit(self, index: int, node: Node) -> None:
        inputs = [self.tensors[name] for name in node.inputs]
        x, name = inputs[0], node.outputs[0]
        match node.primitive:
            case "conv":
                self._conv(index, node, x)
            case "fc":
                options = schema.FullyConnectedOptionsT(fusedActivationFunction=self._function(node))
                kernel, bias = node_weights(self.graph, index)
                self._add("FULLY_CONNECTED", [x, *self._parameters(index, kernel, bias)], node, options)
            case "add":
                options = schema.AddOptionsT(fusedActivationFunction=self._function(node))
                self._add("ADD", inputs, node, options)
            case "mul":
                options = schema.MulOptionsT(fusedActivationFunction=self._function(node))
                self._add("MUL", inputs, node, options)
            case "concat":
                axis = len(self.graph.shapes[name]) - 1
                self._add("CONCATENATION", inputs, node, schema.ConcatenationOptionsT(axis=axis))
            case "split":
                self._split(node, x)
            case "crop":
                bounds = self._integers(f"{name}_begin", [0, 1, 1, 0])
                size = self._integers(f"{name}_size", self._shape(name))
                self._add("SLICE", [x, bounds, size], node, schema.SliceOptionsT())
            case "max_pool":
                x, padding = self._padded(node, x, pool_padding(node.kernel), LOWEST)
                self._add("MAX_POOL_2D", [x], node, _pool_options(node, padding))
            case "avg_pool":
                self._avg_pool(node, x)
            case "global_avg_pool":
                axes = self._integers(f"{name}_axes", [1, 2])
                self._add("MEAN", [x, axes], node, schema.ReducerOptionsT(keepDims=True))
            case "flatten":
                self._flatten(node, x)
            case "identity":
                self._identity(node, x)
            case "swish":
                gate = self.writer.tensor(f"{name}_gate", self._shape(name))
                self.writer.operator("LOGISTIC", [x], [gate])
                self._add("MUL", [x, gate], node, schema.MulOptionsT())
            case "onnx":
                raise UnsupportedOp(
                    f"tflite cannot take the opaque ONNX block {node.content[:12]}: only ops of "
                    "hwprof's own vocabulary have a TFLite form; use onnxruntime or tvm for it"
                )
            case primitive if primitive in _SIMPLE:
                kind, options_type = _SIMPLE[primitive]
                self._add(kind, [x], node, options_type() if options_type else None)
            case _:
                raise UnsupportedOp(f"the TFLite emitter does not know the primitive {node.primitive!r}")

    def _conv(self, index: int, node: Node, x: int) -> None:
        channels = self.graph.shapes[node.inputs[0]][1]
        kernel, bias = node_weights(self.graph, index)
        x, padding = self._padded(node, x, conv_padding(node.kernel, node.dilation), 0.0)
        common: dict[str, Any] = {
            "padding": padding, "strideW": node.stride, "strideH": node.stride,
            "dilationWFactor": node.dilation, "dilationHFactor": node.dilation,
            "fusedActivationFunction": self._function(node),
        }  # fmt: skip
        if node.groups == channels and channels > 1:
            operands = [x, *self._parameters(index, kernel.transpose(1, 2, 3, 0), bias)]
            options = schema.DepthwiseConv2DOptionsT(depthMultiplier=node.channels // channels, **common)
            version = DILATED_DEPTHWISE if node.dilation > 1 else 1
            self._add("DEPTHWISE_CONV_2D", operands, node, options, version)
        else:
            operands = [x, *self._parameters(index, kernel.transpose(0, 2, 3, 1), bias)]
            version = GROUPED_CONV if node.groups > 1 else 1
            self._add("CONV_2D", operands, node, schema.Conv2DOptionsT(**common), version)

    def _avg_pool(self, node: Node, x: int) -> None:
        """SAME padding is left out of the average, as the Graph wants it. Explicit padding is counted,
        so that the average is scaled by window size over the count of what lies inside."""
        pad = pool_padding(node.kernel)
        x, padding = self._padded(node, x, pad, 0.0)
        options = _pool_options(node, padding)
        if not pad or padding == schema.Padding.SAME:
            self._add("AVERAGE_POOL_2D", [x], node, options)
            return
        name = node.outputs[0]
        whole = self.writer.tensor(f"{name}_whole", self._shape(name))
        self.writer.operator("AVERAGE_POOL_2D", [x], [whole], options)
        rows, columns = (_inside(side, node) for side in self.graph.shapes[node.inputs[0]][2:])
        scale = (node.kernel**2 / np.outer(rows, columns)).astype(np.float32)
        constant = self.writer.constant(f"{name}_scale", scale[None, :, :, None])
        self._add("MUL", [whole, constant], node, schema.MulOptionsT())

    def _padded(self, node: Node, x: int, pad: int, fill: float) -> tuple[int, int]:
        """The tensor to slide the kernel over, and the padding to say: a PAD operator only where SAME,
        TFLite's own padding, would lay the windows elsewhere (strides on even sides)."""
        n, c, *sides = self.graph.shapes[node.inputs[0]]
        if not pad:
            return x, schema.Padding.VALID
        window = node.dilation * (node.kernel - 1) + 1
        if all(_same_windows(side, window, node.stride, pad) for side in sides):
            return x, schema.Padding.SAME
        name = node.outputs[0]
        shape = (n, *(side + 2 * pad for side in sides), c)
        padded = self.writer.tensor(f"{name}_padded", shape)
        pads = self._integers(f"{name}_pads", [[0, 0], [pad, pad], [pad, pad], [0, 0]])
        if fill == 0.0:
            self.writer.operator("PAD", [x, pads], [padded], schema.PadOptionsT())
        else:
            value = self.writer.constant(f"{name}_fill", np.asarray(fill, dtype=np.float32))
            self.writer.operator("PADV2", [x, pads, value], [padded], schema.PadV2OptionsT())
        return padded, schema.Padding.VALID

    def _split(self, node: Node, x: int) -> None:
        """One SLICE a part: XNNPACK does not take SPLIT_V, which cuts its part of the graph in two, and
        the quantiser knows SLICE alone."""
        begin = [0] * len(self.graph.shapes[node.inputs[0]])
        for name in node.outputs:
            shape = self._shape(name)
            bounds = [self._integers(f"{name}_begin", begin), self._integers(f"{name}_size", shape)]
            self.writer.operator("SLICE", [x, *bounds], [self._tensor(name)], schema.SliceOptionsT())
            begin[-1] += shape[-1]

    def _flatten(self, node: Node, x: int) -> None:
        """A RESHAPE where one pixel is left; else a TRANSPOSE before it keeps the Graph's order."""
        shape, name = self.graph.shapes[node.inputs[0]], node.outputs[0]
        if len(shape) == 4 and shape[2] * shape[3] > 1:
            nchw = self.writer.tensor(f"{name}_nchw", shape)
            order = self._integers(f"{name}_order", [0, 3, 1, 2])
            self.writer.operator("TRANSPOSE", [x, order], [nchw], schema.TransposeOptionsT())
            x = nchw
        self._reshape(node, x)

    def _identity(self, node: Node, x: int) -> None:
        """Nothing inside a network; a copy (RESHAPE) where the model's output is asked for."""
        if node.outputs[0] in self.graph.outputs:
            self._reshape(node, x)
        else:
            self.tensors[node.outputs[0]] = x

    def _reshape(self, node: Node, x: int) -> None:
        shape = self._shape(node.outputs[0])
        target = self._integers(f"{node.outputs[0]}_shape", shape)
        self._add("RESHAPE", [x, target], node, schema.ReshapeOptionsT(newShape=list(shape)))

    def _add(
        self, kind: str, inputs: list[int], node: Node, options: Any = None, version: int = 1
    ) -> None:
        output = self._tensor(self.fusion.output(node.outputs[0]))
        self.writer.operator(kind, inputs, [output], options, version)

    def _function(self, node: Node) -> int:
        return int(ACTIVATION_FUNCTIONS[self.fusion.activation(node.outputs[0])])

    def _parameters(
        self, index: int, kernel: NDArray[np.float32], bias: NDArray[np.float32]
    ) -> tuple[int, int]:
        return self._weight(f"w{index}", kernel), self._weight(f"b{index}", bias)

    def _weight(self, name: str, value: NDArray[np.float32]) -> int:
        if self._weights == "float32":
            return self.writer.constant(name, value)
        stored = self.writer.constant(f"{name}_stored", value.astype(self._weights))
        index = self.writer.tensor(name, value.shape)
        options = schema.DequantizeOptionsT()
        self.writer.operator("DEQUANTIZE", [stored], [index], options, DEQUANTIZE_FLOAT16)
        return index

    def _integers(self, name: str, values: Any) -> int:
        return self.writer.constant(name, np.asarray(values, dtype=np.int32))

    def _tensor(self, name: str) -> int:
        self.tensors[name] = self.writer.tensor(name, self._shape(name))
        return self.tensors[name]

    def _shape(self, name: str) -> Shape:
        return nhwc(self.graph.shapes[name])


def _pool_options(node: Node, padding: int) -> Any:
    return schema.Pool2DOptionsT(
        padding=padding, strideW=node.stride, strideH=node.stride,
        filterWidth=node.kernel, filterHeight=node.kernel,
    )  # fmt: skip


def _same_windows(side: int, kernel: int, stride: int, pad: int) -> bool:
    """Whether SAME, which pads only what its windows need and puts the smaller half in front, lays the
    windows that `pad` on both sides lays."""
    count = -(-side // stride)
    needed = max((count - 1) * stride + kernel - side, 0)
    return needed // 2 == pad and (side + 2 * pad - kernel) // stride + 1 == count


def _inside(side: int, node: Node) -> NDArray[np.int64]:
    """How many positions of each window of a padded pool lie inside the image, along one side."""
    pad = pool_padding(node.kernel)
    starts = np.arange(0, side + 2 * pad - node.kernel + 1, node.stride) - pad
    return np.minimum(starts + node.kernel, side) - np.maximum(starts, 0)
