"""Several costs at once: the same numbers as one by one, counts without a table, and what is refused."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hwprof.errors import LutError, MissingRow, SpaceError  # noqa: E402 - torch is optional
from hwprof.graph import cost  # noqa: E402
from hwprof.lut import COLUMNS, Lut  # noqa: E402
from hwprof.search import ExpectedCosts, ExpectedLatency  # noqa: E402
from hwprof.search.costs import COUNTS, SUMMED  # noqa: E402
from hwprof.search.stacked import Stacked  # noqa: E402
from hwprof.space import Space, load_space  # noqa: E402

F64 = torch.float64


@pytest.fixture(scope="module")
def space(make: Any) -> Space:
    p = make.pool
    return make.space([[[p[0]]], [[p[1]], [p[2], p[2]], []], [[p[3]], [p[4]]]], "three")


@pytest.fixture
def table(make: Any, save: Callable[..., Lut]) -> Lut:
    """A table with energy and intervals too."""
    rows = [
        make.row(
            op, ms, energy_mj=7 * ms, energy_reason=None,
            latency_low_ms=0.9 * ms, latency_high_ms=1.1 * ms,
        )
        for op, ms in make.latencies.items()
    ]  # fmt: skip
    return save(rows)


def shares_of(module: Stacked, *batch: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(4)
    return module.probabilities(torch.randn(*batch, *module.shape, dtype=F64, generator=generator))


def test_every_column_is_what_it_is_alone(table: Lut, space: Space) -> None:
    columns = ("latency_ms", "p50_ms", "energy_mj")
    costs = ExpectedCosts(table, space, columns, dtype=F64)
    assert costs.columns == columns
    assert costs.units == ("ms", "ms", "mJ")
    shares = shares_of(costs, 5)
    alone = [ExpectedLatency(table, space, column=column, dtype=F64)(shares) for column in columns]
    torch.testing.assert_close(costs(shares), torch.stack(alone, -1))
    torch.testing.assert_close(costs(shares)[:, 2], 7 * costs(shares)[:, 0])


def test_counts_are_those_of_the_ops_and_need_no_table(space: Space) -> None:
    costs = ExpectedCosts(None, space, COUNTS, dtype=F64)
    points = list(itertools.product(*(range(len(p.choices)) for p in space.positions)))
    for point, row in zip(points, costs.price(points).tolist(), strict=True):
        each = [cost(op.lower()) for op in space.point_ops(point)]
        assert row == [sum(getattr(c, column) for c in each) for column in COUNTS]


def test_counts_of_a_chain_are_those_of_its_whole_network() -> None:
    space = load_space("tiny")
    costs = ExpectedCosts(None, space, ("flops", "parameters"), dtype=F64)
    rng = np.random.default_rng(0)
    for point in (space.sample(rng) for _ in range(5)):
        whole = cost(space.network(point))
        assert costs.price([point])[0].tolist() == [whole.flops, whole.parameters]


def test_the_expectation_is_the_mean_over_all_networks(table: Lut, space: Space) -> None:
    costs = ExpectedCosts(table, space, ("latency_ms", "energy_mj", *COUNTS), dtype=F64)
    shares = shares_of(costs)
    points = list(itertools.product(*(range(len(p.choices)) for p in space.positions)))
    chances = torch.stack([shares[range(3), point].prod() for point in points])
    mean = (chances[:, None] * costs.price(points)).sum(0)
    torch.testing.assert_close(costs(shares), mean, rtol=1e-6, atol=0.0)


def test_latency_is_composed_and_energy_is_a_plain_sum(table: Lut, space: Space, make: Any) -> None:
    """The two ways through forward, additive for all columns or one by one, agree."""
    calibrated = make.calibrated(table, space, {"rows": 0.5, "cuts": 0.01}, sigma=0.1)
    columns = ("energy_mj", "latency_ms", "flops")
    costs = ExpectedCosts(calibrated, space, columns, dtype=F64)
    careful = ExpectedCosts(calibrated, space, columns, sigmas=2.0, dtype=F64)
    latency = ExpectedLatency(calibrated, space, dtype=F64)
    assert latency.composition is not None
    shares = shares_of(costs, 2)
    torch.testing.assert_close(costs(shares)[:, 1], latency(shares))
    torch.testing.assert_close(careful(shares)[:, [0, 2]], costs(shares)[:, [0, 2]])
    wanted = ExpectedLatency(calibrated, space, sigmas=2.0, dtype=F64)(shares)
    torch.testing.assert_close(careful(shares)[:, 1], wanted)
    point = torch.tensor([[0, 1, 1]])
    hard = torch.nn.functional.one_hot(point, costs.shape[1]).double()
    torch.testing.assert_close(careful.price(point), careful(hard))


def test_gradients_of_each_column(table: Lut, space: Space) -> None:
    costs = ExpectedCosts(table, space, ("latency_ms", "energy_mj"), sigmas=1.0, dtype=F64)
    logits = torch.randn(2, *costs.shape, dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: costs(costs.probabilities(x)), (logits,))


@pytest.mark.parametrize("sigmas", [0.0, 1.0])
def test_it_compiles_without_a_graph_break(table: Lut, space: Space, sigmas: float) -> None:
    torch._dynamo.reset()
    costs = ExpectedCosts(table, space, ("latency_ms", "energy_mj", "flops"), sigmas=sigmas)
    compiled = torch.compile(costs, backend="aot_eager", fullgraph=True)
    shares = shares_of(costs, 3).float().requires_grad_()
    torch.testing.assert_close(compiled(shares), costs(shares))
    (fast,) = torch.autograd.grad(compiled(shares).sum(), shares)
    (slow,) = torch.autograd.grad(costs(shares).sum(), shares)
    torch.testing.assert_close(fast, slow)


def test_one_tensor_per_position_and_any_batch_shape(table: Lut, space: Space) -> None:
    costs = ExpectedCosts(table, space, dtype=F64)
    shares = shares_of(costs, 2, 3)
    assert costs(shares).shape == (2, 3, 3)
    parts = [shares[..., i, :width] for i, width in enumerate(costs.widths)]
    torch.testing.assert_close(costs(parts), costs(shares))
    with pytest.raises(SpaceError, match="probabilities of three have shape"):
        costs(shares[..., :2, :])


def test_it_computes_in_float32_and_moves_as_one_module(table: Lut, space: Space) -> None:
    costs = ExpectedCosts(table, space)
    assert costs(torch.rand(costs.shape)).dtype == torch.float32
    assert costs.state_dict() == {}
    assert "latency_ms, flops, parameters" in repr(costs)
    moved = costs.to("meta")
    assert {buffer.device.type for buffer in moved.buffers()} == {"meta"}
    assert moved(torch.empty(4, *costs.shape, device="meta")).shape == (4, 3)


NO_SUMS = [
    column.name
    for column in COLUMNS
    if column.name not in SUMMED and column.type in ("double", "int64", "int32", "float")
]


@pytest.mark.parametrize("column", [*NO_SUMS, "label", "nonsense"])
def test_a_column_that_does_not_add_up_is_refused_by_name(column: str, space: Space) -> None:
    with pytest.raises(LutError) as caught:
        ExpectedCosts(None, space, ("flops", column))
    message = str(caught.value)
    assert "\n" not in message
    assert f"column '{column}' does not add up" in message
    assert message.endswith(", ".join(SUMMED))


def test_the_reason_is_told() -> None:
    space = load_space("tiny")
    for column, reason in {
        "peak_memory_bytes": "fullest moment",
        "p90_ms": "quantile",
        "latency_high_ms": "sigmas=",
        "visits": "no cost of a network",
    }.items():
        with pytest.raises(LutError, match=reason):
            ExpectedCosts(None, space, (column,))


def test_what_the_table_lacks_is_an_error(pool_lut: Lut, space: Space) -> None:
    with pytest.raises(LutError, match="column latency_ms needs a table; without one choose of flops"):
        ExpectedCosts(None, space)
    with pytest.raises(MissingRow, match="energy_mj is null in"):
        ExpectedCosts(pool_lut, space, ("latency_ms", "energy_mj"))
    with pytest.raises(LutError, match="one or more different ones"):
        ExpectedCosts(pool_lut, space, ("flops", "flops"))
    with pytest.raises(LutError, match="one or more different ones"):
        ExpectedCosts(pool_lut, space, ())
    with pytest.raises(LutError, match="latency_ms, which is not among the columns"):
        ExpectedCosts(pool_lut, space, ("flops",), sigmas=1.0)
    with pytest.raises(LutError, match="is uncalibrated for networks of three"):
        ExpectedCosts(pool_lut, space, calibrated=True)
