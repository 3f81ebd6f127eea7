"""TVM's own RPC tracker and servers on the loopback interface, for tests of several folders; hypothesis
without a clock."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from hypothesis import HealthCheck, settings

# Before numpy and torch are imported: two test processes with two threads each get in each other's way.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

from hwprof.backends.backend import Target  # noqa: E402
from hwprof.backends.tvm_rpc import Tracker  # noqa: E402
from hwprof.errors import BackendUnavailable  # noqa: E402

# A test that is slow on a busy machine is not wrong.
settings.register_profile("no clock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no clock")

KEY = "board"
START_LIMIT_S = 60
TRACKER = """
import sys
from tvm.rpc.tracker import PopenTrackerServerState
state = PopenTrackerServerState("127.0.0.1", int(sys.argv[1]), int(sys.argv[1]) + 1, silent=True)
state.thread.join()
"""
SERVER = """
import sys
from tvm.rpc.server import PopenRPCServerState
state = PopenRPCServerState(
    "127.0.0.1", int(sys.argv[2]), int(sys.argv[2]) + 1,
    tracker_addr=("127.0.0.1", int(sys.argv[1])), key=sys.argv[3], silent=True,
)
state.thread.join()
"""


def start(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class RpcDevices:
    """One tracker, and servers with one key that are started and killed on demand.

    Attributes:
        key: of the servers.
        server: process of the server that was started last.
    """

    key = KEY

    def __init__(self):
        self.port = free_port()
        self.tracker = Tracker("127.0.0.1", self.port, KEY)
        self._processes = [start(TRACKER, self.port)]
        # A server that finds no tracker tries again after 5 s.
        self.wait("it has: none")
        self.start_server()

    def start_server(self):
        """A new server, known to the tracker when this returns."""
        self.server = start(SERVER, self.port, free_port(), KEY)
        self._processes.append(self.server)
        self.wait()

    def kill_server(self):
        self._kill(self.server)

    def wait(self, answer=""):
        """Until the tracker knows a server with the key, or refuses with the given words."""
        deadline = time.monotonic() + START_LIMIT_S
        while True:
            try:
                return self.tracker.check()
            except BackendUnavailable as error:
                if answer and answer in str(error):
                    return None
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def target(self, **changed):
        options = {"rpc_tracker": self.tracker.address, "rpc_key": KEY, **changed}
        return Target("llvm", 1, "float32", options)

    def close(self):
        """The tracker dies first, then each server with its connection."""
        for process in self._processes:
            self._kill(process)

    @staticmethod
    def _kill(process):
        """With the process that a server forks for each connection."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="module")
def new_devices():
    """Makes `RpcDevices`; those left at the end are killed."""
    made = []

    def make():
        made.append(RpcDevices())
        return made[-1]

    yield make
    for devices in made:
        devices.close()
