"""Each member on a law that it can hold, and what its value on a relaxed architecture means."""

import numpy as np
import pytest
import torch

from hwprof.prediction import training
from hwprof.prediction.additive import fit_additive, fit_composition
from hwprof.prediction.boosted import Boosted, fit_boosted
from hwprof.prediction.errors import PredictionError
from hwprof.prediction.knowledge import knowledge_of
from hwprof.prediction.pairwise import fit_pairwise
from hwprof.prediction.regressor import fit_priced, fit_regressor
from hwprof.prediction.relaxation import relaxation_gap


@pytest.fixture(scope="module")
def split(every_point, known):
    """One-hot vectors of 120 networks to fit on, and of all."""
    some = np.random.default_rng(1).permutation(len(every_point))[:120]
    return known.encoding.one_hot(every_point[some]), known.encoding.one_hot(every_point), some


def worst(member, vectors, truth):
    return float(np.abs(member.predict(vectors) / truth - 1.0).max())


def test_a_sum_of_choices_is_recovered(split, known, laws, every_point):
    few, every, some = split
    truth = laws.additive(every_point)
    member = fit_additive(few, truth[some], known)
    assert not member.log
    assert worst(member, every, truth) < 1e-3


def test_a_product_of_choices_takes_the_logarithm(split, known, laws, every_point):
    few, every, some = split
    truth = laws.product(every_point)
    member = fit_additive(few, truth[some], known)
    assert member.log
    assert worst(member, every, truth) < 1e-3


def test_what_choices_do_to_each_other_takes_pairs(split, known, laws, every_point):
    few, every, some = split
    truth = laws.pairwise(every_point)
    pairs = fit_pairwise(few, truth[some], known)
    assert worst(pairs, every, truth) < 0.02
    assert worst(fit_additive(few, truth[some], known), every, truth) > 0.05


def test_neighbours_alone_are_taken_where_only_they_meet(known, every_point):
    """The law of a chain: each choice and the next one."""
    encoding = known.encoding
    rng = np.random.default_rng(3)
    near = np.diff(encoding.position_of[None, :] - encoding.position_of[:, None], axis=1)
    assert near.shape
    table = rng.uniform(-1.0, 1.0, (encoding.columns, encoding.columns))
    table[encoding.position_of[None, :] - encoding.position_of[:, None] != 1] = 0.0
    every = encoding.one_hot(every_point)
    truth = 10.0 + np.einsum("nc,cd,nd->n", every, table, every)
    some = rng.permutation(len(every))[:120]
    member = fit_pairwise(every[some], truth[some], known)
    assert "neighbouring" in member.how
    assert worst(member, every, truth) < 0.01


@pytest.mark.parametrize("law", ["additive", "product", "pairwise"])
def test_a_multilinear_member_is_exactly_the_mean_over_networks(law, split, known, laws, every_point):
    few, every, some = split
    truth = getattr(laws, law)(every_point)
    fit = fit_pairwise if law == "pairwise" else fit_additive
    member = fit(few, truth[some], known)
    encoding = known.encoding
    rng = np.random.default_rng(2)
    mix = np.concatenate([rng.dirichlet([0.7] * encoding.widths[p]) for p in encoding.chosen])
    shares = np.prod([mix[encoding.starts[p] + every_point[:, p]] for p in range(4)], axis=0)
    assert shares.sum() == pytest.approx(1.0)
    relaxed = torch.tensor(mix, requires_grad=True)
    found = member.expected(relaxed)
    assert found.item() == pytest.approx(float(shares @ member.predict(every)), rel=1e-9)
    found.backward()
    assert torch.isfinite(relaxed.grad).all()
    assert relaxed.grad.abs().sum() > 0
    assert relaxation_gap(member, encoding, few, seed=0) < 0.01


def test_a_regressor_is_trained_to_mean_something_on_relaxed_architectures(
    split, known, laws, every_point
):
    few, every, some = split
    truth = laws.product(every_point)
    member = fit_regressor(few, truth[some], known, seed=0)
    assert np.abs(member.predict(every) / truth - 1.0).mean() < 0.06
    assert relaxation_gap(member, known.encoding, few, seed=0) < 0.03
    batch = torch.rand(3, 2, known.encoding.columns, dtype=torch.float64)
    together = member.expected(batch)
    assert together.shape == (3, 2)
    assert float(together[1, 1]) == pytest.approx(float(member.expected(batch[1, 1])))


@pytest.fixture
def short_training(monkeypatch):
    monkeypatch.setattr(training, "STEPS", 60)


def test_a_value_on_certain_choices_is_the_prediction(split, known, laws, every_point, short_training):
    few, every, some = split
    truth = laws.additive(every_point)[some]
    for fit in (fit_additive, fit_pairwise, fit_regressor):
        member = fit(few, truth, known, 0)
        found = member.expected(torch.from_numpy(every)).numpy()
        assert np.allclose(found, member.predict(every), rtol=1e-9)


def test_the_same_seed_gives_the_same_regressor(split, known, laws, every_point, short_training):
    few, _, some = split
    truth = laws.additive(every_point)[some]
    first, again = (fit_regressor(few, truth, known, seed=4).predict(few) for _ in range(2))
    assert np.array_equal(first, again)


def test_trees_walk_as_xgboost_does(split, known, laws, every_point, monkeypatch):
    xgboost = pytest.importorskip("xgboost")
    few, every, some = split
    truth = laws.pairwise(every_point)
    grown = []
    train = xgboost.train
    monkeypatch.setattr(xgboost, "train", lambda *a, **k: grown.append(train(*a, **k)) or grown[-1])
    member = fit_boosted(few, truth[some], known, seed=0)
    inputs = np.hstack([every, every @ member.shared]).astype(np.float32)
    theirs = member.scale * np.exp(grown[0].predict(xgboost.DMatrix(inputs)).astype(np.float64))
    assert np.allclose(member.predict(every), theirs, rtol=1e-5)
    assert np.abs(theirs / truth - 1.0).mean() < 0.1
    with pytest.raises(PredictionError, match="no gradient"):
        member.expected(torch.from_numpy(every))


def test_trees_that_would_never_end_are_refused(known):
    trees = {
        "feature": np.array([0, -1], dtype=np.int32),
        "threshold": np.zeros(2, dtype=np.float32),
        "left": np.array([0, -1], dtype=np.int32),
        "right": np.array([1, -1], dtype=np.int32),
        "value": np.zeros(2, dtype=np.float32),
        "roots": np.zeros(1, dtype=np.int32),
    }
    shared = np.zeros((known.encoding.columns, 0))
    with pytest.raises(ValueError, match="left"):
        Boosted.load(known.encoding, {"scale": 1.0}, {"shared": shared, **trees})


@pytest.fixture
def priced(chain, made):
    """A table with a row for each op, and what it says of the space."""
    ops = chain.ops()
    rows = [made.op_row(op, 0.1 + 0.05 * n, chain) for n, op in enumerate(ops)]
    return knowledge_of(chain, made.save(chain, rows), environment="env-made")


def test_composition_and_priced_find_the_factor_of_the_rows(priced, every_point, short_training):
    every = priced.encoding.one_hot(every_point)
    rows = priced.rows.of_networks(every)[:, priced.rows.names.index("rows")]
    truth = 1.25 * rows
    some = np.random.default_rng(0).permutation(len(every))[:30]
    composed = fit_composition(every[some], truth[some], priced)
    assert composed.how == "scale: rows 1.25"
    assert worst(composed, every, truth) < 1e-6
    member = fit_priced(every[some], truth[some], priced, seed=0)
    assert np.abs(member.predict(every) / truth - 1.0).mean() < 0.02


def test_without_a_row_for_each_op_the_table_prices_nothing(chain, made, every_point):
    table = made.save(chain, [made.op_row(op, 1.0, chain) for op in chain.ops()[1:]])
    poor = knowledge_of(chain, table, environment="env-made")
    every = poor.encoding.one_hot(every_point)
    for fit in (fit_composition, fit_priced):
        with pytest.raises(PredictionError, match="has no row in"):
            fit(every, every.sum(1), poor)
