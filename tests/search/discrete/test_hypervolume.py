"""Laws of the hypervolume and of fronts, and another library's numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprof.search.discrete.hypervolume import front_mask, hypervolume

numbers = st.integers(0, 8).map(lambda n: n / 8)


def networks(objectives):
    return st.lists(st.tuples(*[numbers] * objectives), min_size=1, max_size=12).map(np.array)


def dominated(point, others):
    return any((other <= point).all() and (other < point).any() for other in others)


@given(st.integers(1, 4).flatmap(networks))
def test_the_front_is_what_nothing_dominates_and_holds_equal_networks_once(values):
    kept = front_mask(values)
    for place, point in enumerate(values):
        if kept[place]:
            assert not dominated(point, values)
            assert not any(
                (values[other] == point).all() for other in np.flatnonzero(kept) if other != place
            )
        else:
            assert dominated(point, values) or any(
                (values[n] == point).all() for n in np.flatnonzero(kept)
            )


@given(st.integers(1, 4).flatmap(networks))
def test_it_is_the_share_of_grid_boxes_that_some_network_dominates(values):
    objectives = values.shape[1]
    boxes = np.stack(np.meshgrid(*[np.arange(8)] * objectives, indexing="ij"), -1).reshape(
        -1, objectives
    )
    covered = (values[None] <= boxes[:, None] / 8).all(-1).any(-1)
    assert hypervolume(values, np.ones(objectives)) == pytest.approx(covered.mean())


@given(networks(3), st.tuples(numbers, numbers, numbers))
def test_another_network_never_lowers_it_and_a_dominated_one_leaves_it(values, other):
    reference = [1.0, 1.0, 1.0]
    before = hypervolume(values, reference)
    after = hypervolume(np.vstack([values, other]), reference)
    assert after >= before - 1e-12
    if dominated(np.array(other), values):
        assert after == pytest.approx(before)


@given(networks(2), st.floats(0.1, 10.0), st.floats(0.1, 10.0))
def test_it_scales_with_the_units_of_the_objectives(values, first, second):
    unit = np.array([first, second])
    scaled = hypervolume(values * unit, unit)
    assert scaled == pytest.approx(first * second * hypervolume(values, [1.0, 1.0]), abs=1e-9)


def test_networks_beyond_the_reference_point_add_nothing():
    assert hypervolume([[2.0, 0.0], [0.0, 1.0]], [1.0, 1.0]) == 0.0


@pytest.mark.parametrize("objectives", [2, 3, 4])
def test_moocore_of_the_pymoo_authors_gives_the_same(objectives):
    moocore = pytest.importorskip("moocore", reason="pymoo is not installed")
    values = np.random.default_rng(objectives).random((40, objectives))
    reference = np.full(objectives, 0.9)
    assert hypervolume(values, reference) == pytest.approx(moocore.hypervolume(values, ref=reference))
