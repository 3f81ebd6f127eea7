"""Hashes of what values come from: they tell another source, and nothing else."""

import pytest

from hwprof.composition.composition import Composition, Scope
from hwprof.lut import chain_columns, null_row
from hwprof.ops import lower
from hwprof.search.discrete.sources import objective_sha256, rows_sha256


@pytest.fixture
def hashed(make, save):
    """The hash of two ops' prices in a table of theirs, a third row's and a pair's."""
    second, other, first = make.pool[:3]

    def find(first_ms=1.0, other_ms=1.0, pair_ms=3.0, rows=1.0, edges=1.0):
        alone = [(first, first_ms), (second, 1.0), (other, other_ms)]
        columns = chain_columns("0" * 20, "pair", (first, second), lower((first, second)))
        pair = {**null_row(), **make.row(first, pair_ms), **columns, "granularity": "pair"}
        table = save([*(make.row(op, ms) for op, ms in alone), pair])
        weights = {"rows": rows, "edges": edges} if edges else {"rows": rows}
        composition = Composition(
            Scope(make.here, "tiny", first.shape[0], first.dtype, "warm", "floor"), "made", weights,
            ("0" * 20,), 0.0, 0.0, {}, "2026-11-21T00:00:00+00:00", "0.1.0",
        )  # fmt: skip
        return rows_sha256(
            table, (first, second), "latency_ms", environment=make.here, cache="warm",
            allow_unstable=False, composition=composition,
        )  # fmt: skip

    return find


@pytest.mark.parametrize(
    "change", [{"first_ms": 1.01}, {"pair_ms": 3.01}, {"rows": 1.000001}, {"edges": 0.0}]
)
def test_whatever_a_price_comes_from_changes_its_hash(hashed, change):
    assert hashed(**change) != hashed()


@pytest.mark.parametrize("change", [{"other_ms": 2.0}, {"pair_ms": 9.0}])
def test_rows_that_no_price_comes_from_leave_the_hash(hashed, change):
    assert hashed(**change, edges=0.0) == hashed(edges=0.0)


@pytest.mark.parametrize("spec", ["parameters", "+memory", "latency", "column:ms", "sys:getsizeof"])
def test_what_comes_from_no_file_of_its_own_has_no_hash(spec):
    assert objective_sha256(spec) is None


def test_the_direction_of_an_objective_is_no_part_of_its_source():
    assert objective_sha256("+json:dumps") == objective_sha256("json:dumps") is not None
