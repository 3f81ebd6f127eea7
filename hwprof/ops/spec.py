"""OpSpec: one priced unit, written down so that two spellings of the same op are equal.

The canonical JSON of an OpSpec (keys sorted, defaults left out) is hashed into its `op_id`, the key
of every table. Changing what a field means is a new `OP_ID_VERSION`.
"""

from __future__ import annotations

import hashlib
import json
import reprlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from hwprof.errors import OpError
from hwprof.graph import Graph

OP_ID_VERSION = 1
DTYPES = ("float32", "float16", "bfloat16", "int8")
# Short, and of a value that is nested too deep for JSON too.
_shown = reprlib.Repr()
_shown.maxdict, _shown.maxlevel = 20, 3


@dataclass(frozen=True)
class OpSpec:
    """One op with its shape, dtype and attributes. Make one through `hwprof.ops` (`conv`, `mbconv`,
    `mixconv`, ...): those fill what follows from the rest. Constructing one checks and
    canonicalises it.

    Attributes:
        kind: a name of `hwprof.ops.KINDS`.
        shape: input shape (N, C, H, W), or (N, C) for `fc`.
        out_channels: channels of the output.
        mix: (kernel size, channels) pairs, sorted by kernel. For `mbconv`, `mixconv` and
            `fused_mbconv` the channels are those of the expanded (hidden) tensor; for `conv`,
            `depthwise` and `pool` those of the output; for `head` the hidden width before the
            classifier.
        stride: spatial stride.
        activation: one of none, relu, relu6, hswish, swish, sigmoid.
        se_channels: reduced width of squeeze-and-excitation, 0 for none.
        residual: whether input and output are added; needs stride 1 and equal channels.
        groups: groups of a `conv`.
        pool: max, avg or global_avg, for `pool`.
        content: content hash of a `subgraph`'s ONNX.
        out_side: a `subgraph`'s output shape after (N, C).
        dtype: element type of input, weights and output.

    Raises:
        OpError: a field is outside what the kind allows.
    """

    kind: str
    shape: tuple[int, ...]
    out_channels: int
    mix: tuple[tuple[int, int], ...] = ()
    stride: int = 1
    activation: str = "none"
    se_channels: int = 0
    residual: bool = False
    groups: int = 1
    pool: str = ""
    content: str = ""
    out_side: tuple[int, ...] = ()
    dtype: str = "float32"

    def __post_init__(self) -> None:
        from hwprof.ops.vocabulary import canonicalise

        for name, value in canonicalise(self).items():
            object.__setattr__(self, name, value)

    @property
    def in_channels(self) -> int:
        return self.shape[1]

    @property
    def hidden_channels(self) -> int:
        """Sum of the mix's channels; 0 where the kind has no mix."""
        return sum(channels for _, channels in self.mix)

    @property
    def expansion(self) -> float:
        """Hidden over input channels."""
        return self.hidden_channels / self.in_channels

    @property
    def op_id(self) -> str:
        """First 20 hex digits of sha256 over version and canonical JSON."""
        text = f"hwprof-op-v{OP_ID_VERSION}:{self.to_json()}"
        return hashlib.sha256(text.encode()).hexdigest()[:20]

    @property
    def label(self) -> str:
        """Short readable name, e.g. `mixconv_k3.128+5.64_s1_i32_o32_r56_relu_res`. Not a key."""
        parts = [self.kind]
        if self.pool:
            parts.append(self.pool)
        if self.mix:
            parts.append("k" + "+".join(f"{k}.{c}" for k, c in self.mix))
        parts += [f"s{self.stride}", f"i{self.in_channels}", f"o{self.out_channels}"]
        if len(self.shape) == 4:
            height, width = self.shape[2:]
            parts.append(f"r{height}" if height == width else f"r{height}x{width}")
        if self.shape[0] != 1:
            parts.append(f"b{self.shape[0]}")
        if self.groups != 1:
            parts.append(f"g{self.groups}")
        if self.se_channels:
            parts.append(f"se{self.se_channels}")
        if self.activation != "none":
            parts.append(self.activation)
        if self.residual:
            parts.append("res")
        if self.content:
            parts.append(self.content[:8])
        if self.dtype != "float32":
            parts.append(self.dtype)
        return "_".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able fields, those at their default left out."""
        values = asdict(self)
        defaults = {f.name: f.default for f in fields(self)}
        return {k: _plain(v) for k, v in values.items() if v != defaults[k]}

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> OpSpec:
        """Inverse of `to_dict`.

        Raises:
            OpError: an unknown field, a missing one, or a value of the wrong type.
        """
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(data) - known):
            raise OpError(f"unknown op field {unknown[0]!r}; known: {', '.join(sorted(known))}")
        values = dict(data)
        try:
            if "mix" in values:
                values["mix"] = tuple((k, c) for k, c in values["mix"])
            for name in ("shape", "out_side"):
                if name in values:
                    values[name] = tuple(values[name])
            return cls(**values)
        except (TypeError, ValueError) as error:
            raise OpError(f"not an op: {_shown.repr(values)[:200]} ({error})") from None

    @classmethod
    def from_json(cls, text: str) -> OpSpec:
        """Inverse of `to_json`.

        Raises:
            OpError: no JSON, or as `from_dict`.
        """
        return _from_parsed(_parsed(text))

    def lower(self) -> Graph:
        """This op alone as a Graph."""
        from hwprof.ops.lowering import lower

        return lower([self])


def ops_from_json(text: str) -> tuple[OpSpec, ...]:
    """Ops of the row of a pair or network: a JSON list.

    Raises:
        OpError: no JSON list, or as `OpSpec.from_dict`.
    """
    data = _parsed(text)
    if not isinstance(data, list):
        raise OpError(f"not ops: {text[:80]!r} is no JSON list")
    return tuple(map(_from_parsed, data))


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        # Besides broken JSON: an integer of thousands of digits, or nesting without end.
        raise OpError(f"not an op: {text[:80]!r} is no JSON ({error})") from None


def _from_parsed(data: Any) -> OpSpec:
    if not isinstance(data, dict):
        raise OpError(f"not an op: {_shown.repr(data)[:80]} is no JSON object")
    return OpSpec.from_dict(data)


def _plain(value: Any) -> Any:
    return [_plain(v) for v in value] if isinstance(value, tuple) else value
