"""sigmas: the table's own uncertainty on top of the mean, against the formula written out."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from math import log, sqrt
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hwprof.errors import LutError, MissingRow  # noqa: E402 - torch is optional
from hwprof.lut import Lut  # noqa: E402
from hwprof.search import ExpectedLatency  # noqa: E402
from hwprof.search.expectation import Expectation  # noqa: E402
from hwprof.space import Space  # noqa: E402

F64 = torch.float64
WEIGHTS = {"rows": 0.9, "cuts": -0.003}
RELATIVE = 0.02
HALF_WIDTHS = np.random.default_rng(3).uniform(0.0, 0.2, 40).tolist()


@pytest.fixture(scope="module")
def space(make: Any) -> Space:
    """Ops that several positions share, an op that a choice runs twice, and a skip."""
    p = make.pool
    return make.space(
        [
            [[p[0]]],
            [[p[1]], [p[2], p[2]], []],
            [[p[1]], [p[2]], [p[3]]],
            [[p[1], p[4]], [p[2]], []],
        ],
        "shared",
    )


@pytest.fixture(scope="module")
def table(make: Any, tmp_path_factory: pytest.TempPathFactory, save_to: Callable[..., Lut]) -> Lut:
    return save_to(tmp_path_factory.mktemp("spread") / "lut.parquet", with_intervals(make, HALF_WIDTHS))


@pytest.fixture(scope="module")
def wide(make: Any, table: Lut, space: Space) -> Lut:
    return make.calibrated(table, space, WEIGHTS, RELATIVE)


def with_intervals(make: Any, half_widths: list[float]) -> list[dict[str, Any]]:
    """Rows whose interval is half a width below and above in logs."""
    rows = []
    for (op, ms), half in zip(make.latencies.items(), half_widths, strict=True):
        ends = {"latency_low_ms": ms * np.exp(-half), "latency_high_ms": ms * np.exp(half)}
        rows.append(make.row(op, ms, **ends))
    return rows


def sigma_of(make: Any, op: Any) -> float:
    """Of a row: the interval's level is 0.9, so its half width is 1.64 sigma."""
    return make.latencies[op] * HALF_WIDTHS[make.pool.index(op)] / NormalDist().inv_cdf(0.95)


def by_hand(make: Any, space: Space, point: tuple[int, ...], mean: float, relative: float) -> float:
    runs = Counter(space.point_ops(point))
    variance = sum((count * WEIGHTS["rows"] * sigma_of(make, op)) ** 2 for op, count in runs.items())
    return sqrt(variance + (relative * mean) ** 2)


def test_each_network_costs_its_mean_and_so_many_sigmas(wide: Lut, space: Space, make: Any) -> None:
    plain = ExpectedLatency(wide, space, dtype=F64)
    careful = ExpectedLatency(wide, space, sigmas=2.0, dtype=F64)
    for point in itertools.product(*(range(len(p.choices)) for p in space.positions)):
        mean = plain.price([point]).item()
        wanted = mean + 2.0 * by_hand(make, space, point, mean, RELATIVE)
        assert careful.price([point]).item() == pytest.approx(wanted, rel=1e-7)
        hard = torch.nn.functional.one_hot(torch.tensor(point), careful.shape[1]).double()
        assert careful(hard).item() == pytest.approx(wanted, rel=1e-7)
        parts = careful.breakdown(point)
        assert parts[-1][:2] == ("network", "2 sigma")
        assert sum(ms for *_, ms in parts) == pytest.approx(wanted, rel=1e-7)


def test_the_interval_of_a_row_is_read_at_the_tables_level(table: Lut, space: Space, make: Any) -> None:
    """One row, no composition: the upper end of a 90 % interval is 1.64 sigma above, in logs."""
    op = make.pool[5]
    module = ExpectedLatency(table, make.space([[[op]]]), sigmas=NormalDist().inv_cdf(0.95), dtype=F64)
    low, high = (table.latencies_ms([op], f"latency_{end}_ms")[0] for end in ("low", "high"))
    latency = make.latencies[op]
    assert module.price([[0]]).item() == pytest.approx(latency * (1.0 + log(high / low) / 2.0))


def test_a_distribution_has_its_formula_and_is_never_above_the_mean_over_networks(
    wide: Lut, space: Space, make: Any
) -> None:
    plain = ExpectedLatency(wide, space, dtype=F64)
    careful = ExpectedLatency(wide, space, sigmas=1.5, dtype=F64)
    shares = careful.probabilities(
        torch.randn(careful.shape, dtype=F64, generator=torch.Generator().manual_seed(1))
    )
    runs: Counter[Any] = Counter()
    for i, position in enumerate(space.positions):
        for j, choice in enumerate(position.choices):
            for op in choice.ops:
                runs[op] += shares[i, j].item()
    mean = plain(shares).item()
    variance = sum((n * WEIGHTS["rows"] * sigma_of(make, op)) ** 2 for op, n in runs.items())
    wanted = mean + 1.5 * sqrt(variance + (RELATIVE * mean) ** 2)
    assert careful(shares).item() == pytest.approx(wanted, rel=1e-7)
    points = list(itertools.product(*(range(len(p.choices)) for p in space.positions)))
    chances = torch.stack([shares[range(len(p)), p].prod() for p in points])
    assert careful(shares).item() < (chances * careful.price(points)).sum().item()


def test_gradients_agree_with_finite_differences(wide: Lut, space: Space) -> None:
    careful = ExpectedLatency(wide, space, sigmas=3.0, dtype=F64)
    logits = torch.randn(2, *careful.shape, dtype=F64, generator=torch.Generator().manual_seed(2))
    logits.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: careful(careful.probabilities(x)), (logits,), rtol=1e-4, atol=1e-7
    )


def test_rows_without_any_spread_leave_value_and_gradient_alone(
    make: Any, space: Space, save: Callable[..., Lut]
) -> None:
    """A square root at 0 would give NaN here."""
    rows = with_intervals(make, [0.0] * len(make.pool))
    # What single precision holds exactly, as the ends of an interval are stored.
    same = [
        dict.fromkeys(("latency_ms", "latency_low_ms", "latency_high_ms"), n / 64) for n in range(1, 99)
    ]
    table = save([row | ms for row, ms in zip(rows, same, strict=False)])
    plain = ExpectedLatency(table, space, dtype=F64)
    careful = ExpectedLatency(table, space, sigmas=2.0, dtype=F64)
    gradients = []
    for module in (plain, careful):
        logits = torch.ones(module.shape, dtype=F64, requires_grad=True)
        module(module.probabilities(logits)).backward()
        gradients.append(logits.grad)
    assert careful.price([[0, 0, 0, 0]]).item() == plain.price([[0, 0, 0, 0]]).item()
    torch.testing.assert_close(*gradients)


def test_prices_of_many_networks_come_in_pieces(
    wide: Lut, space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    careful = ExpectedLatency(wide, space, sigmas=1.0)
    points = torch.stack([torch.randint(0, width, (5, 4)) for width in careful.widths], -1)
    whole = careful.price(points)
    assert whole.shape == (5, 4)
    monkeypatch.setattr(f"{Expectation.__module__}.SPREAD_CHUNK", 3)
    torch.testing.assert_close(careful.price(points), whole)
    assert careful.price(points[0, 0]).item() == pytest.approx(whole[0, 0].item())
    assert careful.price(points[:0]).shape == (0, 4)


def test_it_compiles_without_a_graph_break(wide: Lut, space: Space) -> None:
    torch._dynamo.reset()
    careful = ExpectedLatency(wide, space, sigmas=1.0)
    compiled = torch.compile(careful, backend="aot_eager", fullgraph=True)
    shares = careful.probabilities(torch.randn(3, *careful.shape)).requires_grad_()
    torch.testing.assert_close(compiled(shares), careful(shares))
    (fast,) = torch.autograd.grad(compiled(shares).sum(), shares)
    (slow,) = torch.autograd.grad(careful(shares).sum(), shares)
    torch.testing.assert_close(fast, slow)


def test_a_table_without_intervals_and_other_columns_are_refused(
    pool_lut: Lut, wide: Lut, space: Space
) -> None:
    with pytest.raises(MissingRow, match="sigmas needs the rows' intervals: latency_low_ms is null in"):
        ExpectedLatency(pool_lut, space, sigmas=1.0)
    with pytest.raises(LutError, match="interval around latency_ms, not of p50_ms"):
        ExpectedLatency(wide, space, sigmas=1.0, column="p50_ms")
    for wrong in (-1.0, float("nan"), float("inf")):
        with pytest.raises(LutError, match="sigmas must be a number of 0 or more"):
            ExpectedLatency(wide, space, sigmas=wrong)
