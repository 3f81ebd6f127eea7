"""Splits a model into the units that a runtime compiles.

ONNX Runtime's CPU provider computes float32 convolutions and pools on a layout of its own, NCHWc, whose
channels lie in blocks of 8 or 16; a tensor that others read or that enters from outside is reordered,
once. Which operators take part, and what is fused into a convolution, are the rules of its NCHWc
transformer (onnxruntime/core/optimizer/nchwc_transformer.cc, versions 1.18 to 1.31), followed here
without the runtime: a test holds the units against the model that the runtime itself saves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import ceil, prod
from typing import Any

from hwprof.graph import Shape
from hwprof.models import kernels
from hwprof.models.layers import VIEWS, Layer, layers_of, uses_of
from hwprof.models.model import Model
from hwprof.models.units import Split, Term, Unit

REORDER_CHANNELS = 4
"""Only multiples of it are reordered into blocks."""
FUSED = ("Relu", "Clip", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid")
IN_BLOCKS = ("Relu", "Sigmoid", "Tanh", "HardSigmoid", "Swish", "HardSwish")
"""Activations that compute on blocks as on anything else."""
ARITHMETIC = ("Add", "Mul", "Sub", "Div", "Max", "Min")
COPIES = ("Split", "Slice", "Transpose", "Concat", "Pad", "Gather", "Expand", "Tile")
POOLS = ("MaxPool", "AveragePool")
WEIGHTED = ("Conv", "Gemm", "MatMul")


@dataclass
class _Draft:
    """A unit under construction. `open` while a sum or an activation can still be fused into it."""

    names: list[str]
    kinds: list[str]
    tensor: str
    terms: list[Term]
    convolves: bool = False
    blocked: bool = False
    sums: bool = False
    activation: str = ""
    weights: int = 0

    def unit(self) -> Unit:
        size = float(kernels.FLOAT * self.weights)
        return Unit(" + ".join(self.names), "+".join(self.kinds), self.tensor, tuple(self.terms), size)

    @property
    def is_open(self) -> bool:
        return self.convolves and not self.activation


def block_channels(identity: Mapping[str, Any], dtype: str) -> int | None:
    """Channels of a block of the runtime's own layout, by the environment that rows were measured in;
    None where it computes on NCHW."""
    host = (
        identity.get("runtime") == "onnxruntime" and identity.get("provider") == "CPUExecutionProvider"
    )
    if not host or identity.get("graph_optimization", "all") != "all" or dtype != "float32":
        return None
    flags = identity.get("instruction_sets") or ()
    if "avx512f" in flags:
        return 16
    return 8 if "avx" in flags else None


def split(model: Model, block: int | None) -> Split:
    """The units of a model in execution order.

    Args:
        block: as `block_channels` says.
    """
    return _Splitter(model, block).split()


@dataclass
class _Splitter:
    model: Model
    block: int | None
    drafts: list[_Draft] = field(default_factory=list)
    blocked: set[str] = field(default_factory=set)
    """Tensors that an operator on blocks made."""
    reordered: set[str] = field(default_factory=set)
    """Tensors that have a reordered copy, into or out of blocks."""
    makers: dict[str, _Draft] = field(default_factory=dict)

    def split(self) -> Split:
        layers, outputs = layers_of(self.model)
        self.uses = uses_of(layers, outputs)
        self.outputs = set(outputs)
        self.readers: dict[str, Layer] = {}
        for layer in layers:
            self.readers.update(dict.fromkeys(layer.inputs, layer))
        for layer in layers:
            self._layer(layer)
        for name in outputs:
            self._read_plain(name)
        return Split(self.model, tuple(draft.unit() for draft in self.drafts))

    def _layer(self, layer: Layer) -> None:
        kind = layer.kind
        if kind == "Conv" and len(layer.weight) >= 3 and len(layer.inputs) == 1:
            self._convolution(layer)
        elif kind in ("Gemm", "MatMul") and len(layer.weight) == 2 and len(layer.inputs) == 1:
            self._read_plain(layer.inputs[0])
            source = self._shape(layer.inputs[0])
            inner = source[0] if layer.attributes.get("transA") else source[-1]
            result = self._shape(layer.output)
            term = kernels.product(prod(result[:-1]), inner, result[-1])
            self._add(layer, [term], convolves=True)
        elif kind in POOLS and len(layer.outputs) == 1 and len(self._shape(layer.output)) == 4:
            blocked = self._pools_in_blocks(layer)
            shapes = self._shape(layer.inputs[0]), self._shape(layer.output)
            self._add(layer, [kernels.pool(layer, *shapes, blocked)], blocked=blocked)
        elif kind == "GlobalAveragePool" and len(self._shape(layer.inputs[0])) >= 3:
            blocked = self._pools_in_blocks(layer)
            self._add(
                layer, [kernels.global_pool(self._shape(layer.inputs[0]), blocked)], blocked=blocked
            )
        elif self._is_spatial_mean(layer):
            self._read_plain(layer.inputs[0])
            self._add(layer, [kernels.global_pool(self._shape(layer.inputs[0]), blocked=False)])
        elif kind == "BatchNormalization":
            self._normalisation(layer)
        elif kind in (*FUSED, "HardSwish", "Swish") and len(layer.inputs) == 1:
            self._activation(layer)
        elif kind in ARITHMETIC and len(layer.inputs) == 2:
            self._arithmetic(layer)
        elif kind in COPIES:
            self._copy(layer)
        else:
            self._other(layer)

    def _convolution(self, layer: Layer) -> None:
        source, result = self._shape(layer.inputs[0]), self._shape(layer.output)
        block = self._conv_block(layer, source)
        image = int(layer.attributes.get("group", 1)) == 1 and source[1] < (block or 0)
        if block is not None and not image:
            self._read_blocked(layer.inputs[0])
        else:
            self._read_plain(layer.inputs[0])
        term = kernels.convolution(layer, source, result, block)
        self._add(layer, [term], convolves=True, blocked=block is not None)

    def _conv_block(self, layer: Layer, source: Shape) -> int | None:
        """The block that this convolution computes in, or None for NCHW."""
        if self.block is None or len(source) != 4:
            return None
        out_channels, per_group = layer.weight[:2]
        groups = int(layer.attributes.get("group", 1))
        if groups == 1:
            image = source[1] < self.block
            return self.block if image or source[1] % REORDER_CHANNELS == 0 else None
        if out_channels % REORDER_CHANNELS:
            return None
        if per_group == 1 and out_channels == groups:
            return self.block
        aligned = per_group % self.block == 0 and (out_channels // groups) % self.block == 0
        return self.block if aligned else None

    def _normalisation(self, layer: Layer) -> None:
        """On blocks it runs as a depthwise convolution of one weight."""
        source = self._shape(layer.inputs[0])
        if self.block is None or layer.inputs[0] not in self.blocked:
            self._read_plain(layer.inputs[0])
            self._add(layer, [kernels.scale("Mul", source, source)])
            return
        as_conv = replace(layer, weight=(source[1], 1, 1, 1), attributes={"group": source[1]})
        term = kernels.convolution(as_conv, source, source, self.block)
        self._add(layer, [term], convolves=True, blocked=True)

    def _activation(self, layer: Layer) -> None:
        name, result = layer.inputs[0], self._shape(layer.output)
        maker = self.makers.get(name)
        if maker is not None and maker.is_open and self.uses[name] == 1 and self._is_fused(layer, maker):
            maker.activation = layer.kind
            maker.terms += kernels.fused_activation(layer.kind, self._padded(result, maker.blocked))
            self._join(maker, layer)
            return
        blocked = name in self.blocked and layer.kind in IN_BLOCKS
        if not blocked:
            self._read_plain(name)
        shape = self._padded(result, blocked)
        if layer.kind == "HardSwish" and self.block is not None:
            # No kernel of its own: the runtime runs the gate and the product.
            gate = [kernels.elementwise("HardSigmoid", [shape], shape)]
            self._add(replace(layer, kind="HardSigmoid"), gate, blocked=blocked)
            product = [kernels.elementwise("Mul", [shape, shape], shape)]
            self._add(replace(layer, kind="Mul"), product, blocked=blocked)
            return
        self._add(layer, [kernels.elementwise(layer.kind, [shape], shape)], blocked=blocked)

    def _is_fused(self, layer: Layer, maker: _Draft) -> bool:
        if layer.kind == "HardSwish":
            return maker.blocked and layer.output not in self.outputs
        return layer.kind in FUSED

    def _arithmetic(self, layer: Layer) -> None:
        left, right = (self._shape(name) for name in layer.inputs)
        result = self._shape(layer.output)
        blocked = left == right and all(name in self.blocked for name in layer.inputs)
        if layer.kind == "Add" and left == right:
            maker = self._summing(layer, blocked)
            if maker is not None:
                maker.sums = True
                maker.terms.append(kernels.fused_sum(self._padded(result, blocked)))
                # It waits for the other tensor.
                self.drafts.remove(maker)
                self.drafts.append(maker)
                self._join(maker, layer)
                return
        if not blocked:
            for name in layer.inputs:
                self._read_plain(name)
        if left == right:
            shape = self._padded(result, blocked)
            self._add(layer, [kernels.elementwise(layer.kind, [shape] * 2, shape)], blocked=blocked)
        elif len(result) == 4 and any(s[2:] == (1, 1) and s[1] == result[1] for s in (left, right)):
            self._add(layer, [kernels.scale(layer.kind, result, result)])
        else:
            self._add(layer, [kernels.elementwise(layer.kind, [left, right], result)])

    def _summing(self, layer: Layer, blocked: bool) -> _Draft | None:
        """The convolution that adds the other input to its own output."""
        reader = self.readers.get(layer.output)
        rectified = reader is not None and reader.kind == "Relu" and self.uses[layer.output] == 1
        for name in reversed(layer.inputs):
            maker = self.makers.get(name)
            if maker is None or not maker.is_open or maker.sums or self.uses[name] != 1:
                continue
            # On NCHW the runtime fuses a sum only with the ReLU after it.
            if "Conv" in maker.kinds and (
                blocked if maker.blocked else rectified and self._is_plain(layer)
            ):
                return maker
        return None

    def _is_plain(self, layer: Layer) -> bool:
        return not any(name in self.blocked and name not in self.reordered for name in layer.inputs)

    def _copy(self, layer: Layer) -> None:
        shapes = [self._shape(name) for name in layer.outputs]
        if layer.kind == "Concat":
            shapes = [self._shape(name) for name in layer.inputs]
            by_channel = int(layer.attributes.get("axis", 0)) in (1, -3) and len(shapes[0]) == 4
            if by_channel and all(
                name in self.blocked and shape[1] % (self.block or 1) == 0
                for name, shape in zip(layer.inputs, shapes, strict=True)
            ):
                self._add(layer, [kernels.copy(shapes)], blocked=True)
                return
        for name in layer.inputs:
            self._read_plain(name)
        self._add(layer, [kernels.copy(shapes)])

    def _other(self, layer: Layer) -> None:
        for name in layer.inputs:
            self._read_plain(name)
        if layer.kind in VIEWS:
            self._add(layer, [])
            return
        sources = [self._shape(name) for name in layer.inputs]
        result = self._shape(layer.output)
        if layer.kind in ARITHMETIC:
            self._add(layer, [kernels.elementwise(layer.kind, sources, result)])
            return
        elements = sum(prod(shape) for shape in sources)
        sizes = (float(max(1, elements)), float(prod(result)))
        self._add(layer, [Term(layer.kind, sizes, 0.0, kernels.FLOAT * sum(sizes))])

    def _pools_in_blocks(self, layer: Layer) -> bool:
        """Whether a pool computes on blocks; its input is made ready for that."""
        source = self._shape(layer.inputs[0])
        if self.block is None or len(source) != 4 or source[1] % self.block:
            self._read_plain(layer.inputs[0])
            return False
        self._read_blocked(layer.inputs[0])
        return True

    def _is_spatial_mean(self, layer: Layer) -> bool:
        if layer.kind != "ReduceMean" or len(layer.inputs) != 1:
            return False
        rank = len(self._shape(layer.inputs[0]))
        return rank == 4 and sorted(axis % rank for axis in layer.axes) == [2, 3]

    def _read_blocked(self, name: str) -> None:
        if name not in self.blocked and name not in self.reordered:
            self._reorder("ReorderInput", "reorder_in", name)

    def _read_plain(self, name: str) -> None:
        if name in self.blocked and name not in self.reordered:
            self._reorder("ReorderOutput", "reorder_out", name)

    def _reorder(self, kind: str, term: str, name: str) -> None:
        terms = [kernels.reorder(term, self._shape(name))]
        self.drafts.append(_Draft([name], [kind], name, terms))
        self.reordered.add(name)

    def _add(
        self, layer: Layer, terms: list[Term], *, convolves: bool = False, blocked: bool = False
    ) -> None:
        draft = _Draft(list(layer.names), [layer.kind], layer.output, terms, convolves, blocked)
        draft.weights = prod(layer.weight) if layer.kind in WEIGHTED else 0
        self.drafts.append(draft)
        self.makers[layer.output] = draft
        if blocked:
            self.blocked.add(layer.output)

    def _join(self, maker: _Draft, layer: Layer) -> None:
        maker.names += layer.names
        maker.kinds.append(layer.kind)
        maker.tensor = layer.output
        self.makers[layer.output] = maker
        if maker.blocked:
            self.blocked.add(layer.output)

    def _shape(self, name: str) -> Shape:
        return self.model.shapes[name]

    def _padded(self, shape: Shape, blocked: bool) -> Shape:
        if not blocked or self.block is None:
            return shape
        return (shape[0], ceil(shape[1] / self.block) * self.block, *shape[2:])
