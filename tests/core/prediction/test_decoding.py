"""From rows back to points: by ops, by label, by architecture string, by building."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprof.errors import SpaceError
from hwprof.prediction import decoding
from hwprof.prediction.decoding import Decoder
from hwprof.prediction.errors import PredictionError
from hwprof.space import string_from_point


@given(st.data())
def test_the_ops_of_a_chain_tell_its_point_or_one_that_runs_the_same(chain, row_of, data):
    point = tuple(data.draw(st.integers(0, len(p.choices) - 1)) for p in chain.positions)
    found = Decoder(chain).point(row_of(chain, point))
    assert chain.point_ops(found) == chain.point_ops(point)


def test_every_cell_is_found_by_building_those_with_its_ops(cell, made):
    decoder = Decoder(cell)
    paths = 0
    for number in range(4**3):
        point = (0, number // 16, number // 4 % 4, number % 4, 0)
        try:
            network = cell.network(point)
        except SpaceError:
            continue
        paths += 1
        found = decoder.point(made.network_row(cell, point))
        # Another point may be the very same network: what leads nowhere, or two ways to skip.
        assert cell.network(found).to_dict() == network.to_dict()
        assert cell.point_ops(found) == cell.point_ops(point)
    assert paths > 40


def test_a_point_in_the_label_and_a_string_in_the_reason_are_taken_at_their_ops(cell, made, monkeypatch):
    monkeypatch.setattr(decoding, "MAX_CANDIDATES", 0)
    point = (0, 2, 1, 3, 0)
    row = made.network_row(cell, point)
    named = {**row, "label": f"{row['label']}:0.2.1.3.0"}
    assert Decoder(cell).point(named) == point
    told = {**row, "reason": f"{string_from_point(cell, point)} (3.2 ms)"}
    assert Decoder(cell).point(told) == point
    assert Decoder(cell, {row["op_id"]: point}).point(row) == point
    lying = {**row, "label": f"{row['label']}:0.1.1.3.0"}
    with pytest.raises(PredictionError, match="give --points"):
        Decoder(cell).point(lying)


def test_a_network_of_another_space_is_refused_by_name(chain, cell, made):
    row = made.network_row(cell, (0, 2, 2, 2, 0))
    with pytest.raises(PredictionError, match=f"{row['label']} is no network of space short"):
        Decoder(chain).point(row)


def test_many_rows_cost_few_builds(cell, made, monkeypatch):
    """Networks with the same ops are looked for together."""
    rng = np.random.default_rng(0)
    rows = [made.network_row(cell, (0, 2, *rng.permutation([1, 3]), 0)) for _ in range(20)]
    built = []
    network = type(cell).network
    monkeypatch.setattr(type(cell), "network", lambda s, p: built.append(p) or network(s, p))
    decoder = Decoder(cell)
    for row in rows:
        assert json.loads(row["op_json"])
        decoder.point(row)
    assert len(built) <= 2 * 6
