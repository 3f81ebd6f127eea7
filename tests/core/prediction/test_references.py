"""Choosing what to measure: what the greedy design is and is not allowed to do."""

import numpy as np
import pytest

from hwprof.prediction.device_prior import device_prior, source_of_networks
from hwprof.prediction.errors import PredictionError
from hwprof.prediction.features import Features
from hwprof.prediction.posterior import reduced
from hwprof.prediction.references import OWN, QUIETER, choose_references
from hwprof.space import load_space


@pytest.fixture(scope="module")
def prior():
    features = Features.of(load_space("nb201"))
    rng = np.random.default_rng(0)
    some = features.pool[:200]
    kinds = [np.tile([0.0, 0.2, 1.0, 4.0, 0.5], 6) * np.exp(rng.normal(0, 0.3, 30)) for _ in range(4)]
    noise = [rng.normal(0, 0.1, 200) for _ in kinds]
    return device_prior(
        features,
        [
            source_of_networks(features, f"d{n}", some, 10 + some @ k + e)
            for n, (k, e) in enumerate(zip(kinds, noise, strict=True))
        ],
    )


def left(prior, measured, pool):
    """Mean predictive variance over the pool."""
    columns = prior.features.of_networks
    covariance = prior.covariance(OWN)
    return reduced(covariance, columns(measured), columns(pool), QUIETER * prior.quiet).mean()


def test_more_of_them_are_the_fewer_and_others(prior):
    pool = prior.features.pool[:300]
    ten = choose_references(prior, pool, 10)
    assert len(set(ten.tolist())) == 10
    assert choose_references(prior, pool, 4).tolist() == ten[:4].tolist()


def test_they_leave_less_variance_than_random_ones(prior):
    pool = prior.features.pool[:300]
    chosen = left(prior, pool[choose_references(prior, pool, 8)], pool)
    rng = np.random.default_rng(1)
    drawn = [left(prior, pool[rng.permutation(300)[:8]], pool) for _ in range(10)]
    assert chosen < min(drawn)


def test_those_that_follow_measured_ones_are_as_good_as_chosen_at_once(prior):
    pool = prior.features.pool[:300]
    at_once = choose_references(prior, pool, 10)
    rest = np.setdiff1d(np.arange(300), at_once[:5])
    following = rest[choose_references(prior, pool[rest], 5, measured=pool[at_once[:5]])]
    in_two = left(prior, pool[np.append(at_once[:5], following)], pool)
    assert in_two == pytest.approx(left(prior, pool[at_once], pool), rel=0.05)


def test_more_than_there_are_is_an_error(prior):
    with pytest.raises(PredictionError, match="ask for fewer"):
        choose_references(prior, prior.features.pool[:5], 6)
