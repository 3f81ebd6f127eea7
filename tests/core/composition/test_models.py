"""Fitting: weights that are known come back, and leaving one out is what the hat matrix says."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwprof.composition.models import MODELS, Fit, choose, fit
from hwprof.errors import LutError

TERMS = MODELS["terms"].terms


def networks(count, rng):
    """Terms of networks of 10 to 30 ops."""
    made = []
    for _ in range(count):
        ops = int(rng.integers(10, 31))
        rows_ms = float(rng.uniform(0.1, 0.5, ops).sum())
        made.append(
            {
                "rows": rows_ms,
                "cuts": ops - 1.0,
                "cut_mib": float(rng.uniform(0.1, 2.0, ops).sum()),
                "weight_mib": float(rng.uniform(0.01, 0.4, ops).sum()),
                "once": 1.0,
            }
        )
    return made


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 1000),
    weights=st.tuples(
        st.floats(0.8, 1.2), st.floats(-0.01, 0.0), st.floats(-0.02, 0.02), st.floats(0.0, 0.1)
    ),
)
def test_known_weights_come_back_from_networks_without_noise(seed, weights):
    made = networks(24, np.random.default_rng(seed))
    truth = [sum(w * n[t] for w, t in zip(weights, TERMS, strict=True)) for n in made]
    found = fit(MODELS["terms"], made, truth)
    assert found.error < 1e-6
    np.testing.assert_allclose([found.coefficients[t] for t in TERMS], weights, rtol=1e-3, atol=1e-4)


def test_error_of_a_network_is_that_of_a_fit_without_it():
    """By fitting without each network in turn, which the hat matrix saves."""
    rng = np.random.default_rng(3)
    made = networks(12, rng)
    truth = np.array([n["rows"] * rng.uniform(0.9, 1.1) for n in made])
    found = fit(MODELS["scale"], made, truth)
    for left_out, residual in enumerate(found.residuals):
        rest = [n for place, n in enumerate(made) if place != left_out]
        weight = fit(MODELS["scale"], rest, np.delete(truth, left_out)).coefficients["rows"]
        assert residual == pytest.approx(weight * made[left_out]["rows"] / truth[left_out] - 1)


def test_a_time_that_every_network_is_spared_is_found_and_serves_shallow_networks_too():
    """int8 on ONNX Runtime: by a factor alone the shallowest network was 14 % off."""
    made = networks(20, np.random.default_rng(2))
    found = fit(MODELS["affine"], made, [1.12 * n["rows"] - 0.3 for n in made])
    assert found.coefficients == pytest.approx({"rows": 1.12, "once": -0.3}, rel=1e-3)
    scale = fit(MODELS["scale"], made, [1.12 * n["rows"] - 0.3 for n in made])
    shallow = abs(scale.coefficients["rows"] * 1.0 / (1.12 - 0.3) - 1.0)
    assert shallow > 0.1
    assert abs((found.coefficients["rows"] + found.coefficients["once"]) / (1.12 - 0.3) - 1.0) < 0.002


def test_plain_sum_fits_nothing():
    made = networks(5, np.random.default_rng(0))
    found = fit(MODELS["sum"], made, [2 * n["rows"] for n in made])
    assert found.coefficients == {"rows": 1.0}
    np.testing.assert_allclose(found.residuals, -0.5)


@pytest.mark.parametrize("count", [1, 4])
def test_no_more_networks_than_weights_is_refused_with_how_many_to_measure(count):
    made = networks(count, np.random.default_rng(0))
    with pytest.raises(LutError, match=r"4 weights to fit and \d measured networks.*--networks 20"):
        fit(MODELS["terms"], made, [n["rows"] for n in made])


def test_a_term_that_never_varies_does_no_harm():
    made = [{**n, "weight_mib": 0.0} for n in networks(12, np.random.default_rng(1))]
    found = fit(MODELS["terms"], made, [0.97 * n["rows"] for n in made])
    assert found.error < 1e-6
    assert found.coefficients["weight_mib"] == 0.0


def test_simplest_of_about_equally_good_models_is_chosen():
    def of(name, error):
        return Fit(MODELS[name], {}, np.array([error, -error]))

    assert choose([of("scale", 0.0102), of("terms", 0.0100)]).model.name == "scale"
    assert choose([of("scale", 0.0120), of("terms", 0.0100)]).model.name == "terms"
    assert choose([of("edges", 0.0100), of("scale", 0.0100)]).model.name == "edges"
