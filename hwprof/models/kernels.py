"""Terms of kernels: which sizes of a convolution, a pool or a copy decide its time."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, prod

from hwprof.errors import OpError
from hwprof.graph import Shape
from hwprof.models.layers import Layer
from hwprof.models.units import Term

FLOAT = 4
CHEAP_ACTIVATIONS = ("Relu", "Clip", "LeakyRelu", "HardSigmoid")
"""Within a convolution these are a few instructions on values in registers."""
SIMPLE = ("Relu", "Clip", "LeakyRelu", "Add", "Sub", "Mul", "Max", "Min", "Neg", "Abs")
"""Elementwise operators that only wait for memory: one kind."""
KERNEL_BLOCKS, KERNEL_COLUMNS = 4, 6
"""The convolution kernels of MLAS compute up to four blocks of output channels by six columns at once
(onnxruntime/core/mlas/lib/x86_64/SconvKernelAvx512F.S); what is left over costs nearly as much."""


def convolution(layer: Layer, source: Shape, result: Shape, block: int | None) -> Term:
    """The term of a convolution.

    Args:
        block: channels of a block of the runtime's own layout; None: it computes on NCHW.
    """
    out_channels, per_group, *kernel = layer.weight
    groups = int(layer.attributes.get("group", 1))
    strides = layer.attributes.get("strides", (1,) * len(kernel))
    dilations = layer.attributes.get("dilations", (1,) * len(kernel))
    batch, in_channels = source[:2]
    sides = (*result[2:], 1)[:2]
    kind, step = ("conv", block) if block else ("plain", 1)
    window = prod(kernel)
    shared = (prod(strides), prod(dilations), batch)
    # A pointwise convolution without strides runs over an image as one row.
    waste = columns_waste(prod(sides) if window * prod(strides) == 1 else sides[1])
    if groups > 1 and per_group == 1 and groups == out_channels:
        channels = _padded(out_channels, step)
        flops = 2.0 * window * batch * channels * prod(result[2:])
        moved = batch * channels * (prod(source[2:]) + prod(result[2:]))
        sizes = (channels, *sides, window, *shared, waste)
        return Term(f"{kind}_depthwise", _sizes(sizes), flops, FLOAT * moved)
    if groups > 1:
        kind += "_grouped"
    elif block and in_channels < block:
        kind += "_image"
        step = 1
    kind += "_pointwise" if window == 1 else "_dense"
    ins = _padded(per_group, step)
    outs = _padded(out_channels // groups, block or 1)
    flops = 2.0 * ins * outs * groups * window * batch * prod(result[2:])
    # What it reads and writes beside its weights is in its FLOPs: a row's changes of layout move the
    # very same bytes, and the two could not be told apart.
    moved = ins * outs * groups * window
    places: tuple[float, ...] = (prod(sides),) if window == 1 else sides
    sizes = (ins, outs, *places, *shared, blocks_waste(outs, block), waste)
    if window > 1:
        sizes += (window,)
    if groups > 1:
        sizes += (groups,)
    return Term(kind, _sizes(sizes), flops, FLOAT * moved)


def blocks_waste(channels: int, block: int | None) -> float:
    """How much of the kernels' work on blocks of output channels is left over; 1 is none."""
    if not block:
        return 1.0
    blocks = channels / block
    return ceil(blocks / KERNEL_BLOCKS) * KERNEL_BLOCKS / blocks if blocks >= 1 else 1.0


def columns_waste(width: int) -> float:
    """As `blocks_waste`, of the columns of an output row."""
    return ceil(width / KERNEL_COLUMNS) * KERNEL_COLUMNS / width


def fused_activation(activation: str, result: Shape) -> tuple[Term, ...]:
    """What an activation adds to the convolution that it is fused into."""
    if not activation or activation in CHEAP_ACTIVATIONS:
        return ()
    elements = prod(result)
    return (Term(f"fused_{activation}", _sizes((elements,)), elements, FLOAT * elements),)


def fused_sum(result: Shape) -> Term:
    """What reading a second tensor and adding it costs within a convolution."""
    elements = prod(result)
    return Term("fused_sum", _sizes((elements,)), elements, FLOAT * elements)


def reorder(kind: str, shape: Shape) -> Term:
    """A change of layout; `shape` is NCHW."""
    return Term(kind, _sizes((shape[1], prod(shape[2:]))), 0.0, 2 * FLOAT * prod(shape))


def pool(layer: Layer, source: Shape, result: Shape, blocked: bool) -> Term:
    """Max and average pools."""
    window = prod(layer.attributes["kernel_shape"])
    strides = prod(layer.attributes.get("strides", (1,)))
    flops = float(window * prod(result))
    sizes = (result[1], prod(result[2:]), window, strides)
    kind = f"{'blocked_' if blocked else ''}{layer.kind}"
    return Term(kind, _sizes(sizes), flops, FLOAT * (prod(source) + prod(result)))


def global_pool(source: Shape, blocked: bool, kind: str = "GlobalAveragePool") -> Term:
    """A mean over height and width; a ReduceMean of NCHW over both computes the same."""
    sizes = _sizes((source[1], prod(source[2:])))
    kind = f"{'blocked_' if blocked else ''}{kind}"
    return Term(kind, sizes, prod(source), FLOAT * prod(source))


def product(rows: int, inner: int, columns: int) -> Term:
    """A product of matrices with constant weights."""
    moved = rows * inner + inner * columns + rows * columns
    sizes = _sizes((rows, inner, columns))
    return Term("product", sizes, 2.0 * rows * inner * columns, FLOAT * moved)


def elementwise(kind: str, sources: Sequence[Shape], result: Shape) -> Term:
    """One value out for each value in."""
    elements = prod(result)
    moved = sum(prod(shape) for shape in sources) + elements
    name = "elementwise" if kind in SIMPLE else kind
    return Term(name, _sizes((elements,)), elements, FLOAT * moved)


def scale(kind: str, source: Shape, result: Shape) -> Term:
    """One number a channel for each image, such as the gate of squeeze-and-excitation."""
    name = "scale" if kind in SIMPLE else f"scale_{kind}"
    moved = FLOAT * 2 * prod(result)
    return Term(name, _sizes((result[1], prod(result[2:]))), prod(result), moved)


def copy(shapes: Sequence[Shape]) -> Term:
    """Pieces of memory moved one by one: concat, split, slice, and a transpose that keeps images."""
    elements = sum(prod(shape) for shape in shapes)
    return Term("copy", _sizes((elements, len(shapes))), 0.0, 2 * FLOAT * elements)


def _padded(channels: int, block: int) -> int:
    return ceil(channels / block) * block


def _sizes(values: Sequence[float]) -> tuple[float, ...]:
    if min(values) <= 0:
        raise OpError(f"a kernel's sizes are above 0, got {tuple(values)}")
    return tuple(float(value) for value in values)
