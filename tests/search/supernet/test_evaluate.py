"""Which images a model gets right, and statistics for the network at hand."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from hwprof.search.supernet import Supernet, correct_predictions, recalibrate  # noqa: E402
from hwprof.space import Space  # noqa: E402


def test_correct_predictions_are_in_order_and_leave_the_mode() -> None:
    model = torch.nn.Identity().train()
    logits = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    batches = [(logits[:2], torch.tensor([0, 0])), (logits[2:], torch.tensor([0]))]
    assert correct_predictions(model, batches).tolist() == [True, False, True]
    assert model.training
    flipped = correct_predictions(model, batches, run=lambda images: -images)
    assert flipped.tolist() == [False, True, False]


def test_recalibration_gives_a_network_of_the_supernet_its_own_statistics(
    tiny: Space, batches: Any
) -> None:
    supernet = Supernet(tiny, dropout=0.0)
    states = supernet.states()
    momentum = supernet.stem.convolution.norm.momentum
    given = [batches.at(step) for step in range(3)]
    recalibrate(supernet, given, run=lambda images: supernet(images, states=states))
    means = [supernet.stem.convolution.conv(images).mean((0, 2, 3)) for images, _ in given]
    norm = supernet.stem.convolution.norm
    assert torch.allclose(norm.running_mean, torch.stack(means).mean(0), atol=1e-5)
    assert norm.momentum == momentum
    assert supernet.training
    # As in training on the same images, up to the average over batches.
    recalibrate(supernet, given[:1])
    images = given[0][0]
    with torch.no_grad():
        evaluated = supernet.eval()(images)
        trained = supernet.train()(images, states=states)
    assert torch.allclose(evaluated, trained, atol=0.05)
