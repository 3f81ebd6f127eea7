"""Tables on a terminal and in a pipe."""

from __future__ import annotations

import pytest

from hwprof.cli.text_table import print_table

HEADINGS = ("position", "choices", "labels")
ROWS = [("stage1.block1", 15, ", ".join(f"choice {number}" for number in range(15)))]


def test_piped_nothing_is_cut_off(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(HEADINGS, ROWS, cut="labels")
    assert capsys.readouterr().out.splitlines()[1].rstrip().endswith(ROWS[0][2])


def test_on_a_terminal_long_labels_once_pushed_the_other_columns_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "60")
    print_table(HEADINGS, ROWS, cut="labels")
    line = capsys.readouterr().out.splitlines()[1]
    assert line.split()[:2] == ["stage1.block1", "15"]
    assert len(line) <= 60
    assert line.rstrip().endswith("…")


def test_a_query_may_name_two_columns_alike(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("a", "a"), [(1, 2)])
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [["a", "a"], ["1", "2"]]
