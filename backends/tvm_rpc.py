"""The way to a remote device through TVM's own RPC tracker and servers.

A server serves one connection at a time. A worker keeps its connection over many visits, since making
one starts a process on the device, and gives it up when another worker is to use the device.
"""

from __future__ import annotations

import json
import socket
import struct
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from hwprof.backends.backend import Artifact
from hwprof.backends.tvm_library import first_line
from hwprof.backends.tvm_target import TvmTarget
from hwprof.errors import BackendError, BackendUnavailable, DeviceLost

ANSWER_LIMIT_S = 10.0
"""How long the tracker may take to answer, and to find a free server."""

CONNECTION_LIMIT_S = 900
"""After so long a server ends a connection by itself: a kernel that hangs must not keep the device.
A connection is renewed at a third of it, before a visit."""

_LARGEST_ANSWER = 1 << 24


@dataclass(frozen=True)
class Tracker:
    """A tracker's address and the key of the devices to use."""

    host: str
    port: int
    key: str

    @classmethod
    def parse(cls, address: str, key: str) -> Tracker:
        """From `HOST:PORT` and a key.

        Raises:
            BackendUnavailable: one of them is missing or malformed.
        """
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise BackendUnavailable(
                f"rpc_tracker is {address!r}; give HOST:PORT, such as 10.0.0.2:9190"
            )
        if not key:
            raise BackendUnavailable(
                "rpc_tracker needs rpc_key too: the key that the servers registered"
            )
        return cls(host.strip("[]"), int(port), key)

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    def check(self) -> None:
        """Make sure that the tracker answers and knows a server with the key.

        Raises:
            BackendUnavailable: it does not.
        """
        keys = self.keys()
        if self.key not in keys:
            raise BackendUnavailable(
                f"the tracker {self.address} has no server with the key {self.key!r} (it has: "
                f"{', '.join(keys) or 'none'}); on the device run: python -m tvm.exec.rpc_server "
                f"--tracker {self.address} --key {self.key}"
            )

    def keys(self) -> list[str]:
        """The keys of the servers that it knows, free or not.

        Raises:
            BackendUnavailable: it does not answer.
        """
        from tvm.rpc.base import TrackerCode

        with self._opened() as talk:
            servers = talk.ask([TrackerCode.SUMMARY])["server_info"]
        return sorted({str(server["key"]).removeprefix("server:") for server in servers})

    def request(self) -> tuple[str, int, str]:
        """Host, port and match key of a free server, waiting for one for `ANSWER_LIMIT_S`.

        Raises:
            BackendUnavailable: there is none, or the tracker does not answer.
        """
        from tvm.rpc.base import TrackerCode

        with self._opened() as talk:
            try:
                host, port, match = talk.ask([TrackerCode.REQUEST, self.key, "", 1])
            except TimeoutError:
                raise BackendUnavailable(
                    f"no server with the key {self.key!r} became free within {ANSWER_LIMIT_S:g} s "
                    f"(tracker {self.address}); another user holds it, or it is gone"
                ) from None
        return str(host), int(port), str(match)

    @contextmanager
    def _opened(self) -> Iterator[_Talk]:
        try:
            with socket.create_connection((self.host, self.port), ANSWER_LIMIT_S) as link:
                yield _Talk(link)
        except (OSError, ValueError, struct.error) as error:
            why = first_line(error)
            raise BackendUnavailable(
                f"the RPC tracker {self.address} does not answer ({why}); run there: "
                f"python -m tvm.exec.rpc_tracker --host 0.0.0.0 --port {self.port}"
            ) from None


class _Talk:
    """TVM's tracker protocol: a magic number, then JSON messages that begin with their length. TVM's
    own client waits without a limit, and 60 s for a port that nobody listens on."""

    def __init__(self, link: socket.socket) -> None:
        from tvm.rpc.base import RPC_TRACKER_MAGIC

        self._link = link
        self._link.sendall(struct.pack("<i", RPC_TRACKER_MAGIC))
        if struct.unpack("<i", self._receive(4))[0] != RPC_TRACKER_MAGIC:
            raise ValueError("what listens there is no TVM tracker")

    def ask(self, message: list[Any]) -> Any:
        data = json.dumps(message).encode()
        self._link.sendall(struct.pack("<i", len(data)) + data)
        size = struct.unpack("<i", self._receive(4))[0]
        if not 0 < size <= _LARGEST_ANSWER:
            raise ValueError("what listens there is no TVM tracker")
        code, answer = json.loads(self._receive(size))
        if code != 0:
            raise ValueError(f"the tracker refused: {answer}")
        return answer

    def _receive(self, size: int) -> bytes:
        data = b""
        deadline = time.monotonic() + ANSWER_LIMIT_S
        while len(data) < size:
            self._link.settimeout(max(0.01, deadline - time.monotonic()))
            chunk = self._link.recv(size - len(data))
            if not chunk:
                raise ConnectionResetError("it closed the connection")
            data += chunk
        return data


class Connection:
    """This process's connection to one device, made when first used and again after it broke."""

    def __init__(self, tracker: Tracker, threads: int) -> None:
        self._tracker = tracker
        self._threads = threads
        self._remote: Any | None = None
        self._opened_at = 0.0

    def load(self, artifact: Artifact, target: TvmTarget) -> tuple[Any, Any]:
        """The artifact loaded on the device, and the device, both TVM's. Its file there is removed.

        Raises:
            DeviceLost: no connection can be had.
            BackendError: the device refused the artifact.
        """
        kept = self._remote is not None
        try:
            return self._load(artifact, target)
        except DeviceLost:
            raise
        except BackendError:
            if not kept:
                raise
        # What broke may be a connection of an earlier visit rather than this op: once more, anew.
        return self._load(artifact, target)

    def failed(self, error: Exception) -> BackendError:
        """What to raise for an exception of TVM's. The connection is given up: the next visit makes
        a new one, since from outside a broken one looks like a failed kernel. A kernel that crashes ends
        TVM's server too, but no kernel ends the tracker: where that is gone no op is to blame."""
        self.close()
        lines = [line for line in str(error).splitlines() if line.strip()]
        if lines and lines[0].startswith("RPCError: Error caught") and len(lines) > 1:
            lines = lines[1:]
        why = lines[0].strip()[:300] if lines else type(error).__name__
        try:
            self._tracker.keys()
        except BackendUnavailable as gone:
            return DeviceLost(f"lost the remote device {self._tracker.key} and its tracker: {gone}")
        return BackendError(f"the remote device {self._tracker.key} failed: {why}")

    def close(self) -> None:
        if self._remote is None:
            return
        with suppress(Exception):  # it may be broken already
            self._remote.get_function("CloseRPCConnection")()
        self._remote = None

    def _load(self, artifact: Artifact, target: TvmTarget) -> tuple[Any, Any]:
        remote = self._session(target)
        name = f"hwprof-{uuid.uuid4().hex}.{artifact.metadata['form']}"
        try:
            remote.upload(bytearray(artifact.data), target=name)
            library = remote.load_module(name)
            remote.remove(name)
            if name.endswith(".tar"):
                remote.remove(f"{name}.so")  # what the device linked
            device = remote.device("cpu" if target.kind == "llvm" else target.kind)
        except Exception as error:  # noqa: BLE001 - TVM raises whatever its C++ side threw
            raise self.failed(error) from None
        return library, device

    def _session(self, target: TvmTarget) -> Any:
        if self._remote is not None and time.monotonic() - self._opened_at > CONNECTION_LIMIT_S / 3:
            self.close()
        if self._remote is None:
            try:
                self._remote = self._connect()
            except BackendUnavailable as error:
                raise DeviceLost(str(error)) from None
            self._opened_at = time.monotonic()
            self._prepare(self._remote, target)
        return self._remote

    def _connect(self) -> Any:
        from tvm import rpc

        host, port, match = self._tracker.request()
        try:
            return rpc.connect(host, port, match, session_timeout=CONNECTION_LIMIT_S)
        except Exception as error:  # noqa: BLE001 - TVM raises whatever its C++ side threw
            raise BackendUnavailable(
                f"the server {host}:{port} that the tracker {self._tracker.address} named does not "
                f"answer: {first_line(error)}"
            ) from None

    def _prepare(self, remote: Any, target: TvmTarget) -> None:
        """Look at the device's CPU where the target does not name one, and set its threads."""
        if target.detected:
            self._check_cpu(remote, target)
        try:
            remote.get_function("runtime.config_threadpool")(1, self._threads)
            threads = int(remote.get_function("runtime.NumThreads")())
        except Exception as error:  # noqa: BLE001 - TVM raises whatever its C++ side threw
            raise self.failed(error) from None
        if threads != self._threads:
            self.close()
            raise DeviceLost(
                f"the server with the key {self._tracker.key!r} runs at most {threads} threads, "
                f"{self._threads} were asked for; start it with TVM_NUM_THREADS={self._threads}"
            )

    def _check_cpu(self, remote: Any, target: TvmTarget) -> None:
        try:
            name = str(remote.get_function("tvm.codegen.llvm.GetHostCPUName")())
        except Exception:  # noqa: BLE001 - a server of the runtime alone has no LLVM to ask
            return
        ours = json.loads(target.config)["mcpu"]
        if name != ours:
            self.close()
            raise DeviceLost(
                f"the target llvm means this machine's CPU ({ours}), the device's is {name}; "
                f"give --target 'llvm -mtriple=... -mcpu={name}'"
            )
