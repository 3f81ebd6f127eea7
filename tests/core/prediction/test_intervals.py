"""Intervals hold as many truths as they say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprof.prediction.errors import PredictionError
from hwprof.prediction.intervals import conformal, least_networks, log_errors


@given(st.integers(0, 10**6), st.sampled_from([0.8, 0.9, 0.95]))
def test_new_truths_lie_inside_as_often_as_stated(seed, level):
    rng = np.random.default_rng(seed)
    errors = np.abs(rng.standard_t(3, 400)) * 0.05
    interval = conformal(errors, np.arange(400) % 5, level)
    fresh = np.abs(rng.standard_t(3, 20_000)) * 0.05
    # Of 400 scores the quantile's own share has a standard deviation of sqrt(level (1 - level) / 400).
    slack = 5.0 * np.sqrt(level * (1.0 - level) / 400)
    assert abs((fresh <= np.log(interval.factor)).mean() - level) < slack
    assert abs(interval.coverage - level) < slack


@pytest.mark.parametrize(("level", "least"), [(0.8, 4), (0.9, 9), (0.95, 19), (0.99, 99)])
def test_a_high_level_takes_many_networks(level, least):
    errors = np.linspace(0.01, 0.1, least)
    assert least_networks(level) == least
    assert conformal(errors, np.arange(least) % 2, level).factor == pytest.approx(np.exp(0.1))
    with pytest.raises(PredictionError, match=f"takes {least} networks or more"):
        conformal(errors[1:], np.arange(least - 1) % 2, level)


def test_a_prediction_below_zero_is_infinitely_wrong():
    errors = log_errors(np.array([-1.0, 0.0, 2.0]), np.array([1.0, 1.0, 1.0]))
    assert np.isinf(errors[:2]).all()
    assert errors[2] == pytest.approx(np.log(2.0))
    with pytest.raises(PredictionError, match="no finite interval"):
        conformal(np.repeat(errors, 10), np.arange(30) % 5, 0.9)
