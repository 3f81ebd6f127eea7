"""The supernet of DARTS cells runs the network that its gates say, and the Graph is that network."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hwprof.errors import SpaceError
from hwprof.graph.reference import run_reference
from hwprof.search.cells import CellNetwork, CellSupernet
from hwprof.search.cells.operations import operation
from hwprof.space import load_space

IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def supernet(space):
    return CellSupernet(space, seed=0).eval()


def drawn(space, seed):
    return space.sample(np.random.default_rng(seed))


@pytest.mark.parametrize("seed", range(3))
def test_one_hot_gates_run_the_ops_of_that_network_alone(supernet, space, seed):
    """Its operations, called one by one, are as many as the ops of the point."""
    point = drawn(space, seed)
    ran = []
    hooks = [
        module.register_forward_hook(lambda module, *_: ran.append(module))
        for cell in supernet.cells
        for row in cell.ops
        for module in row
    ]
    supernet(IMAGES, supernet.point_gates(point))
    for hook in hooks:
        hook.remove()
    edges = [space.positions[place].choices[point[place]] for place in supernet.edge_places]
    expected = 0
    for reduced in supernet.layout.reduced:
        part = edges[len(edges) // 2 :] if reduced else edges[: len(edges) // 2]
        expected += sum(not choice.cut for choice in part)
    assert len(ran) == expected


def test_relaxed_gates_are_linear_in_the_ops_of_an_edge(space):
    """A cell's first node with two ops at gates a and b is a x op1 + b x op2."""
    net = CellSupernet(space, seed=3).eval()
    cell = net.cells[0]
    before = last = net.stem(IMAGES)
    runs = [[True] * 5 for _ in cell.edges]
    kept = []
    for first, second in ((1.0, 0.0), (0.0, 1.0), (0.3, 0.7)):
        gates = torch.zeros(len(cell.edges), 5)
        gates[0, 3], gates[0, 4] = first, second
        kept.append(cell(before, last, gates, runs)[:, : cell.width])
    torch.testing.assert_close(kept[2], 0.3 * kept[0] + 0.7 * kept[1])


def test_gradients_reach_every_gate_on_offer_and_none_that_was_pruned(space):
    net = CellSupernet(space, seed=0)
    mask = torch.ones(net.offered.shape, dtype=torch.bool)
    mask[2, 3] = mask[9, 1] = False
    net.offer(mask)
    gates = torch.full(net.offered.shape, 0.2, requires_grad=True)
    net(IMAGES, gates).square().sum().backward()
    none = 0
    reached = gates.grad != 0
    assert not reached[:, none].any()
    assert not reached[2, 3]
    assert not reached[9, 1]
    # Where an image is halved to 8 px and concatenated, nothing else is lost.
    expected = mask.clone()
    expected[:, none] = False
    assert torch.equal(reached, expected)


def test_straight_through_gates_of_zero_have_a_gradient(space):
    net = CellSupernet(space, seed=0)
    hard = net.point_gates(drawn(space, 1))
    gates = hard.clone().requires_grad_(True)
    torch.testing.assert_close(net(IMAGES, gates), net(IMAGES, hard), rtol=1e-4, atol=1e-5)
    net(IMAGES, gates).square().sum().backward()
    assert ((gates.grad != 0) & (hard == 0)).any()


def test_an_edge_whose_ops_are_all_none_gives_zeros_of_the_right_shape(space):
    net = CellSupernet(space, seed=0).eval()
    gates = torch.zeros(net.offered.shape)
    gates[:, 0] = 1.0
    logits = net(IMAGES, gates)
    torch.testing.assert_close(logits, net.classifier.bias.expand(2, -1))


def test_every_op_computes_what_the_priced_op_computes(space):
    """Module and Graph with the same weights, BatchNorm as it starts (mean 0, variance 1)."""
    seen = set()
    for op in space.ops():
        if op.kind in seen or op.kind in ("conv", "head"):
            continue
        seen.add(op.kind)
        module = operation(op, affine=False).eval()
        graph = op.lower()
        x = np.random.default_rng(0).standard_normal(op.shape)
        weights = [p.detach().numpy() for p in module.parameters()]
        with pytest.MonkeyPatch.context() as patch:
            convs = [i for i, node in enumerate(graph.nodes) if node.primitive == "conv"]
            given = {i: (w, np.zeros(len(w))) for i, w in zip(convs, weights, strict=True)}
            patch.setattr(
                "hwprof.graph.reference.node_weights", lambda _, index, given=given: given[index]
            )
            (expected,) = run_reference(graph, {graph.inputs[0]: x})
        with torch.no_grad():
            got = module(torch.from_numpy(x).float()).numpy()
        np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)
    assert seen == {"sep_conv", "dil_conv", "factorized_reduce", "pool", "relu_conv"}


def test_the_weights_of_a_point_are_those_that_its_network_moves(space):
    net = CellSupernet(space, seed=0)
    point = drawn(space, 4)
    net(IMAGES, net.point_gates(point)).square().sum().backward()
    moved = {id(p) for p in net.parameters() if p.grad is not None}
    assert moved == {id(p) for p in net.weights_of(point)}


def test_a_found_network_is_trained_in_the_layers_of_its_graph_and_exported(space, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    network = CellNetwork(space, drawn(space, 5), seed=2)
    for _ in range(2):
        network(IMAGES)
    network.eval()
    path = tmp_path / "network.onnx"
    network.export_onnx(path, batch=2)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {session.get_inputs()[0].name: IMAGES.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(got, network(IMAGES).numpy(), rtol=1e-3, atol=1e-4)


def test_what_does_not_fit_is_refused(space, supernet):
    with pytest.raises(SpaceError, match="nb201 is of family cell; give a space of family darts"):
        CellSupernet(load_space("nb201"))
    with pytest.raises(SpaceError, match=r"have shape \(10, 5\)"):
        supernet(IMAGES, torch.ones(5, 10))
    closed = torch.ones(10, 5, dtype=torch.bool)
    closed[3] = False
    with pytest.raises(SpaceError, match="one choice or more on each edge"):
        supernet.offer(closed)
