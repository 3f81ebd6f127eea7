"""Which rows are surprising: laws that hold for any table."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwprof.report.surprise import POOLED, judge, robust_line

ROWS = 40


def frame(rng, noise=0.01, rows=ROWS, kind="mbconv"):
    """Rows that follow FLOPs and bytes but for some noise."""
    flops, moved = 10 ** rng.uniform(6, 9, rows), 10 ** rng.uniform(5, 7, rows)
    latency = 1e-6 * flops**0.7 * moved**0.2 * np.exp(rng.normal(0, noise, rows))
    return pd.DataFrame(
        {"granularity": "op", "kind": kind, "environment_id": "e", "cache": "warm", "dtype": "float32",
         "batch": 1, "latency_ms": latency, "flops": flops, "bytes_moved": moved}
    )  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 1000),
    odd=st.integers(0, ROWS - 1),
    factor=st.sampled_from([0.3, 0.7, 1.5, 3, 1000]),
)
def test_the_row_that_was_changed_is_the_most_surprising_by_its_factor(seed, odd, factor):
    rows = frame(np.random.default_rng(seed))
    rows.loc[odd, "latency_ms"] *= factor
    found = judge(rows)
    assert found["score"].abs().idxmax() == odd
    assert found["ratio"][odd] == pytest.approx(factor, rel=0.1)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), scale=st.floats(1e-3, 1e3))
def test_a_unit_or_an_order_of_rows_changes_no_ratio(seed, scale):
    rows = frame(np.random.default_rng(seed))
    ratio = judge(rows)["ratio"]
    scaled = rows.assign(latency_ms=rows["latency_ms"] * scale)
    shuffled = rows.sample(frac=1, random_state=seed)
    np.testing.assert_allclose(judge(scaled)["ratio"], ratio, rtol=1e-6)
    np.testing.assert_allclose(judge(shuffled)["ratio"].loc[rows.index], ratio, rtol=1e-6)


def test_a_third_of_wrong_rows_does_not_bend_the_line():
    rng = np.random.default_rng(0)
    rows = frame(rng)
    wrong = rng.choice(ROWS, ROWS // 3, replace=False)
    rows.loc[wrong, "latency_ms"] *= 10
    ratio = judge(rows)["ratio"]
    right = ratio.drop(wrong)
    assert right.between(0.95, 1.05).all()
    assert ratio[wrong].between(9, 11).all()


def test_small_kinds_are_judged_together_and_too_few_rows_not_at_all():
    rng = np.random.default_rng(1)
    small = pd.concat(
        [frame(rng, rows=5, kind="conv"), frame(rng, rows=6, kind="fc")], ignore_index=True
    )
    assert set(judge(small)["among"]) == {f"11 rows of {POOLED}"}
    few = judge(frame(rng, rows=7))
    assert few["ratio"].isna().all()
    assert set(few["among"]) == {""}


def test_rows_of_another_environment_or_without_a_number_have_no_say():
    rng = np.random.default_rng(2)
    here = frame(rng)
    there = frame(rng).assign(environment_id="f", latency_ms=lambda rows: 5 * rows["latency_ms"])
    broken = frame(rng).assign(latency_ms=np.nan)
    networks = frame(rng).assign(granularity="network", kind="chain")
    found = judge(pd.concat([here, there, broken, networks], ignore_index=True))
    assert found["ratio"][: 2 * ROWS].between(0.9, 1.1).all()
    assert found["ratio"][2 * ROWS :].isna().all()


def test_a_latency_without_end_once_made_lapack_print(capfd):
    rows = frame(np.random.default_rng(2))
    rows.loc[3, "latency_ms"] = np.inf
    found = judge(rows)
    assert np.isnan(found["ratio"][3])
    assert found["ratio"].drop(3).between(0.9, 1.1).all()
    assert capfd.readouterr().out == ""


def test_terms_that_are_one_and_the_same_are_no_trouble():
    terms = np.repeat(np.arange(10.0)[:, None], 2, axis=1)
    np.testing.assert_allclose(robust_line(terms, 3 * np.arange(10.0) + 1), 3 * np.arange(10.0) + 1)
