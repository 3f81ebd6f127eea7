"""The spaces that ship with hwprof: their counts, their published networks, and that they run."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from hwprof.graph import cost
from hwprof.graph.onnx_emitter import to_onnx
from hwprof.graph.weights import random_inputs
from hwprof.space import Space, list_spaces, load_space, point_from_string, read_cell, read_chain
from hwprof.space import layers as layers_module
from hwprof.space import load as load_module

DOCS = Path(__file__).parents[3] / "docs" / "spaces.md"

OP_COUNTS = {
    "darts": 42,
    "mobilenet-v2-like": 267,
    "mobilenet-v2-split": 91,
    "nb201": 13,
    "s3nas": 152,
    "s3nas-cifar": 422,
    "s3nas-post": 604,
    "tiny": 10,
}

# Searched network "M" of S3NAS as kernel:expansion parts, one line per stage.
NETWORK_M = (
    ["3:2+5:2", "3:6", "3:6"]
    + ["3:4+5:2"] * 4
    + ["3:4+5:2", "3:6", "3:6", "3:4+5:2", "3:4+5:2", "3:2+5:2", "5:2"]
    + ["3:2+5:4", "3:6", "3:4", "3:6"]
    + ["3:2+5:2+7:2"]
    + ["5:6"] * 10
)


def s3nas_choices_of_the_superkernel(*, residual: bool) -> tuple[int, set[str]]:
    """Raw gate states of a searchable MixConv block and the distinct choices they stand for.

    Three branches of expansion 2: two with kernel 3 or 5, one with 3, 5 or 7. Each branch may be off;
    where the block is not residual, the one with the largest kernels may not.
    """
    branches = [(3, 5, None), (3, 5, None), (3, 5, 7, None) if residual else (3, 5, 7)]
    # An off branch still has a state in its kernel gates, which is why there are more raw states.
    raw = 1
    for kernels, may_be_off in (((3, 5), True), ((3, 5), True), ((3, 5, 7), residual)):
        raw *= len(kernels) * (2 if may_be_off else 1)
    labels = set()
    for state in product(*branches):
        on = sorted(k for k in state if k is not None)
        labels.add("+".join(f"{k}:{2 * on.count(k)}" for k in sorted(set(on))) or "skip")
    return raw, labels


def test_every_shipped_space_is_listed_with_its_exact_op_count() -> None:
    counts = {name: len(load_space(name).ops()) for name in list_spaces()}
    assert counts == OP_COUNTS


@pytest.mark.parametrize("name", list_spaces())
def test_ops_are_listed_once_and_cover_every_choice(name: str) -> None:
    space = load_space(name)
    op_ids = [op.op_id for op in space.ops()]
    assert len(set(op_ids)) == len(op_ids)
    used = {op.op_id for p in space.positions for c in p.choices for op in c.ops}
    assert used == set(op_ids)


@pytest.mark.parametrize(("residual", "raw", "count"), [(True, 96, 16), (False, 48, 15)])
def test_s3nas_blocks_offer_what_the_gates_of_the_superkernel_can_express(
    residual: bool, raw: int, count: int
) -> None:
    states, expected = s3nas_choices_of_the_superkernel(residual=residual)
    assert (states, len(expected)) == (raw, count)
    space = load_space("s3nas")
    blocks = [p for p in space.positions if p.kind == "block"]
    offered = [{c.label.removesuffix(" relu") for c in p.choices} for p in blocks]
    assert sum(labels == expected for labels in offered) == (24 if residual else 5)


def test_s3nas_has_the_published_depths_and_number_of_networks() -> None:
    space = load_space("s3nas")
    depths = [sum(p.name.startswith(f"stage{s}.") for p in space.positions) for s in range(1, 6)]
    assert depths == [3, 4, 7, 4, 11]
    assert space.size == pytest.approx(24 * np.log10(16) + 5 * np.log10(15))


def test_published_network_m_is_a_point_of_s3nas_with_its_parameters_and_multiply_accumulates() -> None:
    space = load_space("s3nas")
    labels = iter(NETWORK_M)
    point = []
    for position in space.positions:
        offered = [choice.label for choice in position.choices]
        point.append(offered.index(f"{next(labels)} relu") if position.kind == "block" else 0)
    total = cost(space.network(point))
    assert total.parameters == pytest.approx(12.82e6, rel=0.005)
    assert total.flops / 2 == pytest.approx(1.29e9, rel=0.01)


def test_s3nas_post_multiplies_every_block_choice_by_se_and_activation() -> None:
    plain, post = load_space("s3nas"), load_space("s3nas-post")
    for before, after in zip(plain.positions, post.positions, strict=True):
        if before.kind == "block":
            skips = sum(choice.label == "skip" for choice in before.choices)
            assert len(after.choices) == 4 * (len(before.choices) - skips) + skips
    assert set(plain.ops()) < set(post.ops())


def test_s3nas_cifar_keeps_its_sides_at_or_above_its_kernels_and_its_networks_small() -> None:
    space = load_space("s3nas-cifar")
    blocks = [op for op in space.ops() if op.kind in ("mbconv", "mixconv")]
    assert min(op.shape[2] for op in blocks) == 8
    assert max(kernel for op in blocks for kernel, _ in op.mix) == 7
    sizes = [
        [sum(cost(op.lower()).parameters for op in choice.ops) for choice in position.choices]
        for position in space.positions
    ]
    smallest = space.network([choices.index(min(choices)) for choices in sizes])
    largest = space.network([choices.index(max(choices)) for choices in sizes])
    assert 0.1e6 < cost(smallest).parameters < 0.2e6
    assert 1.5e6 < cost(largest).parameters < 3e6


def test_mobilenet_v2_like_holds_mobilenet_v2() -> None:
    """3.50 M parameters with BatchNorm, of which 17 thousand are scales that folding takes away, and
    300 million multiply-accumulates (Sandler et al. 2018)."""
    space = load_space("mobilenet-v2-like")
    point = []
    for position in space.positions:
        labels = [choice.label for choice in position.choices]
        point.append(labels.index("3:6 relu6") if "3:6 relu6" in labels else 0)
    total = cost(space.network(point))
    assert total.parameters == pytest.approx(3.50e6, rel=0.01)
    assert total.flops / 2 == pytest.approx(300e6, rel=0.03)


def test_first_block_of_mobilenet_v2_like_has_no_expansion_convolution() -> None:
    first = load_space("mobilenet-v2-like").positions[1]
    ((op,),) = [choice.ops for choice in first.choices]
    assert op.hidden_channels == op.in_channels == 32
    assert [node.primitive for node in op.lower().nodes].count("conv") == 2


def test_largest_nb201_network_has_the_published_size() -> None:
    """1.5315 M parameters (with BatchNorm) and 220.1 million multiply-accumulates."""
    space = load_space("nb201")
    convolutions = "|{0}~0|+|{0}~0|{0}~1|+|{0}~0|{0}~1|{0}~2|".format("nor_conv_3x3")
    total = cost(space.network(point_from_string(space, convolutions)))
    assert total.parameters == pytest.approx(1.5315e6, rel=0.005)
    assert total.flops / 2 == pytest.approx(220.1e6, rel=0.01)


def test_nb201_edge_runs_its_op_once_per_cell() -> None:
    space = load_space("nb201")
    edges = [p for p in space.positions if p.kind == "edge"]
    assert [p.name for p in edges] == ["edge0-1", "edge0-2", "edge1-2", "edge0-3", "edge1-3", "edge2-3"]
    for position in edges:
        ops = {choice.label: choice.ops for choice in position.choices}
        assert ops["none"] == ops["skip_connect"] == ()
        for label in ("nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"):
            assert len(ops[label]) == 15
            assert [op.shape[1:3] for op in dict.fromkeys(ops[label])] == [(16, 32), (32, 16), (64, 8)]


def test_tiny_holds_a_mix_squeeze_and_excitation_and_hswish() -> None:
    ops = load_space("tiny").ops()
    assert any(op.kind == "mixconv" for op in ops)
    assert any(op.se_channels for op in ops)
    assert any(op.activation == "hswish" for op in ops)
    assert max(cost(op.lower()).flops for op in ops) < 5e6


@pytest.mark.parametrize("name", list_spaces())
def test_sampled_networks_lower_to_one_graph_of_the_right_shape(name: str) -> None:
    space = load_space(name)
    rng = np.random.default_rng(1)
    for _ in range(3):
        graph = space.network(sample_with_path(space, rng))
        classes = 1000 if space.input_shape[2] == 224 else 10
        assert graph.shapes[graph.inputs[0]] == space.input_shape
        assert graph.shapes[graph.outputs[0]] == (1, classes)


@pytest.mark.parametrize("name", ["tiny", "nb201", "darts", "s3nas-cifar"])
def test_sampled_networks_run_with_finite_outputs_of_moderate_size(name: str) -> None:
    runtime = pytest.importorskip("onnxruntime")
    space = load_space(name)
    rng = np.random.default_rng(2)
    for _ in range(3):
        graph = space.network(sample_with_path(space, rng))
        session = runtime.InferenceSession(
            to_onnx(graph).SerializeToString(), providers=["CPUExecutionProvider"]
        )
        (output,) = session.run(None, random_inputs(graph, rng))
        assert np.isfinite(output).all()
        assert 1e-6 < np.abs(output).max() < 1e3


def test_documentation_names_every_shipped_space_with_its_op_count_and_every_field() -> None:
    text = DOCS.read_text(encoding="utf-8")
    for name, count in OP_COUNTS.items():
        assert f"| `{name}` | " in text
        (row,) = [line for line in text.splitlines() if line.startswith(f"| `{name}` | ")]
        assert f"| {count} |" in row
    fields = {
        field
        for module in (load_module, read_chain, read_cell, layers_module)
        for constant, names in vars(module).items()
        if constant.endswith(("_FIELDS", "_OPTIONAL", "_KINDS"))
        for field in names
    }
    assert len(fields) > 25
    assert [field for field in sorted(fields) if f"`{field}`" not in text] == []


def test_examples_of_the_documentation_work(tmp_path: Path) -> None:
    text = DOCS.read_text(encoding="utf-8")
    blocks = re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL)
    assert [language for language, _ in blocks] == ["python", "python", "yaml"]
    for language, code in blocks:
        if language == "python":
            exec(compile(code, str(DOCS), "exec"), {})
        else:
            path = tmp_path / "example.yaml"
            path.write_text(code, encoding="utf-8")
            space = load_space(path)
            space.network(space.sample(np.random.default_rng(0)))


def sample_with_path(space: Space, rng: np.random.Generator) -> tuple[int, ...]:
    """A sampled point; for a space of family cell its last edge from the input is made a 3x3
    convolution, so that there is a path."""
    point = list(space.sample(rng))
    if space.family == "cell":
        names = [position.name for position in space.positions]
        point[names.index("edge0-3")] = 3
    return tuple(point)


def test_split_blocks_are_the_same_convolutions_as_ops_of_their_own() -> None:
    """Three rows a block instead of one; a whole network costs what its twin without SE and residuals
    costs, less the additions."""
    split, whole = load_space("mobilenet-v2-split"), load_space("mobilenet-v2-like")
    point = [0] * len(split.positions)
    kinds = [op.kind for op in split.point_ops(point)]
    assert kinds[:4] == ["conv", "depthwise", "conv", "conv"]
    assert "mbconv" not in kinds
    apart, together = cost(split.network(point)), cost(whole.network([0] * len(whole.positions)))
    assert apart.parameters == together.parameters
    assert 0 <= together.flops - apart.flops < 0.01 * together.flops
