"""Objectives that go wrong say which, of which network, and what to do."""

import pytest

from hwprof.errors import LutError
from hwprof.search.discrete.errors import ObjectiveError
from hwprof.search.discrete.objectives import CONSTANT_AFTER, Objective, Objectives
from hwprof.search.discrete.quantities import user_objective
from hwprof.space import load_space


def one(function):
    return Objectives([Objective("mine", function)])


def test_larger_is_better_turns_the_sign_in_minimised_values_alone():
    both = Objectives(
        [Objective("accuracy", lambda p: 70.0, larger_is_better=True), Objective("size", lambda p: 3.0)]
    )
    values = both.values((0,))
    assert values == (70.0, 3.0)
    assert both.minimised([values]).tolist() == [[-70.0, 3.0]]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_value_that_is_no_finite_number_is_refused(value):
    with pytest.raises(ObjectiveError, match=r"objective mine is .* for network \[1, 2\]"):
        one(lambda point: value).values((1, 2))


def test_an_objective_that_raises_is_named_with_network_and_reason():
    def broken(point):
        raise RuntimeError("no such sensor")

    with pytest.raises(
        ObjectiveError, match=r"mine raised RuntimeError for network \[3\]: no such sensor"
    ):
        one(broken).values((3,))


def test_a_missing_value_is_an_error_that_names_the_objective():
    with pytest.raises(ObjectiveError, match="objective mine raised TypeError"):
        one(lambda point: None).values((0,))


def test_an_error_of_ours_passes_with_its_own_advice():
    def lacking(point):
        raise LutError("measure it: hwprof build-lut")

    with pytest.raises(LutError, match="measure it"):
        one(lacking).values((0,))


def test_an_objective_that_never_changes_is_refused_after_some_networks():
    objectives = one(lambda point: 1.0)
    objectives.check_vary([(1.0,)] * (CONSTANT_AFTER - 1))
    with pytest.raises(ObjectiveError, match="mine is 1 for all of the first 20 networks"):
        objectives.check_vary([(1.0,)] * CONSTANT_AFTER)


@pytest.mark.parametrize("names", [[], ["a", "a"]])
def test_objectives_are_one_or_more_different_ones(names):
    with pytest.raises(ObjectiveError, match="one or more different"):
        Objectives([Objective(name, lambda point: 0.0) for name in names])


def test_an_objective_that_exits_is_an_error_and_not_the_end_of_the_program():
    def exits(point):
        raise SystemExit(0)

    with pytest.raises(ObjectiveError, match=r"mine raised SystemExit for network \[3\]"):
        one(exits).values((3,))


@pytest.mark.parametrize("value", ["3.51", b"3.51"])
def test_text_that_reads_like_a_number_is_no_value(value):
    with pytest.raises(ObjectiveError, match=r"mine is b?'3.51' for network \[3\]; .* a finite number"):
        one(lambda point: value).values((3,))


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("def score(:", "SyntaxError: "),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("raise SystemExit(0)", "SystemExit: 0"),
    ],
)
def test_a_module_that_fails_at_import_is_one_line(source, told, tmp_path, monkeypatch):
    (tmp_path / "broken_objective.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ObjectiveError, match=f"'broken_objective:score' cannot be imported: {told}"):
        user_objective("broken_objective:score", load_space("tiny"), larger_is_better=False)
