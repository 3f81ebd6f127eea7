"""ExpectedLatency: the right number, the right gradient, in every shape it is asked in."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from hwprof.lut import Lut  # noqa: E402 - torch is optional
from hwprof.search import ExpectedLatency  # noqa: E402
from hwprof.space import Space  # noqa: E402

QUICK = settings(deadline=None, max_examples=40)


@pytest.fixture(scope="module")
def uneven(make: Any) -> Space:
    """A fixed stem, a block that can be skipped, one of five choices, an edge of several ops."""
    p = make.pool
    return make.space(
        [
            [[p[0]]],
            [[p[1]], [p[2]], []],
            [[p[3]], [p[4]], [p[5]], [p[6]], [p[7]]],
            [[], [p[8], p[8], p[9]]],
            [[p[10], p[11]]],
        ]
    )


@pytest.fixture(scope="module")
def expected(pool_lut: Lut, uneven: Space) -> ExpectedLatency:
    return ExpectedLatency(pool_lut, uneven, dtype=torch.float64)


def random_probabilities(module: ExpectedLatency, *batch: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(*batch, *module.shape, dtype=torch.float64, generator=generator)
    return module.probabilities(logits)


@QUICK
@given(data=st.data())
def test_the_sum_over_positions_and_choices(data: st.DataObject, pool_lut: Lut, make: Any) -> None:
    space = data.draw(make.spaces())
    module = ExpectedLatency(pool_lut, space, dtype=torch.float64)
    p = random_probabilities(module, seed=data.draw(st.integers(0, 99)))
    by_hand = sum(
        p[i, j].item() * latency
        for i, row in enumerate(make.priced(space))
        for j, latency in enumerate(row)
    )
    assert module(p).item() == pytest.approx(by_hand, rel=1e-12, abs=1e-15)


@QUICK
@given(data=st.data())
def test_it_is_the_mean_over_all_networks(data: st.DataObject, pool_lut: Lut, make: Any) -> None:
    space = data.draw(make.spaces(most_positions=4, most_choices=4))
    module = ExpectedLatency(pool_lut, space, dtype=torch.float64)
    p = random_probabilities(module, seed=data.draw(st.integers(0, 99)))
    points = list(itertools.product(*(range(len(q.choices)) for q in space.positions)))
    chances = torch.stack(
        [torch.stack([p[i, c] for i, c in enumerate(point)]).prod() for point in points]
    )
    enumerated = (chances * module.price(points)).sum().item()
    assert chances.sum().item() == pytest.approx(1.0)
    assert module(p).item() == pytest.approx(enumerated, rel=1e-6, abs=1e-12)


@QUICK
@given(data=st.data())
def test_gradients_agree_with_finite_differences(data: st.DataObject, pool_lut: Lut, make: Any) -> None:
    """Of the logarithm of the expected latency by the logits: the whole path of a search."""
    space = data.draw(make.spaces(most_positions=4))
    module = ExpectedLatency(pool_lut, space, dtype=torch.float64)
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    logits = torch.randn(module.shape, dtype=torch.float64, generator=generator, requires_grad=True)

    def loss(x: torch.Tensor) -> torch.Tensor:
        return torch.log1p(module(module.probabilities(x, 0.7)))

    (gradient,) = torch.autograd.grad(loss(logits), logits)
    step = 1e-5
    differences = torch.zeros_like(gradient)
    with torch.no_grad():
        for index in np.ndindex(*module.shape):
            shift = torch.zeros_like(logits)
            shift[index] = step
            differences[index] = (loss(logits + shift) - loss(logits - shift)) / (2 * step)
    largest = differences.abs().max().item()
    torch.testing.assert_close(gradient, differences, rtol=1e-4, atol=1e-6 * largest + 1e-10)


def test_gradcheck(expected: ExpectedLatency) -> None:
    p = random_probabilities(expected, 3).requires_grad_()
    assert torch.autograd.gradcheck(expected, (p,))
    logits = torch.randn(2, *expected.shape, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: expected(expected.probabilities(x)), (logits,))


def test_the_gradient_by_a_probability_is_the_latency_of_its_choice(
    expected: ExpectedLatency, make: Any, uneven: Space
) -> None:
    p = random_probabilities(expected).requires_grad_()
    expected(p).backward()
    for i, row in enumerate(make.priced(uneven)):
        if len(row) > 1:
            assert p.grad[i, : len(row)].tolist() == pytest.approx(row, rel=1e-12)


def test_padding_is_never_read_and_gets_no_gradient(expected: ExpectedLatency) -> None:
    clean = random_probabilities(expected)
    dirty = clean.masked_fill(~expected.mask, torch.nan).requires_grad_()
    assert expected(dirty).item() == expected(clean).item()
    expected(dirty).backward()
    assert (dirty.grad[~expected.mask] == 0).all()


def test_a_softmax_gives_padding_nothing_and_takes_nothing_from_it(expected: ExpectedLatency) -> None:
    logits = torch.randn(expected.shape, dtype=torch.float64)
    logits = logits.masked_fill(~expected.mask, torch.inf).requires_grad_()
    p = expected.probabilities(logits)
    assert (p[~expected.mask] == 0).all()
    torch.testing.assert_close(p.sum(-1), torch.ones(expected.shape[0], dtype=torch.float64))
    expected(p).backward()
    assert (logits.grad[~expected.mask] == 0).all()
    assert torch.isfinite(logits.grad).all()


def test_temperature_sharpens(expected: ExpectedLatency) -> None:
    logits = torch.randn(expected.shape, dtype=torch.float64)
    hot, cold = (expected.probabilities(logits, t).amax(-1) for t in (10.0, 0.01))
    assert (cold >= hot).all()
    best = logits.masked_fill(~expected.mask, -torch.inf).argmax(-1)
    assert expected(expected.probabilities(logits, 1e-6)).item() == pytest.approx(
        expected.price(best).item()
    )
    annealed = torch.tensor(10.0, dtype=torch.float64)
    torch.testing.assert_close(expected.probabilities(logits, annealed).amax(-1), hot)


def test_a_skip_costs_exactly_nothing(expected: ExpectedLatency) -> None:
    assert expected.latencies[1, 2].item() == 0.0
    assert expected.latencies[3, 0].item() == 0.0


def test_a_choice_of_several_ops_costs_their_sum(
    pool_lut: Lut, make: Any, expected: ExpectedLatency
) -> None:
    """An edge of NAS-Bench-201 runs its op once per cell, in cells of three widths."""
    ops = (make.pool[20],) * 5 + (make.pool[21],) * 5 + (make.pool[22],) * 5
    module = ExpectedLatency(pool_lut, make.space([[[], ops]]), dtype=torch.float64)
    once = sum(make.latencies[op] for op in set(ops))
    assert module.latencies[0].tolist() == pytest.approx([0.0, 5 * once])


def test_a_position_of_one_choice_counts_fully_whatever_its_probability(
    expected: ExpectedLatency,
) -> None:
    p = random_probabilities(expected)
    other = p.clone()
    other[0], other[4] = 0.0, torch.nan
    assert expected(other).item() == expected(p).item()


def test_a_space_without_a_decision_has_its_one_latency(pool_lut: Lut, make: Any) -> None:
    space = make.space([[[make.pool[0]]], [[make.pool[1]]]])
    module = ExpectedLatency(pool_lut, space, dtype=torch.float64)
    total = make.latencies[make.pool[0]] + make.latencies[make.pool[1]]
    assert module(torch.ones(2, 1)).item() == pytest.approx(total)
    assert module([torch.ones(4, 1), torch.ones(4, 1)]).tolist() == pytest.approx([total] * 4)


def test_hard_gates_pass_their_gradient_straight_through(expected: ExpectedLatency) -> None:
    logits = torch.randn(expected.shape, dtype=torch.float64, requires_grad=True)
    p = expected.probabilities(logits)
    hard = torch.nn.functional.one_hot(p.argmax(-1), expected.shape[1]).to(p.dtype)
    latency = expected(hard - p.detach() + p)
    assert latency.item() == pytest.approx(expected.price(p.argmax(-1)).item())
    (through,) = torch.autograd.grad(latency, logits, retain_graph=True)
    (soft,) = torch.autograd.grad(expected(p), logits)
    torch.testing.assert_close(through, soft)


@pytest.mark.parametrize("batch", [(), (1,), (7,), (2, 3), (0,), (4000,)])
def test_any_batch_shape(expected: ExpectedLatency, batch: tuple[int, ...]) -> None:
    p = random_probabilities(expected, *batch)
    out = expected(p)
    assert out.shape == batch
    flat = p.reshape(-1, *expected.shape)[:5]
    one_by_one = [expected(network).item() for network in flat]
    assert out.flatten()[:5].tolist() == pytest.approx(one_by_one)


def test_a_view_that_is_not_contiguous(expected: ExpectedLatency) -> None:
    p = random_probabilities(expected, 6)
    turned = p.transpose(0, 1).contiguous().transpose(0, 1)
    torch.testing.assert_close(expected(turned), expected(p))


@pytest.mark.parametrize("batch", [(), (7,), (2, 3)])
def test_one_tensor_per_position(expected: ExpectedLatency, batch: tuple[int, ...]) -> None:
    p = random_probabilities(expected, *batch)
    parts = [p[..., i, :width].clone().requires_grad_() for i, width in enumerate(expected.widths)]
    out = expected(parts)
    torch.testing.assert_close(out, expected(p))
    out.sum().backward()
    assert parts[2].grad.shape == (*batch, 5)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_it_compiles_without_a_graph_break(expected: ExpectedLatency, backend: str) -> None:
    torch._dynamo.reset()

    def loss(logits: torch.Tensor) -> torch.Tensor:
        return expected(expected.probabilities(logits, 2.0)).sum()

    compiled = torch.compile(loss, backend=backend, fullgraph=True)
    logits = torch.randn(8, *expected.shape, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(compiled(logits), loss(logits))
    (fast,) = torch.autograd.grad(compiled(logits), logits)
    (slow,) = torch.autograd.grad(loss(logits), logits)
    torch.testing.assert_close(fast, slow)


def test_forward_does_not_loop_over_positions(pool_lut: Lut, make: Any) -> None:
    """As many operators for 60 positions as for 2."""
    counts = []
    for positions in (2, 60):
        space = make.space([[[make.pool[0]], [make.pool[1]], []]] * positions)
        module = ExpectedLatency(pool_lut, space)
        with torch.profiler.profile() as profile:
            module(torch.rand(module.shape))
        counts.append(sum(1 for e in profile.events() if e.name.startswith("aten::")))
    assert counts[0] == counts[1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_computes_in_the_dtype_that_is_asked_for(
    pool_lut: Lut, uneven: Space, dtype: torch.dtype
) -> None:
    module = ExpectedLatency(pool_lut, uneven, dtype=dtype)
    p = random_probabilities(module)
    out = module(p.to(dtype))
    assert out.dtype == dtype
    reference = ExpectedLatency(pool_lut, uneven, dtype=torch.float64)(p)
    assert out.item() == pytest.approx(reference.item(), rel=1e-6)


def test_the_default_dtype_is_pytorchs(pool_lut: Lut, uneven: Space) -> None:
    assert ExpectedLatency(pool_lut, uneven).latencies.dtype == torch.get_default_dtype()


def test_autocast_does_not_round_the_latencies(pool_lut: Lut, uneven: Space) -> None:
    module = ExpectedLatency(pool_lut, uneven)
    p = random_probabilities(module).float()
    with torch.autocast("cpu", torch.bfloat16):
        out = module(p)
    assert out.dtype == torch.float32
    assert out.item() == module(p).item()


def test_every_buffer_moves_with_the_module(pool_lut: Lut, uneven: Space) -> None:
    module = ExpectedLatency(pool_lut, uneven).to("meta")
    assert {buffer.device.type for buffer in module.buffers()} == {"meta"}
    assert module(torch.empty(3, *module.shape, device="meta")).shape == (3,)
    assert ExpectedLatency(pool_lut, uneven).double().latencies.dtype == torch.float64


def test_a_checkpoint_does_not_carry_the_table(pool_lut: Lut, uneven: Space) -> None:
    module = ExpectedLatency(pool_lut, uneven)
    assert module.state_dict() == {}
    assert list(module.parameters()) == []


def test_another_column_of_the_table(pool_lut: Lut, uneven: Space, expected: ExpectedLatency) -> None:
    median = ExpectedLatency(pool_lut, uneven, column="p50_ms", dtype=torch.float64)
    torch.testing.assert_close(median.latencies, 2 * expected.latencies)
    assert "p50_ms" in repr(median)
