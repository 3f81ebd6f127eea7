"""FLOPs, parameters and bytes moved against numbers worked out by hand."""

from __future__ import annotations

import pytest

from hwprof import ops
from hwprof.graph import Cost, cost
from hwprof.graph.cost import node_flops
from hwprof.graph.graph import WEIGHTED
from hwprof.ops import OpSpec


def test_a_mobilenet_v2_block() -> None:
    """Sandler et al. 2018, first residual block at 56 x 56: 24 -> 144 -> 24, 3 x 3."""
    side = 56 * 56
    products = side * 24 * 144 + side * 144 * 9 + side * 144 * 24
    elementwise = 2 * side * 144 + side * 24  # relu6 twice, one add
    parameters = 24 * 144 + 144 + 144 * 9 + 144 + 144 * 24 + 24
    # expand, depthwise, project and add read and write; each convolution reads its weights
    tensors = side * ((24 + 144) + (144 + 144) + (144 + 24) + (24 + 24 + 24))
    counted = cost(ops.mbconv((1, 24, 56, 56), 24, 3, 6, activation="relu6").lower())
    assert counted == Cost(2 * products + elementwise, parameters, 4 * (tensors + parameters))


def test_squeeze_and_excitation() -> None:
    side, reduced = 14 * 14, 8
    products = 32 * reduced + reduced * 32
    elementwise = 32 * side + reduced + 32 + 32 * side  # pool, relu, sigmoid, scale
    parameters = 32 * reduced + reduced + reduced * 32 + 32
    counted = cost(ops.squeeze_excite((1, 32, 14, 14)).lower())
    assert (counted.flops, counted.parameters) == (2 * products + elementwise, parameters)


def test_fully_connected() -> None:
    counted = cost(ops.fc((4, 1280), 1000).lower())
    parameters = 1280 * 1000 + 1000
    assert counted == Cost(2 * 4 * 1280 * 1000, parameters, 4 * (4 * 1280 + 4 * 1000 + parameters))


def test_depthwise_counts_one_filter_per_channel() -> None:
    counted = cost(ops.depthwise((1, 32, 15, 15), 5, stride=2).lower())
    assert (counted.flops, counted.parameters) == (2 * 8 * 8 * 32 * 25, 32 * 25 + 32)


def test_a_skip_costs_nothing() -> None:
    assert cost(ops.skip((1, 32, 14, 14)).lower()) == Cost(0, 0, 0)


def test_an_activation_moves_bytes_only_where_nothing_precedes_it() -> None:
    shape = (1, 32, 14, 14)
    count = 32 * 14 * 14
    assert cost(ops.activation(shape, "hswish").lower()) == Cost(count, 0, 4 * 2 * count)
    plain, active = (cost(ops.conv(shape, 32, 3, activation=a).lower()) for a in ("none", "hswish"))
    assert active.bytes_moved == plain.bytes_moved
    assert active.flops == plain.flops + count


def test_pools_count_their_windows() -> None:
    assert cost(ops.pool((1, 8, 8, 8), "max", 3, stride=2).lower()).flops == 9 * 8 * 4 * 4
    assert cost(ops.pool((1, 8, 8, 8), "global_avg").lower()).flops == 8 * 8 * 8


def test_batch_multiplies_the_work_and_not_the_parameters() -> None:
    one = cost(ops.mbconv((1, 24, 14, 14), 24, 3, 6, se_ratio=0.25).lower())
    eight = cost(ops.mbconv((8, 24, 14, 14), 24, 3, 6, se_ratio=0.25).lower())
    assert eight.flops == 8 * one.flops
    assert eight.parameters == one.parameters


@pytest.mark.parametrize(("dtype", "size"), [("float16", 2), ("bfloat16", 2), ("int8", 1)])
def test_a_smaller_dtype_moves_fewer_bytes(dtype: str, size: int) -> None:
    wide, narrow = (ops.conv((1, 8, 8, 8), 8, 3, dtype=d).lower() for d in ("float32", dtype))
    assert cost(wide).bytes_moved * size == cost(narrow).bytes_moved * 4


def test_a_chain_costs_the_sum_of_its_ops() -> None:
    chain = [ops.conv((1, 3, 32, 32), 16, 3, stride=2), ops.mbconv((1, 16, 16, 16), 16, 3, 6)]
    parts = [cost(op.lower()) for op in chain]
    whole = cost(ops.lower(chain))
    assert whole.flops == sum(part.flops for part in parts)
    assert whole.parameters == sum(part.parameters for part in parts)


def test_parameters_are_what_pytorch_counts() -> None:
    """The same block as torch modules, each convolution with a bias in place of its BatchNorm."""
    torch = pytest.importorskip("torch")
    nn = torch.nn
    modules = nn.ModuleList(
        [
            nn.Conv2d(24, 96, 1),
            nn.Conv2d(64, 64, 3, groups=64),
            nn.Conv2d(32, 32, 5, groups=32),
            nn.Conv2d(96, 6, 1),
            nn.Conv2d(6, 96, 1),
            nn.Conv2d(96, 24, 1),
        ]
    )
    op = ops.mixconv((1, 24, 14, 14), 24, {3: 64, 5: 32}, se_ratio=0.25)
    assert cost(op.lower()).parameters == sum(p.numel() for p in modules.parameters())
    head = nn.ModuleList([nn.Conv2d(160, 640, 1), nn.Linear(640, 100)])
    counted = cost(ops.head((1, 160, 7, 7), 100, 640).lower()).parameters
    assert counted == sum(p.numel() for p in head.parameters())


def test_products_are_what_pytorch_counts(example: OpSpec) -> None:
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode

    graph = example.lower()
    for node in graph.nodes:
        if node.primitive not in WEIGHTED:
            continue
        x, weight = torch.zeros(graph.shapes[node.inputs[0]]), torch.zeros(graph.weight_shape(node))
        with FlopCounterMode(display=False) as counter:
            if node.primitive == "fc":
                torch.nn.functional.linear(x, weight)
            else:
                padding = node.kernel // 2
                torch.nn.functional.conv2d(x, weight, None, node.stride, padding, 1, node.groups)
        assert node_flops(graph, node) == counter.get_total_flops()
