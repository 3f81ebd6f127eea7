"""A build on a device of TVM's RPC tracker, through the command line: the tracker and the server die in
the middle of it, and new ones on other ports take over."""

import json
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import yaml

from hwprof import ops
from hwprof.build.pipeline import work_folder
from hwprof.lut import load_lut

pytest.importorskip("tvm", reason="apache-tvm is not installed")
pytest.importorskip("tornado", reason="TVM's RPC tracker needs tornado")

OPS = [ops.conv((1, 8, 16, 16), 8, 3), ops.fc((1, 64), 32)]
PROCESSES = 3
"""Worker processes of `--effort fast`, used in turns."""
LIMIT_S = 120


def visit_lines(journal):
    lines = journal.read_bytes().splitlines() if journal.exists() else []
    return [line for line in lines if b'"type":"visit"' in line.replace(b" ", b"")]


@pytest.fixture(scope="module")
def builds(new_devices, tmp_path_factory):
    """Two builds of one table: the first one's tracker and server are killed once it has measured
    something; the second one is given the address of new ones."""
    folder = tmp_path_factory.mktemp("rpc")
    out, space = folder / "lut.parquet", folder / "two.yaml"
    journal = work_folder(out) / "journal"
    listed = [{"op": op.to_json()} for op in OPS]
    space.write_text(
        yaml.safe_dump({"name": "two", "family": "ops", "summary": "two small ops", "ops": listed})
    )

    def start(devices):
        command = ["build-lut", "--backend", "tvm", "--space", str(space), "--out", str(out), "--json"]
        command += ["--effort", "fast", "--rel-precision", "0.5"]
        command += ["--rpc-tracker", devices.tracker.address, "--rpc-key", devices.key]
        build = subprocess.Popen(
            [sys.executable, "-m", "hwprof", *command],
            cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            # The lease of this machine lies there: a build beside the tests would be waited for.
            env={**os.environ, "TMPDIR": str(folder)},
        )  # fmt: skip
        started.append(build)
        return build

    def finish(build):
        printed, errors = build.communicate(timeout=LIMIT_S)
        return SimpleNamespace(code=build.returncode, printed=printed, errors=errors)

    started = []
    try:
        first = new_devices()
        build = start(first)
        deadline = time.monotonic() + LIMIT_S
        while not visit_lines(journal):
            assert build.poll() is None, build.communicate()
            assert time.monotonic() < deadline, "the build made no visits"
            time.sleep(0.005)
        first.close()
        broken = finish(build)
        kept, sealed = visit_lines(journal), out.exists()
        second = new_devices()
        whole = finish(start(second))
    finally:
        for build in started:
            build.kill()
            build.wait()
    return SimpleNamespace(
        broken=broken, kept=kept, sealed=sealed, whole=whole, out=out, journal=journal,
        addresses=(first.tracker.address, second.tracker.address),
    )  # fmt: skip


def test_a_build_whose_tracker_and_server_die_ends_with_one_line_and_keeps_its_journal(builds):
    assert builds.broken.code == 2
    *_, last = builds.broken.errors.splitlines()
    assert last.startswith("hwprof: error: ")
    assert builds.addresses[0] in last
    assert builds.broken.errors.count("error") == 1
    assert builds.kept
    assert not builds.sealed


def test_the_same_command_with_the_new_address_goes_on_and_finishes(builds):
    assert builds.whole.code == 0, builds.whole.errors
    assert f"resuming: {len(builds.kept)} visits of {len(OPS)} rows reused" in builds.whole.errors
    outcome = json.loads(builds.whole.printed)
    assert (outcome["measured"], outcome["unfinished"]) == (len(OPS), 0)
    assert set(outcome["states"]) <= {"converged", "budget"}
    table = load_lut(builds.out)
    assert len(table.visits) == len(builds.kept) + outcome["visits"]
    assert not builds.journal.exists()


def test_rows_name_the_device_and_not_the_way_to_it(builds):
    table = load_lut(builds.out)
    (identity,) = [each["identity"] for each in table.metadata["environments"].values()]
    assert (identity["device"], identity["reached_by"]) == ("board", "tvm-rpc")
    everything = json.dumps([table.metadata, table.table.to_pylist()], default=str)
    assert "127.0.0.1" not in everything
    assert not [address for address in builds.addresses if address in everything]


def test_worker_processes_take_turns_at_the_one_server(builds):
    """Each gives its connection up for the next one, and gets it back for its next round."""
    rounds = {}
    for visit in load_lut(builds.out).visits.to_pylist():
        rounds.setdefault(visit["process"], set()).add(visit["round"])
    assert sum(len(made) > 1 for made in rounds.values()) == PROCESSES
