"""Constructors fill in what follows from the rest, and chains lower to one Graph."""

from __future__ import annotations

from math import isclose, sqrt

import pytest

from hwprof import ops
from hwprof.graph import Graph
from hwprof.ops import OpSpec

SHAPE = (1, 32, 14, 14)


def primitives(graph: Graph) -> list[str]:
    return [node.primitive for node in graph.nodes]


def test_a_residual_is_added_wherever_the_shape_allows_it() -> None:
    assert ops.mbconv(SHAPE, 32, 3, 6).residual
    assert not ops.mbconv(SHAPE, 32, 3, 6, residual=False).residual
    assert not ops.mbconv(SHAPE, 48, 3, 6).residual
    assert not ops.fused_mbconv(SHAPE, 32, 3, 6, stride=2).residual


@pytest.mark.parametrize(
    ("channels", "ratio", "width"), [(32, 0.25, 8), (3, 0.25, 1), (30, 0.25, 7), (32, 0, 0)]
)
def test_excitation_width_is_a_share_of_the_block_input(channels: int, ratio: float, width: int) -> None:
    assert ops.mbconv((1, channels, 14, 14), 32, 3, 6, se_ratio=ratio).se_channels == width


def test_expansion_multiplies_the_input_channels() -> None:
    assert ops.mbconv(SHAPE, 48, 5, 6).mix == ((5, 192),)
    assert ops.fused_mbconv(SHAPE, 48, 3, 4).mix == ((3, 128),)


def test_a_block_without_expansion_has_no_expansion_convolution() -> None:
    assert primitives(ops.mbconv(SHAPE, 48, 3, 1).lower()) == ["conv", "relu", "conv"]
    assert primitives(ops.mbconv(SHAPE, 48, 3, 2).lower()) == ["conv", "relu", "conv", "relu", "conv"]


def test_a_mixconv_runs_one_depthwise_convolution_per_kernel_size() -> None:
    graph = ops.mixconv(SHAPE, 32, {3: 64, 5: 32, 7: 32}, stride=1, se_ratio=0.25).lower()
    depthwise = [n for n in graph.nodes if n.groups > 1]
    assert [(n.kernel, n.groups) for n in depthwise] == [(3, 64), (5, 32), (7, 32)]
    assert primitives(graph)[-2:] == ["conv", "add"]
    for expected in ("split", "concat", "global_avg_pool", "sigmoid", "mul"):
        assert expected in primitives(graph)


def test_the_edge_op_of_cell_spaces_rectifies_first() -> None:
    graph = OpSpec("relu_conv", SHAPE, 32, mix=((3, 32),)).lower()
    assert primitives(graph) == ["relu", "conv"]


def test_a_strided_basic_block_pools_and_projects_its_shortcut() -> None:
    graph = OpSpec("basic_block", SHAPE, 64, mix=((3, 64),), stride=2, activation="relu").lower()
    assert primitives(graph) == ["conv", "relu", "conv", "avg_pool", "conv", "add"]
    same = OpSpec("basic_block", SHAPE, 32, mix=((3, 32),), activation="relu").lower()
    assert primitives(same) == ["conv", "relu", "conv", "add"]


def test_a_head_ends_in_class_scores() -> None:
    op = ops.head((2, 256, 7, 7), 1000, 1280)
    assert primitives(op.lower()) == ["conv", "relu", "global_avg_pool", "flatten", "fc"]
    assert ops.output_shape(op) == (2, 1000)


def test_a_chain_is_one_graph_whose_ops_feed_each_other() -> None:
    chain = [
        ops.conv((1, 3, 32, 32), 16, 3, stride=2, activation="relu"),
        ops.mbconv((1, 16, 16, 16), 24, 3, 6, stride=2),
        ops.skip((1, 24, 8, 8)),
        ops.head((1, 24, 8, 8), 10),
    ]
    graph = ops.lower(chain)
    assert graph.inputs == ("x0",)
    assert graph.shapes[graph.outputs[0]] == (1, 10)
    assert len(graph.nodes) == sum(len(op.lower().nodes) for op in chain)


def test_the_last_projection_of_each_residual_branch_is_scaled_by_their_number() -> None:
    block = ops.mbconv(SHAPE, 32, 3, 6)
    graph = ops.lower([block] * 4)
    gains = [n.gain for n in graph.nodes if n.primitive == "conv" and n.channels == 32]
    assert gains == [0.5] * 4


def test_basic_blocks_count_as_residual_blocks() -> None:
    block = OpSpec("basic_block", SHAPE, 32, mix=((3, 32),), activation="relu")
    assert isclose(ops.residual_gain([block, ops.skip(SHAPE), ops.mbconv(SHAPE, 32, 3, 6)]), sqrt(0.5))
