"""Initial weights of a found network from the supernet that it was found in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from hwprof.errors import SpaceError
from hwprof.ops import OpSpec
from hwprof.search.supernet.blocks import Superblock
from hwprof.search.supernet.layers import ConvNorm, Head, Stem
from hwprof.search.supernet.network import Network, op_layers
from hwprof.search.supernet.supernet import Supernet


def inherit(network: Network, supernet: Supernet, point: Sequence[int]) -> None:
    """Copy the supernet's weights and BatchNorm statistics of a point into its network. Without SE and
    with the searched activations both then compute the same; SE layers keep their initial weights.

    Raises:
        SpaceError: the network is not that point of the supernet's space.
    """
    choices = supernet.space.choices_of(point)
    ops = (op for choice in choices for op in choice.ops)
    if _one_batch(ops) != _one_batch(network.ops):
        raise SpaceError(f"the network is not the point {tuple(point)} of {supernet.space.name}")
    layers = iter(op_layers(network))
    with torch.no_grad():
        _copy_ends(supernet.stem, next(layers))
        states = supernet.states_of(point)
        for block, state, choice in zip(supernet.superblocks, states, choices[1:-1], strict=True):
            if choice.ops:
                _copy_block(block, state, choice.ops[0], next(layers))
        _copy_ends(supernet.head, next(layers))


def _one_batch(ops: Iterable[OpSpec]) -> list[OpSpec]:
    return [replace(op, shape=(1, *op.shape[1:]), dtype="float32") for op in ops]


def _copy_block(block: Superblock, state: int, op: OpSpec, layers: list[nn.Module]) -> None:
    order = block.hidden_order(state).to(block.depthwise.device)
    project = layers[-1]
    if block.expand is not None:
        _copy(layers.pop(0), block.expand.conv.weight[order], block.expand.norm, order)
    first = 0
    for (kernel, channels), layer in zip(op.mix, layers, strict=False):
        share = order[first : first + channels]
        margin = (block.side - kernel) // 2
        inside = slice(margin, block.side - margin)
        _copy(layer, block.depthwise[share][:, :, inside, inside], block.depthwise_norm, share)
        first += channels
    _copy(project, block.project.conv.weight[:, order], block.project.norm, None)


def _copy_ends(module: Stem | Head, layers: list[nn.Module]) -> None:
    if isinstance(module.convolution, ConvNorm):
        _copy(layers[0], module.convolution.conv.weight, module.convolution.norm, None)
    if isinstance(module, Head):
        classifier = layers[-1].get_submodule("1")
        assert isinstance(classifier, nn.Linear)
        classifier.load_state_dict(module.classifier.state_dict())


def _copy(layer: nn.Module, kernel: Tensor, norm: nn.BatchNorm2d, channels: Tensor | None) -> None:
    """Into a convolution and its BatchNorm."""
    conv, target = layer.get_submodule("0"), layer.get_submodule("1")
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(target, nn.BatchNorm2d)
    conv.weight.copy_(kernel)
    for mine, theirs in (
        (target.weight, norm.weight),
        (target.bias, norm.bias),
        (target.running_mean, norm.running_mean),
        (target.running_var, norm.running_var),
    ):
        assert mine is not None
        assert theirs is not None
        mine.copy_(theirs if channels is None else theirs[channels])
