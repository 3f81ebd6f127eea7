"""What an op lowers to: a Graph of primitives, its cost, its weights, its reference and its ONNX."""

from hwprof.graph.cost import Cost, cost
from hwprof.graph.graph import ACTIVATIONS, Graph, GraphBuilder, Node, Shape

__all__ = ["ACTIVATIONS", "Cost", "Graph", "GraphBuilder", "Node", "Shape", "cost"]
