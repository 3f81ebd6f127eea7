"""What measuring a shortlist changes."""

import numpy as np

from hwprof.search.discrete.changes import changes, dropped


def test_errors_swapped_pairs_and_another_winner_are_told():
    found = changes([10.0, 11.0, 20.0, 5.0], [12.0, 11.0, None, 5.5])
    assert found is not None
    assert (found.measured, found.pairs, found.swapped) == (3, 3, 1)
    assert round(found.mean_error, 6) == round((0.2 + 0.0 + 0.1) / 3, 6)
    assert (found.fastest_before, found.fastest_after) == (3, 3)
    assert "1 of 3 pairs changed order; the fastest is the same" in found.text()


def test_a_new_winner_is_named_by_its_number():
    found = changes([1.0, 2.0], [3.0, 2.5])
    assert found is not None
    assert "the fastest is number 2, predicted was number 1" in found.text()


def test_nothing_measured_is_no_change():
    assert changes([1.0, 2.0], [None, None]) is None


def test_a_network_that_is_slower_than_predicted_may_leave_the_front():
    values = np.array([[-70.0, 10.0], [-69.0, 8.0], [-75.0, 20.0]])
    assert dropped(values, 1, [10.0, 11.0, None]) == (1,)
    assert dropped(values, 1, [None, None, None]) == ()
