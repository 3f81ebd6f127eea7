"""A device is leased to one build at a time: two builds that time side by side would spoil both."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hwprof.errors import BuildError

POLL_S = 0.5


@contextmanager
def device_lease(waiting: Callable[[str], None], stop: Callable[[], bool]) -> Iterator[bool]:
    """Hold this machine for timed work. Yields False where `stop` asked to give up waiting.

    The lease is a file lock, so it ends with the process that holds it, however that ends.
    `waiting` is told once who holds it.
    """
    try:
        import fcntl
    except ModuleNotFoundError:
        raise BuildError("tables are built on Linux or macOS; here are no file locks (fcntl)") from None
    descriptor = _open_lock(Path(tempfile.gettempdir()) / "hwprof-device.lock")
    try:
        told = False
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if stop():
                    yield False
                    return
                if not told:
                    holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
                    waiting(f"waiting for the machine: another build ({holder}) is timing on it")
                    told = True
                time.sleep(POLL_S)
        with contextlib.suppress(OSError):  # another user's lock file: held all the same
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()}".encode(), 0)
        yield True
    finally:
        os.close(descriptor)


def _open_lock(path: Path) -> int:
    """One lock file for all users of the machine. Whoever did not make it may only read it, which is
    enough for holding it."""
    try:
        return os.open(path, os.O_RDWR)
    except PermissionError:
        return os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
