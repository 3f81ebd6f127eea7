"""A user's own block as an op: from an ONNX model or a torch module, named by content hash."""

from __future__ import annotations

import copy
from math import prod, sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hwprof.errors import OpError
from hwprof.graph.blocks import block_cost, save_block
from hwprof.graph.weights import BIAS_SD
from hwprof.ops.spec import OpSpec

if TYPE_CHECKING:
    import onnx
    import torch

MODULE_SEED = 20261121
BLOCK_OPSET = 18
BLOCK_DTYPES = ("float32", "float16")


def from_onnx(model: onnx.ModelProto | str | Path, *, dtype: str = "float32") -> OpSpec:
    """A `subgraph` op from a model with one input and one output of fixed shape.

    The model is canonicalised (tensor names, doc strings and producer dropped, local functions
    inlined, an older opset raised to `BLOCK_OPSET`) and kept in the block store; its hash is the op's
    `content`. Weights are kept as they are and are part of the hash.

    Raises:
        OpError: the file is no ONNX model, has external data, several inputs or outputs, a dynamic
            shape, control flow, operators of unknown shape, or another element type than `dtype`.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    _check_dtype(dtype)
    if not isinstance(model, onnx.ModelProto):
        try:
            model = onnx.load(str(model), load_external_data=False)
        except (OSError, DecodeError) as error:
            raise OpError(f"{model} is no ONNX model ({error})") from None
    model = canonical_model(model)
    ends = (model.graph.input[0], model.graph.output[0])
    for value in ends:
        element = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        if element != np.dtype(dtype):
            raise OpError(f"the ONNX block takes and gives {dtype}, got {element}; export it as {dtype}")
    shape, out = (_fixed_shape(value) for value in ends)
    if shape[0] != out[0]:
        raise OpError(f"a subgraph keeps its batch; got {shape[0]} in and {out[0]} out")
    content = save_block(model)
    block_cost(content)
    return OpSpec("subgraph", shape, out[1], content=content, out_side=out[2:], dtype=dtype)


def from_module(
    module: torch.nn.Module,
    shape: tuple[int, ...],
    *,
    keep_weights: bool = False,
    dtype: str = "float32",
) -> OpSpec:
    """A `subgraph` op from a torch module and its input shape.

    The module is copied and put in eval mode. Unless `keep_weights`, its weights are set from a fixed
    seed (He-normal for tensors of two or more dimensions, near zero for biases, near one for the
    rest), so that the same architecture gets the same op_id in every process.

    Raises:
        OpError: the module cannot be exported, or its output is not one tensor of fixed shape.
        ModuleNotFoundError: torch or onnxscript is missing (`pip install 'hwprof[torch]'`).
    """
    import torch

    _check_dtype(dtype)
    module = copy.deepcopy(module).cpu().to(getattr(torch, dtype)).eval()
    if not keep_weights:
        _reseed(module)
    try:
        program = torch.onnx.export(
            module,
            (torch.zeros(shape, dtype=getattr(torch, dtype)),),
            dynamo=True,
            opset_version=BLOCK_OPSET,
            verbose=False,
        )
        assert program is not None
    except ModuleNotFoundError:
        raise
    except Exception as error:
        # torch wraps the reason in a page of next steps; the cause says what went wrong
        reason = error.__cause__ or error
        first = (str(reason).strip() or type(reason).__name__).splitlines()[0]
        raise OpError(f"{type(module).__name__} cannot be exported to ONNX: {first}") from error
    return from_onnx(program.model_proto, dtype=dtype)


def canonical_model(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model with tensors renamed by order of appearance and nothing that varies by exporter.

    Raises:
        OpError: external data, control flow, or not exactly one input and one output.
    """
    import onnx
    import onnx.inliner

    if any(t.data_location == onnx.TensorProto.EXTERNAL for t in model.graph.initializer):
        raise OpError("the ONNX model keeps weights in external data; save it as a single file")
    model = onnx.inliner.inline_local_functions(model)
    graph = model.graph
    constants = {t.name for t in graph.initializer}
    inputs = [v for v in graph.input if v.name not in constants]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise OpError(
            f"a subgraph has one input and one output, got {len(inputs)} and {len(graph.output)}"
        )
    if any(a.type in (a.GRAPH, a.GRAPHS) for node in graph.node for a in node.attribute):
        raise OpError("a subgraph cannot hold control flow (If, Loop, Scan)")
    model = _raise_opset(model)
    graph = model.graph
    names: dict[str, str] = {"": ""}

    def rename(name: str) -> str:
        return names.setdefault(name, f"v{len(names)}")

    rename(inputs[0].name)
    nodes = []
    for node in graph.node:
        renamed = onnx.NodeProto(op_type=node.op_type, domain=node.domain)
        renamed.input.extend(rename(n) for n in node.input)
        renamed.output.extend(rename(n) for n in node.output)
        renamed.attribute.extend(sorted(node.attribute, key=lambda a: a.name))
        nodes.append(renamed)
    initializers = []
    for tensor in graph.initializer:
        if tensor.name in names:
            value = onnx.numpy_helper.to_array(tensor)
            initializers.append(onnx.numpy_helper.from_array(value, names[tensor.name]))
    initializers.sort(key=lambda t: int(t.name[1:]))
    io_values = []
    for value in (inputs[0], graph.output[0]):
        element = value.type.tensor_type.elem_type
        shape = _fixed_shape(value)
        io_values.append(onnx.helper.make_tensor_value_info(rename(value.name), element, shape))
    body = onnx.helper.make_graph(nodes, "block", io_values[:1], io_values[1:], initializers)
    opsets = sorted(model.opset_import, key=lambda o: o.domain)
    canonical = onnx.helper.make_model(body, opset_imports=opsets, ir_version=min(model.ir_version, 10))
    try:
        onnx.checker.check_model(canonical)
    except onnx.checker.ValidationError as error:
        first = str(error).strip().splitlines()[0]
        raise OpError(f"the ONNX block does not pass the ONNX checker: {first}") from None
    return canonical


def _check_dtype(dtype: str) -> None:
    if dtype not in BLOCK_DTYPES:
        raise OpError(f"a subgraph has dtype {' or '.join(BLOCK_DTYPES)}, got {dtype!r}")


def _raise_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model at `BLOCK_OPSET` or newer, so that blocks can share one network's opset."""
    import onnx
    import onnx.version_converter

    version = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=1)
    if version >= BLOCK_OPSET:
        return model
    try:
        return onnx.version_converter.convert_version(model, BLOCK_OPSET)
    except (RuntimeError, onnx.version_converter.ConvertError) as error:
        first = str(error).strip().splitlines()[0]
        raise OpError(
            f"the ONNX block cannot go from opset {version} to {BLOCK_OPSET} ({first}); "
            f"export it with opset {BLOCK_OPSET}"
        ) from None


def _fixed_shape(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    dims = value.type.tensor_type.shape.dim
    shape = tuple(d.dim_value for d in dims)
    if len(shape) < 2 or any(length < 1 for length in shape):
        raise OpError(f"tensor {value.name!r} has a dynamic or unknown shape; export with a fixed one")
    return shape


def _reseed(module: Any) -> None:
    """Deterministic weights, in the order in which the module lists its state.

    No two are equal: the exporter merges equal tensors, which would hide parameters.
    """
    import torch

    rng = np.random.default_rng(MODULE_SEED)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if not tensor.is_floating_point():
                continue
            if tensor.ndim >= 2:
                sd = sqrt(2.0 / max(1, prod(tensor.shape[1:])))
                values = rng.standard_normal(tuple(tensor.shape), dtype=np.float32) * sd
                tensor.copy_(torch.from_numpy(values))
            else:
                values = rng.standard_normal(tuple(tensor.shape), dtype=np.float32) * BIAS_SD
                near_zero = name.endswith(("bias", "running_mean"))
                tensor.copy_(torch.as_tensor(values + (0.0 if near_zero else 1.0)))
