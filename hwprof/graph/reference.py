"""Reference executor: runs a Graph in numpy float64. Slow and plain; every backend is held to it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from hwprof.graph.blocks import run_block
from hwprof.graph.graph import Graph, Node, conv_padding, pool_padding
from hwprof.graph.weights import node_weights

Array = NDArray[np.float64]


def run_reference(graph: Graph, inputs: Mapping[str, NDArray[np.generic]]) -> list[Array]:
    """Outputs of the Graph for the given inputs (by tensor name), all in float64."""
    values: dict[str, Array] = {n: np.asarray(inputs[n], dtype=np.float64) for n in graph.inputs}
    for index, node in enumerate(graph.nodes):
        results = _run_node(graph, index, node, [values[t] for t in node.inputs])
        values.update(zip(node.outputs, results, strict=True))
    return [values[t] for t in graph.outputs]


def _run_node(graph: Graph, index: int, node: Node, args: list[Array]) -> list[Array]:
    x = args[0]
    match node.primitive:
        case "conv":
            kernel, bias = node_weights(graph, index)
            return [_conv(x, kernel.astype(np.float64), bias.astype(np.float64), node)]
        case "fc":
            kernel, bias = node_weights(graph, index)
            return [x @ kernel.astype(np.float64).T + bias]
        case "add":
            return [x + args[1]]
        case "mul":
            return [x * args[1]]
        case "concat":
            return [np.concatenate(args, axis=1)]
        case "split":
            return list(np.split(x, np.cumsum(node.sizes)[:-1], axis=1))
        case "crop":
            return [x[:, :, 1:, 1:]]
        case "max_pool":
            return [_windows(x, node, pool_padding(node.kernel), -np.inf).max(axis=(-2, -1))]
        case "avg_pool":
            windows = _windows(x, node, pool_padding(node.kernel), np.nan)
            return [np.nanmean(windows, axis=(-2, -1))]
        case "global_avg_pool":
            return [x.mean(axis=(2, 3), keepdims=True)]
        case "flatten":
            return [x.reshape(x.shape[0], -1)]
        case "identity":
            return [x]
        case "onnx":
            return [run_block(node.content, x)]
        case _:
            return [_activate(x, node.primitive)]


def _activate(x: Array, name: str) -> Array:
    match name:
        case "relu":
            return np.maximum(x, 0.0)
        case "relu6":
            return np.clip(x, 0.0, 6.0)
        case "hswish":
            return x * np.clip(x + 3.0, 0.0, 6.0) / 6.0
        case "swish":
            return x / (1.0 + np.exp(-x))
        case "sigmoid":
            return np.asarray(1.0 / (1.0 + np.exp(-x)))
        case _:
            raise ValueError(f"the reference does not know the primitive {name!r}")


def _windows(x: Array, node: Node, pad: int, fill: float) -> Array:
    """Sliding windows of shape (N, C, H_out, W_out, k, k)."""
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)), constant_values=fill)
    window = node.dilation * (node.kernel - 1) + 1
    view = sliding_window_view(padded, (window, window), axis=(2, 3))
    return view[:, :, :: node.stride, :: node.stride, :: node.dilation, :: node.dilation]


def _conv(x: Array, kernel: Array, bias: Array, node: Node) -> Array:
    windows = _windows(x, node, conv_padding(node.kernel, node.dilation), 0.0)
    n, c, h, w, k, _ = windows.shape
    groups = node.groups
    grouped = windows.reshape(n, groups, c // groups, h, w, k, k)
    filters = kernel.reshape(groups, node.channels // groups, c // groups, k, k)
    out = np.einsum("ngchwij,gocij->ngohw", grouped, filters, optimize=True)
    return np.asarray(out.reshape(n, node.channels, h, w) + bias[None, :, None, None])
