"""What architecture parameters stand for: a distribution over genotypes, and the likeliest of them."""

from __future__ import annotations

import math
from itertools import combinations, product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hwprof.errors import SpaceError
from hwprof.search.cells import Relaxation, best_candidates
from hwprof.search.cells.relaxation import CLOSED
from hwprof.space import load_space

DARTS = load_space("darts")
RELAXATION = Relaxation(DARTS)
seeds = st.integers(0, 2**31 - 1)


def parameters_of(seed, scale=1.0):
    return scale * torch.randn(28, 8, generator=torch.Generator().manual_seed(seed))


@given(seeds, st.floats(0.05, 5.0), st.floats(0.1, 2.0))
def test_two_edges_of_each_node_are_open_on_average(seed, scale, temperature):
    shares = RELAXATION.probabilities(parameters_of(seed, scale).double(), temperature)
    assert shares.shape == (38, 8)
    torch.testing.assert_close(shares.sum(-1), torch.ones(38, dtype=torch.float64))
    assert shares.min() >= -1e-12
    for edges in DARTS.cell.node_edges():
        opened = sum(1.0 - float(shares[place, 0]) for place in edges)
        assert opened == pytest.approx(2.0, abs=1e-6)


def test_probabilities_are_those_of_the_genotypes_of_a_node_counted_out():
    """Node 3 of the normal cell: 3 pairs x 7 x 7 ops."""
    parameters = parameters_of(7).double()
    gates = parameters.softmax(-1)
    rows = range(2, 5)
    expected = torch.zeros(3, 8, dtype=torch.float64)
    total = 0.0
    for pair in combinations(range(3), 2):
        strength = math.prod(float(gates[rows[i], 1:].max()) for i in pair)
        for ops in product(range(1, 8), repeat=2):
            share = strength
            for edge, op in zip(pair, ops, strict=True):
                share *= float(gates[rows[edge], op] / gates[rows[edge], 1:].sum())
            total += share
            for edge, op in zip(pair, ops, strict=True):
                expected[edge, op] += share
            for edge in set(range(3)) - set(pair):
                expected[edge, 0] += share
    found = RELAXATION.probabilities(parameters)[3:6]
    torch.testing.assert_close(found, expected / total)


@given(seeds)
def test_the_sharp_limit_is_the_network_of_darts(seed):
    parameters = parameters_of(seed, 3.0).double()
    shares = RELAXATION.probabilities(parameters, 1e-4)
    assert tuple(shares.argmax(-1).tolist()) == RELAXATION.discretise(parameters)


@given(seeds)
def test_discretising_keeps_the_two_strongest_edges_of_each_node(seed):
    parameters = parameters_of(seed)
    point = RELAXATION.discretise(parameters)
    gates = parameters.softmax(-1)[:, 1:]
    for edges in DARTS.cell.node_edges():
        strengths = {place: float(gates[place - 1].max()) for place in edges}
        kept = [place for place in edges if point[place]]
        assert sorted(kept) == sorted(sorted(strengths, key=strengths.get)[-2:])
        assert all(point[place] - 1 == int(gates[place - 1].argmax()) for place in kept)


def test_samples_are_drawn_as_often_as_their_probability_says():
    parameters = parameters_of(3, 0.5)
    shares = RELAXATION.probabilities(parameters)
    points = np.array(RELAXATION.sample(parameters, 4000, seed=1))
    assert len(points) > 3990
    counted = np.stack([(points == choice).mean(0) for choice in range(8)], -1)
    assert np.abs(counted[1:29] - shares[1:29].numpy()).max() < 0.03


def test_log_probabilities_of_a_node_s_genotypes_add_up_to_one(space):
    """The small space's other nodes stay as they are: what they contribute is a factor."""
    relaxation = Relaxation(space)
    parameters = torch.randn(relaxation.shape, generator=torch.Generator().manual_seed(0))
    totals = []
    for start in relaxation.sample(parameters, 2, seed=3):
        node = space.cell.node_edges()[1]
        total = 0.0
        for pair in combinations(node, 2):
            for ops in product(range(1, 5), repeat=2):
                point = list(start)
                for place in node:
                    point[place] = 0
                for place, op in zip(pair, ops, strict=True):
                    point[place] = op
                total += math.exp(relaxation.log_probability(parameters, point))
        own = list(start)
        gates = parameters.double().softmax(-1)[:, 1:]
        strengths = [float(gates[place - 1].max()) for place in node]
        share = 1.0
        for place in node:
            if own[place]:
                share *= float(gates[place - 1].max() * gates[place - 1, own[place] - 1])
                share /= float(gates[place - 1].sum())
        share /= sum(math.prod(pair) for pair in combinations(strengths, 2))
        totals.append(total * share / math.exp(relaxation.log_probability(parameters, start)))
    assert totals == pytest.approx([1.0, 1.0], rel=1e-6)
    assert relaxation.log_probability(parameters, [0] * len(space.positions)) == -math.inf


def test_an_op_that_is_not_on_offer_has_no_share():
    parameters = parameters_of(0)
    parameters[4, 5] = parameters[20, 1:] = CLOSED
    shares = RELAXATION.probabilities(parameters)
    assert shares.isfinite().all()
    assert float(shares[5, 5]) == 0.0
    assert float(shares[21, 0]) == pytest.approx(1.0)
    assert RELAXATION.discretise(parameters)[21] == 0


def test_an_expected_sum_of_costs_has_the_gradient_of_its_differences():
    costs = torch.rand(38, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    parameters = parameters_of(1).double().requires_grad_(True)
    assert torch.autograd.gradcheck(
        lambda p: (RELAXATION.probabilities(p, 0.7) * costs).sum(), [parameters]
    )


def test_candidates_are_the_likeliest_within_a_latency():
    def latency(points):
        return [float(sum(p)) for p in points]

    parameters = parameters_of(5)
    free = best_candidates(RELAXATION, parameters, 3)
    assert free[0] == max(free, key=lambda p: RELAXATION.log_probability(parameters, p))
    low = min(latency(RELAXATION.sample(parameters, 500)))
    found = best_candidates(RELAXATION, parameters, 4, latency=latency, target=low + 6, least=low - 2)
    assert len(found) == 4
    assert all(low - 2 <= value <= low + 6 for value in latency(found))
    scores = [RELAXATION.log_probability(parameters, p) for p in found]
    assert scores == sorted(scores, reverse=True)
    far = best_candidates(RELAXATION, parameters, 1, latency=latency, target=22.0, least=18.0)
    assert 18.0 <= latency(far)[0] <= 22.0
    with pytest.raises(SpaceError, match="no network of darts between 1 and 2 was found"):
        best_candidates(RELAXATION, parameters, 1, latency=latency, target=2.0, least=1.0)


def test_parameters_of_another_shape_are_refused():
    with pytest.raises(SpaceError, match=r"have shape \(28, 8\) \(edges, choices\), got \(14, 8\)"):
        RELAXATION.discretise(torch.zeros(14, 8))
    with pytest.raises(SpaceError, match="temperature must be above 0"):
        RELAXATION.probabilities(torch.zeros(28, 8), 0.0)
    with pytest.raises(SpaceError, match="nb201 is of family cell"):
        Relaxation(load_space("nb201"))
