"""What LiteRT's benchmark tools write: a profile of operators (`benchmark_model`), or the result of a
whole model (`benchmark_litert_model.py --result_json`). Neither tells a shape: the model is needed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hwprof.errors import HwprofError, LutError
from hwprof.lut.importing.entries import Entry, Part, Read, latency_ms
from hwprof.lut.importing.guarded import parse_json, plain, read_text
from hwprof.lut.importing.litert_profile import DOUBTS, profiled_calls
from hwprof.lut.importing.request import Request
from hwprof.lut.importing.tflite_model import Model, read_model

RUNTIME = "LiteRT"
MAX_BYTES = 16 << 20
MAX_THREADS = 4096
RESULT_DOUBTS = (
    "each number is a median over runs, not a floor, to a hundredth of a millisecond; the runtime's "
    "version is not told",
)


def read_litert(source: Path, request: Request) -> Read:
    """A profile or a result, with its model.

    Raises:
        LutError: it is neither, the model cannot be read, or the request lacks model or device.
    """
    if request.model is None:
        raise LutError("a LiteRT benchmark tells no shapes; give its model with --model NAME.tflite")
    text = read_text(source, MAX_BYTES)
    message = parse_json(text, str(source)) if text.lstrip()[:1] == "{" else None
    model = read_model(request.model)
    if isinstance(message, dict) and isinstance(message.get("latency"), dict):
        return _result(message, model, request)
    return _profile(text, message, model, request, source)


def _profile(text: str, message: Any, model: Model, request: Request, source: Path) -> Read:
    entries: list[Entry] = []
    refused: list[tuple[str, str]] = []
    for call in profiled_calls(text, message, str(source)):
        name = plain(f"{call.kind} {call.name}")
        try:
            found = latency_ms(call.mean_ms)
            op = model.op(call.kind, *call.node())
            entries.append(Entry(name, op, found, f"{call.mean_ms!r} ms, mean"))
        except HwprofError as error:
            refused.append((name, str(error)))
    identity = request.identity("LiteRT operator profile", None, RUNTIME)
    part = Part(identity, request.doubts(*DOUBTS), tuple(entries), dtype_told=True, cache="in_chain")
    return Read((part,), tuple(refused))


def _result(message: Mapping[str, Any], model: Model, request: Request) -> Read:
    """A model of one operator is an op; another one is none of ours."""
    told = message["latency"]
    name = plain(f"model {Path(str(message.get('model'))).name}")
    more: dict[str, Any] = {"accelerators": plain(str(message.get("accelerators")))}
    doubts = request.doubts(*RESULT_DOUBTS)
    threads = message.get("num_threads")
    if request.threads is None and isinstance(threads, int) and 1 <= threads <= MAX_THREADS:
        more["threads"] = int(threads)
        doubts = RESULT_DOUBTS
    entries: list[Entry] = []
    refused: list[tuple[str, str]] = []
    try:
        found = latency_ms(told.get("median_ms"))
        runs = told.get("num_runs")
        words = (
            f"{found!r} ms, median of {runs} runs" if isinstance(runs, int) else f"{found!r} ms, median"
        )
        entries.append(Entry(name, model.only_op(), found, words, {"p50_ms": found}))
    except HwprofError as error:
        refused.append((name, str(error)))
    identity = request.identity("LiteRT benchmark result", None, RUNTIME, **more)
    return Read((Part(identity, doubts, tuple(entries), dtype_told=True),), tuple(refused))
