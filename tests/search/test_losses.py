"""Losses: the papers' numbers, and a multiplier that ends at the target from either side."""

from __future__ import annotations

from math import exp, log
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from hwprof.errors import HwprofError  # noqa: E402 - torch is optional
from hwprof.search import LOSSES, make_loss  # noqa: E402
from hwprof.search.expectation import Expectation  # noqa: E402

F64 = torch.float64
NEEDED: dict[str, dict[str, float]] = {"weighted": {"weight": 0.3}}
ALL = [(name, NEEDED.get(name, {})) for name in LOSSES]


def value(name: str, latency: float, target: float, **more: float) -> float:
    return float(make_loss(name, target, **more)(torch.tensor(latency, dtype=F64)))


def slope(name: str, latency: float, target: float, **more: float) -> float:
    at = torch.tensor(latency, dtype=F64, requires_grad=True)
    (gradient,) = torch.autograd.grad(make_loss(name, target, **more)(at), at)
    return float(gradient)


def test_log_hinge_has_the_published_values_of_s3nas() -> None:
    """15 log(1 + 100 relu(T - target)): 36.0 at 0.1 ms over, 69.2 at 1 ms over, slopes 1500 and 14.9."""
    assert value("log_hinge", 5.1, 5.0) == pytest.approx(36.0, abs=0.05)
    assert value("log_hinge", 6.0, 5.0) == pytest.approx(69.2, abs=0.05)
    assert slope("log_hinge", 5.0 + 1e-9, 5.0) == pytest.approx(1500.0, rel=1e-4)
    assert slope("log_hinge", 6.0, 5.0) == pytest.approx(14.9, abs=0.05)


@pytest.mark.parametrize("latency", [5.0, 4.999, 1.0])
def test_log_hinge_says_nothing_at_and_below_the_target(latency: float) -> None:
    assert value("log_hinge", latency, 5.0) == 0.0
    assert slope("log_hinge", latency, 5.0) == 0.0


@settings(deadline=None, max_examples=30)
@given(latency=st.floats(0.1, 50.0), target=st.floats(0.1, 50.0))
def test_the_other_losses_are_their_formulas(latency: float, target: float) -> None:
    ratio = latency / target
    wanted = {
        "weighted": 0.3 * latency,
        "log_ratio": 0.07 * log(ratio),
        "power_ratio": ratio**0.07,
        "log_power": 0.2 * log(1000.0 * latency) ** 0.6,
        "multiplier": 1.5 * (ratio - 1.0) ** 2,
    }
    for name, number in wanted.items():
        found = value(name, latency, target, **NEEDED.get(name, {}))
        assert found == pytest.approx(number, rel=1e-9, abs=1e-12)
    assert exp(value("log_ratio", latency, target)) == pytest.approx(wanted["power_ratio"])


@pytest.mark.parametrize(("name", "more"), ALL)
def test_gradients_agree_with_finite_differences(name: str, more: dict[str, float]) -> None:
    loss = make_loss(name, 2.0, **more).eval()
    latency = torch.tensor([0.7, 1.9, 2.3, 8.0], dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(loss, (latency,), rtol=1e-4)


@pytest.mark.parametrize(("name", "more"), ALL)
def test_a_batch_is_its_latencies_one_by_one(name: str, more: dict[str, float]) -> None:
    loss = make_loss(name, 2.0, **more).eval()
    latency = torch.rand(3, 4, dtype=F64) + 1.5
    assert loss(latency).shape == (3, 4)
    assert loss(latency)[1, 2].item() == pytest.approx(loss(latency[1, 2]).item())
    assert loss(latency.float()).dtype == torch.float32


@pytest.mark.parametrize(("name", "more"), ALL)
def test_it_joins_the_tasks_loss_as_its_paper_does(name: str, more: dict[str, float]) -> None:
    loss = make_loss(name, 2.0, **more).eval()
    task, latency = torch.tensor(1.7, dtype=F64), torch.tensor(3.0, dtype=F64)
    alone = loss(latency)
    multiplied = name in ("power_ratio", "log_power")
    assert loss.factor is multiplied
    wanted = task * alone if multiplied else task + alone
    assert loss.total(task, latency).item() == wanted.item()


@pytest.mark.parametrize(("name", "more"), ALL)
def test_it_compiles_without_a_graph_break(name: str, more: dict[str, float]) -> None:
    torch._dynamo.reset()
    loss = make_loss(name, 2.0, **more)
    compiled = torch.compile(loss, backend="eager", fullgraph=True)
    latency = torch.tensor([1.0, 3.0], requires_grad=True)
    found = [compiled(latency) for _ in range(3)]
    again = make_loss(name, 2.0, **more)
    for each in found:
        torch.testing.assert_close(each, again(latency))


def search(loss: Any, sign: float, target: float, module: Expectation, quality: Any) -> list[float]:
    """600 steps of Adam over the logits of a small space; `sign` -1: the task itself wants it fast."""
    logits = torch.zeros(module.shape, requires_grad=True)
    optimiser = torch.optim.Adam([logits], 0.05)
    latencies = []
    for _ in range(600):
        shares = module.probabilities(logits)
        latency = module(shares)
        optimiser.zero_grad()
        loss.total(
            -0.2 * (shares * (sign * module.latencies.sqrt() + quality)).sum(), latency
        ).backward()
        optimiser.step()
        latencies.append(latency.item())
    return [latency / target - 1.0 for latency in latencies[-100:]]


@pytest.fixture(scope="module")
def problem() -> tuple[Expectation, Any, float, float]:
    generator = torch.Generator().manual_seed(0)
    costs = 0.02 + 0.1 * torch.rand(20, 6, generator=generator)
    module = Expectation("toy", [str(i) for i in range(20)], costs.tolist())
    quality = 0.1 * torch.rand(20, 6, generator=generator)
    fastest, slowest = costs.amin(1).sum().item(), costs.amax(1).sum().item()
    return module, quality, fastest, slowest


@pytest.mark.parametrize(("sign", "share"), [(1.0, 0.3), (-1.0, 0.6)])
def test_the_multiplier_hits_its_target_from_above_and_from_below(
    problem: Any, sign: float, share: float
) -> None:
    """Slow networks are better and the target is fast; fast ones are better and the target is slow."""
    module, quality, fastest, slowest = problem
    target = fastest + share * (slowest - fastest)
    loss = make_loss("multiplier", target)
    last = search(loss, sign, target, module, quality)
    assert max(abs(gap) for gap in last) < 0.01
    assert loss.multiplier.item() * sign > 0.1


@pytest.mark.parametrize(("sign", "share"), [(1.0, 0.3), (-1.0, 0.6)])
def test_without_damping_it_still_swings(problem: Any, sign: float, share: float) -> None:
    module, quality, fastest, slowest = problem
    target = fastest + share * (slowest - fastest)
    loss = make_loss("multiplier", target, damping=0.0)
    assert max(abs(gap) for gap in search(loss, sign, target, module, quality)) > 0.1


def test_the_multiplier_moves_only_where_it_is_trained_and_is_kept_in_a_checkpoint() -> None:
    loss = make_loss("multiplier", 10.0, rate=0.5)
    latency = torch.tensor([12.0, 14.0], requires_grad=True)
    loss(latency)
    assert loss.multiplier.item() == pytest.approx(0.5 * 0.3)
    with torch.no_grad():
        loss(latency)
    loss.eval()
    loss(latency)
    assert loss.multiplier.item() == pytest.approx(0.5 * 0.3)
    other = make_loss("multiplier", 10.0)
    other.load_state_dict(loss.state_dict())
    assert other.multiplier.item() == loss.multiplier.item()
    assert make_loss("log_hinge", 10.0).state_dict() == {}


def latencies_of_slow_gates(loss: Any, start: float, steps: int) -> list[float]:
    """A search whose latency moves by at most a fortieth of the target a step, as where few gates may
    flip; the task itself wants it slow."""
    latency, seen = start, []
    for _ in range(steps):
        now = torch.tensor(latency, requires_grad=True)
        loss.total(-0.2 * now, now).backward()
        assert now.grad is not None
        latency = max(0.1, latency - 0.025 * now.grad.sign().item())
        seen.append(latency)
    return seen


def test_a_search_from_six_times_its_target_ended_at_a_third_by_what_it_had_learnt_on_the_way() -> None:
    seen = latencies_of_slow_gates(make_loss("multiplier", 1.0), 6.0, 600)
    assert min(seen) > 0.5
    assert all(abs(latency - 1.0) < 0.1 for latency in seen[-100:])
    endless = make_loss("multiplier", 1.0, reach=1e9)
    assert latencies_of_slow_gates(endless, 6.0, 600)[-1] < 0.5


def test_a_reach_of_0_is_refused() -> None:
    with pytest.raises(HwprofError, match="reach must be above 0, got 0"):
        make_loss("multiplier", 1.0, reach=0.0)


def test_its_gradient_is_that_of_the_multiplier_before_the_step() -> None:
    loss = make_loss("multiplier", 10.0, rate=1.0, damping=0.0)
    latency = torch.tensor(15.0, requires_grad=True)
    loss(latency)
    (gradient,) = torch.autograd.grad(loss(latency), latency)
    assert gradient.item() == pytest.approx(0.5 / 10.0)
    assert loss.multiplier.item() == pytest.approx(1.0)


@pytest.mark.parametrize("target", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize(("name", "more"), ALL)
def test_a_target_that_is_none_is_refused(name: str, more: dict[str, float], target: float) -> None:
    with pytest.raises(HwprofError, match="target must be a finite number above 0"):
        make_loss(name, target, **more)


def test_unknown_names_and_settings_list_the_known() -> None:
    with pytest.raises(HwprofError, match=f"'hinge' is unknown; choose of {', '.join(LOSSES)}"):
        make_loss("hinge", 1.0)
    with pytest.raises(HwprofError, match="log_hinge has no setting 'lambda3'; it has lambda1, lambda2"):
        make_loss("log_hinge", 1.0, lambda3=1.0)
    with pytest.raises(HwprofError, match="weighted needs weight="):
        make_loss("weighted", 1.0)
    with pytest.raises(HwprofError, match="lambda1 must be a finite number, got nan"):
        make_loss("log_hinge", 1.0, lambda1=float("nan"))
    with pytest.raises(HwprofError, match=r"scale must be above 1 / target = 0\.2, got 0\.1"):
        make_loss("log_power", 5.0, scale=0.1)


def test_a_loss_shows_its_settings() -> None:
    assert repr(make_loss("log_hinge", 2.5)) == "LogHinge(target=2.5, lambda1=15, lambda2=100)"
