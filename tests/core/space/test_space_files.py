"""A user's own file: what it may say, and one-line errors with file, line and field."""

# One wrong file a line reads as a table.
# ruff: noqa: E501

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwprof.errors import SpaceError
from hwprof.space import Space, list_spaces, load_space
from hwprof.space.document import MAX_BYTES

CHAIN = """\
name: mine
family: chain
summary: my own space
input: [3, 32, 32]
stem: {channels: 16, kernel: 3, stride: 1, activation: relu}
stages:
  - {blocks: 2, channels: 16, stride: 1}
  - {blocks: 2, channels: 24, stride: 2}
block:
  kind: mixconv
  skip: true
  se_ratio: [0, 0.25]
  activation: [relu, hswish]
  choices:
    - {expansion: 6, mix: {3: 4, 5: 2}}
    - {expansion: 2, mix: {3: 2}}
head: {hidden: 64, activation: relu, classes: 10}
"""

CELL = """\
name: my-cells
family: cell
summary: my own cells
input: [3, 16, 16]
stem: {channels: 8, kernel: 3, stride: 1, activation: none}
stages:
  - {cells: 2, channels: 8, stride: 1}
  - {cells: 1, channels: 16, stride: 2}
reduction: {kernel: 3, activation: relu}
cell:
  nodes: 3
  choices:
    - {name: none, kind: none}
    - {name: skip, kind: skip}
    - {name: conv3, kind: relu_conv, kernel: 3}
    - {name: max3, kind: pool, pool: max, kernel: 3}
head: {activation: relu, classes: 10}
"""


def load_text(folder: Path, text: str) -> Space:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return load_space(path)


def changed(text: str, old: str, new: str) -> str:
    assert text.count(old) >= 1
    return text.replace(old, new, 1)


def test_chain_file_becomes_positions_with_readable_labels(tmp_path: Path) -> None:
    space = load_text(tmp_path, CHAIN)
    names = [p.name for p in space.positions]
    assert names == ["stem", "stage1.block1", "stage1.block2", "stage2.block1", "stage2.block2", "head"]
    labels = [choice.label for choice in space.positions[1].choices]
    assert labels[:4] == [
        "3:4+5:2 relu",
        "3:4+5:2 hswish",
        "3:4+5:2 se0.25 relu",
        "3:4+5:2 se0.25 hswish",
    ]
    assert labels[-1] == "skip"
    assert [len(p.choices) for p in space.positions] == [1, 9, 9, 8, 9, 1]
    assert space.positions[1].choices[0].ops[0].mix == ((3, 64), (5, 32))


def test_kernels_times_expansions_make_the_choices(tmp_path: Path) -> None:
    text = CHAIN[: CHAIN.index("block:\n")] + (
        "block: {kind: fused_mbconv, kernel: [3, 5], expansion: [1, 4], activation: swish}\n"
        "head: {activation: [relu, hswish], classes: 10}\n"
    )
    space = load_text(tmp_path, text)
    labels = [choice.label for choice in space.positions[1].choices]
    assert labels == ["fused 3:1 swish", "fused 3:4 swish", "fused 5:1 swish", "fused 5:4 swish"]
    assert {op.kind for op in space.point_ops([0, 0, 1, 2, 3, 0])} == {"conv", "fused_mbconv", "head"}
    assert [choice.label for choice in space.positions[-1].choices] == ["relu", "hswish"]


def test_a_stage_may_have_its_own_block(tmp_path: Path) -> None:
    own = "{blocks: 1, channels: 24, stride: 2, block: {kind: mbconv, kernel: 7, expansion: 3, activation: relu6}}"
    space = load_text(tmp_path, changed(CHAIN, "{blocks: 2, channels: 24, stride: 2}", own))
    assert [choice.label for choice in space.positions[3].choices] == ["7:3 relu6"]


def test_cell_file_becomes_edges_and_reductions(tmp_path: Path) -> None:
    space = load_text(tmp_path, CELL)
    names = [p.name for p in space.positions]
    assert names == ["stem", "edge0-1", "edge0-2", "edge1-2", "stage2.reduction", "head"]
    assert [len(choice.ops) for choice in space.positions[1].choices] == [0, 0, 3, 3]
    assert space.network([0, 2, 3, 1, 0, 0]).shapes


def test_formatting_of_the_file_does_not_change_the_space(tmp_path: Path) -> None:
    block_style = changed(
        CHAIN,
        "stem: {channels: 16, kernel: 3, stride: 1, activation: relu}",
        "stem:\n  activation: 'relu'\n  stride: 1\n  kernel: 3   # a comment\n  channels: 16",
    )
    assert load_text(tmp_path, "\ufeff" + block_style.replace("\n", "\r\n")) == load_text(
        tmp_path, CHAIN
    )


WRONG_CHAIN = [
    ("typo in a field", "se_ratio", "se_ration", 12, "block.se_ration", "did you mean 'se_ratio'?"),
    ("typo in a stage", "{blocks: 2, channels: 24", "{block_s: 2, channels: 24", 8, "stages[1].block_s", "did you mean 'blocks'?"),
    ("typo at the top", "family:", "famly:", 2, "famly", "did you mean 'family'?"),
    ("missing field", "channels: 24, ", "", 8, "stages[1]", "'channels' is missing"),
    ("missing at the top", "input: [3, 32, 32]\n", "", 1, "", "'input' is missing"),
    ("zero channels", "channels: 24", "channels: 0", 8, "stages[1].channels", "'0' is not a whole number from 1"),
    ("negative stride", "stride: 2", "stride: -2", 8, "stages[1].stride", "'-2' is not a whole number"),
    ("zero input channels", "[3, 32, 32]", "[0, 32, 32]", 4, "input[0]", "'0' is not a whole number"),
    ("input of two lengths", "[3, 32, 32]", "[3, 32]", 4, "input", "[channels, height, width]"),
    ("kernel larger than input", "[3, 32, 32]", "[3, 8, 4]", 15, "block.choices[0]", "kernel 5x5 is larger than its input of 8x4 (at stage1.block1)"),
    ("kernel larger after stride", "[3, 32, 32]", "[3, 8, 8]", 15, "block.choices[0]", "kernel 5x5 is larger than its input of 4x4 (at stage2.block2)"),
    ("stem kernel larger than input", "kernel: 3", "kernel: 33", 5, "stem", "kernel 33x33 is larger than its input of 32x32 (at stem)"),
    ("even kernel", "{3: 2}", "{4: 2}", 16, "block.choices[1].mix.4", "kernel size 4 is even"),
    ("shares that do not add up", "{3: 4, 5: 2}", "{3: 4, 5: 4}", 15, "block.choices[0].mix", "must add up to its expansion 6, got 4 + 4 = 8"),
    ("no shares", "{3: 4, 5: 2}", "{}", 15, "block.choices[0].mix", "got no parts = 0"),
    ("zero share", "{3: 4, 5: 2}", "{3: 6, 5: 0}", 15, "block.choices[0].mix.5", "'0' is not a whole number"),
    ("kernel that is text", "{3: 4, 5: 2}", "{three: 4, 5: 2}", 15, "block.choices[0].mix.three", "'three', which is text"),
    ("mix without spaces", "{3: 4, 5: 2}", "{3:4, 5:2}", 15, "block.choices[0].mix", "'3:4' needs a space after its colon"),
    ("wrong type: text", "blocks: 2", "blocks: two", 7, "stages[0].blocks", "got 'two', which is text"),
    ("wrong type: fraction", "blocks: 2", "blocks: 2.5", 7, "stages[0].blocks", "got '2.5', which is a number"),
    ("wrong type: list", "channels: 16, kernel", "channels: [16], kernel", 5, "stem.channels", "got a list, wanted a whole number"),
    ("wrong type: nothing", "channels: 24", "channels:", 8, "stages[1].channels", "which is nothing"),
    ("wrong type: mapping", "summary: my own space", "summary: {a: 1}", 3, "summary", "got a mapping, wanted text"),
    ("wrong type: section", "head: {hidden: 64, activation: relu, classes: 10}", "head: 10", 17, "head", "wanted a mapping"),
    ("boolean for a number", "blocks: 2", "blocks: true", 7, "stages[0].blocks", "'true', which is true/false"),
    ("YAML 1.1 boolean for a number", "blocks: 2", "blocks: yes", 7, "stages[0].blocks", "'yes', which is true/false"),
    ("number for a boolean", "skip: true", "skip: 1", 11, "block.skip", "wanted true or false"),
    ("boolean for a ratio", "[0, 0.25]", "[0, true]", 12, "block.se_ratio[1]", "'true', which is true/false"),
    ("octal", "blocks: 2", "blocks: 010", 7, "stages[0].blocks", "'010' is not a whole number"),
    ("huge", "blocks: 2", "blocks: " + "9" * 5000, 7, "stages[0].blocks", "is not a whole number from 1 to 256"),
    ("infinite ratio", "0.25]", ".inf]", 12, "block.se_ratio[1]", "'.inf' is not a number from 0 to 8"),
    ("negative ratio", "0.25]", "-0.25]", 12, "block.se_ratio[1]", "is not a number from 0 to 8"),
    ("unknown activation", "[relu, hswish]", "[relu, hswsh]", 13, "block.activation[1]", "'hswsh' is unknown; did you mean 'hswish'?"),
    ("unknown kind", "kind: mixconv", "kind: mixcon", 10, "block.kind", "did you mean 'mixconv'?"),
    ("unknown family", "family: chain", "family: chains", 2, "family", "did you mean 'chain'?"),
    ("field of another family", "head:", "cell: {}\nhead:", 17, "cell", "belongs to the family cell"),
    ("duplicate key", "  skip: true\n", "  skip: true\n  skip: false\n", 12, "block", "'skip' stands twice, first on line 11"),
    ("duplicate kernel", "{3: 4, 5: 2}", "{3: 4, 3: 2}", 15, "block.choices[0].mix", "'3' stands twice"),
    ("duplicate activation", "[relu, hswish]", "[relu, relu]", 13, "block.activation[1]", "'relu' is listed twice"),
    ("duplicate ratio", "[0, 0.25]", "[0, 0.0]", 12, "block.se_ratio[1]", "0.0 is listed twice"),
    ("duplicate choice", "{expansion: 2, mix: {3: 2}}", "{mix: {5: 2, 3: 4}, expansion: 6}", 16, "block.choices[1]", "is listed twice"),
    ("empty list", "[relu, hswish]", "[]", 13, "block.activation", "the list has 0 elements"),
    ("empty stages", "stages:\n  - {blocks: 2, channels: 16, stride: 1}\n  - {blocks: 2, channels: 24, stride: 2}", "stages: []", 6, "stages", "the list has 0 elements"),
    ("choices and kernel", "  choices:", "  kernel: 3\n  choices:", 14, "block.kernel", "not both"),
    ("mix in an mbconv", "kind: mixconv", "kind: mbconv", 15, "block.choices[0]", "mbconv takes one kernel size, got 2; use kind mixconv"),
    ("mix in a split block", "kind: mixconv", "kind: split_mbconv", 15, "block.choices[0]", "split_mbconv takes one kernel size, got 2"),
    ("empty name", "name: mine", "name: ''", 1, "name", "single line of 1 to 64 characters"),
    ("summary of two lines", "summary: my own space", 'summary: "my\\nown"', 3, "summary", "single line"),
    ("anchor", "input: [", "input: &size [", 4, "", "anchors and aliases"),
    ("alias", "input: [3, 32, 32]", "input: *size", 4, "", "anchors and aliases"),
    ("tag", "name: mine", "name: !!python/name:os.system mine", 1, "", "tags (!) are not taken"),
    ("merge key", "skip: true", "<<: {skip: true}", 11, "block.<<", "unknown field"),
    ("key of two lines", "skip: true", '"a\\nb": true', 11, "block.'a\\nb'", "unknown field"),
    ("complex key", "skip: true", "? [skip, true]\n  : 1", 11, "block", "a key must be a single word"),
    ("tab", "  skip: true", "\tskip: true", 11, "", "not YAML"),
    ("unclosed bracket", "[3, 32, 32]", "[3, 32, 32", 5, "", "not YAML"),
    ("escape out of range", "name: mine", 'name: "\\UFFFFFFFF"', None, "", "not YAML"),
    ("two documents", "name: mine", "name: mine\n---\nname: other", 2, "", "not YAML"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "line", "field", "message"),
    [c[1:] for c in WRONG_CHAIN],
    ids=[c[0] for c in WRONG_CHAIN],
)
def test_a_wrong_chain_file_is_told_by_file_line_and_field(
    tmp_path: Path, old: str, new: str, line: int | None, field: str, message: str
) -> None:
    with pytest.raises(SpaceError) as caught:
        load_text(tmp_path, changed(CHAIN, old, new))
    check_message(str(caught.value), tmp_path / "mine.yaml", line, field, message)


WRONG_CELL = [
    ("no cell", CELL[CELL.index("cell:\n") : CELL.index("head:")], "", 1, "", "'cell' is missing"),
    ("field of another family", "reduction:", "block: {}\nreduction:", 9, "block", "belongs to the family chain"),
    ("no reduction", "reduction: {kernel: 3, activation: relu}\n", "", 8, "stages[1]", "needs a 'reduction'"),
    ("odd side", "[3, 16, 16]", "[3, 15, 15]", 9, "reduction", "(at stage2.reduction)"),
    ("one node", "nodes: 3", "nodes: 1", 11, "cell.nodes", "'1' is not a whole number from 2 to 16"),
    ("kernel larger than input", "conv3, kind: relu_conv, kernel: 3", "conv9, kind: relu_conv, kernel: 9", 15, "cell.choices[2]", "kernel 9x9 is larger than its input of 8x8 (at stage2)"),
    ("pool without kernel", "pool: max, kernel: 3", "pool: max", 16, "cell.choices[3]", "kind pool needs the field 'kernel'"),
    ("unknown pool", "pool: max", "pool: mx", 16, "cell.choices[3].pool", "did you mean 'max'?"),
    ("kernel of a skip", "kind: skip", "kind: skip, kernel: 3", 14, "cell.choices[1].kernel", "kind skip has no 'kernel'"),
    ("name twice", "name: max3", "name: conv3", 16, "cell.choices[3]", "'conv3' is listed twice"),
    ("name with a bar", "name: max3", "name: 'max|3'", 16, "cell.choices[3].name", "which architecture strings use"),
    ("unknown kind", "kind: skip", "kind: skp", 14, "cell.choices[1].kind", "did you mean 'skip'?"),
    ("nothing but none", CELL[CELL.index("    - {name: skip") : CELL.index("head:")], "", 13, "cell.choices", "every choice is of kind none"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "line", "field", "message"),
    [c[1:] for c in WRONG_CELL],
    ids=[c[0] for c in WRONG_CELL],
)
def test_a_wrong_cell_file_is_told_by_file_line_and_field(
    tmp_path: Path, old: str, new: str, line: int, field: str, message: str
) -> None:
    with pytest.raises(SpaceError) as caught:
        load_text(tmp_path, changed(CELL, old, new))
    check_message(str(caught.value), tmp_path / "mine.yaml", line, field, message)


def check_message(text: str, path: Path, line: int | None, field: str, message: str) -> None:
    assert "\n" not in text
    start = f"{path}:" if line is None else f"{path}:{line}: " + (f"{field}: " if field else "")
    assert text.startswith(start), text
    assert message in text, text
    assert len(text) < len(str(path)) + 400


@pytest.mark.parametrize("text", ["", "# only a comment\n", "- a\n- b\n", "just text\n", "null\n"])
def test_a_file_without_fields_is_told(tmp_path: Path, text: str) -> None:
    with pytest.raises(SpaceError, match=r"mine\.yaml:1: .*(empty|wanted a mapping)"):
        load_text(tmp_path, text)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "{a: " * 5_000, "- " * 50_000, "a:\n" + " - - - - - - - - - -" * 3]
)
def test_deep_nesting_is_refused_without_recursion(tmp_path: Path, text: str) -> None:
    with pytest.raises(SpaceError, match="nested deeper than 16 levels"):
        load_text(tmp_path, text)


def test_a_large_file_is_refused_unread(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match="larger than 1048576 bytes"):
        load_text(tmp_path, "# filler\n" * (MAX_BYTES // 9 + 1))


def test_a_file_of_very_many_values_is_refused_early(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match="more than 50000 values"):
        load_text(tmp_path, "- a\n" * 60_000)


def test_binary_content_is_told(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"name: mine\nsummary: \xff\xfe\n")
    with pytest.raises(SpaceError, match=r"mine\.yaml:2: not UTF-8"):
        load_space(path)
    path.write_bytes(b"name: \x00\x01")
    with pytest.raises(SpaceError, match="not YAML"):
        load_space(path)


def test_a_product_too_large_is_refused_before_it_is_made(tmp_path: Path) -> None:
    kernels = ", ".join(str(2 * k + 1) for k in range(2000))
    expansions = ", ".join(str(e) for e in range(1, 65))
    text = CHAIN[: CHAIN.index("block:\n")] + (
        f"block: {{kind: mbconv, kernel: [{kernels}], expansion: [{expansions}], activation: relu}}\n"
        "head: {activation: relu, classes: 10}\n"
    )
    with pytest.raises(SpaceError, match="more than 4096 choices"):
        load_text(tmp_path, text)


def test_an_unknown_name_lists_the_shipped_ones_and_the_nearest() -> None:
    with pytest.raises(SpaceError) as caught:
        load_space("s3nsa")
    text = str(caught.value)
    assert "space 's3nsa' is unknown; did you mean 's3nas'?" in text
    assert all(name in text for name in list_spaces())
    assert "YAML file" in text


@pytest.mark.parametrize("name", ["", "a\0b", "x" * 5000, "a\nb"])
def test_a_name_that_no_file_can_have_is_unknown_in_one_line(name: str) -> None:
    with pytest.raises(SpaceError, match="is unknown") as caught:
        load_space(name)
    assert "\n" not in str(caught.value)


def test_a_path_that_is_not_there_or_is_a_folder_is_told(tmp_path: Path) -> None:
    for path in (tmp_path / "no.yaml", str(tmp_path / "no.yaml"), tmp_path / "mine.yaml" / "x"):
        with pytest.raises(SpaceError, match="cannot be read: "):
            load_space(path)
    for folder in (tmp_path, str(tmp_path)):
        with pytest.raises(SpaceError, match="is a folder; give a YAML file"):
            load_space(folder)


def test_a_pipe_is_refused_and_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(SpaceError, match="not a regular file"):
        load_space(tmp_path / "pipe.yaml")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_an_unreadable_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(CHAIN, encoding="utf-8")
    path.chmod(0)
    with pytest.raises(SpaceError, match="cannot be read: Permission denied"):
        load_space(path)


def test_a_shipped_name_wins_over_a_local_folder_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tiny").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_space("tiny").name == "tiny"


def test_an_existing_file_of_any_ending_is_taken_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "space.txt").write_text(CHAIN, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert load_space("space.txt").name == "mine"


def loads_or_says_why(folder: Path, text: str) -> None:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    message = ""
    try:
        load_space(path)
    except SpaceError as error:
        message = str(error)
    assert "\n" not in message


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=60))
def test_any_text_loads_or_is_a_space_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    loads_or_says_why(tmp_path_factory.getbasetemp(), text)


FRAGMENTS = ["0", "-1", "true", "null", "[]", "{}", "1e9", "'", '"', ": ", "- ", "\t", "&a", "*a", "!!int 3",
             "999999999999999999", "0x1f", "1:30", ".nan", "2026-01-01", "<<", "?", "|", ">", "%", "@", "\\"]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([CHAIN, CELL]),
    st.integers(0, 400),
    st.integers(0, 12),
    st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=4)),
)
def test_a_file_damaged_anywhere_loads_or_is_a_space_error(
    tmp_path_factory: pytest.TempPathFactory, text: str, start: int, length: int, fragment: str
) -> None:
    damaged = text[:start] + fragment + text[start + length :]
    loads_or_says_why(tmp_path_factory.getbasetemp(), damaged)
