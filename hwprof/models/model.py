"""Model: the shaped operators of a network of anyone's, without its weights' values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hwprof.errors import HwprofError
from hwprof.graph import Shape


class ModelError(HwprofError):
    """A model cannot be read or split: damaged, too large, or of a kind that has no fixed cost."""


@dataclass(frozen=True)
class Node:
    """One ONNX operator.

    Attributes:
        kind: the operator's ONNX name, such as `Conv`.
        name: as the model calls it; its first output where it has none.
        attributes: numbers, texts and tuples of them.
    """

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def output(self) -> str:
        return self.outputs[0]


@dataclass(frozen=True)
class Model:
    """Operators in execution order and the shape of every tensor.

    Attributes:
        inputs: what a caller feeds; weights are not among them.
        constants: tensors that hang on no input: weights, and what is computed from them.
        numbers: values of the constants of one element.
        integers: values of the small constants of whole numbers (shapes, axes).
        dtype: element type of the first input.
    """

    name: str
    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    shapes: Mapping[str, Shape]
    constants: frozenset[str]
    numbers: Mapping[str, float]
    integers: Mapping[str, tuple[int, ...]]
    dtype: str = "float32"
