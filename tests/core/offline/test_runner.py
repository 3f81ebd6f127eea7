"""run.py on a device without hwprof: it measures, survives, and says in one line what is wrong."""

import contextlib
import hashlib
import json
import os
import select
import signal
import sys
import time
from collections import Counter

import pytest

from hwprof.offline import ExportOptions, export_jobs, import_results
from hwprof.offline.device import device_environment
from hwprof.offline.plan import OfflinePlan
from hwprof.offline.runner.lines import Results

VISITS = 3 * 6  # processes and rounds of effort fast


def visits(records):
    return [record for record in records if record["type"] == "visit"]


def refused(outcome, *words):
    code, err = outcome
    assert code == 2, err
    assert err.startswith("run.py: error: ")
    assert err.count("\n") == 1, err
    for word in words:
        assert word in err


def wait_for_visits(device, process, count):
    """Until so many visits are in the file, or the process ended."""
    while process.poll() is None:
        if device.results.exists() and device.results.read_bytes().count(b'"type":"visit"') >= count:
            return
        time.sleep(0.002)


def test_device_really_has_no_hwprof(device):
    (device.jobs / "run.py").write_text("import hwprof")
    code, err = device.run()
    assert code == 1
    assert "No module named 'hwprof'" in err


def test_every_process_makes_every_round_of_every_model_in_shuffled_order(done):
    made = visits(done.records())
    ops = [op["id"] for op in json.loads((done.jobs / "plan.json").read_text())["ops"]]
    assert Counter((v["id"], v["slot"], v["round"]) for v in made) == Counter(
        (op, slot, number) for op in ops for slot in range(3) for number in range(6)
    )
    assert {v["process"] for v in made} == {0, 1, 2}
    orders = {tuple(v["id"] for v in made[start : start + 3]) for start in range(0, len(made), 3)}
    assert len(orders) > 1
    assert all(v["visit"]["dense_ms"] > 0 and v["visit"]["cpu_share"] > 0 for v in made)


def test_started_again_when_done_it_measures_nothing_more(done):
    before = visits(done.records())
    assert done.run()[0] == 0
    assert visits(done.records()) == before


def test_killed_in_the_middle_it_goes_on_where_it_stopped(device, tmp_path):
    out = tmp_path / "lut.parquet"
    process = device.start()
    wait_for_visits(device, process, 20)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with device.results.open("ab") as file:
        file.write(b'{"seal":"0123456789abcdef","type":"vis')
    early = visits(device.records())
    assert 20 <= len(early) < 3 * VISITS

    report = import_results(device.jobs, out)
    assert report.unfinished > 0
    code, err = device.run()
    assert code == 0, err
    late = visits(device.records())
    assert late[: len(early)] == early
    places = Counter((v["id"], v["slot"], v["round"]) for v in late)
    assert len(places) == 3 * VISITS
    assert set(places.values()) == {1}
    # A new process is another level of noise: it gets a new number.
    assert {v["process"] for v in late[len(early) :]}.isdisjoint({v["process"] for v in early})
    assert import_results(device.jobs, out).unfinished == 0


def test_ctrl_c_ends_it_in_one_line(device):
    process = device.start()
    wait_for_visits(device, process, 3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "goes on where it stopped" in err
    assert len(visits(device.records())) >= 3


def test_second_runner_on_the_same_results_is_refused(device):
    _, plan_hash = OfflinePlan.read(device.jobs / "plan.json")
    holder = Results(str(device.results), plan_hash)
    refused(device.run(), "another run.py")
    holder.append({"type": "start", "at": 1.0, "device": {}})


def test_damaged_model_is_named_before_anything_is_measured(device):
    model = sorted((device.jobs / "models").iterdir())[0]
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    refused(device.run(), model.name, "copy it again")
    assert not device.results.exists()


def test_missing_model_and_missing_plan_are_named(device):
    model = sorted((device.jobs / "models").iterdir())[0]
    model.unlink()
    refused(device.run(), model.name, "copy the whole exported folder")
    (device.jobs / "plan.json").unlink()
    refused(device.run(), "plan.json")


def test_missing_runtime_is_named_with_what_installs_it(device):
    refused(device.run(DEVICE_LACKS="hwprof,onnxruntime"), "onnxruntime", "-m pip install onnxruntime")
    refused(device.run(DEVICE_LACKS="hwprof,numpy"), "numpy")


def test_plan_of_more_threads_than_cores_is_refused(device):
    path = device.jobs / "plan.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "threads": 4096}))
    refused(device.run(), "4096 threads")


def test_model_that_crashes_the_runtime_costs_one_row(device, tmp_path):
    ops = json.loads((device.jobs / "plan.json").read_text())["ops"]
    size = (device.jobs / ops[1]["model"]).stat().st_size
    code, err = device.run(DEVICE_CRASHES_ON=str(size))
    assert code == 1
    assert f"failed: {ops[1]['id']}" in err
    records = device.records()
    assert [r["id"] for r in records if r["type"] == "crash"] == [ops[1]["id"]] * 2
    assert len(visits(records)) == 2 * VISITS
    report = import_results(device.jobs, tmp_path / "lut.parquet")
    assert report.states["failed"] == 1
    assert report.unfinished == 0


def test_model_that_the_runtime_refuses_is_a_failed_row_and_the_rest_goes_on(device):
    path = device.jobs / "plan.json"
    plan = json.loads(path.read_text())
    (device.jobs / plan["ops"][0]["model"]).write_bytes(b"no model")
    plan["ops"][0]["sha256"] = hashlib.sha256(b"no model").hexdigest()
    path.write_text(json.dumps(plan))
    code, err = device.run()
    assert code == 1
    assert "INVALID_PROTOBUF" in err
    assert len(visits(device.records())) == 2 * VISITS


def test_model_that_hangs_is_a_row_that_timed_out(device, tmp_path):
    path = device.jobs / "plan.json"
    # No model answers in a microsecond.
    path.write_text(json.dumps({**json.loads(path.read_text()), "op_timeout_s": 1e-6}))
    code, err = device.run()
    assert code == 1
    assert err.count("gave no answer within 1e-06 s") == 3
    assert import_results(device.jobs, tmp_path / "lut.parquet").states == {"timeout": 3}


def test_model_with_another_output_than_the_plan_says_is_a_failed_row(device):
    path = device.jobs / "plan.json"
    plan = json.loads(path.read_text())
    plan["ops"][0]["outputs"] = [[1, 2, 3]]
    plan["protocol"] |= {"rounds": 1, "processes": 1}
    path.write_text(json.dumps(plan))
    code, err = device.run()
    assert code == 1
    assert "the plan says [[1, 2, 3]]" in err


def test_results_of_another_runtime_version_are_not_gone_on_with(done):
    def older(record):
        if record["type"] == "start":
            record["device"]["runtime_version"] = "1.2.3"

    done.rewrite(older)
    before = done.results.read_bytes()
    refused(done.run(), "runtime_version was 1.2.3", "--results")
    assert done.results.read_bytes() == before


def test_results_begun_on_another_board_are_not_gone_on_with(done):
    """They would fall into two environments, neither of which ever has all visits."""

    def begun_on_a_pi(record):
        if record["type"] == "start":
            record["device"]["files"]["proc/device-tree/model"] = "Raspberry Pi 4 Model B Rev 1.4\0"

    done.rewrite(begun_on_a_pi)
    before = done.results.read_bytes()
    refused(done.run(), "was Raspberry Pi 4 Model B Rev 1.4, is none", "--results with a new file")
    assert done.results.read_bytes() == before


def short(device):
    """Make the plan one visit a model."""
    path = device.jobs / "plan.json"
    plan = json.loads(path.read_text())
    plan["protocol"] |= {"rounds": 1, "processes": 1}
    path.write_text(json.dumps(plan))
    return OfflinePlan.read(path)[0]


def measuring_cores(device, plan):
    (start,) = (record for record in device.records() if record["type"] == "start")
    return device_environment(plan, start["device"], "").conditions["measuring_cores"]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system pins to no cores")
def test_cores_are_recorded_where_the_processes_are_pinned_to_them(device):
    plan = short(device)
    code, err = device.run()
    assert code == 0, err
    (core,) = measuring_cores(device, plan)
    assert core in os.sched_getaffinity(0)


def test_no_cores_are_recorded_where_the_system_does_not_let_pin(device, tmp_path):
    plan = short(device)
    (tmp_path / "pinned").touch()
    code, err = device.run(DEVICE_PINS_ONCE_BESIDE=str(tmp_path / "pinned"))
    assert code == 0, err
    assert "cannot pin to cores here" in err
    assert measuring_cores(device, plan) is None


def test_worker_that_the_system_moves_off_the_recorded_cores_ends_the_start(device, tmp_path):
    short(device)
    refused(device.run(DEVICE_PINS_ONCE_BESIDE=str(tmp_path / "pinned")), "pinned to the cores None")
    assert visits(device.records()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_model_that_hangs_ends_with_a_killed_runner(device, tmp_path):
    """It went on spinning on the measuring core beside the next run."""
    os.mkfifo(tmp_path / "pipe")
    pipe = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    process = device.start(DEVICE_HANGS_AND_TELLS=str(tmp_path / "pipe"))
    assert select.select([pipe], [], [], 60)[0]
    worker = int(os.read(pipe, 100))
    try:
        process.send_signal(signal.SIGKILL)
        process.communicate()
        # The pipe ends when the last process that has it open, the worker, is gone.
        assert select.select([pipe], [], [], 20)[0], "the worker outlives run.py"
        assert os.read(pipe, 100) == b""
    finally:
        os.close(pipe)
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)


def test_edited_line_is_refused_by_its_number(done):
    lines = done.results.read_bytes().split(b"\n")
    lines[9] = lines[9].replace(b'"group":', b'"group": ')
    done.results.write_bytes(b"\n".join(lines))
    refused(done.run(), "line 10", "damaged or edited")


@pytest.fixture
def tflite_device(tmp_path, carry):
    """A device with one model for TFLite, exported with those options."""
    pytest.importorskip("ai_edge_litert")

    def make(**options):
        jobs = tmp_path / "exported"
        export_jobs(ExportOptions("tflite", "tiny", jobs, options=options, effort="fast", limit=1))
        return carry(jobs)

    return make


def test_numpy_that_tflite_runtime_needs_is_named_by_readme_and_runner(tflite_device):
    """Its metadata does not tell pip that it cannot work with numpy 2."""
    device = tflite_device(runtime="tflite-runtime")
    assert "pip install 'numpy<2' tflite-runtime\n" in (device.jobs / "README.txt").read_text()
    outcome = device.run(DEVICE_LACKS="hwprof,tflite_runtime")
    refused(outcome, "tflite_runtime", "-m pip install 'numpy<2' tflite-runtime")


@pytest.mark.parametrize("xnnpack", ["on", "off"])
def test_runtime_that_imports_but_runs_nothing_stops_it_before_any_row_fails(tflite_device, xnnpack):
    device = tflite_device(xnnpack=xnnpack)
    outcome = device.run(DEVICE_TFLITE="fails")
    refused(outcome, "does not run a model of one node with numpy", "-m pip install ai-edge-litert")
    assert [record["type"] for record in device.records()] == ["header"]


def test_runtime_without_xnnpack_is_refused_where_the_plan_wants_xnnpack(tflite_device):
    refused(tflite_device(xnnpack="on").run(DEVICE_TFLITE="no delegate"), "has no XNNPACK")


def test_runtime_without_xnnpack_measures_a_plan_that_does_not_want_it(tflite_device):
    device = tflite_device(xnnpack="off")
    short(device)
    code, err = device.run(DEVICE_TFLITE="no delegate")
    assert code == 0, err
    (check,) = (record for record in device.records() if record["type"] == "check")
    assert list(check["placement"]) == ["TFLite kernels"]


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_tflite_models_are_measured_with_litert(tmp_path, carry, dtype):
    pytest.importorskip("ai_edge_litert")
    pytest.importorskip("ai_edge_quantizer")
    from hwprof.lut import load_lut

    jobs = tmp_path / "exported"
    export_jobs(ExportOptions("tflite", "tiny", jobs, dtype=dtype, effort="fast", limit=2))
    device = carry(jobs)
    code, err = device.run()
    assert code == 0, err
    import_results(device.jobs, tmp_path / "lut.parquet")
    rows = load_lut(tmp_path / "lut.parquet").table.to_pylist()
    assert [row["backend"] for row in rows] == ["tflite"] * 2
    assert all(row["latency_ms"] > 0 for row in rows)
    assert all("XNNPACK" in json.loads(row["placement"]) for row in rows)
