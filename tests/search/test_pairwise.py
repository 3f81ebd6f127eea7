"""Pairwise costs as tensors: exact by enumeration, also across skips, with the right gradient."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from hwprof.errors import SpaceError  # noqa: E402 - torch is optional
from hwprof.search import PairwiseLatency  # noqa: E402

QUICK = settings(deadline=None, max_examples=25)
F64 = torch.float64


@st.composite
def problems(draw: st.DrawFn, most: int = 4) -> dict[str, Any]:
    """Random costs, some of them negative, with skips and positions of different widths."""
    count, width = draw(st.integers(1, most)), draw(st.integers(1, 4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    skips = None
    if draw(st.booleans()):
        skips = torch.rand(count, width, generator=generator) < 0.4
    return {
        "costs": torch.randn(count, width, dtype=F64, generator=generator) + 1.0,
        "pairs": torch.randn(count - 1, width, width, dtype=F64, generator=generator),
        "skips": skips,
        "widths": [draw(st.integers(1, width)) for _ in range(count)] if draw(st.booleans()) else None,
    }


def made(problem: dict[str, Any]) -> PairwiseLatency:
    return PairwiseLatency(**problem, dtype=F64)


def networks(problem: dict[str, Any]) -> list[tuple[int, ...]]:
    count, width = problem["costs"].shape
    return list(itertools.product(*(range(each) for each in problem["widths"] or [width] * count)))


def by_hand(problem: dict[str, Any], point: tuple[int, ...]) -> float:
    """A loop over positions that remembers what ran last."""
    total, last = 0.0, None
    for place, choice in enumerate(point):
        if problem["skips"] is not None and problem["skips"][place, choice]:
            continue
        total += problem["costs"][place, choice].item()
        if last is not None:
            total += problem["pairs"][place - 1, last, choice].item()
        last = choice
    return total


def shares_of(module: PairwiseLatency, seed: int = 0, *batch: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return module.probabilities(torch.randn(*batch, *module.shape, dtype=F64, generator=generator))


@QUICK
@given(problem=problems())
def test_every_network_costs_what_a_loop_says(problem: dict[str, Any]) -> None:
    module = made(problem)
    points = networks(problem)
    wanted = torch.tensor([by_hand(problem, point) for point in points], dtype=F64)
    torch.testing.assert_close(module.price(points), wanted)
    hard = torch.nn.functional.one_hot(torch.tensor(points), module.shape[1]).double()
    torch.testing.assert_close(module(hard), wanted)


@QUICK
@given(problem=problems(), seed=st.integers(0, 99))
def test_the_expectation_is_the_mean_over_all_networks(problem: dict[str, Any], seed: int) -> None:
    module = made(problem)
    shares = shares_of(module, seed)
    places = range(len(module.widths))
    mean = sum(
        float(torch.prod(shares[places, point])) * by_hand(problem, point) for point in networks(problem)
    )
    assert module(shares).item() == pytest.approx(mean, rel=1e-6, abs=1e-9)


@QUICK
@given(problem=problems(), seed=st.integers(0, 99))
def test_gradients_agree_with_finite_differences(problem: dict[str, Any], seed: int) -> None:
    module = made(problem)
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, *module.shape, dtype=F64, generator=generator, requires_grad=True)
    weights = torch.tensor([1.0, -2.0], dtype=F64)

    def loss(x: torch.Tensor) -> torch.Tensor:
        return (weights * module(module.probabilities(x))).sum()

    (gradient,) = torch.autograd.grad(loss(logits), logits)
    step = 1e-5
    shifts = step * torch.eye(logits.numel(), dtype=F64).view(-1, *logits.shape)
    with torch.no_grad():
        differences = torch.stack([loss(logits + s) - loss(logits - s) for s in shifts]) / (2 * step)
    largest = differences.abs().max().item()
    torch.testing.assert_close(gradient.flatten(), differences, rtol=1e-4, atol=1e-6 * largest + 1e-9)


def test_straight_through_gates_give_the_networks_cost_and_the_gradient_there() -> None:
    """The gradient by a gate is what the network would cost more with that choice in place."""
    problem: dict[str, Any] = {
        "costs": torch.tensor([[1.0, 2.0], [3.0, 0.0], [5.0, 6.0]]),
        "pairs": torch.tensor([[[0.1, 9.0], [0.2, 9.0]], [[0.3, 0.4], [0.5, 0.6]]]),
        "skips": torch.tensor([[False, False], [False, True], [False, False]]),
        "widths": None,
    }
    module = made(problem)
    logits = torch.zeros(3, 2, dtype=F64, requires_grad=True)
    soft = module.probabilities(logits)
    hard = torch.tensor([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]], dtype=F64)
    gates = hard - soft.detach() + soft
    latency = module(gates)
    # 2 + 5, and the pair of the first and the third block across the skip: pairs[1, 1, 0]
    assert latency.item() == pytest.approx(2.0 + 5.0 + 0.5)
    (gradient,) = torch.autograd.grad(latency, gates)
    assert gradient[0].tolist() == pytest.approx([1.0 + 0.3, 2.0 + 0.5])
    assert gradient[2].tolist() == pytest.approx([5.0 + 0.5, 6.0 + 0.6])


@pytest.mark.parametrize("skips", [False, True])
def test_batches_are_their_networks_one_by_one(skips: bool) -> None:
    module = long(9, skips, dtype=F64)
    shares = shares_of(module, 3, 2, 5)
    together = module(shares)
    assert together.shape == (2, 5)
    alone = torch.stack([module(each) for each in shares.flatten(0, 1)])
    torch.testing.assert_close(together.flatten(), alone)
    assert module(shares[:0]).shape == (0, 5)


@pytest.mark.parametrize("skips", [False, True])
def test_it_compiles_without_a_graph_break(skips: bool) -> None:
    torch._dynamo.reset()
    module = long(9, skips, dtype=torch.float32)
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    shares = shares_of(module, 1, 4).float().requires_grad_()
    torch.testing.assert_close(compiled(shares), module(shares))
    (fast,) = torch.autograd.grad(compiled(shares).sum(), shares)
    (slow,) = torch.autograd.grad(module(shares).sum(), shares)
    torch.testing.assert_close(fast, slow)


def test_forward_does_not_loop_over_positions() -> None:
    """As many operators for 60 positions as for 3; with skips as many as doublings of the reach."""
    assert operators(long(60, skips=False)) == operators(long(3, skips=False))
    assert operators(long(64, skips=True)) - operators(long(32, skips=True)) == (
        operators(long(32, skips=True)) - operators(long(16, skips=True))
    )


def test_a_long_chain_of_skips_keeps_its_precision_in_float32() -> None:
    exact, single = (long(60, skips=True, dtype=dtype) for dtype in (F64, torch.float32))
    shares = shares_of(exact, 5)
    assert single(shares.float()).item() == pytest.approx(exact(shares).item(), rel=1e-5)


def test_every_buffer_moves_with_the_module() -> None:
    module = long(5, skips=True).to("meta")
    assert {buffer.device.type for buffer in module.buffers()} == {"meta"}
    assert module(torch.empty(3, *module.shape, device="meta")).shape == (3,)


COSTS, PAIRS = torch.ones(3, 2), torch.ones(2, 2, 2)
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no costs": ({"costs": torch.ones(0, 2)}, r"\(positions, choices\), got \(0, 2\)"),
    "pairs for another number of positions": (
        {"pairs": torch.ones(3, 2, 2)}, r"pairs have shape \(2, 2, 2\) here, got \(3, 2, 2\)",
    ),
    "skips of another shape": ({"skips": torch.zeros(3, 3)}, r"skips have shape \(3, 2\)"),
    "a width too large": ({"widths": [2, 3, 2]}, r"3 numbers from 1 to 2, got \[2, 3, 2\]"),
    "an infinite pair": ({"pairs": torch.full((2, 2, 2), torch.inf)}, "must be finite"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_tensors_that_do_not_fit_are_refused(name: str) -> None:
    changed, words = WRONG[name]
    with pytest.raises(SpaceError, match=words):
        PairwiseLatency(**{"costs": COSTS, "pairs": PAIRS, **changed})


def test_points_and_probabilities_that_do_not_fit_are_refused() -> None:
    module = PairwiseLatency(COSTS, PAIRS, widths=[2, 1, 2])
    with pytest.raises(SpaceError, match=r"pairwise costs position 1: choice 1 is not one of 0 to 0"):
        module.price([[0, 1, 0]])
    with pytest.raises(SpaceError, match=r"\(\.\.\., 3, 2\)"):
        module(torch.ones(2, 2))


def long(count: int, skips: bool, dtype: torch.dtype = torch.float32) -> PairwiseLatency:
    generator = torch.Generator().manual_seed(count)
    passed = torch.rand(count, 4, generator=generator) < 0.3
    passed[0, 0] = True
    return PairwiseLatency(
        torch.rand(count, 4, generator=generator),
        torch.rand(count - 1, 4, 4, generator=generator),
        skips=passed if skips else None,
        dtype=dtype,
    )


def operators(module: PairwiseLatency) -> int:
    with torch.profiler.profile() as profile:
        module(torch.rand(module.shape))
    return sum(1 for event in profile.events() if event.name.startswith("aten::"))
