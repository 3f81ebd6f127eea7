"""Replay of a table of known networks."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hwprof.errors import SpaceError
from hwprof.search.discrete.decisions import is_network
from hwprof.search.discrete.errors import ObjectiveError
from hwprof.search.discrete.replay import has_path, read_replay
from hwprof.space.nb201 import string_from_point


def test_has_path_says_what_the_space_says(nb201):
    rng = np.random.default_rng(0)
    points = [nb201.sample(rng) for _ in range(60)]
    points += [tuple(c if rng.random() < 0.4 else 0 for c in point) for point in points]
    assert {has_path(nb201, point) for point in points} == {True, False}
    for point in points:
        assert has_path(nb201, point) == is_network(nb201, point)


def test_only_networks_with_a_path_are_replayed(nb201, tmp_path):
    straight, dead_end, by_node_1 = ([0] * 10 for _ in range(3))
    straight[4] = 3  # 0 -> 3
    dead_end[1] = 3  # 0 -> 1
    by_node_1[1], by_node_1[5] = 2, 1  # 0 -> 1 -> 3
    points = [tuple(point) for point in (straight, dead_end, by_node_1)]
    path = tmp_path / "known.parquet"
    strings = [string_from_point(nb201, point) for point in points]
    pq.write_table(pa.table({"arch": strings, "ms": [1.0, 2.0, 3.0], "note": ["a", "b", "c"]}), path)
    replay = read_replay(path, nb201)
    assert list(replay.points) == [points[0], points[2]]
    objective = replay.objective("ms", unit="ms")
    assert [objective.value(point) for point in replay.points] == [1.0, 3.0]
    assert replay.decisions().point((3, 0, 0, 0, 0, 0)) is None
    with pytest.raises(ObjectiveError, match="no column 'note'; choose of ms"):
        replay.objective("note")


def test_a_table_without_any_network_is_refused(nb201, tmp_path):
    path = tmp_path / "known.parquet"
    pq.write_table(pa.table({"arch": [string_from_point(nb201, (0,) * 10)], "ms": [1.0]}), path)
    with pytest.raises(SpaceError, match="no networks of nb201 to replay"):
        read_replay(path, nb201)


def test_a_file_that_is_no_such_table_is_refused(nb201, tmp_path):
    path = tmp_path / "other.parquet"
    path.write_text("arch,ms\n")
    with pytest.raises(ObjectiveError, match="cannot be read as Parquet"):
        read_replay(path, nb201)
    pq.write_table(pa.table({"ms": [1.0]}), path)
    with pytest.raises(ObjectiveError, match="has no column 'arch'; it has ms"):
        read_replay(path, nb201)


@pytest.mark.parametrize(
    ("column", "told"),
    [([1, 2], "of type int64, not text"), ([None, None], "of type null"), (["", None], "1 of 2 rows")],
)
def test_architectures_that_are_not_all_text_are_refused(nb201, tmp_path, column, told):
    path = tmp_path / "known.parquet"
    pq.write_table(pa.table({"arch": column, "ms": [1.0, 2.0]}), path)
    with pytest.raises(ObjectiveError, match=told):
        read_replay(path, nb201)


def test_architectures_may_be_a_dictionary_column(nb201, tmp_path):
    path = tmp_path / "known.parquet"
    straight = string_from_point(nb201, (0, 0, 0, 0, 3, 0, 0, 0, 0, 0))
    pq.write_table(pa.table({"arch": pa.array([straight]).dictionary_encode(), "ms": [1.0]}), path)
    assert len(read_replay(path, nb201).points) == 1
