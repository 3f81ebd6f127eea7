"""results.jsonl: JSON lines, each sealed with a hash over itself and the seal of the line before it."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from typing import Any

FORMAT = 1
LINE = re.compile(rb'\{"seal":"([0-9a-f]{16})",(.*\})')


class Refused(Exception):
    """It cannot go on; the message is one line for the user."""


def sealed_line(previous: str, record: dict[str, Any]) -> tuple[str, bytes]:
    """The record's seal and its line, after the line whose seal is `previous` (empty: the first)."""
    body = json.dumps(record, separators=(",", ":"), allow_nan=False).encode()
    seal = seal_of(previous, body)
    return seal, b'{"seal":"' + seal.encode() + b'",' + body[1:] + b"\n"


def seal_of(previous: str, body: bytes) -> str:
    return hashlib.sha256(previous.encode() + body).hexdigest()[:16]


def read_lines(path: str, plan_hash: str) -> Iterator[tuple[int, dict[str, Any], str, int]]:
    """(line number, record, seal, offset of its end) of every whole line. A last line without its
    newline, which a kill leaves, is no line.

    Raises:
        Refused: a line is damaged or edited, or the results are of another plan or a newer format.
    """
    previous, end = "", 0
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            match = LINE.fullmatch(line[:-1])
            body = b"{" + match[2] if match else b""
            if match is None or match[1].decode() != seal_of(previous, body):
                raise Refused(
                    f"{path}, line {number}: damaged or edited; restore it, or move the file away "
                    "and measure anew"
                )
            previous, end = match[1].decode(), end + len(line)
            record = json.loads(body)
            if number == 1:
                check_header(path, record, plan_hash)
            yield number, record, previous, end


def check_header(path: str, record: dict[str, Any], plan_hash: str) -> None:
    """Raise Refused where results and plan do not belong together."""
    if record.get("type") != "header" or not isinstance(record.get("plan"), str):
        raise Refused(f"{path}, line 1: no header of results; it was not written by run.py")
    if record.get("format") != FORMAT:
        raise Refused(f"{path}, line 1: format {record.get('format')}, this reads {FORMAT}")
    if record["plan"] != plan_hash:
        raise Refused(
            f"{path}, line 1: made with another plan.json (sha256 {record['plan'][:12]}, here is "
            f"{plan_hash[:12]}); keep results and plan of one export together"
        )


class Results:
    """results.jsonl, taken up where it ends. What was appended is on the disk when `append` returns.

    Attributes:
        done: (op, slot, round) of every visit made.
        device: as it was described when the results were begun; None: this is the first start.
    """

    def __init__(self, path: str, plan_hash: str) -> None:
        """Raises Refused as `read_lines`, or where another process writes the file."""
        self.done: set[tuple[str, int, int]] = set()
        self.checked: set[str] = set()
        self.failed: set[str] = set()
        self.crashes: dict[str, int] = {}
        self.next_process = 0
        self.device: dict[str, Any] | None = None
        self._seal = ""
        try:
            self._file = open(path, "ab")  # noqa: SIM115 - open as long as the run lasts
        except OSError as error:
            raise Refused(f"{path} cannot be written: {error.strerror}") from None
        self._lock(path)
        end = 0
        for _, record, seal, line_end in read_lines(path, plan_hash):
            self._take(record)
            self._seal, end = seal, line_end
        self._file.truncate(end)
        if not end:
            run = os.urandom(8).hex()
            self.append({"type": "header", "format": FORMAT, "plan": plan_hash, "run": run})

    def append(self, record: dict[str, Any]) -> None:
        """Raises Refused where the disk is full or failing; the lines before stay whole."""
        seal, line = sealed_line(self._seal, record)
        try:
            self._file.write(line)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise Refused(f"{self._file.name} cannot be written: {error.strerror}") from None
        self._seal = seal
        self._take(record)

    def _lock(self, path: str) -> None:
        try:
            import fcntl
        except ImportError:  # Windows
            return
        try:
            fcntl.flock(self._file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Refused(f"{path} is being written by another run.py; wait for it or stop it") from None

    def _take(self, record: dict[str, Any]) -> None:
        kind = record["type"]
        if kind == "start":
            self.device = self.device or record["device"]
        elif kind == "check":
            self.checked.add(record["id"])
        elif kind == "visit":
            self.done.add((record["id"], record["slot"], record["round"]))
            self.next_process = max(self.next_process, record["process"] + 1)
        elif kind == "failure":
            self.failed.add(record["id"])
        elif kind == "crash":
            self.crashes[record["id"]] = self.crashes.get(record["id"], 0) + 1
