"""What chain and cell spaces share: the fields of a file, the input, the stem and the head."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from hwprof import ops
from hwprof.errors import OpError
from hwprof.graph import ACTIVATIONS, Shape
from hwprof.graph.graph import conv_side
from hwprof.space.choice import Choice, Position
from hwprof.space.document import Field, distinct

STEM_FIELDS = ("channels", "kernel", "stride", "activation")
HEAD_FIELDS = ("activation", "classes")
HEAD_OPTIONAL = ("hidden",)
ACTIVATION_NAMES = ("none", *ACTIVATIONS)
MAX_STRIDE = 16

Made = TypeVar("Made")


def read_input(field: Field) -> Shape:
    """(1, channels, height, width) of `input: [channels, height, width]`."""
    lengths = [item.integer() for item in field.items()]
    if len(lengths) != 3:
        raise field.error(f"{lengths} is not [channels, height, width]")
    return (1, *lengths)


def read_stem(field: Field, shape: Shape) -> Position:
    """Convolution and activation; one choice per activation listed."""
    values = field.section(STEM_FIELDS)
    channels = values["channels"].integer()
    kernel = read_kernel(values["kernel"])
    stride = values["stride"].integer(most=MAX_STRIDE)
    make = partial(ops.conv, shape, channels, kernel, stride=stride)
    choices = [
        Choice(f"{kernel}x{kernel} {name}", (checked(field, "stem", partial(make, activation=name)),))
        for name in read_activations(values["activation"])
    ]
    return Position("stem", tuple(choices), "layer")


def read_head(field: Field, shape: Shape) -> Position:
    """Optional 1x1 convolution, activation, global average pool, classifier; one choice per
    activation listed."""
    values = field.section(HEAD_FIELDS, HEAD_OPTIONAL)
    classes = values["classes"].integer()
    hidden = values["hidden"].integer() if "hidden" in values else None
    make = partial(ops.head, shape, classes, hidden)
    choices = [
        Choice(name, (checked(field, "head", partial(make, activation=name)),))
        for name in read_activations(values["activation"])
    ]
    return Position("head", tuple(choices), "layer")


def read_activations(field: Field) -> list[str]:
    names = [(item, item.text(ACTIVATION_NAMES)) for item in field.items()]
    distinct(names)
    return [name for _, name in names]


def read_kernel(field: Field) -> int:
    kernel = field.integer()
    if kernel % 2 == 0:
        raise field.error(f"kernel size {kernel} is even; give an odd one")
    return kernel


def after_conv(shape: Shape, channels: int, stride: int) -> Shape:
    """Shape after an odd kernel of any size with `kernel // 2` padding."""
    batch, _, height, width = shape
    return (batch, channels, conv_side(height, 1, stride), conv_side(width, 1, stride))


def checked(field: Field, place: str, make: Callable[[], Made]) -> Made:
    """What `make` returns: an op, or several.

    Raises:
        SpaceError: `make` raised an OpError; it names the field and the place in the network.
    """
    try:
        return make()
    except OpError as error:
        raise field.error(f"{error} (at {place})") from None
