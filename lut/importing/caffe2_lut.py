"""Facebook's operator-level latency database, one JSON object a line with the fields of `LUTSchema`
(github.com/facebookresearch/mobile-vision, runtime_lut/code/lut_schema.py): Caffe2 operators with their
shapes and percentiles in microseconds, quantised ones (QNNPACK) in NHWC."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hwprof.errors import HwprofError, LutError
from hwprof.lut.importing import primitives
from hwprof.lut.importing.entries import Entry, Part, Read, latency_ms
from hwprof.lut.importing.guarded import json_lines, plain, shown
from hwprof.lut.importing.request import Request
from hwprof.ops import OpSpec

PER_MS = 1000.0
RUNTIME = "Caffe2 QNNPACK"
MAX_RECORDS = 1_000_000
MAX_DEVICES = 100
DOUBTS = (
    "each number is the published median, not a floor; how many runs it is of is not told: no interval",
    "int8 operators are of unsigned 8-bit activations (QNNPACK)",
    "several records of one operator, such as with other scales, make one row: their median",
)
PERCENTILES = {
    "min_ms": "runtime_us_p0",
    "p10_ms": "runtime_us_p10",
    "p50_ms": "runtime_us_p50",
    "p90_ms": "runtime_us_p90",
}
_ARGUMENT = re.compile(r'\s*name:\s*"(\w{1,60})"\s*(?:(?:i|ints):\s*(-?[0-9]{1,9})|s:\s*"(\w{0,60})")?')


def read_caffe2_lut(source: Path, request: Request) -> Read:
    """The database; a part for each device in it.

    Raises:
        LutError: a line is no JSON, or more than 1,000,000 records or 100 devices.
    """
    entries: dict[str, list[Entry]] = {}
    refused: list[tuple[str, str]] = []
    for number, record in json_lines(source):
        if number > MAX_RECORDS:
            raise LutError(f"{source} has more than {MAX_RECORDS} lines; give a part of it")
        if not isinstance(record, dict) or "op_type" not in record or "runtime_us_p50" not in record:
            raise LutError(f"{source}:{number} is no record with op_type and runtime_us_p50")
        name = plain(f"line {number}: {record['op_type']} {record.get('input_shapes')}")
        try:
            device = str(record.get("device") or "")
            median = latency_ms(record["runtime_us_p50"], PER_MS)
            entry = Entry(
                name, _op_of(record), median, f"{record['runtime_us_p50']!r} us", _facts(record)
            )
        except HwprofError as error:
            refused.append((name, str(error)))
            continue
        entries.setdefault(device, []).append(entry)
        if len(entries) > MAX_DEVICES:
            raise LutError(f"{source} is of more than {MAX_DEVICES} devices")
    if request.device is not None and len(entries) > 1:
        raise LutError(f"{source} is of {len(entries)} devices: leave --device out")
    parts = [
        Part(
            request.identity("FBNet operator latency database", device or None, RUNTIME),
            request.doubts(*DOUBTS),
            tuple(of_device),
            dtype_told=True,
        )
        for device, of_device in sorted(entries.items())
    ]
    return Read(tuple(parts), tuple(refused))


def _op_of(record: Mapping[str, Any]) -> OpSpec:
    kind = str(record["op_type"])
    arguments = _arguments(record.get("op_args"))
    shapes = record.get("input_shapes")
    if not isinstance(shapes, list) or not shapes:
        raise LutError("it has no input_shapes")
    dtype = "int8" if kind.startswith("Int8") else "float32"
    channels_last = arguments.get("order", "NHWC" if dtype == "int8" else "NCHW") == "NHWC"
    shape = primitives.shape_of(shapes[0])
    if channels_last and len(shape) == 4:
        shape = (shape[0], shape[3], *shape[1:3])
    bare = kind.removeprefix("Int8")
    relu = "relu" if bare.endswith("Relu") else "none"
    if bare in ("Conv", "ConvRelu") and len(shapes) > 1:
        weight = primitives.shape_of(shapes[1])
        if channels_last and len(weight) == 4:
            weight = (weight[0], weight[3], *weight[1:3])
        if _whole(arguments, "dilation", 1) != 1 or _padding(arguments) != weight[-1] // 2:
            raise LutError(f"padding {_padding(arguments)} or dilation are none of ours")
        stride = _whole(arguments, "stride", 1)
        return primitives.convolution(shape, weight, stride=stride, activation=relu, dtype=dtype)
    if bare in ("FC", "FCRelu") and len(shapes) > 1:
        out = (shape[0], primitives.shape_of(shapes[1])[0])
        if len(shape) == 4 and shape[2:] == (1, 1):
            shape = shape[:2]
        return primitives.fully_connected(shape, out, relu, dtype)
    if bare in ("AveragePool", "MaxPool") and len(shape) == 4:
        if _whole(arguments, "global_pooling", 0) and bare == "AveragePool":
            return primitives.global_pool(shape, shape[:2], dtype)
        mode = "avg" if bare == "AveragePool" else "max"
        kernel, stride = _whole(arguments, "kernel", 1), _whole(arguments, "stride", 1)
        return primitives.pool(shape, mode, kernel, stride, _padding(arguments), dtype)
    if bare == "Relu":
        return primitives.activation(shape, "relu", dtype)
    raise LutError(f"operator {shown(kind)} has no op of ours")


def _facts(record: Mapping[str, Any]) -> dict[str, float]:
    """The published percentiles that are numbers above 0, in milliseconds."""
    told = {}
    for column, name in PERCENTILES.items():
        value = record.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e12:
            told[column] = value / PER_MS
    return told


def _arguments(texts: Any) -> dict[str, str]:
    """Name and value of each argument, as Caffe2 prints its protobuf: `name: "kernel" i: 3`."""
    if not isinstance(texts, list):
        return {}
    found = (_ARGUMENT.match(text) for text in texts if isinstance(text, str))
    return {match[1]: match[2] or match[3] or "" for match in found if match}


def _padding(arguments: Mapping[str, str]) -> int:
    """Padding on every side.

    Raises:
        LutError: it differs by side.
    """
    sides = [_whole(arguments, name, 0) for name in ("pad_t", "pad_l", "pad_b", "pad_r")]
    if "pad" in arguments or "pads" in arguments:
        return _whole(arguments, "pad" if "pad" in arguments else "pads", 0)
    if len(set(sides)) != 1:
        raise LutError(f"padding {sides} differs by side")
    return sides[0]


def _whole(arguments: Mapping[str, str], name: str, default: int) -> int:
    """A whole number; `kernels`, `strides` and the like stand for `kernel`, `stride`."""
    text = arguments.get(name, arguments.get(f"{name}s"))
    if text is None:
        return default
    if not text.isdigit() or not 0 <= int(text) <= primitives.MAX_SIDE:
        raise LutError(f"argument {name} is {text[:60]!r}")
    return int(text)
