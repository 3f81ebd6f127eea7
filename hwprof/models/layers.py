"""Layers: a model's operators after what every runtime does to them first: constants folded, identities
dropped, BatchNorm folded into the convolution before it, swish and h-swish recognised."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from hwprof.graph import Shape
from hwprof.models.model import Model, Node

DROPPED = ("Identity", "Dropout")
VIEWS = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")
"""They give the same memory another shape."""
GATES = {"Sigmoid": "Swish", "HardSigmoid": "HardSwish"}
"""x times its gate is one activation."""
FOLDED_AFTER_CONV = ("Mul", "Add", "Div", "Sub")


@dataclass(frozen=True)
class Layer:
    """One operator that computes from the model's input.

    Attributes:
        kind: ONNX name, or `Swish`.
        names: of the model's operators in it.
        inputs: tensors that hang on the model's input; weights are not among them.
        weight: shape of the second input where that is a constant, else ().
        numbers: second and third input where they are constants of one element.
    """

    kind: str
    names: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weight: Shape
    numbers: tuple[float | None, ...]
    axes: tuple[int, ...]
    attributes: Mapping[str, Any]

    @property
    def output(self) -> str:
        return self.outputs[0]


def layers_of(model: Model) -> tuple[tuple[Layer, ...], tuple[str, ...]]:
    """Layers in execution order, and the model's outputs by the names that they have there."""
    alias: dict[str, str] = {}
    layers: list[Layer] = []
    for node in model.nodes:
        inputs = tuple(alias.get(name, name) for name in node.inputs)
        if node.kind in DROPPED:
            alias[node.output] = inputs[0]
            continue
        layers.append(_layer(model, node, inputs))
    outputs = tuple(alias.get(name, name) for name in model.outputs)
    layers = _fold_gates(layers, outputs)
    layers = _fold_pads(layers, outputs)
    return tuple(_fold_after_conv(model, layers, outputs)), outputs


def uses_of(layers: Sequence[Layer], outputs: Sequence[str]) -> Counter[str]:
    """How often each tensor is read; being a model's output counts too."""
    return Counter([name for layer in layers for name in layer.inputs] + list(outputs))


def _layer(model: Model, node: Node, inputs: tuple[str, ...]) -> Layer:
    second = inputs[1] if len(inputs) > 1 else ""
    axes = node.attributes.get("axes", ())
    if node.kind.startswith("Reduce") and second in model.integers:
        axes = model.integers[second]
    return Layer(
        node.kind,
        (node.name,),
        tuple(name for name in inputs if name and name not in model.constants),
        tuple(name for name in node.outputs if name),
        model.shapes.get(second, ()) if second in model.constants else (),
        tuple(model.numbers.get(name) for name in inputs[1:3]),
        tuple(axes) if isinstance(axes, tuple) else (),
        node.attributes,
    )


def _fold_gates(layers: list[Layer], outputs: Sequence[str]) -> list[Layer]:
    uses = uses_of(layers, outputs)
    gates = {layer.output: layer for layer in layers if layer.kind in GATES}
    folded: dict[str, Layer] = {}
    for layer in layers:
        if layer.kind != "Mul" or len(layer.inputs) != 2:
            continue
        for x, gate in (layer.inputs, layer.inputs[::-1]):
            found = gates.get(gate)
            if found is not None and found.inputs == (x,) and uses[gate] == 1:
                folded[found.output] = found
                kind = GATES[found.kind]
                folded[layer.output] = replace(
                    layer, kind=kind, names=(*found.names, *layer.names), inputs=(x,)
                )
                break
    return [
        folded.get(layer.output, layer)
        for layer in layers
        if layer.output not in folded or folded[layer.output] is not layer
    ]


def _fold_pads(layers: list[Layer], outputs: Sequence[str]) -> list[Layer]:
    """A constant pad before a convolution becomes part of it."""
    uses = uses_of(layers, outputs)
    pads = {layer.output: layer for layer in layers if layer.kind == "Pad"}
    convs = {layer.inputs[0] for layer in layers if layer.kind == "Conv" and layer.inputs}
    gone = {
        name: pad
        for name, pad in pads.items()
        if name in convs and uses[name] == 1 and pad.attributes.get("mode", "constant") == "constant"
    }
    made = []
    for layer in layers:
        if layer.output in gone:
            continue
        if layer.kind == "Conv" and layer.inputs and layer.inputs[0] in gone:
            pad = gone[layer.inputs[0]]
            layer = replace(layer, names=(*pad.names, *layer.names), inputs=pad.inputs[:1])
        made.append(layer)
    return made


def _fold_after_conv(model: Model, layers: Sequence[Layer], outputs: Sequence[str]) -> list[Layer]:
    """BatchNorm, and arithmetic with one constant a channel, go into the weights."""
    uses = uses_of(layers, outputs)
    made: list[Layer] = []
    place: dict[str, int] = {}
    for layer in layers:
        before = place.get(layer.inputs[0]) if layer.inputs else None
        if before is not None and uses[layer.inputs[0]] == 1 and _is_folded(model, made[before], layer):
            conv = made[before]
            joined = replace(conv, names=(*conv.names, *layer.names), outputs=layer.outputs[:1])
            made[before] = joined
            place[joined.output] = before
            continue
        if layer.kind in ("Conv", "MatMul"):
            place[layer.output] = len(made)
        made.append(layer)
    return made


def _is_folded(model: Model, before: Layer, layer: Layer) -> bool:
    if before.kind == "Conv":
        if layer.kind == "BatchNormalization":
            return True
        channels = model.shapes[before.output][1]
        constant = layer.kind in FOLDED_AFTER_CONV and len(layer.inputs) == 1 and layer.weight
        return bool(constant) and prod(layer.weight) == channels and layer.weight[-1] == 1
    # A bias after a product of matrices.
    return layer.kind == "Add" and len(layer.inputs) == 1 and len(before.weight) == 2 and (
        layer.weight == before.weight[1:]
    )  # fmt: skip
