"""Which activations of a Graph a TFLite operator does itself (`fused_activation_function`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from hwprof.graph.graph import Graph

FUSING = ("conv", "fc", "add", "mul")
FUSED = ("relu", "relu6")


class Fusion:
    """relu and relu6 go into the conv, fc, add or mul before them if nothing else reads its result.

    Behind a concatenation of such operators they go into each of them, which computes the same. A RELU
    of its own there is what makes int8 slow: XNNPACK takes it for floats only, and TFLite's own int8
    kernel needs 3 to 8 ns an element (MixConv of 192 channels at 56x56: 5.9 ms, without it 0.8 ms).

    Attributes:
        done: tensors that need no operator of their own, because the one before writes them.
    """

    def __init__(self, graph: Graph) -> None:
        self.done: set[str] = set()
        self._activations: dict[str, str] = {}
        self._outputs: dict[str, str] = {}
        self._readers = Counter(name for node in graph.nodes for name in node.inputs)
        self._readers.update(graph.outputs)
        producers = {name: node for node in graph.nodes for name in node.outputs}
        for node in graph.nodes:
            if node.primitive not in FUSED or node.inputs[0] not in producers:
                continue
            before = producers[node.inputs[0]]
            writers = before.inputs if before.primitive == "concat" else before.outputs
            able = all(name in producers and producers[name].primitive in FUSING for name in writers)
            if able and self._read_once([*writers, node.inputs[0]]):
                self._activations.update(dict.fromkeys(writers, node.primitive))
                self._outputs[node.inputs[0]] = node.outputs[0]
                self.done.add(node.outputs[0])

    def activation(self, tensor: str) -> str:
        """The activation that the operator with this output does itself; empty: none."""
        return self._activations.get(tensor, "")

    def output(self, tensor: str) -> str:
        """The tensor that the operator with this output really writes."""
        return self._outputs.get(tensor, tensor)

    def _read_once(self, tensors: Sequence[str]) -> bool:
        return all(self._readers[name] == 1 for name in tensors)
