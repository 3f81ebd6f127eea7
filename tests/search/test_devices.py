"""Several devices as one number: means, and a worst case that bounds the maximum from above."""

from __future__ import annotations

from math import log
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from hwprof.errors import LutError, SpaceError  # noqa: E402 - torch is optional
from hwprof.lut import Lut  # noqa: E402
from hwprof.search import AcrossDevices, ExpectedLatency, PairwiseLatency  # noqa: E402
from hwprof.search.expectation import Expectation  # noqa: E402
from hwprof.space import Space  # noqa: E402

F64 = torch.float64
NAMES = ("first", "second", "third")


def devices(count: int, seed: int = 0, scale: float = 1.0) -> list[Expectation]:
    """Devices with latencies of their own over one space; each later one is slower."""
    generator = torch.Generator().manual_seed(seed)
    return [
        Expectation(
            "made", NAMES, (scale * (1 + i) * torch.rand(3, 4, generator=generator)).tolist(), dtype=F64
        )
        for i in range(count)
    ]


def shares_of(module: AcrossDevices, seed: int, *batch: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(*batch, *module.shape, dtype=F64, generator=generator)
    return module.probabilities(3.0 * logits)


@settings(deadline=None, max_examples=40)
@given(
    count=st.integers(1, 5),
    seed=st.integers(0, 999),
    temperature=st.floats(1e-4, 1.0),
    scale=st.sampled_from([1e-3, 1.0, 1e3]),
    aimed=st.booleans(),
)
def test_the_worst_case_bounds_the_maximum_from_above_and_tends_to_it(
    count: int, seed: int, temperature: float, scale: float, aimed: bool
) -> None:
    parts = devices(count, seed, scale)
    targets = [scale * (0.5 + i) for i in range(count)] if aimed else None
    module = AcrossDevices(parts, targets=targets, temperature=temperature)
    shares = shares_of(module, seed, 6)
    each = module.each(shares) / torch.tensor(targets or [1.0] * count, dtype=F64)
    largest, worst = each.amax(-1), module(shares)
    slack = 1e-9 * largest
    assert (worst >= largest - slack).all()
    assert (worst <= largest + module.temperature * log(count) + slack).all()
    if not aimed:
        uniform = torch.full(module.shape, 0.25, dtype=F64)
        wanted = temperature * module.each(uniform).max().item()
        assert module.temperature == pytest.approx(wanted)


def test_means_and_weights(pool_lut: Lut, make: Any) -> None:
    p = make.pool
    space = make.space([[[p[0]]], [[p[1]], []], [[p[2]], [p[3]]]])
    fast = ExpectedLatency(pool_lut, space, dtype=F64)
    slow = ExpectedLatency(pool_lut, space, column="p50_ms", dtype=F64)
    shares = fast.probabilities(torch.zeros(fast.shape, dtype=F64))
    latency = fast(shares).item()
    assert AcrossDevices([fast, slow], "mean")(shares).item() == pytest.approx(1.5 * latency)
    weighted = AcrossDevices([fast, slow], "weighted", weights=[3.0, 1.0])
    assert weighted(shares).item() == pytest.approx(1.25 * latency)
    aimed = AcrossDevices([fast, slow], "mean", targets=[latency, latency])
    assert aimed(shares).item() == pytest.approx(1.5)
    assert aimed.each(shares).tolist() == pytest.approx([latency, 2 * latency])


def test_a_result_of_one_is_at_the_target_of_the_worst_device() -> None:
    parts = devices(3)
    module = AcrossDevices(parts, targets=[1.0, 2.0, 3.0], temperature=1e-6)
    shares = shares_of(module, 1)
    at_target = [part(shares).item() for part in parts]
    module = AcrossDevices(parts, targets=at_target, temperature=1e-6)
    assert module(shares).item() == pytest.approx(1.0, abs=1e-5)


def test_prices_are_those_of_hard_gates() -> None:
    for how, more in (("worst", {}), ("mean", {}), ("weighted", {"weights": [1, 0, 2]})):
        module = AcrossDevices(devices(3), how, **more)
        points = torch.randint(0, 4, (2, 5, 3))
        hard = torch.nn.functional.one_hot(points, 4).double()
        torch.testing.assert_close(module.price(points), module(hard))


@pytest.mark.parametrize("how", ["worst", "mean"])
def test_gradients_agree_with_finite_differences(how: str) -> None:
    module = AcrossDevices(devices(3), how, temperature=0.1)
    logits = torch.randn(2, *module.shape, dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x: module(module.probabilities(x)), (logits,), rtol=1e-4, atol=1e-7
    )


def test_the_gradient_weighs_devices_by_how_near_the_worst_they_are() -> None:
    module = AcrossDevices(devices(3), temperature=0.2)
    shares = shares_of(module, 7).requires_grad_()
    (gradient,) = torch.autograd.grad(module(shares), shares)
    weights = (module.each(shares.detach()) / module.temperature).softmax(-1)
    costs = torch.stack([part.latencies for part in devices(3)], -1)
    torch.testing.assert_close(gradient, (costs * weights).sum(-1))


def test_devices_may_have_edges_and_it_compiles_without_a_graph_break() -> None:
    torch._dynamo.reset()
    edged = [PairwiseLatency(torch.rand(3, 4), torch.rand(2, 4, 4), dtype=F64) for _ in range(2)]
    module = AcrossDevices(edged)
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    shares = shares_of(module, 2, 3).requires_grad_()
    torch.testing.assert_close(module.each(shares), torch.stack([e(shares) for e in edged], -1))
    torch.testing.assert_close(compiled(shares), module(shares))
    (fast,) = torch.autograd.grad(compiled(shares).sum(), shares)
    (slow,) = torch.autograd.grad(module(shares).sum(), shares)
    torch.testing.assert_close(fast, slow)


def test_every_buffer_moves_with_the_module() -> None:
    module = AcrossDevices(devices(2)).to("meta")
    assert {buffer.device.type for buffer in module.buffers()} == {"meta"}
    assert module(torch.empty(3, *module.shape, device="meta")).shape == (3,)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown way": ({"how": "best"}, "'best' is unknown; choose of mean, weighted, worst"),
    "weights without their way": ({"weights": [1.0, 1.0]}, "weights go with how='weighted'"),
    "their way without weights": ({"how": "weighted"}, "weights go with how='weighted'"),
    "too few weights": ({"how": "weighted", "weights": [1.0]}, "weights are 2 numbers"),
    "weights that are all 0": ({"how": "weighted", "weights": [0.0, 0.0]}, "not all 0"),
    "a negative weight": ({"how": "weighted", "weights": [2.0, -1.0]}, "0 or more"),
    "a target of 0": ({"targets": [1.0, 0.0]}, "targets are 2 numbers above 0"),
    "too many targets": ({"targets": [1.0, 1.0, 1.0]}, "targets are 2 numbers above 0"),
    "no temperature": ({"temperature": 0.0}, "temperature must be a number above 0"),
    "a temperature that is no number": ({"temperature": float("nan")}, "temperature"),
}


@pytest.mark.parametrize("name", WRONG)
def test_settings_that_make_no_sense_are_refused(name: str) -> None:
    settings, words = WRONG[name]
    with pytest.raises(LutError, match=words):
        AcrossDevices(devices(2), **settings)


def test_devices_of_different_spaces_are_refused(pool_lut: Lut, make: Any) -> None:
    def latency(space: Space) -> ExpectedLatency:
        return ExpectedLatency(pool_lut, space)

    one = make.space([[[make.pool[0]], []]], "one")
    two = make.space([[[make.pool[0]], [], [make.pool[1]]]], "two")
    with pytest.raises(SpaceError, match=r"two \(1 positions, 3 choices\) and one \(1, 2\)"):
        AcrossDevices([latency(one), latency(two)])
    with pytest.raises(SpaceError, match="one expectation or more"):
        AcrossDevices([])
