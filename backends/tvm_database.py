"""The folder of MetaSchedule's measured candidates: one sub-folder a task, so that ops share tasks.

    ROOT/tvm-VERSION-HASH/target.txt      the target, whose hash it is
    ROOT/tvm-VERSION-HASH/name            random, the database's name in the rows that it tuned
    ROOT/tvm-VERSION-HASH/lock            held by the process that tunes
    ROOT/tvm-VERSION-HASH/TASK/           database_workload.json, database_tuning_record.json: TVM's own
                                          files, one line a record, appended as measured; settled.json

TVM's own layout is one file for all tasks, which every compilation would read: 25,000 records of 3 KB
for the 150 ops of a space.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any

from hwprof.backends.tvm_library import first_line
from hwprof.backends.tvm_target import TvmTarget
from hwprof.errors import BackendError, BackendUnavailable

LOCK_LIMIT_S = 1800.0
POLL_S = 0.2

# TVM writes 1e10 s for a candidate that could not be built or run.
_FAILED_S = 1e9

_log = logging.getLogger(__name__)


class TuningDatabase:
    """Records of one target, its thread count included, and one version of TVM."""

    def __init__(self, root: Path, version: str, target: TvmTarget) -> None:
        config_hash = hashlib.sha256(target.config.encode()).hexdigest()[:12]
        self.folder = root / f"tvm-{version}-{config_hash}"
        self._target = target

    @contextmanager
    def locked(self, limit_s: float = LOCK_LIMIT_S) -> Iterator[None]:
        """Hold the database for writing; the lock ends with the process, however that ends.

        Raises:
            BackendError: another process held it for `limit_s`, or the folder cannot be written.
            BackendUnavailable: the system has no file locks.
        """
        try:
            import fcntl
        except ModuleNotFoundError:
            raise BackendUnavailable("tuning works on Linux or macOS; here are no file locks") from None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / "target.txt").write_text(self._target.text + "\n")
            descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise BackendError(
                f"the tuning database {self.folder} cannot be written: {error.strerror}; "
                "give another folder with --option database=FOLDER"
            ) from None
        try:
            deadline = time.monotonic() + limit_s
            told = False
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
                if time.monotonic() > deadline:
                    raise BackendError(
                        f"{holder} has been tuning in {self.folder} for {limit_s:g} s; wait for it, "
                        "or give another folder with --option database=FOLDER"
                    )
                if not told:
                    _log.warning("waiting for %s, which tunes in %s", holder, self.folder)
                    told = True
                time.sleep(POLL_S)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()}".encode(), 0)
            yield
        finally:
            os.close(descriptor)

    def name(self) -> str:
        """Tells this folder from every other one without saying where it lies. Made by the first call,
        which holds the lock."""
        path = self.folder / "name"
        with contextlib.suppress(FileNotFoundError, UnicodeDecodeError):
            written = path.read_text().strip()
            if re.fullmatch("[0-9a-f]{8}", written):
                return written
        made = uuid.uuid4().hex[:8]
        _replace(path, f"{made}\n".encode())
        return made

    def records(self, task: str) -> int:
        """How many candidates of the task were measured, failed ones included."""
        try:
            return (self._task(task) / "database_tuning_record.json").read_bytes().count(b"\n")
        except FileNotFoundError:
            return 0

    def settled(self, task: str, trials: int) -> bool:
        """Whether there is nothing left to measure: so many records, or a search that found no more."""
        if self.records(task) >= trials:
            return True
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            tried = json.loads((self._task(task) / "settled.json").read_text())["trials"]
            return bool(tried >= trials)
        return False

    def settle(self, task: str, trials: int) -> None:
        """Note that a search for so many trials came to its end, with fewer candidates perhaps."""
        (self._task(task) / "settled.json").write_text(json.dumps({"trials": trials}))

    def best(self, task: str, trials: int) -> list[Any] | None:
        """Of the task's first so many records the fastest, as TVM's own JSON; None where no candidate
        ran. A search for more trials has more records, which a search for fewer would not have seen."""
        try:
            lines = (self._task(task) / "database_tuning_record.json").read_bytes().splitlines()
        except FileNotFoundError:
            return None
        found: list[list[Any]] = [json.loads(line)[1] for line in lines[:trials]]
        ran = [record for record in found if _seconds(record) < _FAILED_S]
        return min(ran, key=_seconds, default=None)

    def open(self, task: str) -> Any:
        """TVM's database of the task's records, made where it is missing.

        Raises:
            BackendError: TVM cannot read it.
        """
        from tvm.s_tir import meta_schedule

        folder = self._task(task)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            return meta_schedule.database.JSONDatabase(work_dir=str(folder))
        except Exception as error:  # noqa: BLE001 - TVM raises whatever its C++ side threw
            raise BackendError(
                f"TVM cannot read its records in {folder}: {first_line(error)}; delete that folder"
            ) from None

    def mend(self, task: str) -> None:
        """Leave out lines that are no records, such as the half one of a killed process. Without its
        workload line a task has none."""
        folder = self._task(task)
        workload, records = (folder / f"database_{n}.json" for n in ("workload", "tuning_record"))
        if workload.exists() and not _is_workload(workload.read_bytes()):
            _log.warning("%s is damaged; the task is tuned anew", workload)
            shutil.rmtree(folder)
            folder.mkdir()
        if not records.exists():
            return
        lines = records.read_bytes().splitlines(keepends=True)
        whole = [line for line in lines if _is_record(line)]
        if len(whole) == len(lines):
            return
        _log.warning("%s: %d damaged records left out", records, len(lines) - len(whole))
        _replace(records, b"".join(whole))

    def _task(self, task: str) -> Path:
        return self.folder / task


def _replace(path: Path, content: bytes) -> None:
    """Whole or not at all, however the process ends."""
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_bytes(content)
    partial.replace(path)


def _seconds(record: list[Any]) -> float:
    """Mean of the candidate's timings, by which TVM too ranks them."""
    return fmean(record[1])


def _is_workload(content: bytes) -> bool:
    """`[HASH, LOOP NEST]`, ended by a line feed."""
    match _parsed(content):
        case [str(), _]:
            return content.endswith(b"\n")
    return False


def _is_record(line: bytes) -> bool:
    """`[WORKLOAD, [TRACE, [SECONDS, ...], ...]]`, ended by a line feed."""
    match _parsed(line):
        case [int(), [list(), [int() | float(), *_], *_]]:
            return line.endswith(b"\n")
    return False


def _parsed(text: bytes) -> Any:
    """None where it is no JSON."""
    try:
        return json.loads(text)
    except ValueError:
        return None
