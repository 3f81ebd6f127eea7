"""The largest network within a latency, against all networks of small spaces."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwprof.composition.composition import Composition, Scope
from hwprof.errors import LutError, MissingRow, SpaceError
from hwprof.graph import cost
from hwprof.lut import load_lut, write_lut
from hwprof.search.largest import (
    AdditiveCosts,
    additive_costs,
    check_target,
    choice_parameters,
    largest_network,
)
from hwprof.space import load_space


def points(space):
    return product(*(range(len(position.choices)) for position in space.positions))


def score_of(scores, point):
    return sum(of[choice] for of, choice in zip(scores, point, strict=True))


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_no_network_within_the_target_beats_it_by_more_than_the_rounding(data, pool_lut, make):
    space = data.draw(make.spaces(most_positions=5, most_choices=4))
    costs = additive_costs(pool_lut, space)
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    scores = [rng.integers(0, 50, len(p.choices)).astype(float).tolist() for p in space.positions]
    place = data.draw(st.floats(0, 1))
    target = costs.fastest_ms + place * (costs.slowest_ms - costs.fastest_ms)
    found = largest_network(space, costs, scores, target, steps=500)
    assert found.latency_ms <= target * (1 + 1e-9)
    assert found.latency_ms == pytest.approx(costs.latency_ms(found.point), rel=1e-12)
    assert found.score == score_of(scores, found.point)
    within = [p for p in points(space) if costs.latency_ms(p) <= target]
    surely = target - len(space.positions) * found.resolution_ms
    assert found.score >= max((score_of(scores, p) for p in within if costs.latency_ms(p) <= surely),
                              default=-1)  # fmt: skip
    assert found.score_bound >= max((score_of(scores, p) for p in within), default=-1)


def test_latencies_that_are_whole_steps_are_solved_exactly(make):
    p = make.pool
    space = make.space([[[p[0]], [p[1]], [p[2]]]] * 6)
    costs = AdditiveCosts(((0.1, 0.2, 0.4),) * 6, border_ms=0.05)
    scores = [(1.0, 3.0, 6.0)] * 6
    for quarter in range(19):
        target = 0.65 + quarter * 0.1
        found = largest_network(space, costs, scores, target, steps=max(1, quarter))
        best = max(score_of(scores, q) for q in points(space) if costs.latency_ms(q) < target + 1e-9)
        assert found.score == found.score_bound == best


@pytest.mark.parametrize("place", ["fastest_ms", "slowest_ms"])
def test_the_bounds_themselves_can_be_had(place, pool_lut, make):
    p = make.pool
    space = make.space([[[p[0]], [p[1]]], [[p[2]], []], [[p[3]], [p[4]]]])
    costs = additive_costs(pool_lut, space)
    found = largest_network(space, costs, costs.choices_ms, getattr(costs, place))
    assert found.latency_ms == pytest.approx(getattr(costs, place), rel=1e-9)


def test_a_target_out_of_reach_says_both_bounds(pool_lut, make):
    p = make.pool
    space = make.space([[[p[0]], [p[1]]], [[p[2]], [p[3]]]], "small")
    costs = additive_costs(pool_lut, space)
    scores = choice_parameters(space)
    bounds = "0.1416 to 0.2667 ms"  # rounded to the inside
    for target, where in (
        (costs.fastest_ms / 2, "below the fastest"),
        (costs.slowest_ms * 2, "above the slowest"),
        (float("nan"), "above the slowest"),
    ):
        with pytest.raises(SpaceError, match=f"{where} network of small: they take {bounds}"):
            largest_network(space, costs, scores, target)


def test_parameters_of_a_choice_are_those_of_its_ops():
    space = load_space("tiny")
    parameters = choice_parameters(space)
    for point in ((0, 0, 0, 0, 0), (0, 3, 4, 1, 0)):
        total = cost(space.network(point)).parameters
        assert score_of(parameters, point) == total


def test_a_cell_space_and_scores_of_another_space_are_refused(pool_lut, make):
    p = make.pool
    space = make.space([[[p[0]], [p[1]]]])
    costs = additive_costs(pool_lut, space)
    with pytest.raises(SpaceError, match="nb201 is a cell space"):
        largest_network(load_space("nb201"), costs, [], 1.0)
    with pytest.raises(SpaceError, match="a score and a cost for each choice"):
        largest_network(space, costs, [[1.0]], 1.0)


def test_missing_rows_are_an_error(pool_lut):
    with pytest.raises(MissingRow, match="10 ops have no usable row"):
        additive_costs(pool_lut, load_space("tiny"))


@pytest.fixture
def calibrated(make, tmp_path):
    """The pool's table with a composition of these weights, for spaces named `random`."""

    def write(weights):
        scope = Scope(make.here, "random", 1, "float32", "warm", "floor")
        composition = Composition(
            scope, "made", weights, ("0" * 20,), 0.0, 0.0, {}, "2026-11-21T00:00:00+00:00", "0.1.0"
        )
        rows = [make.row(op, latency) for op, latency in make.latencies.items()]
        facts = {make.here: {"identity": {"runtime": "ort"}, "conditions": {}}}
        metadata = {"spaces": [], "environments": facts, "composition": [composition.to_dict()]}
        write_lut(tmp_path / "lut.parquet", rows, metadata=metadata)
        return load_lut(tmp_path / "lut.parquet")

    return write


def test_a_calibrated_table_prices_by_its_composition(calibrated, make):
    p = make.pool
    space = make.space([[[p[0]], [p[1]]], [[p[2]]]])
    table = calibrated({"rows": 2.0, "cuts": 0.5})
    plain = [make.latencies[op] for op in p]
    costs = additive_costs(table, space)
    # A chain of two ops has one cut: 0.5 an op, less 0.5 at the network's border.
    wanted = 2 * (plain[1] + plain[2]) + 0.5
    assert costs.latency_ms((1, 0)) == pytest.approx(wanted, rel=1e-12)


def test_a_composition_with_edges_is_refused(calibrated, make):
    space = make.space([[[make.pool[0]], [make.pool[1]]]])
    with pytest.raises(LutError, match=r"with edges between neighbours.*--model terms"):
        additive_costs(calibrated({"rows": 1.0, "edges": 1.0}), space)


@pytest.mark.parametrize(("low", "high"), [(0.0406271, 0.1406271), (1.23456, 98.76543), (0.5, 0.75)])
def test_the_bounds_that_a_refusal_names_were_refused_themselves(make, low, high):
    space = make.space([[[make.pool[0]]]])
    with pytest.raises(SpaceError) as refused:
        check_target(space, (low, high), 1000.0)
    named = str(refused.value).split("take ")[1].split(" ms")[0].split(" to ")
    for target in map(float, named):
        check_target(space, (low, high), target)
        assert min(abs(target / low - 1), abs(target / high - 1)) < 1e-3
