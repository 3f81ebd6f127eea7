"""Options, devices that are not there or go away, fallbacks, soaks: what becomes of a build."""

from dataclasses import replace
from itertools import pairwise

import pytest

from hwprof.build import build_lut, make_plan
from hwprof.build.pipeline import work_folder
from hwprof.errors import BackendUnavailable, BuildError
from hwprof.lut import load_lut


def rows_of(path):
    return load_lut(path).table.to_pylist()


@pytest.fixture
def on(faulty, options):
    """Options of a build on the misbehaving backend."""
    return lambda target, **changes: replace(options, backend="faulty", target=target, **changes)


def test_row_whose_nodes_fell_back_says_so_and_keeps_its_number(on):
    build_lut(on("fallback"))
    rows = rows_of(on("fallback").out)
    fell = [row for row in rows if "2 of 7 nodes ran on another device" in (row["reason"] or "")]
    assert 0 < len(fell) < len(rows)
    assert all(row["state"] == "converged" and row["latency_ms"] > 0 for row in fell)
    assert all(row["reason"].startswith("visits and processes agree") for row in fell)


def test_absent_device_stops_the_build_before_it_starts_and_leaves_nothing(on):
    with pytest.raises(BackendUnavailable, match="install its driver: apt install driver"):
        build_lut(on("absent"))
    assert list(on("absent").out.parent.iterdir()) == []


def test_lost_device_stops_the_build_blames_no_row_and_can_be_resumed(on):
    with pytest.raises(BuildError, match="the device answers no more"):
        build_lut(on("lost"))
    folder = work_folder(on("lost").out)
    assert (folder / "journal").exists()
    with pytest.raises(BuildError, match="the device answers no more"):
        build_lut(on("lost"))
    assert b'"failure"' not in (folder / "journal").read_bytes()


def test_launch_time_and_the_runtimes_own_memory_count_are_columns(on):
    build_lut(on("gpu"))
    rows = rows_of(on("gpu").out)
    told = [row for row in rows if row["peak_memory_bytes"] == 12_345]
    assert 0 < len(told) < len(rows)
    for row in rows:
        assert row["launch_ms"] == (pytest.approx(0.002) if row in told else None)
        assert (row["peak_memory_source"] == "the runtime's own count") == (row in told)


def test_option_is_part_of_the_environment_and_its_default_is_the_same_as_none(on):
    plain, mild, hot = (
        make_plan(on("none", options=given)).environment.environment_id
        for given in ({}, {"heat": "mild"}, {"heat": "hot"})
    )
    assert plain == mild != hot


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"colour": "red"}, "option 'colour' is unknown to faulty; it has: heat"),
        ({"heat": "cold"}, "option heat='cold' is unknown to faulty; choose of mild, hot"),
    ],
)
def test_unknown_option_or_value_is_refused_with_the_known_ones(on, given, says):
    with pytest.raises(BuildError, match=says):
        make_plan(on("none", options=given))


def test_sustained_rows_are_of_another_environment_and_came_after_a_soak(options):
    burst, sustained = replace(options, limit=2), replace(options, limit=2, sustain_s=0.2)
    build_lut(burst)
    report = build_lut(sustained)
    assert 0.2 <= report.soak_s <= report.wall_s
    rows = rows_of(options.out)
    assert [row["regime"] for row in rows].count("sustained") == 2
    assert [row["regime"] for row in rows].count("burst") == 2
    ids = {row["regime"]: row["environment_id"] for row in rows}
    assert ids["burst"] != ids["sustained"]


def test_worker_gives_the_device_up_before_another_one_uses_it(options, monkeypatch, tmp_path):
    from hwprof.measure import executor

    asked = []
    send = executor._WorkerProcess.send

    def recorded(self, request):
        asked.append((self._process.pid, request["do"]))
        send(self, request)

    monkeypatch.setattr(executor._WorkerProcess, "send", recorded)
    build_lut(replace(options, limit=2))
    turns = [entry for entry in asked if entry[1] in ("visit", "release")]
    changes = 0
    for (pid, request), (next_pid, _) in pairwise(turns):
        if next_pid != pid:
            assert request == "release"
            changes += 1
    assert changes > 10
