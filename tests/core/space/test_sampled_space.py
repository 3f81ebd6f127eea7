"""Lists of ops that are drawn from ranges: the same everywhere, within their bounds, refused by line."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwprof.errors import SpaceError
from hwprof.graph import cost
from hwprof.space import load_space

TEXT = """
name: mine
family: sampled
summary: for tests
seed: 7
ops:
  - {kind: conv, count: 30, channels: [16, 512], out_channels: [8, 64],
     kernel: [1, 3], stride: [1, 2], side: [7, 14], activation: [none, relu], mflops: 20}
  - {kind: depthwise, count: 10, channels: [18, 90], step: 2, kernel: [5], side: [14]}
  - {kind: conv, count: 5, channels: [32, 128], step: 16,
     group_width: [16], kernel: [3], side: [7, 14, 28]}
  - {kind: mixconv, count: 6, channels: [16, 64], expansion: [2, 3],
     kernel: [3, 5, 7], side: [14], residual: true}
"""


def load_text(folder: Path, text: str) -> object:
    path = folder / "mine.yaml"
    path.write_text(text)
    return load_space(path)


def test_ops_are_drawn_within_their_ranges(tmp_path: Path) -> None:
    space = load_text(tmp_path, TEXT)
    drawn = space.ops()  # type: ignore[attr-defined]
    assert len(drawn) == len(set(drawn)) == 51
    convs, depthwise, grouped, mixed = drawn[:30], drawn[30:40], drawn[40:45], drawn[45:]
    for op in convs:
        assert 16 <= op.in_channels <= 512
        assert 8 <= op.out_channels <= 64
        assert op.in_channels % 8 == op.out_channels % 8 == 0
        assert cost(op.lower()).flops <= 20e6
    assert len({op.in_channels for op in convs}) > 15
    assert all(op.kind == "depthwise" and op.in_channels % 2 == 0 for op in depthwise)
    assert any(op.in_channels % 4 for op in depthwise)
    assert all(op.in_channels // op.groups == 16 for op in grouped)
    assert all(op.kind == "mixconv" and op.residual and len(op.mix) in (2, 3) for op in mixed)


def test_the_same_file_gives_the_same_ops_and_another_seed_others(tmp_path: Path) -> None:
    first = load_text(tmp_path, TEXT)
    assert load_text(tmp_path, TEXT) == first
    assert load_text(tmp_path, TEXT.replace("seed: 7", "seed: 8")) != first


def test_a_group_is_drawn_apart_from_the_others(tmp_path: Path) -> None:
    """More ops of one group leave the rows of the other groups as they are."""
    before = load_text(tmp_path, TEXT).ops()  # type: ignore[attr-defined]
    after = load_text(tmp_path, TEXT.replace("count: 30", "count: 35")).ops()  # type: ignore[attr-defined]
    assert after[:30] == before[:30]
    assert after[35:] == before[30:]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("count: 10", "count: 99999", "count"),
        ("channels: [18, 90]", "channels: [90, 18]", "not \\[least, most\\]"),
        ("kind: depthwise", "kind: depthwize", "did you mean 'depthwise'"),
        (
            "count: 10, channels: [18, 90]",
            "count: 12, channels: [18, 20]",
            "were not found in these ranges",
        ),
        ("kernel: [5], side: [14]", "kernel: [5], side: [14], sides: [7]", "unknown field"),
        ("seed: 7", "seed: -1", "seed"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(SpaceError, match=message) as caught:
        load_text(tmp_path, TEXT.replace(old, new))
    assert "mine.yaml:" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_general_list_is_shipped_beside_the_spaces_and_has_every_kernel_of_image_networks() -> None:
    space = load_space("general")
    assert 1000 <= len(space.ops()) <= 1500
    assert space.family == "ops"
    kinds = {op.kind for op in space.ops()}
    assert kinds >= {"conv", "depthwise", "pool", "fc", "se", "activation", "mbconv", "mixconv"}
