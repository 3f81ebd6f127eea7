"""MetaSchedule tuning databases of TVM: folders with `database_workload.json` and
`database_tuning_record.json`, TVM's own files.

    workload   `[HASH, BASE64]` a line: the loop nest as TVM's object JSON behind a length of 8 bytes
    record     `[WORKLOAD, [TRACE, [SECONDS, ...], TARGET, [["TENSOR", DTYPE, SHAPE], ...]]]` a line

A workload's op is told by the names of its blocks and the shapes of its buffers.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from statistics import fmean
from typing import Any

from hwprof.errors import HwprofError, LutError
from hwprof.lut.importing import primitives
from hwprof.lut.importing.entries import Entry, Part, Read, latency_ms
from hwprof.lut.importing.guarded import json_lines, parse_json, plain, shown
from hwprof.lut.importing.request import Request
from hwprof.ops import OpSpec

WORKLOADS, RECORDS = "database_workload.json", "database_tuning_record.json"
RUNTIME = "tvm"
MAX_DEPTH = 4
MAX_FOLDERS = 10_000
MAX_WORKLOADS = 10_000
MAX_TARGETS = 100
MAX_BLOCKS = 64
MAX_CORES = 4096
# TVM writes 1e10 s for a candidate that could not be built or run.
FAILED_S = 1e9
FASTEST_DOUBT = (
    "each number is the mean of the fastest candidate of a search: the fastest of many looks faster "
    "than it is"
)
DOUBTS = (
    FASTEST_DOUBT,
    "MetaSchedule's timing loop ran it: whether caches were flushed between calls is not told",
    "stride and padding are taken from the shapes; the version of TVM is not told",
)
ANCHORS = ("conv2d_nchw", "group_conv2d_nchw", "matmul")
BESIDE = ("root", "pad_temp", "T_add")
RELU_TYPES = ("prim.Max", "tir.Max", "tirx.Max")
NOT_RELU_TYPES = ("prim.Min", "tir.Min", "tirx.Min")
HARMLESS_CALLS = ("if_then_else", "likely")


@dataclass(frozen=True)
class Workload:
    """What is kept of a loop nest: its blocks' names in order, whether its one computed block is a ReLU,
    and why it could not be read."""

    key: str
    blocks: tuple[str, ...] = ()
    relu: bool = False
    trouble: str = ""

    @property
    def name(self) -> str:
        return plain("+".join(b for b in self.blocks if b not in BESIDE) or f"workload {self.key}")


@dataclass
class Best:
    """The fastest record of a workload on one target, and how many there are."""

    seconds: float
    arguments: Any
    count: int = 1


def read_tvm_database(source: Path, request: Request) -> Read:
    """Every database in a folder, a part for each target.

    Raises:
        LutError: there is none, or the request names no device.
    """
    parts: dict[str, list[Entry]] = {}
    refused: list[tuple[str, str]] = []
    for folder in _folders(source):
        place = "" if folder == source else f"{folder.relative_to(source)}/"
        workloads = [_workload(row, line) for line, row in _limited(folder / WORKLOADS)]
        for (number, target), best in _bests(folder / RECORDS, len(workloads)).items():
            workload = workloads[number]
            name = plain(f"{place}{workload.name} {_shapes(best.arguments)}")
            try:
                op = _op_of(workload, best.arguments)
                found = latency_ms(best.seconds * 1000.0)
            except HwprofError as error:
                refused.append((name, str(error)))
                continue
            facts = {"tuning": f"MetaSchedule, fastest of {best.count} candidates"}
            told = f"{best.seconds!r} s, fastest of {best.count} candidates"
            parts.setdefault(target, []).append(Entry(name, op, found, told, facts))
            if len(parts) > MAX_TARGETS:
                raise LutError(f"{source} is for more than {MAX_TARGETS} targets")
    return Read(
        tuple(_part(request, target, entries) for target, entries in sorted(parts.items())),
        tuple(refused),
    )


def _part(request: Request, target: str, entries: list[Entry]) -> Part:
    facts = json.loads(target)
    more: dict[str, Any] = {"compiled_for": facts}
    doubts = request.doubts(*DOUBTS)
    cores = facts.get("num-cores") if isinstance(facts, dict) else None
    if request.threads is None and isinstance(cores, int) and 1 <= cores <= MAX_CORES:
        more["threads"] = cores
        doubts = (*DOUBTS, "threads are not told: the target's num-cores")
    identity = request.identity("TVM MetaSchedule database", None, RUNTIME, **more)
    return Part(identity, doubts, tuple(entries), dtype_told=True)


def _folders(source: Path) -> list[Path]:
    folders = sorted(_databases(source))
    if not folders:
        raise LutError(f"{source} holds no {RECORDS}")
    for folder in folders:
        if not (folder / WORKLOADS).is_file():
            raise LutError(f"{folder} has {RECORDS} and no {WORKLOADS}; both are needed")
    return folders


def _databases(source: Path) -> Iterator[Path]:
    for seen, (folder, below, files) in enumerate(os.walk(source, followlinks=False)):
        if seen >= MAX_FOLDERS:
            raise LutError(f"{source} has more than {MAX_FOLDERS} folders; is it the right one?")
        if len(Path(folder).relative_to(source).parts) >= MAX_DEPTH:
            below.clear()
        if RECORDS in files:
            yield Path(folder)


def _limited(path: Path) -> Iterator[tuple[int, Any]]:
    for number, row in json_lines(path):
        if number > MAX_WORKLOADS:
            raise LutError(f"{path} has more than {MAX_WORKLOADS} workloads; give a part of it")
        yield number, row


def _workload(row: Any, line: int) -> Workload:
    match row:
        case [str() as key, str() as packed]:
            try:
                return _unpacked(key[:40], base64.b64decode(packed, validate=True))
            except (
                binascii.Error,
                LutError,
                TypeError,
                ValueError,
                LookupError,
                AttributeError,
            ) as error:
                return Workload(key[:40], trouble=f"its loop nest cannot be read: {shown(error)}")
    return Workload(f"line {line}", trouble="the line is no [HASH, LOOP NEST]")


def _unpacked(key: str, data: bytes) -> Workload:
    """The blocks of a loop nest. Nodes refer to each other, and to their names, by index."""
    length = int.from_bytes(data[:8], "little")
    if length != len(data) - 8:
        raise LutError("its length is another")
    nodes = parse_json(data[8:].decode(), "loop nest")["nodes"]
    blocks: list[str] = []
    calls: list[str] = []
    types = set()
    for node in nodes:
        kind = node["type"]
        types.add(kind)
        if kind.endswith("Block"):
            blocks.append(str(nodes[node["data"]["name_hint"]]["data"]))
        elif kind == "ir.Op":
            calls.append(_call_name(node["data"], nodes))
    if len(blocks) > MAX_BLOCKS:
        raise LutError(f"it has {len(blocks)} blocks")
    plain_calls = all(call.rpartition(".")[2] in HARMLESS_CALLS for call in calls)
    relu = (
        plain_calls
        and any(t in types for t in RELU_TYPES)
        and not any(t in types for t in NOT_RELU_TYPES)
    )
    return Workload(key, tuple(blocks), relu)


def _call_name(data: Any, nodes: list[Any]) -> str:
    if isinstance(data, Mapping):
        name = data["name"]
        return str(nodes[name]["data"]) if isinstance(name, int) else str(name)
    return str(data)


def _bests(path: Path, workloads: int) -> dict[tuple[int, str], Best]:
    """The fastest record of each workload and target (as canonical JSON) that ran."""
    found: dict[tuple[int, str], Best] = {}
    for line, row in json_lines(path):
        match row:
            case [int() as number, [_, list() as seconds, target, arguments]] if 0 <= number < workloads:
                mean = mean_seconds(seconds)
                if mean is None:
                    continue
                key = (number, json.dumps(target, sort_keys=True))
                best = found.get(key)
                if best is None:
                    found[key] = Best(mean, arguments)
                else:
                    best.count += 1
                    if mean < best.seconds:
                        best.seconds = mean
            case [int(), [_, None, *_]]:
                continue
            case _:
                raise LutError(f"{path}:{line} is no tuning record of a workload of {WORKLOADS}")
    return found


def mean_seconds(values: Any) -> float | None:
    """The mean of a candidate's timings; None where it did not run."""
    if not isinstance(values, list) or not values:
        return None
    if not all(
        isinstance(v, int | float) and not isinstance(v, bool) and 0 < v < FAILED_S for v in values
    ):
        return None
    return fmean(values)


def _op_of(workload: Workload, arguments: Any) -> OpSpec:
    if workload.trouble:
        raise LutError(workload.trouble)
    tensors, dtype = _tensors(arguments)
    extras = [block for block in workload.blocks if block not in (*BESIDE, *ANCHORS)]
    anchors = [block for block in workload.blocks if block in ANCHORS]
    if len(anchors) == 1:
        if extras and not (len(extras) == 1 and (extras == ["T_relu"] or workload.relu)):
            raise LutError(
                f"its blocks {', '.join(map(shown, workload.blocks))} are no op of ours in one"
            )
        activation = "relu" if extras else "none"
        biased = "T_add" in workload.blocks
        if len(tensors) != (4 if biased else 3):
            raise LutError(f"it has {len(tensors)} buffers, not input, weights, bias if any, and output")
        if biased and prod(tensors[2]) != tensors[-1][1]:
            raise LutError(f"it adds {tensors[2]}, which is no bias of {tensors[-1][1]} channels")
        if anchors == ["matmul"]:
            if tensors[1] != (tensors[0][-1], tensors[-1][-1]):
                raise LutError(f"the product of {tensors[0]} and {tensors[1]} is no op of ours")
            return primitives.fully_connected(tensors[0], tensors[-1], activation, dtype)
        return primitives.convolution(
            tensors[0], tensors[1], tensors[-1], activation=activation, dtype=dtype
        )
    reductions = [block for block in extras if block.endswith("_red")]
    if (
        not anchors
        and len(reductions) == 1
        and set(extras) == {*reductions, "T_divide"}
        and len(tensors) == 2
    ):
        return primitives.global_pool(tensors[0], tensors[1], dtype)
    raise LutError(f"its blocks {', '.join(map(shown, workload.blocks[:8]))} are no op of ours")


def _tensors(arguments: Any) -> tuple[list[tuple[int, ...]], str]:
    tensors, dtypes = [], set()
    for argument in arguments if isinstance(arguments, list) else []:
        match argument:
            case ["TENSOR", str() as dtype, shape]:
                tensors.append(primitives.shape_of(shape))
                dtypes.add(dtype)
            case _:
                raise LutError(f"{shown(argument)} is no buffer")
    if len(tensors) < 2 or len(dtypes) != 1:
        raise LutError("it does not have two buffers or more of one element type")
    return tensors, dtypes.pop()


def _shapes(arguments: Any) -> str:
    """The shapes of input and weights, for a name."""
    shapes = []
    for argument in arguments[:2] if isinstance(arguments, list) else []:
        match argument:
            case [_, _, [*lengths]]:
                shapes.append("x".join(map(str, lengths)))
    return " ".join(shapes)
