"""The shortlist: predicted beside measured, and nothing timed on a machine that is not the table's."""

import json
from dataclasses import replace

import numpy as np
import pytest

from hwprof.build import BuildOptions, build_lut
from hwprof.errors import SpaceError
from hwprof.lut import load_lut, write_lut
from hwprof.space import load_space
from hwprof.validation import shortlist
from hwprof.validation.setting import Wanted


@pytest.fixture
def points(small_space):
    rng = np.random.default_rng(5)
    space = load_space(str(small_space))
    return [space.sample(rng) for _ in range(3)]


@pytest.fixture
def tries(monkeypatch):
    """A list that grows with each time that networks are measured."""
    found = []
    measure = shortlist.measure
    monkeypatch.setattr(shortlist, "measure", lambda *of: found.append(of) or measure(*of))
    return found


def test_networks_are_predicted_and_measured_and_their_rows_kept(calibrated, wanted, points):
    rows = len(load_lut(calibrated))
    found = shortlist.measure_shortlist(calibrated, wanted, points)
    assert [candidate.point for candidate in found] == points
    for candidate in found:
        assert candidate.reason is None
        assert candidate.floor_ms == pytest.approx(candidate.measured_floor_ms, rel=1e-3)
        # The p50 is stored in single precision.
        assert candidate.measured_p50_ms >= candidate.measured_floor_ms * (1 - 1e-6)
    assert len(load_lut(calibrated)) == rows + len(points)
    json.dumps([candidate.summary() for candidate in found])


def test_network_that_is_there_twice_is_measured_once(calibrated, wanted, points):
    rows = len(load_lut(calibrated))
    first, second = shortlist.measure_shortlist(calibrated, wanted, [points[0], points[0]])
    assert first == second
    assert len(load_lut(calibrated)) == rows + 1


def test_on_another_machine_nothing_is_measured_and_called_so(calibrated, wanted, points, monkeypatch):
    before = calibrated.read_bytes()
    elsewhere = replace(shortlist.find_setting(calibrated, wanted).build, threads=2)
    find = shortlist.find_setting
    monkeypatch.setattr(shortlist, "find_setting", lambda *of: replace(find(*of), build=elsewhere))
    found = shortlist.measure_shortlist(calibrated, wanted, points)
    assert all(c.measured_floor_ms is None and c.measured_p50_ms is None for c in found)
    assert {candidate.reason for candidate in found} == {shortlist.OTHER_DEVICE}
    assert all(candidate.floor_ms > 0 for candidate in found)
    assert calibrated.read_bytes() == before


def test_point_that_does_not_fit_the_space_is_refused(calibrated, small_space):
    with pytest.raises(SpaceError):
        shortlist.measure_shortlist(calibrated, Wanted(space=str(small_space)), [(0, 1)])


def test_a_busy_moment_once_left_a_search_of_half_an_hour_unmeasured(
    tmp_path, small_space, wanted, points, tries
):
    """All three networks of a shortlist are timed within six seconds; their halves were 7 % apart."""
    table = tmp_path / "lut.parquet"
    build_lut(BuildOptions("simulated", str(small_space), table, target="unstable", effort="fast"))
    (refused,) = shortlist.measure_shortlist(table, wanted, points[:1])
    assert len(tries) == shortlist.TRIES
    assert refused.measured_floor_ms is None
    assert refused.reason.startswith("unstable: ")
    (doubted,) = shortlist.measure_shortlist(table, wanted, points[:1], allow_unstable=True)
    assert doubted.measured_floor_ms > 0
    assert doubted.reason.startswith("unstable: ")


def test_what_is_measured_is_not_tried_again(calibrated, wanted, points, tries):
    shortlist.measure_shortlist(calibrated, wanted, points)
    assert len(tries) == 2


@pytest.mark.parametrize("times", [1.0, 1.08])
def test_a_busy_machine_once_looked_like_a_wrong_prediction(calibrated, wanted, points, times):
    """A found network took 8 % more than predicted, on a machine that had become that much slower."""
    table = load_lut(calibrated)
    rows = table.table.to_pylist()
    for row in rows:
        row["latency_ms"] /= times if row["granularity"] == "op" else 1.0
    write_lut(calibrated, rows, metadata=table.metadata)
    (found,) = shortlist.measure_shortlist(calibrated, wanted, points[:1])
    assert found.rows_ratio == pytest.approx(times, rel=1e-3)
    (known,) = shortlist.measure_shortlist(calibrated, wanted, points[:1])
    assert known == replace(found, rows_ratio=None)
