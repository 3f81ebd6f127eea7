"""Branches are derived from a space's choices, and reach those and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hwprof import ops
from hwprof.errors import SpaceError
from hwprof.search.supernet.branches import Branch, canonical_mix, searched_block
from hwprof.space import Choice, Position, Space, load_space

HEADER = """
name: mine
family: chain
summary: made for a test
input: [3, 16, 16]
stem: {channels: 8, kernel: 3, stride: 1, activation: relu}
stages:
  - {blocks: 2, channels: 8, stride: 1}
head: {activation: relu, classes: 4}
block:
"""


@pytest.fixture
def space_of(tmp_path: Path) -> Callable[[str], Space]:
    """A space of two blocks from the YAML of its block."""

    def read(block: str) -> Space:
        (tmp_path / "space.yaml").write_text(HEADER + block)
        return load_space(tmp_path / "space.yaml")

    return read


def blocks_of(space: Space) -> list[Position]:
    return [position for position in space.positions if position.kind == "block"]


@pytest.mark.parametrize("name", ["s3nas", "s3nas-cifar", "s3nas-post", "tiny", "mobilenet-v2-like"])
def test_the_states_of_every_block_are_its_choices_without_se_in_one_activation(name: str) -> None:
    for position in blocks_of(load_space(name)):
        block = searched_block(position)
        reached = {block.choice_of(state) for state in block.states()}
        expected = {
            index
            for index, choice in enumerate(position.choices)
            if not choice.ops
            or (not choice.ops[0].se_channels and choice.ops[0].activation == block.op.activation)
        }
        assert reached == expected
        for state in block.states():
            chosen = position.choices[block.choice_of(state)]
            assert canonical_mix(state) == (chosen.ops[0].mix if chosen.ops else ())


def test_a_residual_block_of_s3nas_has_its_three_branches_and_16_candidates() -> None:
    residual, other = load_space("s3nas").positions[2], load_space("s3nas").positions[1]
    block = searched_block(residual)
    assert block.branches == (
        Branch((3, 5), (64,), True),
        Branch((3, 5), (64,), True),
        Branch((3, 5, 7), (64,), True),
    )
    assert len({block.choice_of(state) for state in block.states()}) == 16
    # Without a skip the branch with the largest kernel is always on (S3NAS).
    block = searched_block(other)
    assert [branch.optional for branch in block.branches] == [True, True, False]
    assert len({block.choice_of(state) for state in block.states()}) == 15


def test_mbconv_is_one_branch_with_nested_kernels_and_widths() -> None:
    position = load_space("mobilenet-v2-like").positions[3]
    block = searched_block(position)
    assert block.branches == (Branch((3, 5, 7), (72, 72), True),)
    assert block.op.in_channels == 24


def test_a_mix_within_another_has_a_gate_of_its_own_for_the_skip() -> None:
    first, second = blocks_of(load_space("tiny"))[:2]
    assert not searched_block(first).skip_gate
    assert [b.optional for b in searched_block(first).branches] == [False, True]
    assert searched_block(second).skip_gate


def test_choices_that_no_nested_gates_reach_are_refused_by_name(
    space_of: Callable[[str], Space],
) -> None:
    block = """
  kind: mixconv
  activation: relu
  choices:
    - {expansion: 2, mix: {3: 2}}
    - {expansion: 4, mix: {3: 4}}
    - {expansion: 4, mix: {5: 4}}
"""
    with pytest.raises(SpaceError, match=r"^stage1.block1: .* the choices 3:2 relu, 3:4 relu, 5:4 relu"):
        searched_block(blocks_of(space_of(block))[0])


def test_an_expansion_of_1_beside_others_is_refused_and_alone_is_not(
    space_of: Callable[[str], Space],
) -> None:
    block = "  {kind: mbconv, kernel: [3, 5], activation: relu, expansion: %s}\n"
    with pytest.raises(SpaceError, match="all above 1"):
        searched_block(blocks_of(space_of(block % "[1, 3]"))[0])
    alone = searched_block(blocks_of(space_of(block % "1"))[0])
    assert alone.branches == (Branch((3, 5), (8,), False),)


@pytest.mark.parametrize("kind", ["fused_mbconv", "split_mbconv"])
def test_other_kinds_are_refused_by_name(space_of: Callable[[str], Space], kind: str) -> None:
    space = space_of(f"  {{kind: {kind}, kernel: 3, activation: relu, expansion: [2, 4]}}\n")
    with pytest.raises(SpaceError, match=r"stage1.block1: choice .* of kind mbconv or mixconv"):
        searched_block(blocks_of(space)[0])


def test_a_block_with_se_in_every_choice_is_refused(space_of: Callable[[str], Space]) -> None:
    space = space_of("  {kind: mbconv, kernel: 3, activation: relu, expansion: 2, se_ratio: 0.25}\n")
    with pytest.raises(SpaceError, match=r"no choice without SE.*add se_ratio 0"):
        searched_block(blocks_of(space)[0])


def test_choices_of_different_shapes_are_refused() -> None:
    position = Position(
        "odd",
        (
            Choice("a", (ops.mbconv((1, 8, 8, 8), 8, 3, 2),)),
            Choice("b", (ops.mbconv((1, 8, 8, 8), 16, 3, 4),)),
        ),
    )
    with pytest.raises(SpaceError, match="odd: its choices differ in out_channels"):
        searched_block(position)
