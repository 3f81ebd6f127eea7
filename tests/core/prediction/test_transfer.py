"""Few-shot transfer on made-up devices whose truth is known: they differ in what an op costs, and in
whether they run what a cell does not use."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprof.prediction.device_prior import device_prior, source_of_networks, source_of_predictor
from hwprof.prediction.encoding import Encoding
from hwprof.prediction.errors import PredictionError
from hwprof.prediction.features import Features
from hwprof.prediction.liveness import Liveness, has_network
from hwprof.prediction.posterior import posterior
from hwprof.prediction.transfer import first_references, fit_transfer, next_points
from hwprof.prediction.transferred import Transferred
from hwprof.space import load_space
from hwprof.validation.scores import spearman


@pytest.fixture(scope="module")
def features():
    return Features.of(load_space("nb201"))


class Device:
    """Latencies of a cell: a base, and a cost of each choice wherever its edge is not dropped."""

    def __init__(self, features, seed, *, dead_costs=True, noise=0.0):
        rng = np.random.default_rng([seed, 1])
        kinds = np.array([0.05, 0.2, 1.0, 4.0, 0.7]) * np.exp(0.5 * rng.standard_normal(5))
        self.costs = np.tile(kinds, 6) * np.exp(0.1 * rng.standard_normal(30))
        self.features, self.dead_costs, self.noise = features, dead_costs, noise
        self.rng = np.random.default_rng([seed, 2])

    def latency_ms(self, one_hot):
        runs = one_hot if self.dead_costs else self.features.liveness.live(one_hot)
        exact = 3.0 + runs @ self.costs
        return exact * (1.0 + self.noise * self.rng.standard_normal(len(one_hot)))


def known_devices(features):
    """Six devices that run cells as written, two that drop dead edges."""
    whole = Features.of(load_space("nb201"))
    devices = [Device(whole, n, noise=0.02, dead_costs=n < 6) for n in range(8)]
    some = features.pool[np.random.default_rng(0).permutation(len(features.pool))[:300]]
    return device_prior(
        features,
        [source_of_networks(features, f"d{n}", some, d.latency_ms(some)) for n, d in enumerate(devices)],
    )


@pytest.fixture(scope="module")
def prior(features):
    return known_devices(features)


def points_and_values(prior, device, count):
    points = first_references(prior, count)
    return points, device.latency_ms(prior.features.encoding.one_hot(points))


def test_ten_chosen_networks_rank_a_new_device_and_more_do_better(prior, features):
    new = Device(features, 50, noise=0.02)
    truth = Device(features, 50).latency_ms(features.pool)
    scores = []
    for count in (3, 10, 100):
        made = fit_transfer(prior, *points_and_values(prior, new, count))
        scores.append(spearman(made.predictor.member.predict(features.pool), truth))
    assert scores[1] > 0.97
    assert scores[0] < scores[1] < scores[2]


def test_chosen_references_tell_more_than_random_ones(prior, features):
    chosen, drawn = [], []
    for seed in range(60, 64):
        new = Device(features, seed, noise=0.02)
        truth = Device(features, seed).latency_ms(features.pool)
        points, values = points_and_values(prior, new, 6)
        found = fit_transfer(prior, points, values).predictor.member.predict(features.pool)
        chosen.append(np.abs(found / truth - 1).mean())
        rng = np.random.default_rng(seed)
        one_hot = features.pool[rng.permutation(len(features.pool))[:6]]
        found = posterior(prior, one_hot, new.latency_ms(one_hot))
        predicted = found.predict(features.of_networks(features.pool))
        drawn.append(np.abs(predicted / truth - 1).mean())
    assert np.mean(chosen) < np.mean(drawn)


def test_device_that_drops_dead_edges_is_told_from_one_that_does_not(prior, features):
    some_dead = (features.pool - features.liveness.live(features.pool)).sum(1) > 0
    blind_prior = known_devices(dataclasses.replace(features, liveness=None))
    ratios = []
    for seed in range(70, 74):
        truth = Device(features, seed, dead_costs=False).latency_ms(features.pool)[some_dead]
        errors_ms = []
        for known in (prior, blind_prior):
            new = Device(features, seed, dead_costs=False, noise=0.01)
            member = fit_transfer(known, *points_and_values(known, new, 30)).predictor.member
            found = member.predict(features.pool[some_dead])
            errors_ms.append(np.sqrt(((found - truth) ** 2).mean()))
        ratios.append(errors_ms[0] / errors_ms[1])
    assert np.mean(ratios) < 0.9


def test_foreseen_error_is_about_the_true_one_and_falls_with_more_networks(prior, features):
    ratios = []
    for seed in range(80, 84):
        new = Device(features, seed, noise=0.03)
        made = fit_transfer(prior, *points_and_values(prior, new, 20))
        measured = new.latency_ms(features.pool)
        error = np.abs(made.predictor.member.predict(features.pool) / measured - 1).mean()
        ratios.append(made.foreseen[0].error / error)
        errors = [each.error for each in made.foreseen]
        assert errors == sorted(errors, reverse=True)
        assert made.noise <= errors[-1] * 1.01
    assert 0.7 < np.mean(ratios) < 1.4


def test_more_are_worth_it_after_three_networks_than_after_a_hundred(prior, features):
    new = Device(features, 90, noise=0.02)
    few = fit_transfer(prior, *points_and_values(prior, new, 3))
    many = fit_transfer(prior, *points_and_values(prior, new, 100))
    assert few.worth > many.worth
    assert len(few.next_points) == few.worth


def test_interval_holds_about_its_share_of_a_new_devices_networks(prior, features):
    held = []
    for seed in range(100, 105):
        new = Device(features, seed, noise=0.03)
        made = fit_transfer(prior, *points_and_values(prior, new, 20), level=0.9)
        interval = made.predictor.interval
        found = made.predictor.member.predict(features.pool)
        ratio = np.abs(np.log(new.latency_ms(features.pool) / found))
        held.append((ratio <= np.log(interval.factor)).mean())
    assert 0.8 < np.mean(held) <= 1.0


def test_next_points_are_new_networks(prior, features):
    first = first_references(prior, 12)
    following = next_points(prior, first, 12)
    assert len(set(first) | set(following)) == 24
    space = load_space("nb201")
    for point in following:
        space.network(point)


def test_fewer_than_three_networks_are_refused(prior):
    with pytest.raises(PredictionError, match="3 is the least"):
        fit_transfer(prior, first_references(prior, 2), [1.0, 2.0])


def test_same_network_thrice_is_one(prior):
    (point,) = first_references(prior, 1)
    with pytest.raises(PredictionError, match="3 is the least"):
        fit_transfer(prior, [point] * 3, [1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    "values", [[5.0] * 4, [1.0, 2.0, 0.0, 3.0], [1.0, 2.0, np.nan, 3.0], [1.0, 2.0]]
)
def test_values_that_tell_nothing_or_are_none_are_refused(prior, values):
    with pytest.raises(PredictionError):
        fit_transfer(prior, first_references(prior, 4), values)


def test_constant_source_and_short_source_are_refused(features):
    some = features.pool[:30]
    with pytest.raises(PredictionError, match="same value"):
        source_of_networks(features, "flat", some, np.full(30, 2.0))
    with pytest.raises(PredictionError, match="20 is the least"):
        source_of_networks(features, "short", some[:5], np.arange(5.0) + 1)
    with pytest.raises(PredictionError, match="at least one source"):
        device_prior(features, [])


def test_predictor_is_a_source_and_one_of_another_space_is_refused(prior, features):
    made = fit_transfer(prior, *points_and_values(prior, Device(features, 5), 30)).predictor
    source = source_of_predictor(features, "known", made)
    values = features.of_networks(features.pool) @ source.weights
    assert spearman(values, made.member.predict(features.pool)) > 0.999
    other = dataclasses.replace(made, encoding=Encoding.of(load_space("tiny")))
    with pytest.raises(PredictionError, match="same space"):
        source_of_predictor(features, "other", other)


def test_member_survives_its_arrays_and_facts_and_refuses_others(prior, features):
    member = fit_transfer(prior, *points_and_values(prior, Device(features, 5), 10)).predictor.member
    again = Transferred.load(features.encoding, member.facts(), member.arrays())
    assert np.array_equal(again.predict(features.pool), member.predict(features.pool))
    with pytest.raises(ValueError, match="weights"):
        Transferred.load(
            Encoding.of(load_space("tiny")), {**member.facts(), "cell": None}, member.arrays()
        )
    cell = {**member.facts()["cell"], "nodes": 3}
    with pytest.raises(ValueError, match="edges"):
        Transferred.load(features.encoding, {**member.facts(), "cell": cell}, member.arrays())
    cell = {**member.facts()["cell"], "starts": [90] * 6}
    with pytest.raises(ValueError, match="outside"):
        Transferred.load(features.encoding, {**member.facts(), "cell": cell}, member.arrays())


def test_relaxed_value_of_one_hot_is_the_prediction_and_has_a_gradient(prior, features):
    torch = pytest.importorskip("torch")
    member = fit_transfer(prior, *points_and_values(prior, Device(features, 5), 10)).predictor.member
    relaxed = torch.from_numpy(features.pool[:50]).requires_grad_(True)
    value = member.expected(relaxed)
    np.testing.assert_allclose(value.detach().numpy(), member.predict(features.pool[:50]), rtol=1e-9)
    value.sum().backward()
    assert torch.isfinite(relaxed.grad).all()
    assert (relaxed.grad != 0).any()


def test_relaxed_value_is_about_the_mean_of_the_networks_in_it(prior, features):
    torch = pytest.importorskip("torch")
    made = fit_transfer(prior, *points_and_values(prior, Device(features, 70, dead_costs=False), 60))
    rng = np.random.default_rng(3)
    mix = rng.dirichlet(np.ones(5), (20, 6)).reshape(20, 30)
    ends = mix.reshape(20, 1, 6, 5).cumsum(-1)
    drawn = np.eye(5)[(rng.random((20, 2000, 6, 1)) > ends).sum(-1)].reshape(-1, 30)
    means = made.predictor.member.predict(drawn).reshape(20, -1).mean(1)
    with torch.no_grad():
        found = made.predictor.member.expected(torch.from_numpy(mix)).numpy()
    assert np.abs(found / means - 1).mean() < 0.03


@given(st.lists(st.integers(0, 4), min_size=6, max_size=6))
def test_live_edges_are_those_of_the_network(choices):
    space = load_space("nb201")
    encoding = Encoding.of(space)
    liveness = Liveness.of(space, encoding)
    point = [0, *choices, 0, 0, 0]
    one_hot = encoding.one_hot([point])
    if not len(has_network(liveness, one_hot)):
        with pytest.raises(Exception, match="no path"):
            space.network(point)
        assert liveness.live(one_hot).reshape(6, 5)[:, 1:].sum() == 0
        return
    live = liveness.live(one_hot).reshape(6, 5)
    convolutions = [n for n in space.network(point).nodes if n.primitive == "conv"]
    fixed = [n for n in space.network((0, 1, 1, 1, 1, 1, 1, 0, 0, 0)).nodes if n.primitive == "conv"]
    assert len(convolutions) - len(fixed) == 15 * live[:, 2:4].sum()


def test_chain_has_no_liveness_and_pool_of_different_networks():
    features = Features.of(load_space("tiny"))
    assert features.liveness is None
    assert len(np.unique(features.pool, axis=0)) == len(features.pool)
    weights = np.random.default_rng(0).standard_normal(features.columns)
    folded, live = features.folded(weights)
    assert live.size == 0
    straight = features.of_networks(features.pool) @ weights
    np.testing.assert_allclose(features.pool @ folded - features.middle @ weights, straight, atol=1e-9)
