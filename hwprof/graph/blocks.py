"""Content-addressed store of opaque ONNX blocks: a user's own op, named by the hash of its bytes.

Blocks live in `$HWPROF_HOME/blocks` (default `~/.local/share/hwprof/blocks`), so that worker
processes and later builds find them by hash. Nothing in a block is executed by this module except
through ONNX's own reference evaluator.
"""

from __future__ import annotations

import hashlib
import os
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hwprof.errors import OpError

if TYPE_CHECKING:
    import onnx


def hwprof_home() -> Path:
    """Folder for what outlives a build: `$HWPROF_HOME`, or `~/.local/share/hwprof`."""
    return Path(os.environ.get("HWPROF_HOME", Path.home() / ".local" / "share" / "hwprof"))


def save_block(model: onnx.ModelProto) -> str:
    """Store a canonical block and return its content hash (sha256, hex)."""
    data = model.SerializeToString(deterministic=True)
    content = hashlib.sha256(data).hexdigest()
    path = _block_path(content)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.partial")
        partial.write_bytes(data)
        partial.replace(path)
    return content


def load_block(content: str) -> onnx.ModelProto:
    """The block of that hash.

    Raises:
        OpError: it is not in the store, or its bytes no longer match the hash.
    """
    import onnx

    path = _block_path(content)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise OpError(
            f"subgraph {content[:12]} is not in {path.parent}; make it again with "
            "hwprof.ops.from_onnx or hwprof.ops.from_module, or copy its .onnx file there"
        ) from None
    if hashlib.sha256(data).hexdigest() != content:
        raise OpError(f"{path} is damaged (its hash differs from its name); delete it and make it again")
    return onnx.load_model_from_string(data)


def block_cost(content: str) -> tuple[int, int, int]:
    """FLOPs (Conv, Gemm and MatMul only), parameters and bytes moved of a block.

    Raises:
        OpError: the block is not in the store, or ONNX cannot infer the shape of one of its tensors.
    """
    import onnx

    inferred = onnx.shape_inference.infer_shapes(load_block(content)).graph
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
    shapes = {t.name: tuple(t.dims) for t in inferred.initializer}
    parameters = sum(prod(t.dims) for t in inferred.initializer if t.dims and t.data_type in floats)
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        dims = value.type.tensor_type.shape.dim
        shapes[value.name] = tuple(d.dim_value for d in dims)
    names = {name for node in inferred.node for name in (*node.input, *node.output) if name}
    if unknown := sorted(names - set(shapes)):
        kinds = sorted({n.op_type for n in inferred.node if set(n.output) & set(unknown)})
        raise OpError(
            f"ONNX cannot infer what shape {', '.join(kinds)} of the block returns; "
            "use standard ONNX operators and fixed shapes"
        )
    flops = 0
    for node in inferred.node:
        out = prod(shapes[node.output[0]])
        if node.op_type == "Conv":
            flops += 2 * out * prod(shapes[node.input[1]][1:])
        elif node.op_type == "Gemm":
            transposed = any(a.name == "transA" and a.i for a in node.attribute)
            flops += 2 * out * shapes[node.input[0]][0 if transposed else 1]
        elif node.op_type == "MatMul":
            flops += 2 * out * shapes[node.input[0]][-1]
    moved = _element(inferred).itemsize * sum(prod(shapes[name]) for name in names)
    return flops, parameters, moved


def run_block(content: str, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Output of a block for one input, by ONNX's reference evaluator (in the block's own dtype)."""
    from onnx.reference import ReferenceEvaluator

    model = load_block(content)
    feed = {model.graph.input[0].name: x.astype(_element(model.graph))}
    (output,) = ReferenceEvaluator(model).run(None, feed)
    return np.asarray(output, dtype=np.float64)


def _element(graph: onnx.GraphProto) -> np.dtype[np.generic]:
    """Element type of the block's input."""
    import onnx

    return onnx.helper.tensor_dtype_to_np_dtype(graph.input[0].type.tensor_type.elem_type)


def _block_path(content: str) -> Path:
    return hwprof_home() / "blocks" / f"{content}.onnx"
