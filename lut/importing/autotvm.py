"""Tuning logs of TVM's older tuners, one JSON object a line.

AutoTVM tells the operator and its arguments: `{"input": [TARGET, "conv2d_NCHWc.x86", [["TENSOR", SHAPE,
DTYPE], ..., STRIDES, PADDING, DILATION, ...], {}], "result": [[SECONDS, ...], ERROR, ...]}`.
AutoScheduler tells the hash of a graph and shapes, so no op: its tasks are named and left out.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from hwprof.errors import HwprofError, LutError
from hwprof.lut.importing import primitives
from hwprof.lut.importing.entries import Entry, Part, Read, latency_ms
from hwprof.lut.importing.guarded import json_lines, plain, shown
from hwprof.lut.importing.request import Request
from hwprof.lut.importing.tvm_database import FASTEST_DOUBT, MAX_TARGETS, RUNTIME, Best, mean_seconds
from hwprof.ops import OpSpec

MAX_TASKS = 100_000
DOUBTS = (
    FASTEST_DOUBT,
    "an operator was tuned alone: its bias and activation, which are fused into it when a network is "
    "compiled, are not in the number",
)
_CONV = re.compile(r"(?:group_)?conv2d_(?:nchw|NCHWc)\w{0,30}(?:\.\w{1,20})?")
_DEPTHWISE = re.compile(r"depthwise_conv2d_(?:nchw|NCHWc)\w{0,30}(?:\.\w{1,20})?")
_DENSE = re.compile(r"dense\w{0,30}(?:\.\w{1,20})?")


def read_autotvm(source: Path, request: Request) -> Read:
    """A log of AutoTVM or AutoScheduler, a part for each target.

    Raises:
        LutError: a line is of neither, or the request names no device.
    """
    bests: dict[tuple[str, str], Best] = {}
    hashed: set[str] = set()
    for line, record in json_lines(source):
        match record:
            case {"input": [str() as target, str() as task, list() as arguments, *_], "result": result}:
                mean = _mean(result)
                if mean is None:
                    continue
                key = (target, json.dumps([task, arguments]))
                best = bests.setdefault(key, Best(mean, (task, arguments), 0))
                best.count += 1
                best.seconds = min(best.seconds, mean)
            case {"i": [[str() as workload, *_], *_], "r": _}:
                hashed.add(workload)
            case _:
                raise LutError(f"{source}:{line} is no record of AutoTVM or AutoScheduler")
        if len(bests) + len(hashed) > MAX_TASKS:
            raise LutError(f"{source} has more than {MAX_TASKS} tasks; give a part of it")
    parts: dict[str, list[Entry]] = {}
    refused = [
        (f"AutoScheduler task {shown(key)}", "a hash and shapes tell no op") for key in sorted(hashed)
    ]
    for (target, _), best in bests.items():
        task, arguments = best.arguments
        name = plain(f"{task} {_shapes(arguments)}")
        try:
            found = latency_ms(best.seconds * 1000.0)
            facts = {"tuning": f"AutoTVM, fastest of {best.count} candidates"}
            told = f"{best.seconds!r} s, fastest of {best.count} candidates"
            entry = Entry(name, _op_of(task, arguments), found, told, facts)
        except HwprofError as error:
            refused.append((name, str(error)))
            continue
        parts.setdefault(target, []).append(entry)
    if len(parts) > MAX_TARGETS:
        raise LutError(f"{source} is for more than {MAX_TARGETS} targets")
    made = tuple(
        Part(
            request.identity("AutoTVM log", None, RUNTIME, compiled_for=plain(target)),
            request.doubts(*DOUBTS),
            tuple(entries),
            dtype_told=True,
        )
        for target, entries in sorted(parts.items())
    )
    return Read(made, tuple(refused))


def _mean(result: Any) -> float | None:
    """None where the candidate did not run: its second field is an error code."""
    match result:
        case [seconds, 0, *_]:
            return mean_seconds(seconds)
    return None


def _op_of(task: str, arguments: list[Any]) -> OpSpec:
    if _DENSE.fullmatch(task) and len(arguments) > 1:
        (shape, dtype), (weight, _) = _tensor(arguments[0]), _tensor(arguments[1])
        if len(weight) != 2 or weight[1] != shape[-1]:
            raise LutError(f"the product of {shape} and {weight} is no op of ours")
        return primitives.fully_connected(shape, (shape[0], weight[0]), dtype=dtype)
    depthwise = _DEPTHWISE.fullmatch(task)
    if (depthwise or _CONV.fullmatch(task)) and len(arguments) > 4:
        (shape, dtype), (weight, _) = _tensor(arguments[0]), _tensor(arguments[1])
        if depthwise and len(weight) == 4:
            weight = (weight[0] * weight[1], 1, *weight[2:])
        strides, padding, dilation = arguments[2:5]
        if (
            dilation not in ([1, 1], 1)
            or not isinstance(strides, list)
            or len(set(map(str, strides))) != 1
        ):
            raise LutError(f"stride {shown(strides)} or dilation {shown(dilation)} are none of ours")
        sides = padding if isinstance(padding, list) else [padding]
        if any(side != weight[-1] // 2 for side in sides) or not sides:
            raise LutError(f"padding {shown(padding)} is not half the kernel on each side")
        if not isinstance(strides[0], int) or isinstance(strides[0], bool):
            raise LutError(f"stride {shown(strides)} is no whole number")
        return primitives.convolution(shape, weight, stride=strides[0], dtype=dtype)
    raise LutError(f"operator {shown(task)} has no op of ours")


def _tensor(value: Any) -> tuple[tuple[int, ...], str]:
    match value:
        case ["TENSOR", list() as shape, str() as dtype]:
            return primitives.shape_of(shape), dtype
    raise LutError(f"{shown(value)} is no tensor")


def _shapes(arguments: list[Any]) -> str:
    shapes = [
        a[1] for a in arguments[:2] if isinstance(a, list) and len(a) == 3 and isinstance(a[1], list)
    ]
    return " ".join("x".join(map(str, shape)) for shape in shapes)
