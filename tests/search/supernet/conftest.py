"""A tiny supernet with BatchNorm statistics that differ, and random images to train on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from hwprof.search.supernet import Supernet  # noqa: E402 - torch is optional
from hwprof.space import Space, load_space  # noqa: E402


class RandomBatches:
    """Eight random images of four colours, by step; the label is the colour."""

    steps_per_epoch = 4

    def __init__(self, side: int = 32, count: int = 8) -> None:
        self.side, self.count = side, count

    def at(self, step: int) -> tuple[Any, Any]:
        generator = torch.Generator().manual_seed(step)
        labels = torch.randint(4, (self.count,), generator=generator)
        noise = torch.randn(self.count, 3, self.side, self.side, generator=generator)
        return noise * 0.3 + (labels[:, None, None, None] - 1.5), labels


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny() -> Space:
    return load_space("tiny")


@pytest.fixture
def batches() -> RandomBatches:
    return RandomBatches()


@pytest.fixture(scope="session")
def trained_like() -> Callable[[Supernet], Supernet]:
    """Gives BatchNorm the statistics and scales that a trained one could have."""

    def disturb(supernet: Supernet) -> Supernet:
        generator = torch.Generator().manual_seed(5)
        for module in supernet.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.uniform_(-0.3, 0.3, generator=generator)
                module.running_var.uniform_(0.5, 2.0, generator=generator)
                module.weight.data.uniform_(0.5, 1.5, generator=generator)
                module.bias.data.uniform_(-0.5, 0.5, generator=generator)
        return supernet

    return disturb
