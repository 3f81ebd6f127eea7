"""The formats that can be imported, and the one function that imports any of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from hwprof.errors import LutError
from hwprof.lut.importing.entries import Read
from hwprof.lut.importing.request import Request
from hwprof.lut.importing.writing import Outcome, check_new, write_read

ALWAYS = ("device", "runtime", "threads")


@dataclass(frozen=True)
class Format:
    """A format: its reader as `module:function`, and what of a `Request` it takes besides `ALWAYS`."""

    reader: str
    takes: tuple[str, ...] = ()

    def read(self, source: Path, request: Request) -> Read:
        module, _, name = self.reader.partition(":")
        function: Callable[[Path, Request], Read] = getattr(
            import_module(f"hwprof.lut.importing.{module}"), name
        )
        return function(source, request)


FORMATS: Mapping[str, Format] = {
    "ofa": Format("mit_yaml:read_ofa"),
    "proxylessnas": Format("mit_yaml:read_proxylessnas"),
    "fbnet": Format("fbnet:read_fbnet", ("layers", "per_ms", "batch")),
    "hw-nas-bench": Format("hw_nas_bench:read_hw_nas_bench", ("metric", "dataset", "batch")),
    "tvm": Format("tvm:read_tvm"),
    "onnxruntime": Format("onnxruntime_profile:read_onnxruntime"),
    "litert": Format("litert:read_litert", ("model",)),
    "csv": Format("plain_csv:read_csv", ("columns",)),
}


def import_table(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    file_format: str,
    request: Request | None = None,
) -> Outcome:
    """Read what others have published or measured into a new table of rows in state `imported`: no
    interval, no visits, and `reason` with the name and number of each entry that a row was made from.

    Args:
        source: a file or folder, see docs/importing.md.
        out: the table; nothing may stand there.
        file_format: a name of `FORMATS`; the folder of S3NAS is `import_s3nas`'s.
        request: what the source does not tell.

    Raises:
        LutError: the format is unknown or takes no such request, `source` cannot be read or holds no op
            that can be expressed, or `out` exists or cannot be written.
    """
    if file_format not in FORMATS:
        raise LutError(f"format {file_format[:60]!r} is unknown; known are {', '.join(FORMATS)}")
    chosen, told = FORMATS[file_format], request or Request()
    nothing = Request()
    for name in Request.__dataclass_fields__:
        if name not in (*ALWAYS, *chosen.takes) and getattr(told, name) != getattr(nothing, name):
            raise LutError(
                f"format {file_format} takes no {name}; it takes {', '.join((*ALWAYS, *chosen.takes))}"
            )
    check_new(out)
    return write_read(chosen.read(Path(source), told), out, str(source))
