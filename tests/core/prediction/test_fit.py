"""From a table of measured networks to a predictor, and what a table may lack."""

import numpy as np
import pytest

from hwprof.prediction import fit_predictor
from hwprof.prediction.errors import PredictionError
from hwprof.prediction.measured import read_measured


@pytest.fixture
def sixty(chain, every_point, laws):
    """Points without a skip, which their ops tell apart, and their values."""
    plain = every_point[(every_point[:, 1:4] != 4).all(1)]
    points = plain[np.random.default_rng(0).permutation(len(plain))[:60]]
    return points, laws.additive(points)


@pytest.fixture
def table(chain, made, sixty):
    points, values = sixty
    rows = [
        made.network_row(chain, p, latency_ms=float(v), energy_mj=None)
        for p, v in zip(points, values, strict=True)
    ]
    return made.save(chain, rows)


def test_the_networks_of_a_table_are_read_back(chain, table, sixty):
    points, values = sixty
    found = read_measured(table, chain)
    assert {tuple(p): v for p, v in zip(found.points.tolist(), found.values, strict=True)} == {
        tuple(p): v for p, v in zip(points.tolist(), values, strict=True)
    }
    assert (found.metric, found.unit, found.environment_id) == ("latency_ms", "ms", "env-made")
    assert found.noise_floor is None


def test_some_networks_are_fitted_on_and_the_rest_tests(chain, table):
    made = fit_predictor(table, chain, members=("additive",), networks=40, seed=3)
    assert made.origin.networks == 40
    assert made.test.networks == 20
    assert made.test.mean < 0.01
    assert made.origin.table_hash == table.metadata["content_hash"]
    other = fit_predictor(table, chain, members=("additive",), networks=40, seed=4)
    assert other.test.mean != made.test.mean


def test_analytic_metrics_need_no_measurement(chain, table):
    made = fit_predictor(table, chain, metric="flops", members=("additive",))
    assert made.tried[0].scores.mean < 0.01


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"metric": "joy"}, "metric 'joy' is unknown; choose of latency_ms, p50_ms"),
        ({"metric": "energy_mj"}, r"none of the 60 networks .* usable energy_mj \(no sensor here\)"),
        ({"metric": "p50_ms"}, "none of the 60 networks"),
        (
            {"environment": "elsewhere"},
            "has no measured networks of elsewhere; measure some: hwprof val",
        ),
        ({"space": None}, "are of short; give it with --space"),
        ({"space": "tiny"}, "has no networks of space tiny; it has short"),
        ({"networks": 61}, "has 60 such networks; --networks is 1 to 60"),
        ({"networks": 9}, "9 different networks of short are too few"),
    ],
)
def test_what_a_table_lacks_is_said_with_the_next_step(chain, table, arguments, said):
    given = {"space": chain, "members": ("additive",), **arguments}
    with pytest.raises(PredictionError, match=said):
        fit_predictor(table, **given)


def test_numbers_of_two_environments_are_never_mixed(chain, made, sixty):
    points, values = sixty
    rows = [
        made.network_row(chain, p, latency_ms=float(v), environment_id=f"env-{n % 2}")
        for n, (p, v) in enumerate(zip(points, values, strict=True))
    ]
    table = made.save(chain, rows)
    with pytest.raises(PredictionError, match=r"2 kinds of environment_id \(env-0, env-1\); give --env"):
        fit_predictor(table, chain)
    one = fit_predictor(table, chain, environment="env-1", members=("additive",))
    assert (one.origin.networks, one.origin.environment_id) == (30, "env-1")


def test_rows_without_a_usable_number_are_left_out(chain, made, sixty):
    points, values = sixty
    states = ["converged", "unstable", "budget"]
    rows = [
        made.network_row(chain, p, latency_ms=float(v), state=states[n % 3])
        for n, (p, v) in enumerate(zip(points, values, strict=True))
    ]
    assert len(read_measured(made.save(chain, rows), chain).values) == 40


def test_a_table_of_ops_alone_has_no_networks(chain, made):
    table = made.save(chain, [made.op_row(op, 1.0, chain) for op in chain.ops()])
    with pytest.raises(PredictionError, match="has no measured networks; measure some: hwprof validate"):
        fit_predictor(table, chain)
