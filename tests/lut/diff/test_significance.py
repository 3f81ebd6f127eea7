"""The statistics of a diff against values that are known."""

from __future__ import annotations

from math import pi, sqrt
from statistics import NormalDist

import numpy as np
import pytest

from hwprof.lut.diff.significance import (
    adjusted_p,
    centre,
    digamma,
    half_widths,
    moderated,
    normal_scores,
    trigamma,
)
from hwprof.lut.diff.timeline import slope


def test_digamma_and_trigamma_at_one_and_a_half():
    euler = 0.5772156649015329
    assert digamma(1.0) == pytest.approx(-euler, rel=1e-9)
    assert digamma(0.5) == pytest.approx(-euler - 2 * np.log(2), rel=1e-9)
    assert trigamma(1.0) == pytest.approx(pi**2 / 6, rel=1e-9)
    assert trigamma(0.5) == pytest.approx(pi**2 / 2, rel=1e-9)


def test_adjusted_p_of_benjamini_and_hochbergs_own_example():
    """Table of their paper: at 5 % the first four of fifteen are rejected."""
    p = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262,
         0.5719, 0.6528, 0.7590, 1.0]  # fmt: skip
    scores = np.array([-NormalDist().inv_cdf(value / 2) if value < 1 else 0.0 for value in p])
    shuffled = np.random.default_rng(0).permutation(len(p))
    adjusted = np.empty(len(p))
    adjusted[shuffled] = adjusted_p(scores[shuffled])
    assert (adjusted <= 0.05).tolist() == [True] * 4 + [False] * 11
    assert adjusted[0] == pytest.approx(0.0015, rel=1e-6)
    assert (np.diff(adjusted) >= 0).all()


@pytest.mark.parametrize(("freedom", "t"), [(4.0, 2.132), (10.0, 1.812), (30.0, 1.697)])
def test_scores_follow_the_table_of_students_t(freedom, t):
    """Upper 5 % points; the normal one is 1.645."""
    one, many = np.ones(1), np.array([freedom])
    assert normal_scores(np.array([t]), one, many)[0] == pytest.approx(1.645, abs=0.01)
    assert half_widths(1.645, one, many)[0] == pytest.approx(t, abs=0.01)
    assert normal_scores(np.array([-t]), one, many)[0] < 0


def test_endless_freedom_is_the_normal_distribution():
    endless = np.array([np.inf])
    assert normal_scores(np.array([2.0]), np.array([4.0]), endless)[0] == 1.0
    assert half_widths(1.645, np.array([4.0]), endless)[0] == pytest.approx(3.29)


def test_variances_of_equal_rows_move_together_and_those_of_unequal_rows_stay():
    rng = np.random.default_rng(1)
    freedom = np.full(200, 10.0)
    equal = rng.chisquare(10, 200) / 10 * 4.0
    variance, more = moderated(equal, freedom)
    assert np.ptp(variance) < 0.4 * np.ptp(equal)
    assert variance.mean() == pytest.approx(4.0, rel=0.1)
    assert more.tolist() == [30.0] * 200
    true = np.exp(rng.normal(0, 2, 200))
    unequal = true * rng.chisquare(10, 200) / 10
    variance, more = moderated(unequal, freedom)
    assert np.corrcoef(np.log(variance), np.log(true))[0, 1] > 0.95
    assert (more < 13).all()


def test_few_rows_do_not_make_a_variance_certain():
    variance, freedom = moderated(np.array([1.0, 1.1, 0.9]), np.full(3, 2.0))
    assert freedom.tolist() == [6.0] * 3
    assert np.ptp(variance) < 0.1


def test_median_interval_holds_the_truth_nine_times_in_ten():
    rng = np.random.default_rng(2)
    for size in (8, 50, 151):
        made = [centre(rng.standard_t(3, size)) for _ in range(600)]
        assert 0.87 <= np.mean([c.low <= 0 <= c.high for c in made]) <= 0.98
        spread = np.std([c.value for c in made])
        assert np.median([c.deviation for c in made]) == pytest.approx(spread, rel=0.4)


def test_slope_is_not_moved_by_a_window_that_went_wrong():
    time = np.linspace(0, 1, 20)
    values = 0.03 * time + np.random.default_rng(3).normal(0, 0.001, 20)
    values[11] += 0.5
    low, middle, high = slope(time, values)
    assert low < 0.03 < high
    assert middle == pytest.approx(0.03, abs=0.004)
    assert high - low < 0.01
    assert slope(time[:4], values[:4]) is None


def test_slope_interval_covers_no_drift_nine_times_in_ten():
    rng = np.random.default_rng(4)
    time = np.arange(12.0)
    found = [slope(time, rng.normal(0, 1, 12)) for _ in range(500)]
    assert np.mean([low <= 0 <= high for low, _, high in found]) == pytest.approx(
        0.9, abs=3 * sqrt(0.09 / 500) + 0.02
    )
