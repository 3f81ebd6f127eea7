"""From the shapes that profiles and tuning logs tell to primitive ops of ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hwprof import ops
from hwprof.errors import LutError
from hwprof.ops import OpSpec, output_shape

MAX_SIDE = 1 << 16
MAX_CHANNELS = 1 << 24


def shape_of(value: Any) -> tuple[int, ...]:
    """A stranger's shape as a tuple of lengths.

    Raises:
        LutError: no list of 1 to 8 whole numbers of 1 to 16,777,216.
    """
    if not isinstance(value, list) or not 1 <= len(value) <= 8:
        raise LutError(f"{str(value)[:60]!r} is no shape of 1 to 8 lengths")
    for length in value:
        if isinstance(length, bool) or not isinstance(length, int) or not 1 <= length <= MAX_CHANNELS:
            raise LutError(f"shape {str(value)[:60]} has a length that is not 1 to {MAX_CHANNELS}")
    return tuple(value)


def convolution(
    shape: Sequence[int],
    weight: Sequence[int],
    out: Sequence[int] | None = None,
    *,
    stride: int | None = None,
    activation: str = "none",
    dtype: str = "float32",
) -> OpSpec:
    """A convolution, or a depthwise one, padded by `kernel // 2` on each side.

    Args:
        shape: input, (N, C, H, W).
        weight: (out channels, in channels of a group, kernel, kernel).
        out: output, (N, C, H, W), if it is told; checked.
        stride: None where only `out` tells it: the smallest that gives it.

    Raises:
        LutError: kernel not square, widths that do not divide, an output of another shape.
        OpError: such an op cannot be.
    """
    if len(shape) != 4 or len(weight) != 4:
        raise LutError(f"input {tuple(shape)} and weights {tuple(weight)} are not both of rank 4")
    out_channels, of_group, kernel, wide = weight
    if kernel != wide:
        raise LutError(f"its kernel of {kernel}x{wide} is not square")
    if shape[1] % of_group:
        raise LutError(f"{shape[1]} channels do not divide into groups of {of_group}")
    if stride is None:
        if out is None or len(out) != 4:
            raise LutError("neither its stride nor its output is told")
        stride = _stride(shape[2:], out[2:])
    op = ops.conv(
        tuple(shape), out_channels, kernel, stride=stride, groups=shape[1] // of_group,
        activation=activation, dtype=dtype,
    )  # fmt: skip
    return _checked(op, out)


def pool(
    shape: Sequence[int], mode: str, kernel: int, stride: int, pad: int, dtype: str = "float32"
) -> OpSpec:
    """A pool with `pad` on each side; a global average where the kernel covers the whole input.

    Raises:
        LutError: padding that ours does not have.
        OpError: such an op cannot be.
    """
    if mode == "avg" and pad == 0 and tuple(shape[2:]) == (kernel, kernel):
        return ops.pool(tuple(shape), "global_avg", dtype=dtype)
    if pad != (kernel // 2 if kernel % 2 else 0):
        raise LutError(f"a pool of {kernel}x{kernel} padded by {pad} is none of ours")
    return ops.pool(tuple(shape), mode, kernel, stride=stride, dtype=dtype)


def global_pool(shape: Sequence[int], out: Sequence[int], dtype: str = "float32") -> OpSpec:
    """A global average pool.

    Raises:
        LutError: the output is no (N, C, 1, 1) or (N, C).
    """
    if len(shape) != 4 or tuple(out) not in ((*shape[:2], 1, 1), tuple(shape[:2])):
        raise LutError(f"from {tuple(shape)} to {tuple(out)} is no global pool")
    return ops.pool(tuple(shape), "global_avg", dtype=dtype)


def fully_connected(
    shape: Sequence[int], out: Sequence[int], activation: str = "none", dtype: str = "float32"
) -> OpSpec:
    """A fully connected layer, (N, C) to (N, O).

    Raises:
        LutError: another rank, or a batch that changes.
    """
    if len(shape) != 2 or len(out) != 2 or shape[0] != out[0]:
        raise LutError(f"from {tuple(shape)} to {tuple(out)} is no fully connected layer of ours")
    return ops.fc(tuple(shape), out[1], activation=activation, dtype=dtype)


def activation(shape: Sequence[int], name: str, dtype: str = "float32") -> OpSpec:
    """An activation alone.

    Raises:
        LutError: not of rank 4.
    """
    if len(shape) != 4:
        raise LutError(f"an activation of {tuple(shape)} is not of rank 4")
    return ops.activation(tuple(shape), name, dtype=dtype)


def _stride(sides: Sequence[int], out: Sequence[int]) -> int:
    """The smallest stride from one to the other: `(side - 1) // stride + 1` for every odd kernel."""
    least = 1
    for side, left in zip(sides, out, strict=True):
        # (side - 1) // stride + 1 <= left  <=>  stride > (side - 1) / left
        least = max(least, (side - 1) // left + 1)
    return least


def _checked(op: OpSpec, out: Sequence[int] | None) -> OpSpec:
    if out is not None and output_shape(op) != tuple(out):
        raise LutError(
            f"with padding of half its kernel and stride {op.stride} its output would be "
            f"{output_shape(op)}, told is {tuple(out)}"
        )
    return op
