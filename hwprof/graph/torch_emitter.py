"""Emits a Graph as a PyTorch module. The only place that writes PyTorch ops.

The module is straight-line code of `torch.fx` over `nn.Conv2d`, `nn.Linear` and functional calls, as a
hand-written eager module would be: a tensor is freed after its last use, and no loop over nodes runs
beside the ops.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from hwprof.errors import UnsupportedOp
from hwprof.graph.graph import WEIGHTED, Graph, Node, conv_padding, pool_padding
from hwprof.graph.weights import node_weights

TORCH_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}

_FUNCTIONS = {
    "add": operator.add,
    "mul": operator.mul,
    "relu": functional.relu,
    "relu6": functional.relu6,
    "hswish": functional.hardswish,
    "swish": functional.silu,
    "sigmoid": torch.sigmoid,
}


def to_torch(graph: Graph, weights: Mapping[str, Tensor] | None = None) -> fx.GraphModule:
    """The Graph as a module from its inputs, in order, to the tuple of its outputs.

    Args:
        graph: float32, float16 or bfloat16.
        weights: by the names of `weight_names`, of the shapes of `node_weights`. They become parameters
            without a copy, wherever they lie. None: the seeded ones, on the CPU.

    Raises:
        UnsupportedOp: an opaque ONNX block, an unknown primitive, or a dtype that is not emitted.
    """
    check_emittable(graph)
    weights = seeded_weights(graph) if weights is None else weights
    root, body = nn.Module(), fx.Graph()
    values: dict[str, fx.Node] = {name: body.placeholder(name) for name in graph.inputs}
    for index, node in enumerate(graph.nodes):
        args = [values[name] for name in node.inputs]
        if node.primitive in WEIGHTED or node.primitive == "identity":
            name = _module_name(index, node)
            root.add_module(name, _module(graph, node, name, weights))
            result = body.call_module(name, tuple(args))
        else:
            result = _call(body, node, args, graph)
        if node.primitive == "split":
            parts = (body.call_function(operator.getitem, (result, i)) for i in range(len(node.sizes)))
            values.update(zip(node.outputs, parts, strict=True))
        else:
            values[node.outputs[0]] = result
    body.output(tuple(values[name] for name in graph.outputs))
    return fx.GraphModule(root, body).eval()


def check_emittable(graph: Graph) -> None:
    """Raise UnsupportedOp where `to_torch` would."""
    if graph.dtype not in TORCH_DTYPES:
        raise UnsupportedOp(
            f"pytorch does not compile {graph.dtype}; choose of {', '.join(TORCH_DTYPES)}"
        )
    known = {*_FUNCTIONS, *WEIGHTED, "identity", "concat", "split", "crop", "max_pool", "avg_pool",
             "global_avg_pool", "flatten"}  # fmt: skip
    for node in graph.nodes:
        if node.primitive == "onnx":
            raise UnsupportedOp(
                f"pytorch cannot run the opaque ONNX block {node.content[:12]}; "
                "use onnxruntime, or describe the block as ops"
            )
        if node.primitive not in known:
            raise UnsupportedOp(f"pytorch does not know the primitive {node.primitive!r}")


def weight_names(graph: Graph) -> list[tuple[int, str, str]]:
    """Node index and the names of kernel and bias of each weighted node, in order."""
    return [
        (index, f"{_module_name(index, node)}.weight", f"{_module_name(index, node)}.bias")
        for index, node in enumerate(graph.nodes)
        if node.primitive in WEIGHTED
    ]


def seeded_weights(graph: Graph) -> dict[str, Tensor]:
    """The Graph's own weights by name, in its dtype, on the CPU."""
    weights = {}
    for index, kernel_name, bias_name in weight_names(graph):
        kernel, bias = node_weights(graph, index)
        for name, values in ((kernel_name, kernel), (bias_name, bias)):
            weights[name] = torch.from_numpy(values).to(TORCH_DTYPES[graph.dtype])
    return weights


def _module_name(index: int, node: Node) -> str:
    return f"{node.primitive}{index}"


def _module(graph: Graph, node: Node, name: str, weights: Mapping[str, Tensor]) -> nn.Module:
    module: nn.Module
    if node.primitive == "identity":
        return nn.Identity()
    channels = graph.shapes[node.inputs[0]][1]
    if node.primitive == "fc":
        module = nn.Linear(channels, node.channels, device="meta")
    else:
        module = nn.Conv2d(
            channels, node.channels, node.kernel, node.stride,
            conv_padding(node.kernel, node.dilation), node.dilation, node.groups, device="meta",
        )  # fmt: skip
    for part in ("weight", "bias"):
        setattr(module, part, nn.Parameter(weights[f"{name}.{part}"], requires_grad=False))
    return module


def _call(body: fx.Graph, node: Node, args: list[fx.Node], graph: Graph) -> fx.Node:
    def call(function: Any, *positional: Any, **named: Any) -> fx.Node:
        return body.call_function(function, positional, named)

    match node.primitive:
        case "concat":
            return call(torch.cat, args, dim=1)
        case "split":
            return call(torch.split, args[0], list(node.sizes), dim=1)
        case "crop":
            rest = slice(1, None)
            return call(operator.getitem, args[0], (slice(None), slice(None), rest, rest))
        case "max_pool":
            return call(
                functional.max_pool2d, args[0], node.kernel, node.stride, pool_padding(node.kernel)
            )
        case "avg_pool":
            return call(
                functional.avg_pool2d, args[0], node.kernel, node.stride, pool_padding(node.kernel),
                count_include_pad=False,
            )  # fmt: skip
        case "global_avg_pool":
            return call(functional.adaptive_avg_pool2d, args[0], 1)
        case "flatten":
            return call(torch.flatten, args[0], 1)
        case _:
            return call(_FUNCTIONS[node.primitive], *args)
