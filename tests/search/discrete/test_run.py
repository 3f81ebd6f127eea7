"""A run: queries, its journal, what a kill leaves, objectives that fail in the middle."""

import json

import pytest

from hwprof.errors import HwprofError
from hwprof.search.discrete.errors import ObjectiveError
from hwprof.search.discrete.journal import Journal
from hwprof.search.discrete.objectives import Objective, Objectives
from hwprof.search.discrete.run import run_search
from hwprof.search.discrete.tnd_nas import TndNas

SETTINGS = {"search": "tnd-nas", "seed": 0}


def search(decisions):
    return TndNas(decisions, 2, queries=100, seed=0)


def counted(objectives):
    """The same objectives, and how often the first was asked."""
    calls = []
    first, *rest = objectives.all
    inner = Objective(first.name, lambda p: calls.append(p) or first.value(p), first.larger_is_better)
    return Objectives([inner, *rest]), calls


def test_a_run_that_was_stopped_goes_on_as_one_that_never_was(tmp_path, decisions, objectives):
    whole = run_search(search(decisions), objectives, 100)
    path = tmp_path / "made" / "journal.jsonl"

    class Stopped(Exception):
        pass

    def stop(archive):
        if len(archive) >= 60:
            raise Stopped

    with pytest.raises(Stopped):
        run_search(search(decisions), objectives, 100, journal=Journal(path, SETTINGS), note=stop)
    again, calls = counted(objectives)
    archive = run_search(search(decisions), again, 100, journal=Journal(path, SETTINGS))
    assert archive.entries == whole.entries
    assert len(calls) == 40


def test_a_line_that_a_kill_cut_short_is_evaluated_again(tmp_path, decisions, objectives):
    path = tmp_path / "journal.jsonl"
    run_search(search(decisions), objectives, 40, journal=Journal(path, SETTINGS))
    path.write_bytes(path.read_bytes()[:-7])
    again, calls = counted(objectives)
    run_search(search(decisions), again, 40, journal=Journal(path, SETTINGS))
    assert len(calls) == 1
    assert len(Journal(path, SETTINGS).known) == 40


def test_a_journal_of_another_search_is_refused_with_what_differs(tmp_path, decisions, objectives):
    path = tmp_path / "journal.jsonl"
    run_search(search(decisions), objectives, 20, journal=Journal(path, SETTINGS))
    with pytest.raises(HwprofError, match="is of a search with seed 0, not 1"):
        Journal(path, {**SETTINGS, "seed": 1})


def test_a_setting_of_a_group_is_named_with_its_group(tmp_path, decisions, objectives):
    path = tmp_path / "journal.jsonl"
    first = {**SETTINGS, "sha256": {"--replay": "a", "mine:score": "b"}}
    run_search(search(decisions), objectives, 20, journal=Journal(path, first))
    with pytest.raises(HwprofError, match="a search with sha256 of mine:score 'b', not 'c'"):
        Journal(path, {**first, "sha256": {"--replay": "a", "mine:score": "c"}})


@pytest.mark.parametrize(
    "values", ["[NaN]", "[Infinity]", '["1.5"]', '"12"', "[null]", "[1" + "0" * 400 + "]"]
)
def test_a_journal_with_a_value_that_is_no_finite_number_is_damaged(tmp_path, values):
    path = tmp_path / "journal.jsonl"
    path.write_text(json.dumps(SETTINGS) + f'\n{{"point": [0], "values": {values}}}\n')
    with pytest.raises(HwprofError, match="is damaged"):
        Journal(path, SETTINGS)


def test_a_journal_with_another_number_of_values_is_damaged(tmp_path, decisions, objectives):
    path = tmp_path / "journal.jsonl"
    path.write_text(json.dumps(SETTINGS) + '\n{"point": [0, 1], "values": [1.0]}\n')
    with pytest.raises(HwprofError, match=r"is damaged \(network \[0, 1\] has 1 values, not 2\)"):
        run_search(search(decisions), objectives, 20, journal=Journal(path, SETTINGS))


@pytest.mark.parametrize("content", [b"[]\n", b"{\n", b'{"seed": 0}\n{"point": 3}\n', b"\n", b""])
def test_a_damaged_journal_is_an_error(tmp_path, content):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(content)
    with pytest.raises(HwprofError, match=r"is damaged|is of a search with"):
        Journal(path, SETTINGS)


def test_an_objective_that_fails_at_once_leaves_no_file(tmp_path, decisions):
    path = tmp_path / "made" / "journal.jsonl"
    broken = Objectives(
        [Objective("size", lambda p: float(sum(p))), Objective("mine", lambda p: float("nan"))]
    )
    with pytest.raises(ObjectiveError, match="mine is nan"):
        run_search(search(decisions), broken, 100, journal=Journal(path, SETTINGS))
    assert list(tmp_path.iterdir()) == []


def test_an_objective_that_fails_later_keeps_whole_rounds(tmp_path, decisions, objectives):
    path = tmp_path / "journal.jsonl"
    asked = []

    def tired(point):
        asked.append(point)
        if len(asked) > 50:
            raise OSError("the board is gone")
        return float(len(asked))

    both = Objectives([objectives.all[0], Objective("board", tired)])
    with pytest.raises(ObjectiveError, match="the board is gone"):
        run_search(search(decisions), both, 100, journal=Journal(path, SETTINGS))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == 41


def test_at_least_one_query(decisions, objectives):
    with pytest.raises(HwprofError, match="queries must be 1 or more, got 0"):
        run_search(search(decisions), objectives, 0)
