"""What is believed of ops, and what is chosen to be measured, on costs whose truth is known."""

import numpy as np
import pytest

from hwprof.graph import cost
from hwprof.sampling.belief import OpCounts, believe
from hwprof.sampling.choose import choose
from hwprof.space import load_space


@pytest.fixture(scope="module")
def world(part_space):
    """Ops whose latency follows their bytes within a tenth; rows of half of them; some networks."""
    space = load_space(str(part_space))
    counts = OpCounts.of(space)
    rng = np.random.default_rng(0)
    truth = np.array([cost(op.lower()).bytes_moved / 1e6 for op in counts.ops])
    truth *= np.exp(0.1 * rng.standard_normal(len(truth)))
    points = list(dict.fromkeys(space.sample(rng) for _ in range(200)))
    made = counts.of_points(points)
    rows = {op: ms for n, (op, ms) in enumerate(zip(counts.ops, truth, strict=True)) if n % 2 == 0}
    return counts, truth, made, rows


def test_counts_are_the_ops_of_the_network(part_space):
    space = load_space(str(part_space))
    counts = OpCounts.of(space)
    point = space.sample(np.random.default_rng(1))
    runs = space.point_ops(point)
    assert counts.of_points([point])[0].tolist() == [runs.count(op) for op in counts.ops]


def test_cell_counts_leave_out_edges_that_its_network_leaves_out(cell_space):
    space = load_space(str(cell_space))
    counts = OpCounts.of(space)
    # edges 0-1 0-2 1-2 0-3 1-3 2-3: what enters node 2 leads nowhere.
    point = (0, 2, 2, 2, 2, 0, 0, 0, 0)
    kept = (0, 0, 0, 0, 2, 0, 0, 0, 0)
    assert counts.of_points([point]).tolist() == counts.of_points([kept]).tolist()
    assert counts.with_network([point, (0, 2, 2, 2, 0, 0, 0, 0, 0)]) == [point]


def test_networks_bring_the_belief_to_the_truth(world):
    counts, truth, made, rows = world
    values = 1.1 * (made @ truth) + 0.05
    errors = []
    for known in (0, 3, 40):
        belief = believe(counts.ops, rows, made[:known], values[:known])
        errors.append(np.abs(belief.predict(made[100:]) / values[100:] - 1).mean())
    assert errors[2] < 0.01 < errors[0]
    assert errors[2] < errors[1] < errors[0]


def test_errors_are_of_networks_predicted_from_the_others(world):
    counts, truth, made, rows = world
    values = made @ truth
    values[3] *= 1.5
    belief = believe(counts.ops, rows, made[:30], values[:30])
    assert np.abs(belief.errors).argmax() == 3


def test_op_with_a_row_is_not_chosen_and_a_row_is_worth_its_price(world):
    counts, _, made, rows = world
    belief = believe(counts.ops, rows, made[:0], np.zeros(0))
    seconds, op_seconds = np.full(50, 1.0), np.full(len(counts.ops), 0.05)
    picked = choose(belief, made, seconds, op_seconds, 3.0)
    assert picked.ops
    assert all(counts.ops[place] not in rows for place in picked.ops)
    assert picked.seconds <= 3.0
    dear = choose(belief, made, seconds, np.full(len(counts.ops), 50.0), 3.0)
    assert not dear.ops
    assert dear.networks


def test_first_networks_come_before_any_op(world):
    counts, _, made, rows = world
    belief = believe(counts.ops, rows, made[:0], np.zeros(0))
    picked = choose(
        belief, made, np.full(50, 1.0), np.full(len(counts.ops), 0.01), 100.0, least_networks=10
    )
    assert len(picked.networks) >= 10
    assert len(set(picked.networks)) == len(picked.networks)


def test_chosen_batch_teaches_more_than_a_random_one_of_the_same_price(world):
    counts, truth, made, rows = world
    values = made @ truth
    belief = believe(counts.ops, rows, made[:0], np.zeros(0))
    picked = choose(belief, made, np.full(100, 1.0), np.full(len(counts.ops), np.inf), 5.0)

    def error(places):
        after = believe(counts.ops, rows, made[places], values[places])
        return np.abs(after.predict(made[100:]) / values[100:] - 1).mean()

    rng = np.random.default_rng(2)
    random = [error(rng.permutation(100)[:5]) for _ in range(20)]
    assert error(list(picked.networks)) < np.mean(random)


def test_nothing_is_chosen_where_nothing_fits_the_budget(world):
    counts, _, made, rows = world
    belief = believe(counts.ops, rows, made[:0], np.zeros(0))
    picked = choose(belief, made, np.full(50, 9.0), np.full(len(counts.ops), 9.0), 1.0)
    assert picked.networks == picked.ops == ()
