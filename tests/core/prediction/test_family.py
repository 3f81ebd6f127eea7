"""The family is judged on networks that it has not seen, and refuses what cannot be fitted."""

import numpy as np
import pytest

from hwprof.prediction import fit_family
from hwprof.prediction.errors import PredictionError

LINEAR = ("additive", "pairwise")


@pytest.fixture(scope="module")
def some(every_point):
    return every_point[np.random.default_rng(1).permutation(len(every_point))[:100]]


def test_the_simplest_of_the_good_members_is_chosen(known, laws, some):
    assert fit_family(known, some, laws.additive(some), members=LINEAR).member.name == "additive"
    assert fit_family(known, some, laws.pairwise(some), members=LINEAR).member.name == "pairwise"


def test_every_prediction_has_an_interval_that_holds_its_share(known, laws, some, every_point):
    rng = np.random.default_rng(0)
    noisy = laws.additive(every_point) * np.exp(0.05 * rng.standard_normal(len(every_point)))
    kept = rng.permutation(len(every_point))
    fit, rest = kept[:120], kept[120:]
    made = fit_family(
        known, every_point[fit], noisy[fit], members=("additive",),
        test=(every_point[rest], noisy[rest]),
    )  # fmt: skip
    found = made.predict(every_point[rest])
    inside = (found.low <= noisy[rest]) & (noisy[rest] <= found.high)
    assert made.test.coverage == pytest.approx(inside.mean())
    assert 0.8 < inside.mean() < 0.99
    assert 0.8 < made.interval.coverage < 0.99
    (tried,) = made.tried
    assert tried.scores.networks == 120
    assert 0.03 < tried.scores.mean < 0.06  # the noise's mean size is 0.04
    assert tried.scores.mean == pytest.approx(made.test.mean, rel=0.4)


def test_copies_of_a_network_are_in_one_fold(known, every_point):
    """Else each would be predicted by its copy: noise without any law would look learned."""
    rng = np.random.default_rng(0)
    points = np.repeat(every_point[::10], 4, axis=0)
    values = np.repeat(np.exp(rng.standard_normal(25)), 4)
    made = fit_family(known, points, values, members=("additive",))
    assert made.tried[0].scores.mean > 0.3


def test_members_that_cannot_be_fitted_are_named_with_the_reason(known, laws, some):
    made = fit_family(known, some, laws.additive(some), members=("composition", "additive"))
    assert [one.member for one in made.tried] == ["composition", "additive"]
    assert made.tried[0].skipped == "no table was given"
    with pytest.raises(
        PredictionError, match="no member could be fitted: composition: no table was given"
    ):
        fit_family(known, some, laws.additive(some), members=("composition",))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda p, v: (p[:9], v[:9]), "9 different networks of short are too few .* it takes 10"),
        (lambda p, v: (np.repeat(p[:5], 20, 0), v), "5 different networks"),
        (lambda p, v: (p[:0], v[:0]), "0 different networks"),
        (lambda p, v: (p, v * 0 + 3.0), "is 3 for all 100 networks: there is nothing to predict"),
        (lambda p, v: (p, np.where(v == v[3], np.nan, v)), "is nan; a metric to predict is above 0"),
        (lambda p, v: (p, np.where(v == v[3], 0.0, v)), "is 0; a metric"),
        (lambda p, v: (p, v[:50]), r"100 networks have 100 values of latency_ms, got \(50,\)"),
        (lambda p, v: (p + 9, v), "choice 9 of network|choice 1[0-9] of network|is not one of"),
    ],
)
def test_what_cannot_be_fitted_is_said_in_one_line(known, laws, some, change, said):
    points, values = change(some, laws.additive(some))
    with pytest.raises(PredictionError, match=said) as error:
        fit_family(known, points, values, members=LINEAR)
    assert "\n" not in str(error.value)


def test_unknown_members_and_levels_are_refused(known, laws, some):
    with pytest.raises(PredictionError, match="member 'forest' is unknown; choose of composition, add"):
        fit_family(known, some, laws.additive(some), members=("forest",))
    with pytest.raises(PredictionError, match=r"level must be 0.5 to 0.99, got 1.5"):
        fit_family(known, some, laws.additive(some), members=LINEAR, level=1.5)
    with pytest.raises(PredictionError, match="it takes 99"):
        fit_family(known, some[:50], laws.additive(some[:50]), members=LINEAR, level=0.99)
