"""Space: points, ops, options, hash."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwprof.errors import OpError, SpaceError
from hwprof.graph import cost
from hwprof.ops import lower, residual_gain
from hwprof.space import Choice, Position, Space, list_spaces, load_space

TINY = load_space("tiny")


def test_a_point_runs_the_ops_of_its_choices_in_order() -> None:
    skip = len(TINY.positions[2].choices) - 1
    assert TINY.positions[2].choices[skip] == Choice("skip", ())
    ops = TINY.point_ops([0, 3, skip, 1, 0])
    assert [op.kind for op in ops] == ["conv", "mixconv", "mbconv", "head"]
    assert ops[1] == TINY.positions[1].choices[3].ops[0]


def test_a_chain_network_costs_the_sum_of_its_ops() -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        point = TINY.sample(rng)
        whole = cost(TINY.network(point))
        parts = [cost(op.lower()) for op in TINY.point_ops(point)]
        assert whole.parameters == sum(part.parameters for part in parts)
        assert whole.flops == sum(part.flops for part in parts)


def test_residual_branches_of_a_network_are_scaled_by_their_number() -> None:
    point = [0, 0, 0, 0, 0]
    gains = [node.gain for node in TINY.network(point).nodes if node.primitive == "conv"]
    assert residual_gain(TINY.point_ops(point)) == pytest.approx(0.5**0.5)
    assert gains == [
        node.gain for node in lower(TINY.point_ops(point)).nodes if node.primitive == "conv"
    ]
    assert sum(gain == pytest.approx(0.5**0.5) for gain in gains) >= 2


@pytest.mark.parametrize(
    ("point", "message"),
    [
        ([0, 0, 0], "tiny has 5 choice indices, got 3"),
        ([0, 4, 0, 0, 0], "tiny stage1.block1: choice 4 is not one of 0 to 3"),
        ([0, 0, -1, 0, 0], "tiny stage1.block2: choice -1 is not one of 0 to 4"),
    ],
)
def test_a_point_that_does_not_fit_is_an_error_that_names_the_position(
    point: list[int], message: str
) -> None:
    with pytest.raises(SpaceError, match=message):
        TINY.network(point)


def test_points_of_numpy_integers_are_points() -> None:
    assert TINY.point_ops(tuple(np.array([0, 1, 2, 3, 0]))) == TINY.point_ops([0, 1, 2, 3, 0])


def test_sampling_is_uniform_over_choices_and_reproducible() -> None:
    draws = [TINY.sample(np.random.default_rng(seed)) for seed in (5, 5, 6)]
    assert draws[0] == draws[1]
    assert draws[0] != draws[2]
    rng = np.random.default_rng(7)
    points = np.array([TINY.sample(rng) for _ in range(4000)])
    for column, position in zip(points.T, TINY.positions, strict=True):
        share = np.bincount(column, minlength=len(position.choices)) / len(points)
        assert share == pytest.approx(np.full(len(share), 1 / len(share)), abs=0.03)


def test_size_is_the_logarithm_of_the_number_of_networks() -> None:
    assert TINY.size == pytest.approx(np.log10(4 * 5 * 5))


def test_blocks_leave_stem_reductions_and_head_out() -> None:
    assert (TINY.blocks, load_space("nb201").blocks, load_space("s3nas").blocks) == (3, 6, 29)


@pytest.mark.parametrize("name", list_spaces())
def test_options_change_batch_and_dtype_of_every_op_and_nothing_else(name: str) -> None:
    space = load_space(name)
    changed = space.with_options(batch=4, dtype="float16")
    assert changed.input_shape == (4, *space.input_shape[1:])
    assert changed.dtype == "float16"
    assert len(changed.ops()) == len(space.ops())
    assert {op.dtype for op in changed.ops()} == {"float16"}
    assert {op.shape[0] for op in changed.ops()} == {4}
    assert changed.with_options(batch=1, dtype="float32") == space


def test_a_network_at_another_batch_and_dtype_keeps_both() -> None:
    graph = load_space("nb201").with_options(8, "float16").network([0, 3, 3, 1, 1, 1, 1, 0, 0, 0])
    assert graph.dtype == "float16"
    assert graph.shapes[graph.outputs[0]] == (8, 10)


def test_unknown_dtype_and_batch_zero_are_errors() -> None:
    with pytest.raises(SpaceError, match="batch must be 1 or more, got 0"):
        TINY.with_options(0, "float32")
    with pytest.raises(OpError, match="dtype 'float31' is unknown"):
        TINY.with_options(1, "float31")


def test_hash_follows_the_content_and_not_the_name() -> None:
    again = replace(load_space("tiny"), name="other", summary="another")
    assert again.space_hash == TINY.space_hash
    assert TINY.with_options(2, "float32").space_hash != TINY.space_hash
    last = replace(TINY.positions[1], choices=TINY.positions[1].choices[:-1])
    fewer = replace(TINY, positions=(TINY.positions[0], last, *TINY.positions[2:]))
    assert fewer.space_hash != TINY.space_hash


def test_hashes_of_the_shipped_spaces_differ() -> None:
    assert len({load_space(name).space_hash for name in list_spaces()}) == len(list_spaces())


def test_none_and_skip_differ_in_the_hash() -> None:
    position = TINY.positions[0]

    def space(cut: bool) -> Space:
        extra = Position("edge0-1", (Choice("quiet", (), cut=cut),), "edge")
        return replace(TINY, positions=(position, extra))

    assert space(True).space_hash != space(False).space_hash


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_any_point_in_range_is_accepted(data: st.DataObject) -> None:
    point = [data.draw(st.integers(0, len(p.choices) - 1)) for p in TINY.positions]
    assert len(TINY.choices_of(point)) == len(TINY.positions)
