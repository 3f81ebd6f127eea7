"""The op vocabulary: `OpSpec`, its constructors, its kinds and its lowering to a Graph."""

from hwprof.ops.construct import (
    activation,
    conv,
    depthwise,
    fc,
    fused_mbconv,
    head,
    mbconv,
    mixconv,
    pool,
    skip,
    squeeze_excite,
)
from hwprof.ops.lowering import append_op, lower, output_shape, residual_gain
from hwprof.ops.spec import DTYPES, OP_ID_VERSION, OpSpec, ops_from_json
from hwprof.ops.subgraph import from_module, from_onnx
from hwprof.ops.vocabulary import KINDS

__all__ = [
    "DTYPES", "KINDS", "OP_ID_VERSION", "OpSpec", "activation", "append_op", "conv", "depthwise", "fc",
    "from_module", "from_onnx", "fused_mbconv", "head", "lower", "mbconv", "mixconv", "ops_from_json",
    "output_shape", "pool", "residual_gain", "skip", "squeeze_excite",
]  # fmt: skip
