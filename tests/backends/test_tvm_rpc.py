"""TVM over its own RPC: a real tracker and real servers on the loopback interface."""

import os
import socket
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from hwprof import ops
from hwprof.backends import conformance, tvm_library, tvm_rpc
from hwprof.backends.backend import Target
from hwprof.backends.tvm import TvmBackend
from hwprof.errors import BackendError, BackendUnavailable, DeviceLost

pytest.importorskip("tvm", reason="apache-tvm is not installed")
pytest.importorskip("tornado", reason="TVM's RPC tracker needs tornado")

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture(scope="module")
def devices(new_devices):
    return new_devices()


@pytest.fixture
def backend():
    made = TvmBackend()
    yield made
    made.release()


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(tvm_rpc, "ANSWER_LIMIT_S", 1.0)


@pytest.fixture(scope="module")
def small():
    graph = ops.mbconv((1, 8, 12, 12), 8, 3, 6).lower()
    return graph, TvmBackend().compile(graph, Target("llvm"))


def serving_process(devices):
    """The server's process for the open connection."""
    tasks = Path(f"/proc/{devices.server.pid}/task").iterdir()
    (child,) = [child for task in tasks for child in (task / "children").read_text().split()]
    return child


def serving(devices):
    """What the server's process for the open connection has mapped, and the files in its folder."""
    child = serving_process(devices)
    folder = Path(f"/proc/{child}/cwd").resolve()
    return Path(f"/proc/{child}/maps").read_text(), list(folder.iterdir())


REMOTE_CHECKS = [
    check
    for check in conformance.CHECKS
    if check not in (conformance.check_numerics, conformance.check_silent)
]


@pytest.mark.parametrize("check", REMOTE_CHECKS, ids=lambda check: check.__name__)
def test_remote_device_keeps_the_contract(check, devices, backend):
    check(backend, devices.target())


def test_an_op_computes_on_the_device_what_the_graph_says(devices, backend, small):
    graph, artifact = small
    target = devices.target()
    backend.check_target(target)
    with backend.prepare(artifact, np.random.default_rng(3), target) as session:
        results, expected = conformance.outputs_of(session, graph)
        timings = session.time_calls(5, group=3)
        assert session.input_buffers() == []
        assert session.addresses() == []
        assert session.placement() == {"llvm": 3}
    np.testing.assert_allclose(results[0], expected[0], atol=1e-4)
    assert len(timings) == 5
    assert all(isinstance(t, int) and t > 0 for t in timings)


@linux
def test_timed_code_ran_on_the_server_and_left_no_file_there(devices, backend, small):
    target = devices.target()
    with backend.prepare(small[1], np.random.default_rng(0), target) as session:
        session.run()
        maps, files = serving(devices)
    assert "hwprof-" in maps
    assert "(deleted)" in maps
    assert files == []


@linux
def test_the_device_links_what_this_machine_cannot(devices, backend, monkeypatch):
    monkeypatch.setattr(tvm_library, "links_here", lambda target: False)
    target = devices.target()
    graph = ops.fc((2, 16), 10, activation="relu").lower()
    artifact = backend.compile(graph, target)
    assert artifact.metadata["form"] == "tar"
    with backend.prepare(artifact, np.random.default_rng(0), target) as session:
        results, expected = conformance.outputs_of(session, graph)
        assert [name for name in serving(devices)[1] if not os.path.isdir(name)] == []
    np.testing.assert_allclose(results[0], expected[0], atol=1e-4)


def test_code_for_another_machine_fails_on_the_device_in_one_line(devices, backend):
    target = replace(devices.target(), name="llvm -mtriple=aarch64-linux-gnu")
    artifact = backend.compile(ops.fc((2, 16), 10).lower(), target)
    with pytest.raises(BackendError, match="the remote device board failed") as caught:
        backend.prepare(artifact, np.random.default_rng(0), target)
    assert "\n" not in str(caught.value)


def test_a_kernel_that_hangs_is_ended_by_the_server(devices, backend, small, monkeypatch):
    monkeypatch.setattr(tvm_rpc, "CONNECTION_LIMIT_S", 2)
    session = backend.prepare(small[1], np.random.default_rng(0), devices.target())
    with pytest.raises(BackendError, match="session has expired"):
        session.time_calls(1, group=10**9)
    session.close()
    devices.wait()


def test_environment_names_the_device_and_not_the_way_to_it(devices, backend):
    here = backend.environment(Target("llvm"))
    there = backend.environment(devices.target())
    assert there == {**here, "device": devices.key, "reached_by": "tvm-rpc"}
    assert backend.device(devices.target()) == "remote"
    assert backend.cache_states(devices.target()) == ("warm",)


def test_one_connection_serves_many_visits_and_is_given_up_on_release(
    devices, backend, small, impatient
):
    target = devices.target()
    for seed in range(3):
        with backend.prepare(small[1], np.random.default_rng(seed), target) as session:
            session.run()
    other = TvmBackend()
    with pytest.raises(DeviceLost, match=r"no server with the key 'board' became free within 1 s"):
        other.prepare(small[1], np.random.default_rng(0), target)
    backend.release()
    with other.prepare(small[1], np.random.default_rng(0), target) as session:
        session.run()
    other.release()


def test_more_threads_than_the_server_has_are_refused(devices, backend, small):
    target = Target("llvm", 64, "float32", devices.target().options)
    with pytest.raises(DeviceLost, match=r"at most \d+ threads, 64 were asked for.*TVM_NUM_THREADS=64"):
        backend.prepare(small[1], np.random.default_rng(0), target)


def test_a_server_that_dies_fails_the_visit_and_another_one_takes_over(
    devices, backend, small, impatient
):
    target = devices.target()
    session = backend.prepare(small[1], np.random.default_rng(0), target)
    session.run()
    devices.kill_server()
    with pytest.raises(BackendError, match="the remote device board failed") as caught:
        session.run()
    assert not isinstance(caught.value, DeviceLost)
    assert "\n" not in str(caught.value)
    session.close()
    with pytest.raises(DeviceLost, match="board"):
        backend.prepare(small[1], np.random.default_rng(0), target)
    with pytest.raises(BackendUnavailable, match=r"no server with the key 'board' \(it has: none\)"):
        backend.check_target(target)
    devices.start_server()
    with backend.prepare(small[1], np.random.default_rng(0), target) as session:
        session.run()
        assert len(session.outputs()) == 1


def test_a_connection_that_broke_between_two_visits_is_made_again(devices, backend, small):
    target = devices.target()
    with backend.prepare(small[1], np.random.default_rng(0), target) as session:
        session.run()
    devices.kill_server()
    devices.start_server()
    with backend.prepare(small[1], np.random.default_rng(0), target) as session:
        session.run()


def test_when_the_tracker_is_gone_with_the_server_no_op_is_to_blame(new_devices, backend, small):
    """The op in flight once stayed failed, though the way to the device was lost and not the op."""
    devices = new_devices()
    session = backend.prepare(small[1], np.random.default_rng(0), devices.target())
    session.run()
    devices.close()
    with pytest.raises(
        DeviceLost, match=r"lost the remote device board and its tracker: .*answer"
    ) as caught:
        session.time_calls(1)
    assert "\n" not in str(caught.value)
    session.close()


@linux
def test_an_old_connection_is_renewed_before_a_visit_and_a_young_one_kept(
    devices, backend, small, monkeypatch
):
    """The server ends a connection after 15 minutes; a soak, in slices of a minute, may last longer."""
    target, ahead_s, processes = devices.target(), [0.0], []
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + ahead_s[0])
    monkeypatch.setattr(tvm_rpc, "time", clock)
    renewed_s = tvm_rpc.CONNECTION_LIMIT_S / 3
    for ahead_s[0] in (0.0, renewed_s - 60, renewed_s + 1, renewed_s + 2):
        with backend.prepare(small[1], np.random.default_rng(0), target) as session:
            session.run()
            processes.append(serving_process(devices))
    assert processes[0] == processes[1] != processes[2] == processes[3]


def test_visits_go_on_for_longer_than_the_server_keeps_a_connection(
    devices, backend, small, monkeypatch
):
    monkeypatch.setattr(tvm_rpc, "CONNECTION_LIMIT_S", 3)
    target, begun, made = devices.target(), time.monotonic(), 0
    while time.monotonic() - begun < 1.5 * tvm_rpc.CONNECTION_LIMIT_S:
        with backend.prepare(small[1], np.random.default_rng(made), target) as session:
            session.time_calls(5, group=1000)
        made += 1
    assert made > 1


def test_an_unknown_key_is_refused_with_the_keys_that_there_are(devices):
    with pytest.raises(BackendUnavailable, match=r"key 'phone' \(it has: board\); on the device run"):
        TvmBackend().check_target(devices.target(rpc_key="phone"))


def test_a_tracker_that_is_not_there_is_refused_at_once(backend):
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{bound.getsockname()[1]}"
        target = Target("llvm", options={"rpc_tracker": address, "rpc_key": "board"})
        message = r"does not answer.*Connection refused.*rpc_tracker"
        with pytest.raises(BackendUnavailable, match=message):
            backend.check_target(target)


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", None])
def test_what_is_no_tracker_or_never_answers_is_refused(answer, backend, impatient):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        done = threading.Event()

        def serve():
            link, _ = listener.accept()
            with link:
                if answer is None:
                    done.wait(10)
                else:
                    link.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        target = Target("llvm", options={"rpc_tracker": address, "rpc_key": "board"})
        try:
            with pytest.raises(BackendUnavailable, match="does not answer") as caught:
                backend.check_target(target)
        finally:
            done.set()
            thread.join()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rpc_tracker": "nowhere", "rpc_key": "board"}, "give HOST:PORT"),
        ({"rpc_tracker": "host:99999", "rpc_key": "board"}, "give HOST:PORT"),
        ({"rpc_tracker": "host:9190"}, "needs rpc_key"),
        ({"rpc_key": "board"}, "needs rpc_tracker"),
    ],
)
def test_half_an_address_is_refused(options, message, backend):
    with pytest.raises(BackendUnavailable, match=message):
        backend.environment(Target("llvm", options=options))
