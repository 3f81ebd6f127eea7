"""The model of terms finds what single kernels cost in rows that run several of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hwprof.errors import LutError
from hwprof.models.term_model import Observation, TermModel
from hwprof.models.units import Term

RUN_MS, UNIT_MS = 0.004, 0.001


def work(size: float) -> Term:
    return Term("work", (size,), 1e4 * size, 1e3 * size)


def border(size: float) -> Term:
    return Term("border", (size,), 0.0, 8e3 * size)


def cost_ms(term: Term) -> float:
    """`work` gets more efficient as it grows; `border` moves bytes."""
    (size,) = term.sizes
    if term.kind == "border":
        return term.moved_bytes / 2e7
    return term.flops / 5e7 * (1.0 + 2.0 / (1.0 + size / 50.0))


def observed(*terms: Term, noise: float = 1.0) -> Observation:
    truth = RUN_MS + UNIT_MS * len(terms) + sum(map(cost_ms, terms))
    return Observation(" ".join(t.kind for t in terms), terms, len(terms), truth * noise)


def rows(count: int, noise: float, seed: int = 0) -> list[Observation]:
    """A border before and after the work, or none, or two kernels between two borders."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        first, second = 2.0 ** rng.uniform(1, 11, 2)
        shape = ((border(first), work(first), border(first)), (work(first),),
                 (border(first), work(first), work(second), border(second)))[number % 3]  # fmt: skip
        made.append(observed(*shape, noise=float(np.exp(noise * rng.standard_normal()))))
    return made


def test_kernels_are_told_apart_from_the_borders_that_rows_pay() -> None:
    model = TermModel(rows(90, noise=0.0))
    terms = [make(size) for make in (work, border) for size in (6.0, 40.0, 150.0, 1100.0)]
    found = model.costs(terms).each_ms
    large = np.array([cost_ms(term) for term in terms])
    # What is about as much as a run's overhead cannot be told well from it.
    clear = large > 5 * RUN_MS
    assert clear.sum() >= 4
    assert found[clear] == pytest.approx(large[clear], rel=0.05)


def test_stated_uncertainty_holds_nine_in_ten_rows_that_are_left_out() -> None:
    model = TermModel(rows(150, noise=0.03))
    inside = np.abs(model.left_out) <= 1.645 * model.left_out_sd
    assert 0.8 <= inside.mean() <= 1.0
    assert np.abs(model.left_out).mean() < 0.05


def test_left_out_errors_are_those_of_a_model_without_the_row() -> None:
    """By the closed form; the setting is that of all rows."""
    known = rows(40, noise=0.05)
    model = TermModel(known)
    without = TermModel(known[1:])
    row = known[0]
    predicted = without.run_ms + without.unit_ms * row.units + without.costs(row.terms).each_ms.sum()
    assert model.left_out[0] == pytest.approx(predicted / row.latency_ms - 1.0, abs=0.03)


def test_far_from_every_row_the_uncertainty_grows() -> None:
    model = TermModel(rows(60, noise=0.01))
    near, far = (model.costs([work(size)]).log_covariance[0, 0] for size in (100.0, 1e9))
    assert far > 10 * near


def test_a_row_of_one_kernel_is_found_as_exact() -> None:
    known = [*rows(30, noise=0.0), observed(work(321.0))]
    model = TermModel(known)
    assert model.exact_row(work(321.0)) == "work"
    assert model.exact_row(work(322.0)) is None


def test_too_few_rows_are_refused_with_the_next_step() -> None:
    with pytest.raises(LutError, match=r"7 rows .*hwprof build-lut --space general"):
        TermModel(rows(7, noise=0.0))


@pytest.mark.parametrize("latency_ms", [1e-320, 1e-200])
def test_a_latency_next_to_nothing_once_ended_in_an_error_of_lapack(latency_ms: float) -> None:
    """`SVD did not converge in Linear Least Squares`, and a line of LAPACK's own on standard output."""
    made = rows(30, noise=0.0)
    made[4] = replace(made[4], latency_ms=latency_ms)
    with pytest.raises(LutError, match=r"says \S+e-\d+ ms, which is no time .* hwprof lut lint"):
        TermModel(made)
