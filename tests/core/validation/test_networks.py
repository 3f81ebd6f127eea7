"""Networks are drawn: how many, which, and never the same for fit and judgement."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwprof import ops
from hwprof.errors import SpaceError
from hwprof.graph import cost
from hwprof.space import load_space
from hwprof.validation.networks import CALIBRATION, VALIDATION, draw, network_job


def flops_ms(space):
    return {op: cost(op.lower()).flops / 1e6 for op in space.ops()}


@pytest.fixture(scope="module")
def cifar():
    space = load_space("s3nas-cifar")
    return space, flops_ms(space)


def latency(drawn, rows_ms):
    return sum(rows_ms[op] for op in drawn.job.ops)


def bounds(space, rows_ms):
    sums = [[sum(rows_ms[op] for op in c.ops) for c in p.choices] for p in space.positions]
    return sum(map(min, sums)), sum(map(max, sums))


def test_half_is_spread_evenly_from_the_fastest_to_the_slowest(cifar):
    space, rows_ms = cifar
    drawn = draw(space, rows_ms, 20, 0, VALIDATION)
    assert [network.spread for network in drawn].count(True) == 10
    spread = sorted(latency(network, rows_ms) for network in drawn if network.spread)
    low, high = bounds(space, rows_ms)
    np.testing.assert_allclose(spread, np.linspace(low, high, 10), rtol=0.02)


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 10_000), count=st.integers(2, 16))
def test_drawn_networks_differ_and_the_two_streams_never_meet(seed, count):
    space = load_space("tiny")
    rows_ms = flops_ms(space)
    fitted = {n.job.job_id for n in draw(space, rows_ms, 6, seed, CALIBRATION)}
    held_out = [n.job.job_id for n in draw(space, rows_ms, count, seed, VALIDATION, without=fitted)]
    assert len(set(held_out)) == len(held_out) == count
    assert not fitted & set(held_out)


def test_the_same_seed_draws_the_same_networks(cifar):
    space, rows_ms = cifar
    first, again, other = (
        [n.job.job_id for n in draw(space, rows_ms, 8, seed, VALIDATION)] for seed in (1, 1, 2)
    )
    assert first == again != other


def test_too_small_a_space_says_how_many_networks_there_are():
    space = load_space("tiny")
    with pytest.raises(SpaceError, match=r"too few different networks: \d+ of 5000 were found"):
        draw(space, flops_ms(space), 5000, 0, VALIDATION)


def test_a_cell_network_is_a_graph_and_one_without_a_path_is_not_drawn():
    space = load_space("nb201")
    closed = tuple(0 for _ in space.positions)
    assert network_job(space, closed) is None
    drawn = draw(space, flops_ms(space), 6, 0, VALIDATION)
    for network in drawn:
        assert network.job.graph is not None
        assert network.job.lower().outputs


def test_a_list_of_ops_has_no_networks(tmp_path):
    path = tmp_path / "mine.yaml"
    op = ops.mbconv((1, 8, 8, 8), 8, 3, 2).to_json()
    path.write_text(f"name: mine\nfamily: ops\nsummary: one op\nops:\n  - op: '{op}'\n")
    space = load_space(path)
    with pytest.raises(SpaceError, match="mine is a list of ops: it has no networks"):
        draw(space, flops_ms(space), 2, 0, VALIDATION)
