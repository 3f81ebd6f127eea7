"""A predictor in the place of an expected latency."""

import numpy as np
import pytest
import torch

from hwprof.errors import SpaceError
from hwprof.prediction import fit_family
from hwprof.prediction.errors import PredictionError
from hwprof.prediction.knowledge import knowledge_of
from hwprof.search import PredictedLatency
from hwprof.space import load_space


@pytest.fixture(scope="module")
def space():
    return load_space("tiny")


def fitted(space, member):
    knowledge = knowledge_of(space)
    rng = np.random.default_rng(0)
    points = np.array([space.sample(rng) for _ in range(80)])
    add = rng.uniform(1.0, 2.0, knowledge.encoding.columns)
    return fit_family(knowledge, points, knowledge.encoding.one_hot(points) @ add, members=(member,))


def test_gates_go_downhill_to_the_fastest_network(space):
    latency = PredictedLatency(fitted(space, "additive"), space)
    logits = torch.nn.Parameter(torch.zeros(latency.shape))
    optimizer = torch.optim.SGD([logits], lr=1.0)
    before = float(latency(latency.probabilities(logits)).detach())
    for _ in range(200):
        optimizer.zero_grad()
        latency(latency.probabilities(logits)).backward()
        optimizer.step()
    point = logits.masked_fill(~latency.mask, -torch.inf).argmax(-1)
    others = [space.sample(np.random.default_rng(n)) for n in range(100)]
    assert float(latency.price(point)) <= float(latency.price(others).min())
    assert float(latency(latency.probabilities(logits)).detach()) < before


def test_points_and_certain_gates_cost_the_same(space):
    latency = PredictedLatency(fitted(space, "pairwise"), space)
    points = torch.tensor([space.sample(np.random.default_rng(n)) for n in range(6)])
    gates = torch.nn.functional.one_hot(points, latency.shape[1]).double()
    found = latency(gates.reshape(2, 3, *latency.shape))
    assert torch.allclose(found, latency.price(points.reshape(2, 3, -1)), rtol=1e-9)
    with pytest.raises(SpaceError, match="is not one of"):
        latency.price([[9] * latency.shape[0]])


def test_another_space_and_trees_are_refused(space):
    predictor = fitted(space, "additive")
    with pytest.raises(PredictionError, match="not of tiny"):
        PredictedLatency(predictor, space.with_options(4, "float32"))
    pytest.importorskip("xgboost")
    with pytest.raises(PredictionError, match="boosted has no gradient"):
        PredictedLatency(fitted(space, "boosted"), space)
