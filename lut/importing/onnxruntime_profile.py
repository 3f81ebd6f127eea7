"""Profiles of ONNX Runtime (`SessionOptions.enable_profiling`): a JSON list of trace events, of which
`NAME_kernel_time` are calls of a node with its operator, provider, and the shapes of inputs and outputs.

Attributes of a node (strides, padding, what is fused into it) are not told. So only those operators are
read whose op follows from the shapes; a fused or blocked (NCHWc) one does not tell its activation.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from hwprof.errors import HwprofError, LutError
from hwprof.lut.importing import primitives
from hwprof.lut.importing.entries import Entry, Network, Part, Read, latency_ms
from hwprof.lut.importing.guarded import parse_json, plain, read_text, shown
from hwprof.lut.importing.request import Request
from hwprof.ops import OpSpec

RUNTIME = "onnxruntime"
CALL = "_kernel_time"
BLOCKED = "_nchwc"
PER_MS = 1000.0
MAX_NODES = 100_000
DOUBTS = (
    "each number is the median of a node's calls without the first; durations are whole microseconds",
    "padding and dilation are not told: half the kernel on each side, and none; strides follow from the "
    "shapes",
    "an activation or addition that ran as a node of its own is not in the number",
    "writing the profile slows every node; the runtime's version is not told",
)
DTYPES = {"float": "float32", "float16": "float16", "bfloat16": "bfloat16"}
ACTIVATIONS = {"Relu": "relu", "Sigmoid": "sigmoid", "HardSwish": "hswish"}
UNTOLD = {
    "FusedConv": "its fused activation is not told; profile with the graph optimization level BASIC",
    "Clip": "its bounds are not told",
    "MaxPool": "its kernel is not told",
    "AveragePool": "its kernel is not told",
}


def read_onnxruntime(source: Path, request: Request) -> Read:
    """A profile, one part: the rows' `placement` tells the provider of each.

    Raises:
        LutError: no such profile, or the request names no device.
    """
    events = parse_json(read_text(source), str(source))
    if not isinstance(events, list):
        raise LutError(f"{source} is no list of trace events, so no profile of ONNX Runtime")
    nodes = _nodes(events, source)
    entries: list[Entry] = []
    refused: list[tuple[str, str]] = []
    providers: dict[OpSpec | Network, set[str]] = {}
    for (name, text), durations in nodes.items():
        facts = json.loads(text)
        told = plain(f"{name} {facts['op_name']}")
        try:
            called = durations[1:] or durations
            found = latency_ms(median(called), PER_MS)
            op = _op_of(name, facts)
        except HwprofError as error:
            refused.append((told, str(error)))
            continue
        provider = plain(str(facts["provider"]))
        providers.setdefault(op, set()).add(provider)
        count = f"median of {len(called)} calls" if len(called) > 1 else "one call"
        placement = {"placement": json.dumps({provider: 1})}
        entries.append(Entry(told, op, found, f"{median(called):g} us, {count}", placement))
    entries, mixed = _of_one_provider(entries, providers)
    used = sorted({provider for entry in entries for provider in providers[entry.what]})
    identity = request.identity("ONNX Runtime profile", None, RUNTIME, providers=used)
    part = Part(identity, request.doubts(*DOUBTS), tuple(entries), dtype_told=True, cache="in_chain")
    return Read((part,), (*refused, *mixed))


def _of_one_provider(
    entries: list[Entry], providers: Mapping[OpSpec | Network, set[str]]
) -> tuple[list[Entry], list[tuple[str, str]]]:
    """The entries of ops that one provider ran; and those of others, since CPU and accelerator have no
    median that either of them takes."""
    kept = [entry for entry in entries if len(providers[entry.what]) == 1]
    mixed = [
        (
            entry.name,
            f"nodes of this op ran on {' and '.join(sorted(providers[entry.what]))}: no one number; "
            "profile a session with one provider",
        )
        for entry in entries
        if len(providers[entry.what]) > 1
    ]
    return kept, mixed


def _nodes(events: list[Any], source: Path) -> dict[tuple[str, str], list[float]]:
    """Durations by node and, since shapes may change between runs, by its arguments."""
    nodes: dict[tuple[str, str], list[float]] = {}
    for event in events:
        match event:
            case {
                "cat": "Node",
                "name": str() as name,
                "dur": int() | float() as dur,
                "args": dict() as args,
            }:
                if not name.endswith(CALL):
                    continue
                facts = {key: args.get(key) for key in ("op_name", "provider")}
                facts |= {key: args.get(f"{key}_type_shape") for key in ("input", "output")}
                key = (name.removesuffix(CALL), json.dumps(facts))
                nodes.setdefault(key, []).append(dur)
                if len(nodes) > MAX_NODES:
                    raise LutError(f"{source} has more than {MAX_NODES} nodes; give a part of it")
    if not nodes:
        raise LutError(
            f"{source} has no calls of nodes (NAME{CALL}), so it is no profile of ONNX Runtime"
        )
    return nodes


def _op_of(name: str, facts: Mapping[str, Any]) -> OpSpec:
    kind = facts["op_name"]
    if name.endswith(BLOCKED):
        raise LutError(
            "a blocked layout does not tell its fused activation; profile with the graph optimization "
            "level BASIC"
        )
    if kind in UNTOLD:
        raise LutError(UNTOLD[kind])
    inputs, dtype = _tensors(facts["input"])
    (out, *_), _ = _tensors(facts["output"])
    if kind == "Conv":
        if len(inputs) not in (2, 3):
            raise LutError(f"it has {len(inputs)} inputs, not input, weights and bias")
        return primitives.convolution(inputs[0], inputs[1], out, dtype=dtype)
    if kind == "GlobalAveragePool":
        return primitives.global_pool(inputs[0], out, dtype)
    if kind in ("Gemm", "MatMul"):
        return primitives.fully_connected(inputs[0], out, dtype=dtype)
    if kind in ACTIVATIONS:
        return primitives.activation(inputs[0], ACTIVATIONS[kind], dtype)
    raise LutError(f"operator {shown(kind)} has no op of ours")


def _tensors(values: Any) -> tuple[list[tuple[int, ...]], str]:
    """Shapes and element type of `[{"float": [1, 3, 64, 64]}, ...]`."""
    shapes, types = [], []
    for value in values if isinstance(values, list) else []:
        if not isinstance(value, dict) or len(value) != 1:
            raise LutError(f"{shown(value)} is no tensor's type and shape")
        ((kind, shape),) = value.items()
        types.append(kind)
        shapes.append(primitives.shape_of(shape))
    if not shapes or types[0] not in DTYPES:
        raise LutError(
            f"element type {shown(types[0] if types else None)} is none of {', '.join(DTYPES)}"
        )
    return shapes, DTYPES[types[0]]
