"""Policies: probabilities, natural and REINFORCE steps, shrinking."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprof.errors import HwprofError
from hwprof.search.discrete.decisions import decisions_of
from hwprof.search.discrete.policy import Policies, Sampled, draw
from hwprof.search.discrete.shrinking import Shrinking, Stage, choices_left
from hwprof.space import load_space

WIDTHS = (3, 5, 2)


def sampled(genomes):
    chosen = np.eye(max(WIDTHS))[np.array(genomes)]
    return Sampled(chosen, np.ones(chosen.shape[:2]))


def test_at_first_all_choices_are_alike_and_padding_has_none():
    probabilities = Policies(2, WIDTHS).probabilities()
    assert probabilities.shape == (2, 3, 5)
    for place, width in enumerate(WIDTHS):
        assert probabilities[0, place, :width] == pytest.approx(1 / width)
        assert (probabilities[0, place, width:] == 0).all()


@given(st.floats(0.0, 1.0), st.integers(0, 1000))
def test_a_natural_step_goes_its_share_of_the_way_to_the_rewarded_networks(rate, seed):
    rng = np.random.default_rng(seed)
    policies = Policies(2, WIDTHS)
    genomes = [[int(rng.integers(width)) for width in WIDTHS] for _ in range(6)]
    rewards = rng.dirichlet(np.ones(6), size=2)
    before = policies.probabilities()
    mean = np.einsum("kn,ndc->kdc", rewards, sampled(genomes).chosen)
    policies.natural_step(sampled(genomes), rewards, rate)
    assert policies.probabilities() == pytest.approx(before + rate * (mean - before), abs=1e-4)


def test_what_no_rewarded_network_depends_on_stays_as_it_was():
    policies = Policies(1, WIDTHS)
    some = sampled([[0, 4, 1], [0, 3, 1]])
    some.active[:, 1] = 0.0
    policies.natural_step(some, np.array([[0.5, 0.5]]), 1.0)
    assert policies.probabilities()[0, 1] == pytest.approx(0.2)
    assert policies.probabilities()[0, 0, 0] == pytest.approx(1.0, abs=1e-4)


def test_the_reinforce_step_is_the_gradient_of_the_mean_reward():
    """Against finite differences of sum_x p(x) r(x) over all networks, each drawn as often as its
    probability says."""
    rng = np.random.default_rng(3)
    policies = Policies(1, WIDTHS)
    policies.alpha = rng.normal(size=policies.alpha.shape)
    every = sampled([[a, b, c] for a in range(3) for b in range(5) for c in range(2)])
    reward = rng.random(len(every))

    def mean_reward():
        return float((np.exp(policies.log_probabilities(every))[0] * reward).sum())

    chances = np.exp(policies.log_probabilities(every))
    start = policies.alpha.copy()
    numeric = np.zeros_like(start)
    for place in np.ndindex(start.shape):
        for sign in (1.0, -1.0):
            policies.alpha = start.copy()
            policies.alpha[place] += sign * 1e-5
            numeric[place] += sign * mean_reward() / 2e-5
    policies.alpha = start.copy()
    policies.reinforce_step(every, chances * reward * len(every), rate=1.0, entropy=0.0)
    assert policies.alpha - start == pytest.approx(numeric, abs=1e-6)


def test_the_entropy_bonus_flattens_a_policy():
    policies = Policies(1, WIDTHS)
    policies.alpha[0, 0, 0] = 3.0
    before = policies.probabilities()[0, 0, 0]
    policies.reinforce_step(sampled([[0, 0, 0]]), np.zeros((1, 1)), rate=1.0, entropy=0.5)
    assert policies.probabilities()[0, 0, 0] < before


def test_narrowing_keeps_what_some_policy_wants_most_and_never_comes_back():
    policies = Policies(2, WIDTHS)
    policies.alpha[0, 1, 4], policies.alpha[1, 1, 2] = 2.0, 3.0
    policies.narrow((2, 2, 2))
    assert np.flatnonzero(policies.offered[1]).tolist() == [2, 4]
    assert (policies.probabilities()[:, 1, [0, 1, 3]] == 0).all()
    policies.narrow((3, 5, 2))
    assert policies.offered.sum(1).tolist() == [2, 2, 2]


@given(st.integers(0, 10_000))
def test_only_what_is_offered_is_drawn(seed):
    policies = Policies(1, WIDTHS)
    policies.narrow((2, 3, 2))
    rng = np.random.default_rng(seed)
    genome = draw(policies.explored(policies.probabilities()[0], 1.0), rng)
    assert all(policies.offered[place, choice] for place, choice in enumerate(genome))


def test_sampled_networks_are_arrays_with_what_they_depend_on():
    decisions = decisions_of(load_space("tiny"))
    genome = tuple(width - 1 for width in decisions.widths)
    found = Sampled.of(decisions, [genome])
    assert found.chosen.argmax(-1)[0].tolist() == list(genome)
    assert found.active.all()
    assert len(Sampled.of(decisions, []).joined(found)) == 1


def test_each_stage_of_a_shrinking_is_due_once():
    shrinking = Shrinking((Stage(0.3, 0.8), Stage(0.6, 0.5)), queries=100)
    assert [shrinking.due(done) for done in (29, 30, 31, 60, 99)] == [None, 0.8, None, 0.5, None]
    assert Shrinking((Stage(0.3, 0.8), Stage(0.6, 0.5)), queries=100).due(70) == 0.5


def test_two_choices_are_always_left():
    assert choices_left((2, 5, 8), 0.1) == (2, 2, 2)
    assert choices_left((2, 5, 8), 0.6) == (2, 3, 5)


@pytest.mark.parametrize(
    "stages", [(Stage(0.0, 0.5),), (Stage(0.5, 1.0),), (Stage(0.5, 0.8), Stage(0.4, 0.6))]
)
def test_stages_that_do_not_shrink_are_refused(stages):
    with pytest.raises(HwprofError, match="stage"):
        Shrinking(stages, queries=100)
