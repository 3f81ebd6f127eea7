"""Errors and rank correlations."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwprof.validation.scores import (
    correlation,
    kendall,
    relative_errors,
    spearman,
    summarise_errors,
)

values = st.lists(st.integers(0, 20), min_size=3, max_size=12)


def test_errors_are_of_the_measurement_and_keep_their_sign():
    errors = relative_errors([1.02, 0.96, 2.0], [1.0, 1.0, 2.0])
    found = summarise_errors(errors)
    assert found.mean == pytest.approx(0.06 / 3)
    assert found.median == pytest.approx(0.02)
    assert found.bias == pytest.approx(-0.02 / 3)
    assert found.worst == pytest.approx(0.04)
    assert found.within[0.01] == pytest.approx(1 / 3)
    assert found.within[0.05] == pytest.approx(1.0)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_rank_correlations_are_pandas_and_textbook_ones(data):
    pandas = pytest.importorskip("pandas")
    a = data.draw(values)
    b = data.draw(st.lists(st.integers(0, 20), min_size=len(a), max_size=len(a)))
    expected = pandas.Series(a).rank().corr(pandas.Series(b).rank())
    found = spearman(a, b)
    assert found is None if np.isnan(expected) else found == pytest.approx(expected)
    pairs = [(i, j) for i in range(len(a)) for j in range(i)]
    signs = [(np.sign(a[i] - a[j]), np.sign(b[i] - b[j])) for i, j in pairs]
    untied = np.sqrt(sum(x != 0 for x, _ in signs) * sum(y != 0 for _, y in signs))
    tau = kendall(a, b)
    if untied:
        assert tau == pytest.approx(sum(x * y for x, y in signs) / untied)
    else:
        assert tau is None


def test_interval_holds_the_value_and_narrows_with_agreement():
    rng = np.random.default_rng(0)
    truth = np.arange(50.0)
    close = correlation(spearman, truth + rng.normal(0, 0.1, 50), truth)
    far = correlation(spearman, truth + rng.normal(0, 20, 50), truth)
    for found in (close, far):
        assert found.low <= found.value <= found.high
    assert close.low > far.low
    assert close.high - close.low < far.high - far.low


def test_no_correlation_where_all_values_are_equal():
    assert correlation(spearman, [1.0, 1.0, 1.0], [1.0, 2.0, 3.0]).value is None
