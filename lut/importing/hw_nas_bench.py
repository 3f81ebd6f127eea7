"""HW-NAS-Bench (Li et al. 2021, openreview _0kaDkv3dVf) and tables in its form: NAS-Bench-201 networks
by architecture string, or FBNet blocks by the keys of `fbnet_get_metrics`
(github.com/GATECH-EIC/HW-NAS-Bench, hw_nas_bench_api/hw_nas_bench_api.py)."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from hwprof import ops
from hwprof.errors import HwprofError, LutError
from hwprof.lut.importing.entries import Entry, Network, Part, Read, latency_ms
from hwprof.lut.importing.fbnet_layers import Layer, block_op, irf_op
from hwprof.lut.importing.frames import LATENCY, Frame, chosen_metric, energy_of, read_frame
from hwprof.lut.importing.guarded import plain
from hwprof.lut.importing.nb201_networks import SHIPPED, Nb201
from hwprof.lut.importing.request import DTYPE_DOUBT, SPREAD_DOUBT, Request
from hwprof.ops import OpSpec

RUNTIME = "not told"
MAX_ENERGY_MJ = 1e12
DEVICES = {
    "edgegpu": "NVIDIA Jetson TX2", "raspi4": "Raspberry Pi 4", "edgetpu": "Edge TPU Dev Board",
    "pixel3": "Google Pixel 3", "eyeriss": "Eyeriss", "fpga": "FPGA",
}  # fmt: skip
"""HW-NAS-Bench's own names of its devices; of other tables the column is the device."""

DOUBTS = (
    "the unit is not told: milliseconds (and millijoules), as HW-NAS-Bench's README says of its own",
    "the runtime and its version are not told",
    "Eyeriss and FPGA are computed by cost models; FBNet's networks are sums of these rows",
    SPREAD_DOUBT,
    DTYPE_DOUBT,
)
BATCH_DOUBT = "the batch is not told: 1 image"
DATASET_DOUBT = f"the data set is not told: {SHIPPED}"


def _key(kind: str, *names: str) -> re.Pattern[str]:
    return re.compile(kind + "".join(f"_{name}([0-9]{{1,5}})" for name in names))


_CONV = _key("ConvNorm", "H", "W", "Cin", "Cout", "kernel", "stride", "group")
_BLOCK = _key("ConvBlock", "H", "W", "Cin", "Cout", "exp", "kernel", "stride", "group")
_SKIP = _key("Skip", "H", "W", "Cin", "Cout", "stride")
_POOL = _key("AvgP", "H", "W", "Cin", "Cout", "kernel", "stride")
_FC = _key("FC", "Cin", "Cout")


def read_hw_nas_bench(source: Path, request: Request) -> Read:
    """One metric of the source: a table of one device.

    Raises:
        LutError: the source is no such frame, or the request names no metric of latencies that it has.
    """
    frame = read_frame(source, request.dataset, request.metric)
    metric = chosen_metric(list(frame.columns), request.metric, source)
    batch = request.batch or 1
    networks = any("|" in name for name in frame.names)
    doubts = list(DOUBTS)
    if request.batch is None:
        doubts.append(BATCH_DOUBT)
    space = None
    what_of: Callable[[str], OpSpec | Network]
    if networks:
        nb201 = Nb201(request.dataset or SHIPPED, batch)
        what_of, space = nb201.network, nb201.space
        if request.dataset is None:
            doubts.append(DATASET_DOUBT)
    else:
        what_of = _keyed_ops(batch)
    entries, refused = _entries(frame, metric, what_of)
    short = metric.removesuffix(LATENCY)
    identity = request.identity(
        "HW-NAS-Bench-like table", DEVICES.get(short, plain(short)), RUNTIME, metric=plain(metric)
    )
    part = Part(identity, request.doubts(*doubts), tuple(entries), space=space)
    return Read((part,), tuple(refused))


def _entries(
    frame: Frame, metric: str, what_of: Callable[[str], OpSpec | Network]
) -> tuple[list[Entry], list[tuple[str, str]]]:
    entries: list[Entry] = []
    refused: list[tuple[str, str]] = []
    energies = frame.columns.get(energy_of(metric))
    for number, (name, value) in enumerate(zip(frame.names, frame.columns[metric], strict=True)):
        try:
            found = latency_ms(value)
            facts = {} if energies is None else _energy(energies[number])
            entries.append(Entry(plain(name), what_of(name), found, f"{value!r} ms", facts))
        except HwprofError as error:
            refused.append((plain(name), str(error)))
    return entries, refused


def _energy(value: object) -> dict[str, float]:
    if value is None:
        return {}
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < MAX_ENERGY_MJ:
        raise LutError(f"its energy {str(value)[:60]!r} is no number above 0")
    return {"energy_mj": float(value)}


def _keyed_ops(batch: int) -> Callable[[str], OpSpec]:
    def op_of(key: str) -> OpSpec:
        if found := _CONV.fullmatch(key):
            high, wide, width, out, kernel, stride, groups = map(int, found.groups())
            return ops.conv(
                (batch, width, high, wide), out, kernel, stride=stride, groups=groups, activation="relu"
            )
        if found := _BLOCK.fullmatch(key):
            high, wide, width, out, expansion, kernel, stride, groups = map(int, found.groups())
            return irf_op(_layer(batch, high, wide, width, out, stride), kernel, expansion, groups)
        if found := _SKIP.fullmatch(key):
            return block_op("skip", _layer(batch, *map(int, found.groups())))
        if found := _POOL.fullmatch(key):
            high, wide, width, out, kernel, _ = map(int, found.groups())
            if (high, wide, out) != (kernel, kernel, width):
                raise LutError("the pool does not cover its whole input")
            return ops.pool((batch, width, high, wide), "global_avg")
        if found := _FC.fullmatch(key):
            width, out = map(int, found.groups())
            return ops.fc((batch, width), out)
        raise LutError("it is no architecture string and no key of HW-NAS-Bench's FBNet space")

    return op_of


def _layer(batch: int, high: int, wide: int, width: int, out: int, stride: int) -> Layer:
    return Layer((batch, width, high, wide), out, stride)
