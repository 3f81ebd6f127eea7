"""Expected latency with a composition: exact against every network, and gradients that are right."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from hwprof import ops  # noqa: E402 - torch is optional
from hwprof.composition.composition import Composition, Scope  # noqa: E402
from hwprof.composition.price import Pricer  # noqa: E402
from hwprof.errors import LutError, MissingRow  # noqa: E402
from hwprof.lut import chain_columns, load_lut, null_row, write_lut  # noqa: E402
from hwprof.ops import lower  # noqa: E402
from hwprof.search import ExpectedLatency  # noqa: E402
from hwprof.space import Choice, Position, Space  # noqa: E402

SHAPE = (1, 8, 8, 8)
STEM = ops.conv((1, 3, 8, 8), 8, 3)
BLOCKS = [ops.mbconv(SHAPE, 8, kernel, expansion) for kernel in (3, 5) for expansion in (2, 4)]
POOLS = [ops.pool(SHAPE, "max", 3), ops.pool(SHAPE, "avg", 3)]
HEAD = ops.head(SHAPE, 16, 10)


def position(name, choices):
    return Position(name, tuple(Choice(f"c{i}", tuple(c)) for i, c in enumerate(choices)))


def chain(skips):
    empty = [[]] if skips else []
    return Space(
        "tiny",
        "made for a test",
        "chain",
        (
            position("stem", [[STEM]]),
            position("b0", [[BLOCKS[0]], [POOLS[0]], *empty]),
            position("b1", [[BLOCKS[1]], [BLOCKS[2], POOLS[1]], *empty]),
            position("b2", [[POOLS[0]], [BLOCKS[3]], *empty]),
            position("head", [[HEAD]]),
        ),
    )


def pairs_of(space):
    """Every two ops that may follow each other."""
    found = set()
    for point in itertools.product(*(range(len(p.choices)) for p in space.positions)):
        found |= set(itertools.pairwise(space.point_ops(point)))
    return sorted(found, key=lambda pair: (pair[0].op_id, pair[1].op_id))


@pytest.fixture(scope="module")
def made(make, tmp_path_factory):
    """A table of a chain space with rows, pairs and a composition that uses every term."""
    rng = np.random.default_rng(7)
    folder = tmp_path_factory.mktemp("composed")

    def table(weights, skips=True, pairs=True):
        space = chain(skips)
        alone = {op: float(rng.uniform(0.1, 1.0)) for op in space.ops()}
        rows = [make.row(op, ms) for op, ms in alone.items()]
        edge = {}
        for number, (a, b) in enumerate(pairs_of(space) if pairs else ()):
            key = (a.kind, b.kind, b.shape)
            edge.setdefault(key, float(rng.uniform(-0.2, 0.1)))
            columns = chain_columns(f"{number:020x}", "pair", (a, b), lower((a, b)))
            row = make.row(a, alone[a] + alone[b] + edge[key])
            rows.append({**null_row(), **row, **columns, "granularity": "pair"})
        scope = Scope(make.here, "tiny", 1, "float32", "warm", "floor")
        composition = Composition(
            scope, "made", weights, ("0" * 20,), 0.0, 0.0, {}, "2026-11-21T00:00:00+00:00", "0.1.0"
        )
        facts = {make.here: {"identity": {"runtime": "ort"}, "conditions": {}}}
        path = folder / f"{len(list(folder.iterdir()))}.parquet"
        metadata = {"spaces": ["tiny"], "environments": facts, "composition": [composition.to_dict()]}
        write_lut(path, rows, metadata=metadata)
        return load_lut(path), space, composition

    return table


WEIGHTS = {"rows": 0.9, "edges": 1.1, "cuts": -0.01, "cut_mib": 0.3, "weight_mib": 0.2}


@pytest.mark.parametrize("skips", [True, False])
@pytest.mark.parametrize(
    "weights", [WEIGHTS, {"rows": 1.02, "cuts": -0.03}, {"rows": 1.1, "once": -0.2}]
)
def test_expectation_is_the_mean_over_every_network(made, skips, weights):
    table, space, composition = made(weights, skips)
    latency = ExpectedLatency(table, space, dtype=torch.float64)
    assert latency.composition == composition
    pricer = Pricer(table, composition.scope, space.ops(), composition)
    logits = torch.randn(latency.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    shares = latency.probabilities(logits)
    mean, prices = 0.0, []
    for point in itertools.product(*(range(len(p.choices)) for p in space.positions)):
        price = pricer.price(space.point_ops(point)).latency_ms
        prices.append(price)
        mean += price * float(torch.prod(shares[range(len(point)), point]))
        assert latency.price([point]).item() == pytest.approx(price, rel=1e-9)
        assert sum(ms for *_, ms in latency.breakdown(point)) == pytest.approx(price, rel=1e-9)
    assert latency(shares).item() == pytest.approx(mean, rel=1e-9)
    assert latency.bounds() == pytest.approx((min(prices), max(prices)), rel=1e-9)


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 10_000))
def test_gradients_are_finite_differences_also_across_skips(made, seed):
    table, space, _ = made(WEIGHTS)
    latency = ExpectedLatency(table, space, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn((2, *latency.shape), dtype=torch.float64, generator=generator)
    logits.requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: latency(latency.probabilities(x)), (logits,))


def test_batches_lists_and_hard_gates_agree_with_prices(made):
    table, space, _ = made(WEIGHTS)
    latency = ExpectedLatency(table, space, dtype=torch.float64)
    points = torch.tensor([space.sample(np.random.default_rng(i)) for i in range(6)])
    hard = torch.nn.functional.one_hot(points, latency.shape[1]).double()
    assert torch.allclose(latency(hard), latency.price(points))
    parts = [hard[:, i, :width] for i, width in enumerate(latency.widths)]
    assert torch.allclose(latency(parts), latency.price(points))
    assert torch.allclose(latency(hard.view(2, 3, *latency.shape)), latency.price(points.view(2, 3, -1)))


def test_composition_can_be_refused_or_demanded(made, pool_lut, make):
    table, space, _ = made(WEIGHTS)
    plain = ExpectedLatency(table, space, calibrated=False, dtype=torch.float64)
    point = [0] * len(space.positions)
    alone = sum(table.latencies_ms(list(space.point_ops(point))))
    assert plain.composition is None
    assert plain.price([point]).item() == pytest.approx(alone)
    assert "composition=uncalibrated" in repr(plain)
    other = make.space([[[make.pool[0]]]], "other")
    with pytest.raises(LutError, match="is uncalibrated for networks of other; run: hwprof calibrate"):
        ExpectedLatency(pool_lut, other, calibrated=True)
    with pytest.raises(LutError, match="column energy_mj has no composition"):
        ExpectedLatency(with_energy(table), space, column="energy_mj", calibrated=True)


def with_energy(table):
    rows = [{**row, "energy_mj": 1.0, "energy_reason": None} for row in table.table.to_pylist()]
    path = table.path.with_name(f"energy-{table.path.name}")
    write_lut(path, rows, metadata=table.metadata)
    return load_lut(path)


def test_an_edge_without_its_pair_is_an_error_that_says_how_to_measure_it(made):
    table, space, _ = made(WEIGHTS, pairs=False)
    with pytest.raises(
        MissingRow, match=r"no pair row for \d+ of \d+ edges .*hwprof calibrate .*--edges"
    ):
        ExpectedLatency(table, space)


def test_a_composition_of_another_space_is_not_used(made):
    table, space, _ = made(WEIGHTS)
    renamed = replace(space, name="another")
    assert ExpectedLatency(table, renamed).composition is None
