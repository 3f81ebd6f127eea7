"""`price` and `breakdown`: discrete networks, exactly as tabled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from hwprof.errors import SpaceError  # noqa: E402 - torch is optional
from hwprof.lut import Lut  # noqa: E402
from hwprof.search import ExpectedLatency  # noqa: E402
from hwprof.space import load_space  # noqa: E402


@pytest.fixture(scope="module")
def module(pool_lut: Lut, make: Any) -> ExpectedLatency:
    p = make.pool
    space = make.space([[[p[0]]], [[p[1]], []], [[p[2]], [p[3], p[4]], [p[5]]]], "three")
    return ExpectedLatency(pool_lut, space, dtype=torch.float64)


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_price_breakdown_and_forward_agree(data: st.DataObject, pool_lut: Lut, make: Any) -> None:
    space = data.draw(make.spaces())
    module = ExpectedLatency(pool_lut, space, dtype=torch.float64)
    point = space.sample(np.random.default_rng(data.draw(st.integers(0, 99))))
    hard = torch.nn.functional.one_hot(torch.tensor(point), module.shape[1]).double()
    price = module.price(torch.tensor(point)).item()
    assert price == pytest.approx(sum(ms for _, _, ms in module.breakdown(point)), rel=1e-12)
    assert price == pytest.approx(module(hard).item(), rel=1e-12)
    assert price == pytest.approx(sum(make.latencies[op] for op in space.point_ops(point)), rel=1e-12)


def test_breakdown_names_position_choice_and_milliseconds(module: ExpectedLatency, make: Any) -> None:
    latency = make.latencies
    assert module.breakdown([0, 1, 1]) == [
        ("block0", "choice0", latency[make.pool[0]]),
        ("block1", "skip", 0.0),
        ("block2", "choice1", latency[make.pool[3]] + latency[make.pool[4]]),
    ]


@pytest.mark.parametrize("batch", [(), (1,), (5,), (2, 3), (0,)])
def test_price_takes_any_batch_shape(module: ExpectedLatency, batch: tuple[int, ...]) -> None:
    points = torch.zeros(*batch, 3, dtype=torch.long)
    assert module.price(points).shape == batch


def test_price_takes_lists_arrays_and_small_integers(module: ExpectedLatency) -> None:
    points = [[0, 1, 2], [0, 0, 1]]
    wanted = module.price(torch.tensor(points))
    for other in (points, np.asarray(points), torch.tensor(points, dtype=torch.uint8)):
        assert module.price(other).tolist() == wanted.tolist()


def test_price_of_many_networks_in_one_call(module: ExpectedLatency) -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.stack(
        [torch.randint(0, w, (50_000,), generator=generator) for w in module.widths], -1
    )
    prices = module.price(points)
    assert prices.shape == (50_000,)
    assert prices[123].item() == pytest.approx(module.price(points[123]).item())


WRONG = {
    "too few positions": (torch.zeros(2, dtype=torch.long), ["three", "3 positions", "(2,)"]),
    "a single number": (torch.tensor(0), ["3 positions", "()"]),
    "an index beyond the choices": (
        torch.tensor([[0, 0, 0], [0, 2, 0]]),
        ["three block1", "choice 2", "0 to 1"],
    ),
    "an index in the padding": (torch.tensor([1, 0, 0]), ["three block0", "choice 1", "0 to 0"]),
    "a negative index": (torch.tensor([0, 0, -1]), ["three block2", "choice -1", "0 to 2"]),
    "probabilities": (torch.rand(3), ["integers", "torch.float32"]),
    "truth values": (torch.ones(3, dtype=torch.bool), ["integers", "torch.bool"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_point_that_is_none_is_refused_in_one_line(module: ExpectedLatency, name: str) -> None:
    points, words = WRONG[name]
    with pytest.raises(SpaceError) as caught:
        module.price(points)
    message = str(caught.value)
    assert "\n" not in message
    assert not [word for word in words if word not in message], message


@pytest.mark.parametrize("point", [[0, 0], [0, 2, 0], [0, 0, -1]])
def test_breakdown_refuses_what_price_refuses(module: ExpectedLatency, point: list[int]) -> None:
    with pytest.raises(SpaceError):
        module.breakdown(point)


@pytest.mark.parametrize("name", ["tiny", "nb201"])
def test_a_shipped_space_is_priced_op_by_op(name: str, save: Callable[..., Lut], make: Any) -> None:
    space = load_space(name)
    latencies = {op: 0.01 * i for i, op in enumerate(space.ops(), start=1)}
    module = ExpectedLatency(save([make.row(op, ms) for op, ms in latencies.items()]), space)
    rng = np.random.default_rng(0)
    points = [space.sample(rng) for _ in range(20)]
    by_hand = [sum(latencies[op] for op in space.point_ops(point)) for point in points]
    assert module.price(points).tolist() == pytest.approx(by_hand, rel=1e-5)
