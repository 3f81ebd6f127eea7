"""RMSProp as TensorFlow computes it, and averages of weights."""

from __future__ import annotations

from math import sqrt

import pytest

torch = pytest.importorskip("torch")

from hwprof.search.supernet import Ema, RMSProp  # noqa: E402 - torch is optional


def test_two_steps_by_hand() -> None:
    weight = torch.nn.Parameter(torch.tensor([2.0]))
    optimizer = RMSProp([weight], 0.1, weight_decay=0.5)
    mean, buffer, value = 1.0, 0.0, 2.0
    for gradient in (3.0, -1.0):
        weight.grad = torch.tensor([gradient])
        optimizer.step()
        whole = gradient + 0.5 * value
        mean = 0.9 * mean + 0.1 * whole**2
        buffer = 0.9 * buffer + 0.1 * whole / sqrt(mean + 1e-3)
        value -= buffer
        assert weight.item() == pytest.approx(value, rel=1e-6)


def test_a_weight_without_gradient_stays() -> None:
    first, second = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    optimizer = RMSProp([first, second], 0.1, weight_decay=0.1)
    first.grad = torch.ones(3)
    optimizer.step()
    assert (first != 1).all()
    assert (second == 1).all()


def test_shared_steps_keep_the_proportions_of_the_gradients_on_any_scale() -> None:
    moved = []
    for scale in (1e-4, 1e4):
        weight = torch.nn.Parameter(torch.zeros(3))
        optimizer = RMSProp([weight], 0.1, momentum=0.0, eps=1e-12, shared=True)
        weight.grad = scale * torch.tensor([1.0, -2.0, 3.0])
        optimizer.step()
        moved.append(weight.detach().clone())
    assert torch.allclose(moved[0], moved[1], rtol=1e-3)
    assert torch.allclose(moved[0] / moved[0][0], torch.tensor([1.0, -2.0, 3.0]))
    assert moved[0].square().mean().sqrt().item() == pytest.approx(0.1, rel=1e-4)


def test_averages_follow_the_weights_and_can_stand_in_for_them() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.BatchNorm1d(1))
    ema = Ema(model, 0.999)
    with torch.no_grad():
        model[0].weight.zero_()
        first = ema.values["0.weight"].clone()
        ema.update(model)
        assert torch.allclose(ema.values["0.weight"], 0.1 * first)  # (1 + 0) / (10 + 0)
        ema.update(model)
        assert torch.allclose(ema.values["0.weight"], 0.1 * (2 / 11) * first)
        model[1].num_batches_tracked += 5
        ema.update(model)
        assert ema.values["1.num_batches_tracked"] == 5
    with ema.applied(model):
        assert torch.equal(model[0].weight, ema.values["0.weight"])
    assert (model[0].weight == 0).all()
