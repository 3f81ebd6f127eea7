"""The archive: front, reference point, hypervolume."""

import pytest

from hwprof.search.discrete.archive import Archive
from hwprof.search.discrete.objectives import Objective, Objectives


@pytest.fixture
def archive():
    made = Archive(
        Objectives(
            [
                Objective("accuracy", lambda point: 0.0, larger_is_better=True),
                Objective("latency", lambda point: 0.0, unit="ms"),
            ]
        )
    )
    for number, values in enumerate([(70.0, 10.0), (60.0, 5.0), (59.0, 6.0), (75.0, 30.0)]):
        made.add((number,), values)
    return made


def test_the_front_is_ordered_by_the_last_objective_and_keeps_own_units(archive):
    assert [entry.values for entry in archive.front()] == [(60.0, 5.0), (70.0, 10.0), (75.0, 30.0)]


def test_the_reference_lies_a_tenth_of_the_front_beyond_its_worst_values(archive):
    assert archive.reference() == pytest.approx((-58.5, 32.5))


def test_the_hypervolume_is_that_of_the_staircase(archive):
    assert archive.hypervolume((-50.0, 40.0)) == pytest.approx(10 * 5 + 20 * 20 + 25 * 10)


def test_a_network_is_added_once(archive):
    with pytest.raises(ValueError, match="is in the archive already"):
        archive.add((0,), (1.0, 1.0))


def test_a_front_of_one_network_has_a_reference_beyond_it():
    archive = Archive(Objectives([Objective("parameters", lambda point: 0.0)]))
    archive.add((0,), (100.0,))
    assert archive.reference() == (110.0,)
    assert archive.hypervolume() == pytest.approx(10.0)
