"""Results that come back become rows, or are refused by their line."""

import json
import shutil
from pathlib import Path

import pytest

from hwprof.build import BuildOptions, make_plan
from hwprof.errors import LutError
from hwprof.lut import load_lut
from hwprof.offline import ExportOptions, export_jobs, import_results

PHONE = {
    "ro.product.manufacturer": "Google", "ro.product.model": "Pixel 7",
    "ro.soc.manufacturer": "Google", "ro.soc.model": "Tensor G2",
}  # fmt: skip


def rows(table):
    return sorted(
        load_lut(table).table.to_pylist(), key=lambda row: (row["environment_id"], row["op_id"])
    )


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "lut.parquet"


def on_a_phone(record):
    """What the same lines would tell had a phone written them."""
    if record["type"] == "start":
        record["device"] |= {"properties": PHONE, "machine": "aarch64"}


def unfinished(done, ops=1):
    """The results before the last visits of so many ops."""
    lines = done.results.read_bytes().split(b"\n")
    done.results.write_bytes(b"\n".join(lines[: -1 - ops]) + b"\n")


def test_rows_carry_the_devices_environment_and_say_where_they_ran(done, out):
    report = import_results(done.jobs, out)
    assert report.rows == 3
    assert report.unfinished == 0
    table = load_lut(out)
    for row in rows(out):
        assert (row["backend"], row["source"], row["space"]) == ("onnxruntime", "measured", "tiny")
        assert (row["visits"], row["processes"], row["regime"], row["cache"]) == (18, 3, "burst", "warm")
        assert row["state"] in ("converged", "budget", "unstable")
        assert row["latency_low_ms"] < row["latency_ms"] < row["latency_high_ms"]
        assert "CPUExecutionProvider" in json.loads(row["placement"])
        assert row["load_ms"] > 0
        assert row["peak_memory_bytes"] is None
    assert table.visits.num_rows == 3 * 18


def test_this_machine_has_the_same_environment_as_in_a_build(done, out):
    report = import_results(done.jobs, out)
    plan = make_plan(BuildOptions("onnxruntime", "tiny", out.with_name("other.parquet")))
    assert list(report.environments) == [plan.environment.environment_id]
    assert rows(out)[0]["op_id"] in {job.job_id for job in plan.jobs}


def test_importing_twice_changes_nothing(done, out):
    import_results(done.jobs, out)
    before, table = rows(out), load_lut(out)
    visits = table.visits
    import_results(done.jobs / "results.jsonl", out)
    assert rows(out) == before
    assert load_lut(out).metadata["content_hash"] == table.metadata["content_hash"]
    assert load_lut(out).visits.equals(visits)


def test_two_devices_are_two_environments(done, carry, measured, out):
    phone = carry(measured)
    phone.rewrite(on_a_phone)
    import_results(done.jobs, out)
    report = import_results(phone.jobs, out)
    assert "Google Pixel 7 (Google Tensor G2)" in next(iter(report.environments.values()))
    found = rows(out)
    assert len(found) == 6
    assert len({row["environment_id"] for row in found}) == 2


def test_device_name_keeps_two_of_one_model_apart(done, out):
    import_results(done.jobs, out, device="left board")
    import_results(done.jobs, out, device="right board")
    described = load_lut(out).summary()["environments"]
    names = {e["description"].partition(",")[0] for e in described}
    assert names == {"left board", "right board"}


def test_results_under_another_name_beside_the_plan_are_imported(done, out):
    shutil.move(done.results, done.jobs / "pixel.jsonl")
    assert import_results(done.jobs / "pixel.jsonl", out).rows == 3


def test_unfinished_rows_are_sealed_as_such_and_replace_no_finished_ones(done, carry, measured, out):
    part = carry(measured)
    unfinished(part)
    report = import_results(part.jobs, out)
    assert report.unfinished == 1
    (row,) = (row for row in rows(out) if row["visits"] == 17)
    assert row["reason"].startswith("interrupted")
    assert row["state"] != "converged"
    import_results(done.jobs, out)
    whole = rows(out)
    assert [row["visits"] for row in whole] == [18] * 3
    import_results(part.jobs, out)
    assert rows(out) == whole


def crashed(record):
    if record["type"] == "visit":
        op_id = record["id"]
        record.clear()
        record.update(type="failure", id=op_id, state="timeout", reason="no answer")


def of_last_year(record):
    if record["type"] == "visit":
        record["visit"]["started_at"] -= 365 * 86_400.0


@pytest.mark.parametrize("change", [crashed, of_last_year])
def test_a_crash_and_an_older_run_once_replaced_rows_and_deleted_their_visits(
    done, carry, measured, out, tmp_path, change
):
    import_results(done.jobs, out)
    before = rows(out), load_lut(out).visits
    (tmp_path / "other").mkdir()
    other = type(done)(tmp_path / "other", measured)
    other.rewrite(change)
    report = import_results(other.jobs, out)
    assert (report.rows, report.kept) == (0, 3)
    assert (rows(out), load_lut(out).visits) == before


def test_a_crash_is_a_row_where_there_is_no_number(done, out):
    done.rewrite(crashed)
    assert import_results(done.jobs, out).states == {"timeout": 3}


def test_half_written_last_line_is_left_out(done, out):
    with done.results.open("ab") as file:
        file.write(b'{"seal":"00')
    assert import_results(done.jobs, out).rows == 3


def test_two_plans_fill_one_table(done, carry, tmp_path, out):
    export_jobs(ExportOptions("onnxruntime", "tiny", tmp_path / "more", batch=2, effort="fast", limit=1))
    other = carry(tmp_path / "more")
    assert other.run()[0] == 0
    import_results(done.jobs, out)
    import_results(other.jobs, out)
    assert sorted(row["batch"] for row in rows(out)) == [1, 1, 1, 2]
    shutil.copyfile(done.results, other.results)
    with pytest.raises(LutError, match=r"line 1: made with another plan\.json"):
        import_results(other.jobs, out)


@pytest.mark.parametrize("number", [1, 2, 5, 30])
def test_edited_line_is_refused_by_its_number(done, out, number):
    lines = done.results.read_bytes().split(b"\n")
    # The last digit of the line becomes another one.
    place = max(lines[number - 1].rfind(b"%d" % digit) for digit in range(10))
    old = lines[number - 1][place : place + 1]
    lines[number - 1] = (
        lines[number - 1][:place] + (b"7" if old != b"7" else b"3") + lines[number - 1][place + 1 :]
    )
    done.results.write_bytes(b"\n".join(lines))
    with pytest.raises(LutError, match=rf"line {number}: damaged or edited"):
        import_results(done.jobs, out)
    assert not out.exists()


def test_line_taken_out_is_noticed(done, out):
    lines = done.results.read_bytes().split(b"\n")
    del lines[7]
    done.results.write_bytes(b"\n".join(lines))
    with pytest.raises(LutError, match="line 8"):
        import_results(done.jobs, out)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"id": "0" * 20}, "no model in the plan"),
        ({"round": 99}, "round 99"),
        ({"type": "wish"}, "wish"),
        ({"visit": {}}, "calls_ns"),
    ],
)
def test_line_that_no_runner_writes_is_refused_by_its_number(done, out, change, words):
    last = done.records()[-1]

    def spoil(record):
        if record == last:
            record |= change

    done.rewrite(spoil)
    with pytest.raises(LutError, match=rf"line {len(done.records())}: .*{words}"):
        import_results(done.jobs, out)


@pytest.mark.parametrize("calls_ns", [[], [0], [-5], [1, 0]])
def test_timings_that_no_clock_gives_are_refused(done, out, calls_ns):
    def spoil(record):
        if record["type"] == "visit":
            record["visit"]["calls_ns"] = calls_ns

    done.rewrite(spoil)
    with pytest.raises(LutError, match="timings above 0"):
        import_results(done.jobs, out)


def test_visit_made_twice_is_refused(done, out):
    last, first = done.records()[-1], next(r for r in done.records() if r["type"] == "visit")

    def repeat(record):
        if record == last:
            record.update(first)

    done.rewrite(repeat)
    with pytest.raises(LutError, match="before"):
        import_results(done.jobs, out)


def test_device_whose_processor_changed_between_two_starts_gets_two_environments(done, out):
    records = done.records()
    start = next(r for r in records if r["type"] == "start")
    middle = next(r for r in records if r["type"] == "visit" and r["round"] == 3)

    def change(record):
        if record == middle:
            record.clear()
            record.update({**start, "device": {**start["device"], "machine": "riscv64"}})

    done.rewrite(change)
    report = import_results(done.jobs, out)
    assert len(report.environments) == 2
    assert report.unfinished == 3
    assert {row["reason"].partition(";")[0] for row in rows(out)} == {"interrupted"}


def moved_to_another_board(device):
    """The first half of the results tells of a Pi 4, after which this machine went on."""
    records = device.records()
    start = next(r for r in records if r["type"] == "start")
    middle = next(r for r in records if r["type"] == "visit" and r["round"] == 3)
    board = {"files": {**start["device"]["files"], "proc/device-tree/model": "Raspberry Pi 4\0"}}

    def change(record):
        if record == start:
            record["device"] = {**start["device"], **board}
        if record == middle:
            record.clear()
            record.update(start)

    device.rewrite(change)


def test_rows_whose_models_were_checked_on_another_board_say_that_placement_is_not_known(done, out):
    moved_to_another_board(done)
    import_results(done.jobs, out)
    environments = load_lut(out).metadata["environments"]
    for row in rows(out):
        board = environments[row["environment_id"]]["identity"]["device"]
        unknown = "where its nodes ran is not known" in row["reason"]
        assert unknown == (board != "Raspberry Pi 4")
        assert (json.loads(row["placement"]) == {}) == unknown


def test_results_of_two_boards_name_a_way_to_finished_rows_that_works(done, out, hwprof_command):
    """run.py said done and import-results said to run it again, forever."""
    moved_to_another_board(done)
    told = hwprof_command("import-results", done.jobs, "--out", out).stdout
    assert "visits of 2 environments" in told
    assert "python3 run.py --results again.jsonl" in told
    assert done.run("--results", str(done.jobs / "again.jsonl"))[0] == 0
    report = import_results(done.jobs / "again.jsonl", out)
    assert (report.unfinished, report.next_step) == (0, "")
    (here,) = report.environments
    finished = [row for row in rows(out) if row["environment_id"] == here]
    assert [row["visits"] for row in finished] == [18] * 3
    assert not any(row["reason"].startswith("interrupted") for row in finished)


def test_op_that_did_not_compile_is_a_row(done, out):
    path = done.jobs / "plan.json"
    plan = json.loads(path.read_text())
    first = plan["ops"][0]
    for name in ("model", "sha256", "outputs", "nodes", "metadata", "compile_ms"):
        first.pop(name, None)
    first["failure"] = ["unsupported", "no kernel"]
    path.write_text(json.dumps(plan))
    done.results.unlink()
    plan["protocol"] |= {"rounds": 1}
    assert done.run()[0] == 0
    report = import_results(done.jobs, out)
    assert report.states["unsupported"] == 1
    assert report.unfinished == 0


def test_results_without_a_plan_or_a_visit_say_what_to_do(device, out, tmp_path):
    with pytest.raises(LutError, match="cannot be read"):
        import_results(device.jobs, out)
    device.results.write_bytes(b"")
    with pytest.raises(LutError, match=r"run run\.py on the device first"):
        import_results(device.jobs, out)
    shutil.copyfile(device.results, tmp_path / "results.jsonl")
    with pytest.raises(LutError, match="copy them back into the exported folder"):
        import_results(tmp_path, out)


def test_damaged_plan_is_refused(done, out):
    path = done.jobs / "plan.json"
    plan = json.loads(path.read_text())
    plan["ops"][0]["op"]["out_channels"] += 1
    path.write_text(json.dumps(plan))
    with pytest.raises(LutError, match="damaged"):
        import_results(done.jobs, out)
    path.write_text("{")
    with pytest.raises(LutError, match="damaged"):
        import_results(done.jobs, out)


def test_command_imports_and_tells_as_json(hwprof_command, done, out):
    finished = hwprof_command(
        "import-results", done.jobs, "--out", out, "--device", "my board", "--json"
    )
    assert finished.returncode == 0, finished.stderr
    told = json.loads(finished.stdout)
    assert told["rows"] == 3
    assert next(iter(told["environments"].values())).startswith("my board")
    refused = hwprof_command("import-results", done.jobs, "--out", "lut.csv")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
