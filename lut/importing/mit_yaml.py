"""Latency tables of ProxylessNAS (Cai et al. 2019, arXiv 1812.00332) and Once-for-All (Cai et al. 2020,
arXiv 1908.09791): one YAML mapping from a key per op to `mean` in milliseconds and `count`.

The keys are those of `ProxylessNASLatencyTable` and `MBv3LatencyTable`
(github.com/mit-han-lab/once-for-all, ofa/nas/efficiency_predictor/latency_lookup_table.py). What they do
not say is filled in as the networks have it (ofa/utils/layers.py, networks/proxyless_nets.py and
networks/mobilenet_v3.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hwprof import ops
from hwprof.errors import HwprofError, LutError
from hwprof.lut.importing.entries import Entry, Part, Read, latency_ms
from hwprof.lut.importing.guarded import MAX_YAML_BYTES, parse_yaml, plain, read_text
from hwprof.lut.importing.request import DTYPE_DOUBT, SPREAD_DOUBT, Request
from hwprof.ops import OpSpec, output_shape

MAX_FILES = 100
MAX_HEADS = 1000
RUNTIME = "TensorFlow Lite"
PROXYLESS_DEVICE = "Google Pixel 1"
UNIT_DOUBT = "the unit is not told: as milliseconds the sums match the published networks"
MEAN_DOUBT = "each number is a mean over `count` runs, not a floor; the published std or var is left out"
PROXYLESS_DOUBTS = (
    UNIT_DOUBT,
    MEAN_DOUBT,
    SPREAD_DOUBT,
    DTYPE_DOUBT,
    "activations and the stem's kernel are not told: ReLU6 and 3x3, as in ProxylessNAS's networks",
    "Conv_1 and Logits are taken as the two halves of a head: their sum is a row of its own",
)
OFA_DOUBTS = (
    UNIT_DOUBT,
    MEAN_DOUBT,
    SPREAD_DOUBT,
    DTYPE_DOUBT,
    "kernel and activations outside of blocks are not told: 3x3 and h-swish, as in OFA's networks",
    "the width of squeeze-and-excitation is not told: a quarter of the expanded width, to a multiple of "
    "8; its gate is a hard sigmoid there and a sigmoid here",
)
_SHAPE = r"([0-9]{1,5})x([0-9]{1,5})x([0-9]{1,5})"
_KEY = re.compile(
    rf"([A-Za-z0-9_]{{1,40}})-input:{_SHAPE}-output:(?:{_SHAPE}|([0-9]{{1,6}}))((?:-[a-z]+:[0-9]{{1,5}})*)"
)
_BLOCK = ("expand", "kernel", "stride", "idskip")


def read_proxylessnas(source: Path, request: Request) -> Read:
    """A ProxylessNAS table, of Google's Pixel 1 unless the request names another device.

    Raises:
        LutError: `source` is no such table.
    """
    entries, refused = _entries(source, _proxyless_op)
    entries += _heads(entries)
    identity = request.identity("ProxylessNAS latency table", PROXYLESS_DEVICE, RUNTIME)
    return Read((Part(identity, request.doubts(*PROXYLESS_DOUBTS), tuple(entries)),), tuple(refused))


def read_ofa(source: Path, request: Request) -> Read:
    """One table of Once-for-All, or a folder with one for each resolution.

    Raises:
        LutError: `source` is no such table, or the request names no device.
    """
    identity = request.identity("OFA latency table", None, RUNTIME)
    entries, refused = _entries(source, _ofa_op)
    return Read((Part(identity, request.doubts(*OFA_DOUBTS), tuple(entries)),), tuple(refused))


def _entries(source: Path, op_of: Callable[[str], OpSpec]) -> tuple[list[Entry], list[tuple[str, str]]]:
    entries: list[Entry] = []
    refused: list[tuple[str, str]] = []
    files = _files(source)
    for path in files:
        table = parse_yaml(read_text(path, MAX_YAML_BYTES), str(path))
        if not isinstance(table, dict):
            raise LutError(f"{path} is no mapping of ops to numbers, so no latency table of this format")
        for key, value in table.items():
            name = plain(key if len(files) == 1 else f"{path.name}: {key}")
            try:
                mean, count = _numbers(value)
                entries.append(Entry(name, op_of(key), mean, f"{mean!r} ms{count}"))
            except HwprofError as error:
                refused.append((name, str(error)))
    return entries, refused


def _files(source: Path) -> list[Path]:
    if not source.is_dir():
        return [source]
    try:
        files = sorted(path for path in source.iterdir() if path.suffix in (".yaml", ".yml"))
    except OSError as error:
        raise LutError(f"{source} cannot be read: {error.strerror or error}") from None
    if not 0 < len(files) <= MAX_FILES:
        raise LutError(
            f"{source} holds {len(files)} YAML files; give one, or a folder of 1 to {MAX_FILES}"
        )
    return files


def _numbers(value: Any) -> tuple[float, str]:
    """The mean and, if it is told, over how many runs."""
    if not isinstance(value, Mapping) or "mean" not in value:
        raise LutError("it has no `mean`")
    count = value.get("count")
    runs = f", mean of {count} runs" if isinstance(count, int) and count > 0 else ""
    return latency_ms(value["mean"]), runs


def _proxyless_op(key: str) -> OpSpec:
    kind, shape, out, fields = _parsed(key)
    if kind == "Conv" and not fields:
        return _conv(shape, out, 3, "relu6")
    if kind == "Conv_1" and not fields:
        return _conv(shape, out, 1, "relu6")
    if kind == "Logits" and not fields and len(out) == 1:
        return ops.head(shape, out[0], activation="none")
    if kind == "expanded_conv" and tuple(fields) == _BLOCK:
        return _block(shape, out, fields, fields["expand"] * shape[1], "relu6", 0)
    raise LutError(f"{_told(kind, fields)} is no op of ProxylessNAS's tables")


def _ofa_op(key: str) -> OpSpec:
    kind, shape, out, fields = _parsed(key)
    if kind == "Conv" and not fields:
        return _conv(shape, out, 3, "hswish")
    if kind in ("Conv_1", "Conv_2") and not fields:
        return _conv(shape, out, 1, "hswish")
    if kind == "AvgPool2D" and not fields and out == (1, 1, shape[1]):
        return ops.pool(shape, "global_avg")
    if kind == "Logits" and not fields and len(out) == 1 and shape[2:] == (1, 1):
        return ops.fc(shape[:2], out[0])
    if kind == "expanded_conv" and tuple(fields) == (*_BLOCK, "se", "hs"):
        hidden = fields["expand"]
        if fields["se"] > 1 or fields["hs"] > 1:
            raise LutError("se and hs are 0 or 1")
        se = _divisible(hidden // 4) if fields["se"] else 0
        return _block(shape, out, fields, hidden, "hswish" if fields["hs"] else "relu", se)
    raise LutError(f"{_told(kind, fields)} is no op of OFA's tables")


def _parsed(key: str) -> tuple[str, tuple[int, ...], tuple[int, ...], dict[str, int]]:
    """Kind, input as (1, C, H, W), output as (H, W, C) or (C,), and the further fields in order."""
    found = _KEY.fullmatch(key)
    if found is None:
        raise LutError("the key is not KIND-input:HxWxC-output:HxWxC...")
    kind, high, wide, channels, *out, flat, rest = found.groups()
    pairs = [part.split(":") for part in rest.split("-")[1:]]
    fields = {name: int(value) for name, value in pairs}
    if len(fields) != len(pairs):
        raise LutError("the key names a field twice")
    shape = (1, int(channels), int(high), int(wide))
    return kind, shape, (int(flat),) if flat else tuple(map(int, out)), fields


def _conv(shape: tuple[int, ...], out: tuple[int, ...], kernel: int, activation: str) -> OpSpec:
    stride = 2 if len(out) == 3 and out[0] < shape[2] else 1
    return _checked(ops.conv(shape, out[-1], kernel, stride=stride, activation=activation), out)


def _block(
    shape: tuple[int, ...], out: tuple[int, ...], fields: Mapping[str, int], hidden: int,
    activation: str, se_channels: int,
) -> OpSpec:  # fmt: skip
    if fields["idskip"] > 1:
        raise LutError("idskip is 0 or 1")
    op = OpSpec(
        "mbconv", shape, out[-1], mix=((fields["kernel"], hidden),), stride=fields["stride"],
        activation=activation, se_channels=se_channels, residual=bool(fields["idskip"]),
    )  # fmt: skip
    return _checked(op, out)


def _checked(op: OpSpec, out: tuple[int, ...]) -> OpSpec:
    _, channels, high, wide = output_shape(op)
    if out != (high, wide, channels):
        words = "x".join(map(str, out))
        raise LutError(f"its output would be {high}x{wide}x{channels}, the key says {words}")
    return op


def _divisible(channels: int) -> int:
    """`make_divisible(channels, 8)` of OFA: the nearest multiple of 8, not more than 10 % below."""
    rounded = max(8, (channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def _heads(entries: list[Entry]) -> list[Entry]:
    """Our heads: a 1x1 convolution and the pool and classifier of its output, two entries there."""
    logits: dict[tuple[int, ...], list[tuple[Entry, int]]] = {}
    for entry in entries:
        if isinstance(entry.what, OpSpec) and entry.what.kind == "head":
            logits.setdefault(entry.what.shape, []).append((entry, entry.what.out_channels))
    made: list[Entry] = []
    for first in entries:
        conv = first.what
        if not isinstance(conv, OpSpec) or conv.kind != "conv" or conv.mix[0][0] != 1:
            continue
        for last, classes in logits.get(output_shape(conv), []):
            head = ops.head(conv.shape, classes, conv.out_channels, activation=conv.activation)
            name = f"sum of {first.name} ({first.told}) + {last.name}"
            total = first.latency_ms + last.latency_ms
            made.append(Entry(name, head, total, last.told, source="derived"))
            if len(made) > MAX_HEADS:
                raise LutError(f"more than {MAX_HEADS} pairs of Conv_1 and Logits fit each other")
    return made


def _told(kind: str, fields: Mapping[str, int]) -> str:
    return f"{kind} with {', '.join(fields) or 'no fields'}"
