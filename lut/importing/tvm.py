"""What TVM's tuners leave behind: a MetaSchedule database (a folder) or a log of AutoTVM (a file)."""

from __future__ import annotations

from pathlib import Path

from hwprof.lut.importing.autotvm import read_autotvm
from hwprof.lut.importing.entries import Read
from hwprof.lut.importing.request import Request
from hwprof.lut.importing.tvm_database import read_tvm_database


def read_tvm(source: Path, request: Request) -> Read:
    """A folder of databases, or a log.

    Raises:
        LutError: it is neither, or the request names no device.
    """
    if source.is_dir():
        return read_tvm_database(source, request)
    return read_autotvm(source, request)
