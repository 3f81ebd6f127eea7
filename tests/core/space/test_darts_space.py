"""DARTS spaces: their networks are the cells that DARTS stacks, and their points its genotypes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprof import ops
from hwprof.errors import OpError, SpaceError
from hwprof.graph import Graph, cost
from hwprof.graph.graph import Node
from hwprof.graph.reference import run_reference
from hwprof.graph.weights import random_inputs
from hwprof.ops import OpSpec
from hwprof.space import DartsLayout, Space, load_space, point_from_string
from hwprof.space.load import CATALOG
from hwprof.validation.networks import VALIDATION, draw, network_job

DARTS = load_space("darts")
LAYOUT = DARTS.cell
assert isinstance(LAYOUT, DartsLayout)
LABELS = [choice.label for choice in DARTS.positions[1].choices]
# The cell that DARTS' authors found on CIFAR-10 (second order), as (op, source) by node.
SEP, SKIP, DIL, POOL = "sep_conv_3x3", "skip_connect", "dil_conv_3x3", "max_pool_3x3"
NORMAL = [(SEP, 0), (SEP, 1), (SEP, 0), (SEP, 1), (SEP, 1), (SKIP, 0), (SKIP, 0), (DIL, 2)]
REDUCE = [(POOL, 0), (POOL, 1), (SKIP, 2), (POOL, 1), (POOL, 0), (SKIP, 2), (SKIP, 2), (POOL, 1)]


def genotype(
    normal: list[tuple[str, int]], reduce: list[tuple[str, int]], space: Space = DARTS
) -> tuple[int, ...]:
    names = [position.name for position in space.positions]
    point = [0] * len(names)
    for cell, edges in (("normal", normal), ("reduce", reduce)):
        for number, (op, source) in enumerate(edges):
            point[names.index(f"{cell}{source}-{2 + number // 2}")] = LABELS.index(op)
    return tuple(point)


def opened(point: tuple[int, ...]) -> list[int]:
    return [sum(point[place] != 0 for place in edges) for edges in LAYOUT.node_edges()]


seeds = st.integers(0, 2**32 - 1)


def test_it_has_the_published_number_of_genotypes() -> None:
    """Liu et al. 2019, section 3.1.1: about 10^18; two cells of prod (n choose 2) x 7^2 for n = 2..5."""
    assert 10**DARTS.size == pytest.approx((180 * 49**4) ** 2)


@given(seeds)
def test_samples_and_their_neighbours_are_genotypes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    point = DARTS.sample(rng)
    assert opened(point) == [2] * 8
    other = DARTS.neighbour(point, rng)
    assert opened(other) == [2] * 8
    changed = [n for n, (a, b) in enumerate(zip(point, other, strict=True)) if a != b]
    assert 1 <= len(changed) <= 2
    nodes = [edges for edges in LAYOUT.node_edges() if set(edges) & set(changed)]
    assert len(nodes) == 1


def test_every_genotype_of_a_node_is_drawn_about_equally_often() -> None:
    """Node 3 of the normal cell: three pairs of edges; each op on each of them."""
    rng = np.random.default_rng(0)
    places = LAYOUT.node_edges()[1]
    drawn = np.array([DARTS.sample(rng) for _ in range(6000)])[:, places]
    assert (drawn != 0).mean(0) == pytest.approx([2 / 3] * 3, abs=0.02)
    counts = np.bincount(drawn[drawn != 0], minlength=8)[1:] / (drawn != 0).sum()
    assert counts == pytest.approx([1 / 7] * 7, abs=0.01)


def test_published_cells_have_the_published_size() -> None:
    """The network of 20 cells and 36 channels: 3.3 M parameters (Liu et al. 2019, table 1), without
    its auxiliary tower."""
    text = (CATALOG / "darts.yaml").read_text()
    text = text.replace("channels: 48", "channels: 108")
    for old, new in (("cells: 2, channels: 16", "cells: 6, channels: 36"),
                     ("cells: 3, channels: 32", "cells: 7, channels: 72"),
                     ("cells: 3, channels: 64", "cells: 7, channels: 144")):  # fmt: skip
        assert old in text
        text = text.replace(old, new)
    large = load_from(text)
    total = cost(large.network(genotype(NORMAL, REDUCE, large)))
    assert total.parameters / 1e6 == pytest.approx(3.35, abs=0.06)


def load_from(text: str) -> Space:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "space.yaml"
        path.write_text(text)
        return load_space(path)


def test_reductions_stand_at_a_third_and_two_thirds_of_the_depth_and_halve_the_image() -> None:
    assert [n for n, reduced in enumerate(LAYOUT.reduced) if reduced] == [2, 5]
    graph = DARTS.network(genotype(NORMAL, REDUCE))
    joined = [
        node.outputs[0] for node in graph.nodes if node.primitive == "concat" and len(node.inputs) == 4
    ]
    assert [graph.shapes[name][1:3] for name in joined] == [
        (64, 32), (64, 32), (128, 16), (128, 16), (128, 16), (256, 8), (256, 8), (256, 8),
    ]  # fmt: skip


def test_first_input_of_the_cell_behind_a_reduction_is_a_factorized_reduce() -> None:
    inputs = {
        p.name: [op.kind for op in p.choices[0].ops] for p in DARTS.positions if ".inputs" in p.name
    }
    assert [n for n, kinds in enumerate(inputs.values()) if kinds[0] == "factorized_reduce"] == [3, 6]
    assert all(kinds[1] == "relu_conv" for kinds in inputs.values())


def test_a_cell_is_the_sum_over_edges_and_the_concatenation_of_its_nodes() -> None:
    """Cell 0 of the network, computed edge by edge from the values of its own graph."""
    point = genotype(NORMAL, REDUCE)
    graph = DARTS.network(point)
    fed = random_inputs(graph, np.random.default_rng(0))
    whole = Graph(graph.nodes, graph.inputs, tuple(n.outputs[0] for n in graph.nodes), graph.shapes)
    values = dict(zip(whole.outputs, run_reference(whole, fed), strict=True))
    (first, *_) = [n for n in graph.nodes if n.primitive == "concat"]
    adds: dict[str, Node] = {n.outputs[0]: n for n in graph.nodes if n.primitive == "add"}
    for number, name in enumerate(first.inputs):
        left, right = adds[name].inputs
        np.testing.assert_allclose(values[name], values[left] + values[right])
        kinds = sorted(op for op, _ in NORMAL[2 * number : 2 * number + 2])
        made = [n.primitive for n in graph.nodes if n.outputs[0] in (left, right)]
        assert len(made) == 2, kinds
    parts = [values[name] for name in first.inputs]
    np.testing.assert_allclose(values[first.outputs[0]], np.concatenate(parts, axis=1))


def test_a_skip_costs_nothing_in_a_normal_cell_and_an_op_where_a_reduction_halves() -> None:
    skip = LABELS.index("skip_connect")
    by_name = {position.name: position.choices[skip].ops for position in DARTS.positions[1:29]}
    assert by_name["normal0-2"] == () == by_name["reduce2-3"]
    assert [op.kind for op in by_name["reduce0-2"]] == ["factorized_reduce"] * 2
    assert not any(choice.ops for p in DARTS.positions for choice in p.choices if choice.cut)


def test_networks_keep_their_values_in_range() -> None:
    """Skips alone double a value at each node."""
    skips = [("skip_connect", 0), ("skip_connect", 1)] * 4
    for point in (genotype(skips, skips), DARTS.sample(np.random.default_rng(3))):
        graph = DARTS.network(point)
        (output,) = run_reference(graph, random_inputs(graph, np.random.default_rng(0)))
        assert 1e-2 < np.abs(output).max() < 100


def test_a_node_without_an_edge_is_named() -> None:
    point = list(genotype(NORMAL, REDUCE))
    for place in LAYOUT.node_edges()[4]:
        point[place] = 0
    with pytest.raises(SpaceError, match="no edge leads to node 2 of the reduce cell"):
        DARTS.network(point)


def test_a_relaxed_network_with_every_edge_open_can_be_built() -> None:
    point = list(genotype(NORMAL, REDUCE))
    for place in LAYOUT.edge_places():
        point[place] = LABELS.index("dil_conv_5x5")
    assert cost(DARTS.network(point)).flops > cost(DARTS.network(genotype(NORMAL, REDUCE))).flops


def test_networks_of_a_darts_space_can_be_drawn_by_latency() -> None:
    rows_ms = {op: cost(op.lower()).flops / 1e9 for op in DARTS.ops()}
    drawn = draw(DARTS, rows_ms, 12, 0, VALIDATION)
    assert all(opened(network.point) == [2] * 8 for network in drawn)
    sums = [sum(rows_ms[op] for op in DARTS.point_ops(n.point)) for n in drawn if n.spread]
    costs = [[sum(rows_ms[op] for op in c.ops) for c in p.choices] for p in DARTS.positions]
    low, high = LAYOUT.bounds(costs, DARTS.positions)
    assert min(sums) == pytest.approx(low, rel=0.02)
    assert max(sums) == pytest.approx(high, rel=0.02)
    assert sorted(sums) == sums


def test_two_genotypes_with_the_same_ops_are_two_networks() -> None:
    """Which node an edge comes from changes no op, but the network."""
    moved = [*NORMAL[:2], ("sep_conv_3x3", 0), ("sep_conv_3x3", 2), *NORMAL[4:]]
    one, other = genotype(NORMAL, REDUCE), genotype(moved, REDUCE)
    assert DARTS.point_ops(one) == DARTS.point_ops(other)
    jobs = [network_job(DARTS, point) for point in (one, other)]
    assert jobs[0] is not None
    assert jobs[1] is not None
    assert jobs[0].job_id != jobs[1].job_id


def test_graphs_without_dilation_keep_the_form_that_named_them_before() -> None:
    """Ids of network rows are hashes of this form."""
    plain = ops.conv((1, 3, 8, 8), 4, 3).lower().to_dict()
    assert all("dilation" not in node for node in plain["nodes"])
    dilated = OpSpec("dil_conv", (1, 4, 8, 8), 4, mix=((3, 4),)).lower()
    assert Graph.from_dict(json.loads(json.dumps(dilated.to_dict()))) == dilated


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"stride": 1}, "stride 2, even channels and even sides, got stride 1"),
        ({"out_channels": 7}, "got stride 2, 7 channels"),
        ({"shape": (1, 4, 9, 8)}, "and 9x8"),
    ],
)
def test_a_factorized_reduce_that_cannot_halve_is_refused(
    fields: dict[str, object], message: str
) -> None:
    known = {"kind": "factorized_reduce", "shape": (1, 4, 8, 8), "out_channels": 8, "stride": 2}
    with pytest.raises(OpError, match=message):
        OpSpec(**{**known, **fields})


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("stride: 2}", "stride: 1}", "8 cells, 0 of them reductions"),
        ("input: [3, 32, 32]", "input: [3, 32, 34]", "cell5 reduces an image of 16x17; its sides"),
        ("kind: none}", "kind: skip}", "one choice of kind none"),
        ("kind: dil_conv, kernel: 5", "kind: dil_conv", "kind dil_conv needs the field 'kernel'"),
        ("kind: dil_conv, kernel: 5", "kind: conv, kernel: 5", "'conv' is unknown"),
        ("name: sep_conv_5x5", "name: sep_conv_3x3", "listed twice"),
        ("activation: none, classes", "activation: [none, relu], classes", "a DARTS space has one head"),
        ("cell:\n", "reduction: {}\ncell:\n", "belongs to the family cell, and this space is a darts"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_file_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = (CATALOG / "darts.yaml").read_text()
    assert old in text
    path = tmp_path / "wrong.yaml"
    path.write_text(text.replace(old, new))
    with pytest.raises(SpaceError, match=message):
        load_space(path)


def test_architecture_strings_are_not_for_darts() -> None:
    with pytest.raises(SpaceError, match="darts is a darts space; architecture strings"):
        point_from_string(DARTS, "|none~0|")
