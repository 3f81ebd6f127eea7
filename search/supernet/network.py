"""Network: one found network on its own, to be trained, measured and exported."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from hwprof.errors import SpaceError
from hwprof.graph import ACTIVATIONS, Graph
from hwprof.graph.onnx_emitter import to_onnx
from hwprof.graph.torch_emitter import to_torch, weight_names
from hwprof.ops import OpSpec, lower
from hwprof.search.supernet.files import replace_file
from hwprof.search.supernet.layers import fan_out_deviation, initialise_linear, new_norm


class Network(nn.Module):
    """A chain of ops as a trainable module: every convolution has a BatchNorm behind it, except those of
    squeeze-and-excitation, which have a bias. In a network with branches (a `graph`) the first of two
    convolutions that follow each other directly has none either: the depthwise one of a DARTS op.

    Its layers are those of the Graph that backends compile, under the same names (`conv3`, `fc40`), so
    that what is exported is what was priced.

    Args:
        ops: e.g. `space.point_ops(point)`, float32, of any batch size.
        dropout: before the classifier.
        drop_connect: probability that an image loses the last residual branch; falls linearly to 0
            at the first (EfficientNet).
        seed: of the initial weights.
        graph: of a network with branches, whose Graph is no chain of `ops`.

    Raises:
        SpaceError: the ops are not float32, or `drop_connect` is asked for with a `graph`.
        OpError: the ops make no chain.
    """

    def __init__(
        self,
        ops: Sequence[OpSpec],
        *,
        dropout: float = 0.2,
        drop_connect: float = 0.0,
        seed: int = 0,
        graph: Graph | None = None,
    ) -> None:
        super().__init__()
        self.ops = tuple(ops)
        if graph is not None and drop_connect:
            raise SpaceError("drop_connect is for chains of residual ops; leave it out beside a graph")
        self.graph = lower(self.ops) if graph is None else graph
        if self.graph.dtype != "float32":
            raise SpaceError(f"a network is trained in float32, its ops are {self.graph.dtype}")
        generator = torch.Generator().manual_seed(seed)
        kernels = {
            name: torch.empty(self.graph.weight_shape(self.graph.nodes[index]))
            for index, name, _ in weight_names(self.graph)
        }
        biases = {
            name: torch.zeros(self.graph.nodes[index].channels)
            for index, _, name in weight_names(self.graph)
        }
        self.body = to_torch(self.graph, kernels | biases)
        excitations = _excitation_tensors(self.graph)
        rates = _drop_rates(self.ops, drop_connect) if graph is None else {}
        bare = _bare_convolutions(self.graph) if graph is not None else set()
        for index, name, _ in weight_names(self.graph):
            layer = name.removesuffix(".weight")
            node = self.graph.nodes[index]
            module = self.body.get_submodule(layer).requires_grad_(True)
            if isinstance(module, nn.Linear):
                initialise_linear(module, generator)
                self.body.set_submodule(layer, nn.Sequential(nn.Dropout(dropout), module))
                continue
            assert isinstance(module, nn.Conv2d)
            deviation = fan_out_deviation(node.kernel, node.channels, node.groups)
            nn.init.normal_(module.weight, 0.0, deviation, generator=generator)
            if node.inputs[0] in excitations:
                continue
            module.bias = None
            if index in bare:
                continue
            normed = [module, new_norm(node.channels)]
            if rates.get(index):
                normed.append(DropConnect(rates[index]))
            self.body.set_submodule(layer, nn.Sequential(*normed))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.train()

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of images (N, channels, height, width), normalised."""
        logits: Tensor = self.body(images.contiguous(memory_format=torch.channels_last))[0]
        return logits

    def layers(self) -> Iterator[tuple[int, nn.Module]]:
        """(index of the Graph's node, layer) of every weighted node, in order."""
        for index, name, _ in weight_names(self.graph):
            yield index, self.body.get_submodule(name.removesuffix(".weight"))

    def parameter_groups(self, weight_decay: float = 1e-5) -> list[dict[str, object]]:
        """Two groups for an optimiser: weights with weight decay, BatchNorm and biases without."""
        parameters = list(self.parameters())
        return [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]

    def to_onnx(self, batch: int = 1) -> onnx.ModelProto:
        """The network in evaluation mode as ONNX, BatchNorm folded; its input takes normalised
        images."""
        shapes = {name: (batch, *shape[1:]) for name, shape in self.graph.shapes.items()}
        model = to_onnx(replace(self.graph, shapes=shapes))
        weights = {}
        for index, layer in self.layers():
            kernel, bias = _folded(layer)
            weights[f"w{index}"], weights[f"b{index}"] = kernel.numpy(), bias.numpy()
        for initializer in model.graph.initializer:
            if initializer.name in weights:
                value = np.ascontiguousarray(weights[initializer.name], dtype=np.float32)
                initializer.CopyFrom(numpy_helper.from_array(value, initializer.name))
        return model

    def export_onnx(self, path: Path, batch: int = 1) -> None:
        """Write `to_onnx` to a file; it is there whole or not at all.

        Raises:
            TrainingError: the disk refused.
        """
        model = self.to_onnx(batch)
        onnx.checker.check_model(model)
        replace_file(path, model.SerializeToString())


class DropConnect(nn.Module):
    """Sets whole images of a residual branch to 0 in training (stochastic depth, Huang et al. 2016)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        kept = torch.rand(len(x), 1, 1, 1, device=x.device) >= self.rate
        return x * kept.to(x.dtype) / (1.0 - self.rate)


def op_layers(network: Network) -> list[list[nn.Module]]:
    """The weighted layers of each op, in the order in which the op lowers to them."""
    layers = dict(network.layers())
    first, grouped = 0, []
    for op in network.ops:
        count = len(op.lower().nodes)
        grouped.append([layers[index] for index in range(first, first + count) if index in layers])
        first += count
    return grouped


def _drop_rates(ops: Sequence[OpSpec], rate: float) -> dict[int, float]:
    """Rate by node of the last convolution of each residual op."""
    rates, first = {}, 0
    residual = sum(op.residual for op in ops)
    number = 0
    for op in ops:
        first += len(op.lower().nodes)
        if op.residual:
            # The last node adds, the one before projects.
            rates[first - 2] = rate * number / max(1, residual - 1)
            number += 1
    return rates


def _bare_convolutions(graph: Graph) -> set[int]:
    """Convolutions whose only reader is another one."""
    readers: dict[str, list[str]] = {}
    for node in graph.nodes:
        for name in node.inputs:
            readers.setdefault(name, []).append(node.primitive)
    return {
        index
        for index, node in enumerate(graph.nodes)
        if node.primitive == "conv" and readers.get(node.outputs[0]) == ["conv"]
    }


def _excitation_tensors(graph: Graph) -> set[str]:
    """Tensors between a global pool and the product or classifier that it feeds."""
    found: set[str] = set()
    for node in graph.nodes:
        passes = node.primitive in ("conv", *ACTIVATIONS) and node.inputs[0] in found
        if node.primitive == "global_avg_pool" or passes:
            found.update(node.outputs)
    return found


def _folded(layer: nn.Module) -> tuple[Tensor, Tensor]:
    """Kernel and bias of a layer with its BatchNorm folded in, float64 in between."""
    parts = list(layer) if isinstance(layer, nn.Sequential) else [layer]
    weighted = next(part for part in parts if isinstance(part, nn.Conv2d | nn.Linear))
    kernel = weighted.weight.detach().cpu().double()
    bias = torch.zeros(len(kernel), dtype=torch.float64)
    if weighted.bias is not None:
        bias = weighted.bias.detach().cpu().double()
    for norm in parts:
        if isinstance(norm, nn.BatchNorm2d):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            scale = norm.weight.detach().double() / (norm.running_var.double() + norm.eps).sqrt()
            shift = (norm.bias.detach().double() - norm.running_mean.double() * scale).cpu()
            scale = scale.cpu()
            kernel, bias = kernel * scale.view(-1, 1, 1, 1), bias * scale + shift
    return kernel.float(), bias.float()
