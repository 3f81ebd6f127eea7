"""Non-negative least squares obeys its conditions of optimality."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hwprof.models.least_squares import non_negative


@given(rows=st.integers(3, 30), columns=st.integers(1, 8), seed=st.integers(0, 2**32 - 1))
def test_no_weight_is_negative_and_no_change_of_one_helps(rows: int, columns: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = rng.random((rows, columns)) * 10.0 ** rng.integers(-3, 4, columns)
    target = rng.standard_normal(rows)
    weights = non_negative(matrix, target)
    assert (weights >= 0.0).all()
    size = np.sqrt((matrix**2).sum(axis=0))
    gain = matrix.T @ (target - matrix @ weights) / size
    assert (gain <= 1e-6 * np.linalg.norm(target)).all()
    assert np.abs(gain[weights > 0.0]).max(initial=0.0) <= 1e-6 * np.linalg.norm(target)


def test_true_weights_are_found_again() -> None:
    rng = np.random.default_rng(1)
    matrix = rng.random((40, 5))
    true = np.array([1.0, 0.0, 3.0, 0.0, 0.5])
    assert np.allclose(non_negative(matrix, matrix @ true), true)
