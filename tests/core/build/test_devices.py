"""Options, devices that are not there or go away, fallbacks, soaks: what becomes of a build."""

import tempfile
from dataclasses import replace
from itertools import pairwise

import pytest

from hwprof.build import build_lut, make_plan
from hwprof.build.pipeline import work_folder
from hwprof.errors import BackendError, BackendUnavailable, BuildError
from hwprof.lut import load_lut
from hwprof.measure.executor import Limits, LocalExecutor


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


def test_op_that_poisons_its_process_fails_alone_and_the_build_goes_on(on):
    report = build_lut(on("poison"))
    rows = rows_of(on("poison").out)
    failed = [row for row in rows if row["state"] == "failed"]
    assert 0 < len(failed) < len(rows) == report.measured
    assert all("illegal memory access" in row["reason"] for row in failed)
    assert all(row["state"] == "converged" for row in rows if row not in failed)


def test_what_workers_leave_in_the_temporary_folder_goes_with_them(on, tmp_path_factory, monkeypatch):
    scratch = tmp_path_factory.mktemp("scratch")
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    report = build_lut(on("litter"))
    assert report.states == {"converged": report.measured}
    assert list(scratch.glob("**/litter-*")) == []
    assert list(scratch.glob("hwprof-worker-*")) == []


def test_gpu_without_a_name_is_not_measured_since_rows_of_two_would_mix(on):
    with pytest.raises(BuildError, match=r"the GPU's name cannot be read.*pip install nvidia-ml-py"):
        build_lut(on("nameless-gpu"))
    assert list(on("nameless-gpu").out.parent.iterdir()) == []


def soaking(outcomes, soaked):
    """Local workers whose soaks end as told, one outcome each."""

    class Soaking(LocalExecutor):
        def soak(self, process, artifact, seconds):
            soaked.append(artifact)
            outcome = outcomes.pop(0)
            if outcome is not None:
                raise outcome

    return lambda options, folder: Soaking(
        options.backend, options.full_target(), folder / "worker.log", Limits()
    )


def test_op_that_fails_in_the_soak_gives_way_to_the_next_heaviest(options):
    soaked = []
    chosen = replace(options, sustain_s=1.0)
    build_lut(chosen, executor=soaking([BackendError("too hot"), None, None], soaked))
    rows = rows_of(options.out)
    heaviest = max(rows, key=lambda row: row["flops"])
    assert (heaviest["state"], heaviest["reason"]) == ("failed", "too hot")
    assert heaviest["op_id"] in soaked[0]
    assert heaviest["op_id"] not in soaked[1]
    assert {row["state"] for row in rows if row is not heaviest} == {"converged"}


def test_nothing_is_called_sustained_when_no_op_could_soak(options):
    soaked = []
    failures = [BackendError("too hot")] * 100
    build_lut(replace(options, sustain_s=1.0), executor=soaking(failures, soaked))
    assert {row["state"] for row in rows_of(options.out)} == {"failed"}


def test_device_lost_in_the_soak_blames_no_row(options):
    lost = soaking([BackendUnavailable("the tracker does not answer")], [])
    with pytest.raises(BuildError, match="the tracker does not answer"):
        build_lut(replace(options, sustain_s=1.0), executor=lost)
    assert b'"failure"' not in (work_folder(options.out) / "journal").read_bytes()


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
