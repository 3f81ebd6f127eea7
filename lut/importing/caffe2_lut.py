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

Arguments = Mapping[str, tuple[str, ...]]
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
SIDES = {
    "kernel": ("kernel_h", "kernel_w"),
    "stride": ("stride_h", "stride_w"),
    "dilation": ("dilation_h", "dilation_w"),
    "pad": ("pad_t", "pad_l", "pad_b", "pad_r"),
}
"""What an argument is called where each side has its own."""
_ARGUMENT = re.compile(r'\s*name:\s*"(\w{1,60})"(.*)', re.DOTALL)
_VALUE = re.compile(r'\b\w+:\s*"?([^\s"]*)')
_WHOLE = re.compile("[0-9]{1,9}")


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
    (order, *_) = arguments.get("order", ("NHWC" if dtype == "int8" else "NCHW",))
    channels_last = order == "NHWC"
    shape = primitives.shape_of(shapes[0])
    if channels_last and len(shape) == 4:
        shape = (shape[0], shape[3], *shape[1:3])
    bare = kind.removeprefix("Int8")
    relu = "relu" if bare.endswith("Relu") else "none"
    if bare in ("Conv", "ConvRelu") and len(shapes) > 1:
        weight = primitives.shape_of(shapes[1])
        if channels_last and len(weight) == 4:
            weight = (weight[0], weight[3], *weight[1:3])
        _check_plain(arguments)
        if (pad := _whole(arguments, "pad", 0)) != weight[-1] // 2:
            raise LutError(f"pad {pad} is none of ours, which is half the kernel of {weight[-1]}")
        stride = _whole(arguments, "stride", 1)
        return primitives.convolution(shape, weight, stride=stride, activation=relu, dtype=dtype)
    if bare in ("FC", "FCRelu") and len(shapes) > 1:
        out = (shape[0], primitives.shape_of(shapes[1])[0])
        if len(shape) == 4 and shape[2:] == (1, 1):
            shape = shape[:2]
        return primitives.fully_connected(shape, out, relu, dtype)
    if bare in ("AveragePool", "MaxPool") and len(shape) == 4:
        _check_plain(arguments)
        if _whole(arguments, "global_pooling", 0):
            if bare == "MaxPool":
                raise LutError("a global MaxPool has no op of ours")
            return primitives.global_pool(shape, shape[:2], dtype)
        mode = "avg" if bare == "AveragePool" else "max"
        kernel, stride = _whole(arguments, "kernel", 1), _whole(arguments, "stride", 1)
        pad = _whole(arguments, "pad", 0)
        return primitives.pool(shape, mode, kernel, stride, pad, dtype)
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


def _arguments(texts: Any) -> dict[str, tuple[str, ...]]:
    """Name and values of each argument, as Caffe2 prints its protobuf: `name: "pads" ints: 1 ints: 0`.
    A name that stands twice has the values of both."""
    found: dict[str, tuple[str, ...]] = {}
    for text in texts if isinstance(texts, list) else []:
        if isinstance(text, str) and (match := _ARGUMENT.match(text)):
            values = tuple(_VALUE.findall(match[2])) or ("",)
            found[match[1]] = found.get(match[1], ()) + values
    return found


def _check_plain(arguments: Arguments) -> None:
    """Raises LutError for what none of our convolutions and pools has: dilation, and padding that
    Caffe2 works out from the sizes."""
    for name, plainest in (("dilation", 1), ("legacy_pad", 0)):
        if (value := _whole(arguments, name, plainest)) != plainest:
            raise LutError(f"{name} {value} is none of ours")


def _whole(arguments: Arguments, name: str, default: int) -> int:
    """A whole number that holds on every side: `stride`, `strides`, or `stride_h` and `stride_w`.

    Raises:
        LutError: no whole number up to 65,536, or it differs by side.
    """
    texts = [text for told in (name, f"{name}s") for text in arguments.get(told, ())]
    sides = SIDES.get(name, ())
    if any(side in arguments for side in sides):
        texts += [text for side in sides for text in arguments.get(side, (str(default),))]
    for text in texts:
        if not _WHOLE.fullmatch(text) or int(text) > primitives.MAX_SIDE:
            raise LutError(f"argument {name} is {text[:60]!r}")
    numbers = [int(text) for text in texts] or [default]
    if len(set(numbers)) > 1:
        raise LutError(f"{name} {numbers[:8]} differs by side")
    return numbers[0]
