"""The numpy reference against PyTorch: primitive by primitive, and every op kind written out."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

torch = pytest.importorskip("torch")
F = torch.nn.functional

from hwprof.errors import OpError  # noqa: E402 - torch is optional
from hwprof.graph import ACTIVATIONS, Graph, GraphBuilder  # noqa: E402
from hwprof.graph.graph import PRIMITIVES  # noqa: E402
from hwprof.graph.reference import run_reference  # noqa: E402
from hwprof.graph.weights import node_weights, random_inputs  # noqa: E402
from hwprof.ops import KINDS, OpSpec  # noqa: E402

Tensor = torch.Tensor
Weights = Iterator[tuple[Tensor, Tensor]]

SIDES = [(8, 8), (7, 7), (9, 6), (5, 8), (3, 3)]

TORCH_ACTIVATION: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "relu": F.relu,
    "relu6": F.relu6,
    "hswish": F.hardswish,
    "swish": F.silu,
    "sigmoid": torch.sigmoid,
}


def inputs_of(graph: Graph) -> dict[str, np.ndarray]:
    return {k: v.astype(np.float64) for k, v in random_inputs(graph, np.random.default_rng(7)).items()}


def weights_of(graph: Graph) -> Weights:
    """Kernel and bias of every weighted node, in the order in which the block uses them."""
    for index, node in enumerate(graph.nodes):
        if node.primitive in ("conv", "fc"):
            kernel, bias = node_weights(graph, index)
            yield torch.from_numpy(kernel).double(), torch.from_numpy(bias).double()


def compare(graph: Graph, expected: Callable[..., Tensor | tuple[Tensor, ...]]) -> None:
    feed = inputs_of(graph)
    wanted = expected(*(torch.from_numpy(feed[name]) for name in graph.inputs), weights_of(graph))
    results = run_reference(graph, feed)
    for name, got, want in zip(
        graph.outputs, results, wanted if isinstance(wanted, tuple) else (wanted,), strict=True
    ):
        assert got.dtype == np.float64
        assert got.shape == graph.shapes[name] == tuple(want.shape)
        np.testing.assert_allclose(got, want.numpy(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("side", "kernel"), [(side, k) for side in SIDES for k in (1, 3, 5) if k <= min(side)]
)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("groups", [1, 2, 6])
def test_conv(side: tuple[int, int], kernel: int, stride: int, groups: int) -> None:
    builder = GraphBuilder()
    out = builder.conv(builder.input((2, 6, *side)), 12, kernel, stride, groups)

    def expected(x: Tensor, weights: Weights) -> Tensor:
        return F.conv2d(x, *next(weights), stride=stride, padding=kernel // 2, groups=groups)

    compare(builder.build(out), expected)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dilation", [2, 3])
def test_dilated_conv(side: tuple[int, int], stride: int, dilation: int) -> None:
    builder = GraphBuilder()
    out = builder.conv(builder.input((2, 6, *side)), 6, 3, stride, 6, dilation=dilation)

    def expected(x: Tensor, weights: Weights) -> Tensor:
        return F.conv2d(x, *next(weights), stride, padding=dilation, dilation=dilation, groups=6)

    compare(builder.build(out), expected)


def test_crop_drops_the_first_row_and_column() -> None:
    builder = GraphBuilder()
    graph = builder.build(builder.crop(builder.input((2, 3, 4, 5))))
    compare(graph, lambda x, _: x[:, :, 1:, 1:])
    with pytest.raises(OpError, match="an input of 1x5 has no second row and column"):
        builder.crop(builder.input((2, 3, 1, 5)))


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("kernel", [2, 3])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("mode", ["max", "avg"])
def test_pool(side: tuple[int, int], kernel: int, stride: int, mode: str) -> None:
    builder = GraphBuilder()
    out = builder.pool(builder.input((2, 3, *side)), mode, kernel, stride)
    padding = kernel // 2 if kernel % 2 else 0

    def expected(x: Tensor, weights: Weights) -> Tensor:
        if mode == "max":
            return F.max_pool2d(x, kernel, stride, padding)
        return F.avg_pool2d(x, kernel, stride, padding, count_include_pad=False)

    compare(builder.build(out), expected)


def test_padding_is_left_out_of_an_average() -> None:
    builder = GraphBuilder()
    graph = builder.build(builder.pool(builder.input((1, 1, 4, 4)), "avg", 3, 1))
    (out,) = run_reference(graph, {"x0": np.ones((1, 1, 4, 4))})
    np.testing.assert_allclose(out, 1.0)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation(name: str) -> None:
    builder = GraphBuilder()
    graph = builder.build(builder.activation(builder.input((1, 2, 3, 3)), name))
    x = np.linspace(-9, 9, 18).reshape(1, 2, 3, 3)
    want = TORCH_ACTIVATION[name](torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(run_reference(graph, {"x0": x})[0], want, rtol=1e-12, atol=1e-15)


def two_inputs(join: Callable[[GraphBuilder, str, str], str], right: tuple[int, ...]) -> Graph:
    builder = GraphBuilder()
    left = builder.input((2, 3, 4, 5))
    return builder.build(join(builder, left, builder.input(right)))


def test_add() -> None:
    compare(two_inputs(GraphBuilder.add, (2, 3, 4, 5)), lambda x, y, _: x + y)


def test_mul_by_one_number_per_channel() -> None:
    compare(two_inputs(GraphBuilder.mul, (2, 3, 1, 1)), lambda x, y, _: x * y)


def test_concat_joins_channels() -> None:
    graph = two_inputs(lambda b, x, y: b.concat([x, y]), (2, 6, 4, 5))
    compare(graph, lambda x, y, _: torch.cat([x, y], 1))


def test_split_cuts_channels() -> None:
    builder = GraphBuilder()
    graph = builder.build(*builder.split(builder.input((2, 6, 4, 5)), [1, 3, 2]))
    compare(graph, lambda x, _: torch.split(x, [1, 3, 2], 1))


def test_global_avg_pool_flatten_fc_and_identity() -> None:
    builder = GraphBuilder()
    x = builder.identity(builder.input((2, 6, 4, 5)))
    graph = builder.build(builder.fc(builder.flatten(builder.global_avg_pool(x)), 7))
    compare(graph, lambda x, w: F.linear(x.mean((2, 3)), *next(w)))


def test_flatten_keeps_the_order_of_an_image() -> None:
    builder = GraphBuilder()
    graph = builder.build(builder.flatten(builder.input((2, 3, 4, 5))))
    compare(graph, lambda x, _: torch.flatten(x, 1))


def test_the_tests_above_know_every_primitive() -> None:
    tested = {"conv", "fc", "add", "mul", "concat", "split", "crop", "max_pool", "avg_pool",
              "global_avg_pool", "flatten", "identity", *ACTIVATIONS}  # fmt: skip
    assert tested | {"onnx"} == set(PRIMITIVES)


def test_every_kind_has_an_example(example_kinds: set[str]) -> None:
    assert example_kinds == set(KINDS)


def test_every_op_kind_computes_what_its_name_says(example: OpSpec) -> None:
    compare(example.lower(), lambda x, weights: written_out(example, x, weights))


def written_out(op: OpSpec, x: Tensor, weights: Weights) -> Tensor:
    """The op in PyTorch, from its papers and not from its lowering."""
    act = TORCH_ACTIVATION[op.activation]
    kernel = op.mix[0][0] if op.mix else 1

    def conv(x: Tensor, kernel: int = 1, stride: int = 1, groups: int = 1, dilation: int = 1) -> Tensor:
        return F.conv2d(x, *next(weights), stride, dilation * (kernel // 2), dilation, groups)

    def excite(x: Tensor) -> Tensor:
        squeezed = F.adaptive_avg_pool2d(x, 1)
        return x * torch.sigmoid(conv(F.relu(conv(squeezed))))

    def project(y: Tensor) -> Tensor:
        y = conv(excite(y) if op.se_channels else y)
        return x + y if op.residual else y

    match op.kind:
        case "conv":
            return act(conv(x, kernel, op.stride, op.groups))
        case "depthwise":
            return act(conv(x, kernel, op.stride, x.shape[1]))
        case "relu_conv":
            return conv(F.relu(x), kernel, op.stride)
        case "sep_conv":
            y = conv(conv(F.relu(x), kernel, op.stride, op.in_channels))
            return conv(conv(F.relu(y), kernel, 1, op.in_channels))
        case "dil_conv":
            return conv(conv(F.relu(x), kernel, op.stride, op.in_channels, 2))
        case "factorized_reduce":
            y = F.relu(x)
            return torch.cat([conv(y, 1, 2), conv(y[:, :, 1:, 1:], 1, 2)], 1)
        case "mbconv" | "mixconv":
            y = x if op.hidden_channels == op.in_channels else act(conv(x))
            shares = torch.split(y, [channels for _, channels in op.mix], 1)
            branches = [
                conv(share, k, op.stride, channels)
                for share, (k, channels) in zip(shares, op.mix, strict=True)
            ]
            return project(act(torch.cat(branches, 1)))
        case "fused_mbconv":
            return project(act(conv(x, kernel, op.stride)))
        case "basic_block":
            y = conv(act(conv(x, kernel, op.stride)), kernel)
            shortcut = F.avg_pool2d(x, op.stride) if op.stride > 1 else x
            if op.stride > 1 or op.in_channels != op.out_channels:
                shortcut = conv(shortcut)
            return y + shortcut
        case "se":
            return excite(x)
        case "activation":
            return act(x)
        case "pool":
            if op.pool == "global_avg":
                return x.mean((2, 3), keepdim=True)
            padding = kernel // 2 if kernel % 2 else 0
            if op.pool == "max":
                return F.max_pool2d(x, kernel, op.stride, padding)
            return F.avg_pool2d(x, kernel, op.stride, padding, count_include_pad=False)
        case "head":
            y = act(conv(x) if op.mix else x)
            return F.linear(F.adaptive_avg_pool2d(y, 1).flatten(1), *next(weights))
        case "fc":
            return act(F.linear(x, *next(weights)))
        case "skip":
            return x
        case "subgraph":
            return 2 * x
    raise AssertionError(f"write {op.kind} out in PyTorch here")
