"""Graph: a typed, shaped data-flow of about a dozen primitives, and the builder that makes one.

A Graph is what backends compile: one op, a chain of ops or a whole network take the same path.
Shapes are NCHW (or NC after `flatten`). Padding is symmetric, `kernel // 2` on each side unless a
primitive says otherwise, as PyTorch does it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hwprof.errors import OpError

Shape = tuple[int, ...]

ACTIVATIONS = ("relu", "relu6", "hswish", "swish", "sigmoid")
WEIGHTED = ("conv", "fc")
PRIMITIVES = (
    "conv", "fc", "add", "mul", "concat", "split", "crop", "max_pool", "avg_pool", "global_avg_pool",
    "flatten", "identity", "onnx", *ACTIVATIONS,
)  # fmt: skip


@dataclass(frozen=True)
class Node:
    """One primitive. Fields that a primitive does not use keep their default.

    `gain` scales the seeded weights (see `hwprof.graph.weights`); `sizes` are a split's channel
    counts; `content` is the hash of an opaque ONNX block.
    """

    primitive: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    channels: int = 0
    kernel: int = 1
    stride: int = 1
    groups: int = 1
    sizes: tuple[int, ...] = ()
    gain: float = 1.0
    content: str = ""
    dilation: int = 1

    def to_dict(self) -> dict[str, Any]:
        """Fields by name. `dilation` is left out where it is 1: networks were named by this form before
        there was one."""
        fields = dict(self.__dict__)
        if self.dilation == 1:
            del fields["dilation"]
        return fields


@dataclass(frozen=True)
class Graph:
    """Nodes in execution order, the shape of every tensor, and the dtype all of them share."""

    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    shapes: Mapping[str, Shape]
    dtype: str = "float32"

    def weight_shape(self, node: Node) -> Shape:
        """Shape of a weighted node's kernel: (out, in / groups, k, k) for conv, (out, in) for fc."""
        in_channels = self.shapes[node.inputs[0]][1]
        if node.primitive == "fc":
            return (node.channels, in_channels)
        return (node.channels, in_channels // node.groups, node.kernel, node.kernel)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; opaque blocks travel by their content hash only."""
        return {
            "nodes": [node.to_dict() for node in self.nodes],
            "inputs": self.inputs,
            "outputs": self.outputs,
            "shapes": dict(self.shapes),
            "dtype": self.dtype,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Graph:
        """Inverse of `to_dict`."""
        nodes = []
        for fields in data["nodes"]:
            tuples = {name: tuple(fields[name]) for name in ("inputs", "outputs", "sizes")}
            nodes.append(Node(**{**fields, **tuples}))
        return cls(
            nodes=tuple(nodes),
            inputs=tuple(data["inputs"]),
            outputs=tuple(data["outputs"]),
            shapes={name: tuple(shape) for name, shape in data["shapes"].items()},
            dtype=data["dtype"],
        )


def conv_side(side: int, kernel: int, stride: int, dilation: int = 1) -> int:
    """Output side of a convolution or pool with symmetric padding of half its window."""
    window = dilation * (kernel - 1) + 1
    return (side + 2 * conv_padding(kernel, dilation) - window) // stride + 1


def conv_padding(kernel: int, dilation: int = 1) -> int:
    """Padding of a convolution on each side: `kernel // 2` steps of its dilation."""
    return dilation * (kernel // 2)


@dataclass
class GraphBuilder:
    """Appends primitives, infers shapes, and hands back the finished `Graph`.

    Every method takes tensor names and returns the name of its result.

    Raises:
        OpError: a primitive does not fit the shape of its input.
    """

    dtype: str = "float32"
    _nodes: list[Node] = field(default_factory=list)
    _shapes: dict[str, Shape] = field(default_factory=dict)
    _inputs: list[str] = field(default_factory=list)

    def input(self, shape: Shape) -> str:
        name = f"x{len(self._inputs)}"
        self._inputs.append(name)
        self._shapes[name] = tuple(shape)
        return name

    def shape(self, tensor: str) -> Shape:
        return self._shapes[tensor]

    def conv(
        self,
        tensor: str,
        channels: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        gain: float = 1.0,
        dilation: int = 1,
    ) -> str:
        """Convolution with a bias (BatchNorm is folded into both). Depthwise is groups = channels."""
        n, c, h, w = self._image(tensor, "conv")
        if c % groups or channels % groups:
            raise OpError(
                f"conv: {c} input and {channels} output channels do not divide by {groups} groups"
            )
        side = tuple(conv_side(length, kernel, stride, dilation) for length in (h, w))
        node = Node(
            "conv", (tensor,), (), channels=channels, kernel=kernel, stride=stride,
            groups=groups, gain=gain, dilation=dilation,
        )  # fmt: skip
        return self._append(node, (n, channels, *side))

    def fc(self, tensor: str, channels: int) -> str:
        shape = self._shapes[tensor]
        if len(shape) != 2:
            raise OpError(f"fc wants a flattened input, got shape {shape}; flatten it first")
        return self._append(Node("fc", (tensor,), (), channels=channels), (shape[0], channels))

    def activation(self, tensor: str, name: str) -> str:
        """Apply an activation of `ACTIVATIONS`; "none" returns the tensor itself."""
        if name == "none":
            return tensor
        if name not in ACTIVATIONS:
            raise OpError(f"activation {name!r} is not one of none, {', '.join(ACTIVATIONS)}")
        return self._append(Node(name, (tensor,), ()), self._shapes[tensor])

    def add(self, left: str, right: str) -> str:
        return self._append(Node("add", (left, right), ()), self._broadcast(left, right))

    def mul(self, left: str, right: str) -> str:
        return self._append(Node("mul", (left, right), ()), self._broadcast(left, right))

    def concat(self, tensors: Sequence[str]) -> str:
        """Join along channels."""
        shapes = [self._shapes[t] for t in tensors]
        if len({(s[0], *s[2:]) for s in shapes}) != 1:
            raise OpError(f"concat: shapes {shapes} differ beyond their channels")
        channels = sum(s[1] for s in shapes)
        node = Node("concat", tuple(tensors), ())
        return self._append(node, (shapes[0][0], channels, *shapes[0][2:]))

    def split(self, tensor: str, sizes: Sequence[int]) -> tuple[str, ...]:
        """Cut along channels into parts of the given sizes."""
        n, c, *side = self._shapes[tensor]
        if sum(sizes) != c:
            raise OpError(f"split: parts {tuple(sizes)} do not add up to {c} channels")
        outputs = tuple(f"t{len(self._shapes) + i}" for i in range(len(sizes)))
        for name, size in zip(outputs, sizes, strict=True):
            self._shapes[name] = (n, size, *side)
        self._nodes.append(Node("split", (tensor,), outputs, sizes=tuple(sizes)))
        return outputs

    def crop(self, tensor: str) -> str:
        """Drop the first row and the first column."""
        n, c, h, w = self._image(tensor, "crop")
        if min(h, w) < 2:
            raise OpError(f"crop: an input of {h}x{w} has no second row and column")
        return self._append(Node("crop", (tensor,), ()), (n, c, h - 1, w - 1))

    def pool(self, tensor: str, mode: str, kernel: int, stride: int) -> str:
        """Max or average pool; the average leaves padding out of its count. Even kernels pad nothing."""
        n, c, h, w = self._image(tensor, mode)
        pad = pool_padding(kernel)
        if kernel > min(h, w) + 2 * pad:
            raise OpError(f"{mode} pool: kernel {kernel} is larger than its input of {h}x{w}")
        side = tuple((s + 2 * pad - kernel) // stride + 1 for s in (h, w))
        node = Node(f"{mode}_pool", (tensor,), (), kernel=kernel, stride=stride)
        return self._append(node, (n, c, *side))

    def global_avg_pool(self, tensor: str) -> str:
        n, c, _, _ = self._image(tensor, "global_avg_pool")
        return self._append(Node("global_avg_pool", (tensor,), ()), (n, c, 1, 1))

    def flatten(self, tensor: str) -> str:
        shape = self._shapes[tensor]
        size = 1
        for length in shape[1:]:
            size *= length
        return self._append(Node("flatten", (tensor,), ()), (shape[0], size))

    def identity(self, tensor: str) -> str:
        return self._append(Node("identity", (tensor,), ()), self._shapes[tensor])

    def onnx(self, tensor: str, content: str, output_shape: Shape) -> str:
        """An opaque ONNX block with one input and one output, named by its content hash."""
        return self._append(Node("onnx", (tensor,), (), content=content), output_shape)

    def build(self, *outputs: str) -> Graph:
        return Graph(
            nodes=tuple(self._nodes),
            inputs=tuple(self._inputs),
            outputs=outputs,
            shapes=dict(self._shapes),
            dtype=self.dtype,
        )

    def _append(self, node: Node, shape: Shape) -> str:
        name = f"t{len(self._shapes)}"
        self._nodes.append(
            Node(**{**node.__dict__, "outputs": (name,)})  # the builder owns tensor names
        )
        self._shapes[name] = shape
        return name

    def _image(self, tensor: str, primitive: str) -> tuple[int, int, int, int]:
        shape = self._shapes[tensor]
        if len(shape) != 4:
            raise OpError(f"{primitive} wants an NCHW input, got shape {shape}")
        return shape[0], shape[1], shape[2], shape[3]

    def _broadcast(self, left: str, right: str) -> Shape:
        a, b = self._shapes[left], self._shapes[right]
        if len(a) != len(b) or any(x != y and 1 not in (x, y) for x, y in zip(a, b, strict=True)):
            raise OpError(f"shapes {a} and {b} do not broadcast")
        return tuple(max(x, y) for x, y in zip(a, b, strict=True))


def pool_padding(kernel: int) -> int:
    """Padding of a pool on each side: `kernel // 2` for odd kernels, none for even ones."""
    return kernel // 2 if kernel % 2 else 0
