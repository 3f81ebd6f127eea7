"""Reads an ONNX model that may come from a stranger: sizes and nesting are bounded, nothing is executed,
and what has no fixed cost (control flow, dynamic shapes, custom operators) is refused by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hwprof.errors import HwprofError
from hwprof.graph import Shape
from hwprof.models.external_data import check_external_data
from hwprof.models.model import Model, ModelError, Node

if TYPE_CHECKING:
    import onnx

MAX_BYTES = (1 << 31) - 1
"""A protobuf message cannot be larger; weights beyond it lie in external data."""
MAX_NODES = 20_000
MAX_CALLS = 16
"""How deep local functions may call each other."""
MAX_ELEMENTS = 1 << 31
MAX_RANK = 8
MAX_LENGTH = 1 << 20
"""Of a tensor of one dimension. ONNX takes one for a shape that is computed, and keeps some 140 bytes
for each element: 20 million took 2.6 GB."""
KEPT_ELEMENTS = 64
"""Constants up to this size keep their values: bounds, axes, target shapes."""
STANDARD = ("", "ai.onnx")
CONTROL_FLOW = ("If", "Loop", "Scan", "SequenceMap")
FLOATS = frozenset((1, 10, 11, 16, 17, 18, 19, 20, 23))
"""Floating-point types, by their number in ONNX."""


def read_model(path: str | Path) -> Model:
    """The model of an ONNX file.

    Raises:
        ModelError: no file, no ONNX, too large, or something in it that `model_of` refuses.
    """
    return model_of(load_proto(Path(path)), str(path))


def load_proto(path: Path) -> onnx.ModelProto:
    """The file's content without external data, which is checked to lie in the model's folder.

    Raises:
        ModelError: see `read_model`.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        if not path.is_file():
            raise ModelError(f"{path} is no file; give an ONNX model")
        if (size := path.stat().st_size) > MAX_BYTES:
            raise ModelError(
                f"{path} has {size} bytes, {MAX_BYTES} is the most; save its weights as external data"
            )
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from None
    try:
        model = onnx.load_model_from_string(data)
    except (DecodeError, ValueError, RuntimeError) as error:
        raise ModelError(f"{path} is no ONNX model: {_first_line(error)}") from None
    if not model.graph.node:
        raise ModelError(f"{path} is no ONNX model, or one without operators")
    try:
        check_external_data(model, path)
    except UnicodeDecodeError:
        raise _no_text(str(path)) from None
    return model


def model_of(proto: onnx.ModelProto, name: str) -> Model:
    """Operators and shapes of a loaded model.

    Raises:
        ModelError: control flow, operators of other domains, dynamic or unknown shapes, sparse weights,
            a size beyond the bounds, or shapes that contradict each other. The operator is named.
    """
    try:
        return _checked(proto, name)
    except UnicodeDecodeError:  # protobuf decodes a text only when it is asked for
        raise _no_text(name) from None


def _checked(proto: onnx.ModelProto, name: str) -> Model:
    import onnx
    import onnx.inliner

    _check_nodes(proto, name)
    if proto.functions:
        try:
            proto = onnx.inliner.inline_local_functions(proto)
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"{name}: its functions cannot be inlined: {_first_line(error)}") from None
        _check_nodes(proto, name)
    for value in (*proto.graph.input, *proto.graph.output):
        _check_dims(value.name, [d.dim_value for d in value.type.tensor_type.shape.dim], name)
    _check_inputs(proto, name)
    light, values = _without_weights(proto, name)
    inferred = _inferred(light, name)
    shapes = _shapes(proto, inferred)
    _check_layers(proto, inferred, shapes, name)
    return _built(proto, shapes, values, name)


def _inferred(light: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The model with the shapes of all its tensors."""
    import onnx

    try:
        for computed in (False, True):
            light = onnx.shape_inference.infer_shapes(light, strict_mode=computed, data_prop=computed)
            _check_lengths(light, name)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
        raise ModelError(f"{name}: its shapes contradict each other: {_first_line(error)}") from None
    except MemoryError:
        raise ModelError(f"{name}: its shapes take more memory than there is; make them fixed") from None
    return light


def _check_lengths(inferred: onnx.ModelProto, name: str) -> None:
    for value in (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output):
        dims = value.type.tensor_type.shape.dim
        if len(dims) == 1 and dims[0].dim_value > MAX_LENGTH:
            raise ModelError(
                f"{name}: tensor {value.name[:80]!r} is one row of {dims[0].dim_value} numbers; at most "
                f"{MAX_LENGTH} are taken"
            )


def _shapes(proto: onnx.ModelProto, inferred: onnx.ModelProto) -> dict[str, Shape]:
    """Of all tensors whose shape is fixed."""
    graph = inferred.graph
    shapes: dict[str, Shape] = {tensor.name: tuple(tensor.dims) for tensor in proto.graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type.tensor_type
        if kind.HasField("shape") and all(d.HasField("dim_value") for d in kind.shape.dim):
            shapes[value.name] = tuple(d.dim_value for d in kind.shape.dim)
    return shapes


def _check_layers(
    proto: onnx.ModelProto, inferred: onnx.ModelProto, shapes: Mapping[str, Shape], name: str
) -> None:
    """What shape inference lets pass: operators that no runtime takes, and several element types, which
    rows of one do not price."""
    import onnx

    context = onnx.checker.C.CheckerContext()
    context.ir_version = max(proto.ir_version, 4)
    context.opset_imports = {opset.domain: opset.version for opset in proto.opset_import}
    kinds = {tensor.name: tensor.data_type for tensor in proto.graph.initializer}
    graph = inferred.graph
    for value in (*graph.input, *graph.value_info, *graph.output):
        kinds[value.name] = value.type.tensor_type.elem_type
    weights = {tensor.name for tensor in proto.graph.initializer}
    first = next((kinds.get(v.name, 0) for v in proto.graph.input if v.name not in weights), 0)
    for node in proto.graph.node:
        label = f"{name}: {node.op_type!r} ({(node.name or _first(node.output))[:80]})"
        if not any(node.output):
            raise ModelError(f"{label} gives nothing that has a name; export the model again")
        try:
            onnx.checker.check_node(node, context)
        except (onnx.checker.ValidationError, RuntimeError, ValueError) as error:
            raise ModelError(f"{label} is no valid operator: {_first_line(error)}") from None
        others = {kinds.get(tensor, 0) for tensor in (*node.input, *node.output)} & FLOATS - {first}
        if first in FLOATS and others:
            told = [onnx.helper.tensor_dtype_to_np_dtype(kind) for kind in (min(others), first)]
            raise ModelError(
                f"{label} computes in {told[0]}, the model's first input is {told[1]}; rows are of one "
                "element type, export the model in one"
            )
        if node.op_type == "Conv" and len(node.input) > 1:
            groups = next((a.i for a in node.attribute if a.name == "group"), 1)
            source, weight = (shapes.get(tensor, ()) for tensor in node.input[:2])
            known = len(source) > 1 and len(weight) > 1 and source[1] > 0 < weight[1]
            if groups < 1 or (known and (source[1] != groups * weight[1] or weight[0] % groups)):
                raise ModelError(
                    f"{label} has {groups} groups for weights of shape {weight[:MAX_RANK]} and "
                    f"an input of shape {source[:MAX_RANK]}; export the model again"
                )


def _check_nodes(proto: onnx.ModelProto, name: str) -> None:
    """Bounds and refusals that need no shapes."""
    functions = {(f.domain, f.name): f for f in proto.functions}
    sizes: dict[tuple[str, str], int] = {}

    def size(nodes: Iterable[onnx.NodeProto], depth: int) -> int:
        if depth > MAX_CALLS:
            raise ModelError(f"{name}: its functions call each other more than {MAX_CALLS} deep")
        total = 0
        for node in nodes:
            key = (node.domain, node.op_type)
            if key in functions:
                if key not in sizes:
                    sizes[key] = size(functions[key].node, depth + 1)
                total += sizes[key]
            else:
                _check_node(node, name)
                total += 1
            if total > MAX_NODES:
                raise ModelError(f"{name} has more than {MAX_NODES} operators, too many to split")
        return total

    size(proto.graph.node, 0)
    if proto.graph.sparse_initializer:
        raise ModelError(f"{name} holds sparse weights, which have no price; export it with dense ones")


def _check_node(node: onnx.NodeProto, name: str) -> None:
    label = f"{name}: {node.op_type[:80]!r} ({(node.name or _first(node.output))[:80]})"
    held = any(a.type in (a.GRAPH, a.GRAPHS) for a in node.attribute)
    if held or node.op_type in CONTROL_FLOW:
        raise ModelError(
            f"{label} is control flow: how often it runs is not fixed; export the model without it"
        )
    if node.domain not in STANDARD:
        raise ModelError(
            f"{label} is a custom operator of domain {node.domain[:80]!r}; only standard ONNX operators "
            "can be split, export the model with those"
        )


def _check_inputs(proto: onnx.ModelProto, name: str) -> None:
    """A caller's inputs have fixed shapes."""
    weights = {tensor.name for tensor in proto.graph.initializer}
    for value in proto.graph.input:
        if value.name in weights:
            continue
        kind = value.type.tensor_type
        dims = [d.dim_value if d.HasField("dim_value") else (d.dim_param or "?") for d in kind.shape.dim]
        if not value.type.HasField("tensor_type") or not kind.HasField("shape") or any(
            isinstance(d, str) or d < 1 for d in dims
        ):  # fmt: skip
            shown = ", ".join(str(d)[:20] for d in dims[:MAX_RANK])
            raise ModelError(
                f"{name}: input {value.name[:80]!r} has the dynamic shape ({shown}); a price is for one "
                "shape, export the model with fixed ones"
            )


def _without_weights(
    proto: onnx.ModelProto, name: str
) -> tuple[onnx.ModelProto, dict[str, np.ndarray[Any, Any]]]:
    """The model with its large weights as inputs, and the values of the small ones: shape inference
    copies the whole model, and needs no more."""
    import onnx

    light = onnx.ModelProto(ir_version=max(proto.ir_version, 4))
    light.opset_import.extend(proto.opset_import)
    graph = light.graph
    graph.name = "light"
    graph.node.extend(proto.graph.node)
    graph.output.extend(proto.graph.output)
    weights = {tensor.name for tensor in proto.graph.initializer}
    graph.input.extend(value for value in proto.graph.input if value.name not in weights)
    values = {}
    for tensor in proto.graph.initializer:
        elements = _check_dims(tensor.name, tensor.dims, name)
        if elements <= KEPT_ELEMENTS and tensor.data_location != tensor.EXTERNAL:
            values[tensor.name] = _values(tensor, name)
            graph.initializer.append(tensor)
        else:
            graph.input.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
    return light, values


def _built(proto: onnx.ModelProto, shapes: dict[str, Shape], values: dict[str, Any], name: str) -> Model:
    import onnx

    constants = {tensor.name for tensor in proto.graph.initializer}
    nodes = []
    for node in proto.graph.node:
        made = Node(
            node.op_type, node.name or _first(node.output), tuple(node.input), tuple(node.output),
            _attributes(node, name),
        )  # fmt: skip
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.type == attribute.TENSOR:
                    elements = _check_dims(node.output[0], attribute.t.dims, name)
                    shapes[node.output[0]] = tuple(attribute.t.dims)
                    if elements <= KEPT_ELEMENTS and attribute.t.data_location != 1:
                        values[node.output[0]] = _values(attribute.t, name)
                elif attribute.type in (
                    attribute.INT,
                    attribute.INTS,
                    attribute.FLOAT,
                    attribute.FLOATS,
                ):
                    values[node.output[0]] = np.asarray(onnx.helper.get_attribute_value(attribute))
        # The runtime folds what hangs on no input; the shape of a fixed tensor is a constant too.
        if node.op_type in ("Shape", "Size") or all(i in constants for i in node.input if i):
            constants.update(node.output)
            continue
        for output in filter(None, node.output):
            if output not in shapes or any(length < 1 for length in shapes[output]):
                raise ModelError(
                    f"{name}: {node.op_type!r} ({made.name[:80]}) gives a dynamic or unknown shape; "
                    "export the model with fixed shapes and standard operators"
                )
            _check_dims(output, shapes[output], name)
        nodes.append(made)
    inputs = tuple(v.name for v in proto.graph.input if v.name not in constants)
    if not inputs or not nodes:
        raise ModelError(f"{name} computes nothing from an input; there is nothing to price")
    element = next(v for v in proto.graph.input if v.name == inputs[0]).type.tensor_type.elem_type
    small = {key: np.asarray(value) for key, value in values.items()}
    return Model(
        name,
        tuple(nodes),
        inputs,
        tuple(value.name for value in proto.graph.output),
        shapes,
        frozenset(constants),
        {k: float(v.reshape(-1)[0]) for k, v in small.items() if v.size == 1 and v.dtype.kind in "fiu"},
        {k: tuple(int(i) for i in v.reshape(-1)) for k, v in small.items() if v.dtype.kind in "iu"},
        str(onnx.helper.tensor_dtype_to_np_dtype(element)) if element else "unknown",
    )


def _attributes(node: onnx.NodeProto, name: str) -> Mapping[str, Any]:
    """Numbers, texts and lists of them."""
    found: dict[str, Any] = {}
    for a in node.attribute:
        match a.type:
            case a.INT:
                found[a.name] = a.i
            case a.FLOAT:
                found[a.name] = a.f
            case a.STRING:
                found[a.name] = a.s.decode("utf-8", "replace")
            case a.INTS:
                if len(a.ints) > MAX_NODES:
                    raise ModelError(f"{name}: attribute {a.name[:80]!r} has {len(a.ints)} numbers")
                found[a.name] = tuple(a.ints)
            case _:
                continue
    return found


def _values(tensor: onnx.TensorProto, name: str) -> np.ndarray[Any, Any]:
    import onnx

    try:
        return np.asarray(onnx.numpy_helper.to_array(tensor))
    except (ValueError, TypeError, KeyError, RuntimeError, HwprofError) as error:
        raise ModelError(
            f"{name}: tensor {tensor.name[:80]!r} is damaged: {_first_line(error)}"
        ) from None


def _check_dims(tensor: str, dims: Iterable[int], name: str) -> int:
    """The number of elements."""
    lengths = list(dims)
    if len(lengths) > MAX_RANK or any(n < 0 for n in lengths) or prod(lengths) > MAX_ELEMENTS:
        raise ModelError(
            f"{name}: tensor {tensor[:80]!r} has shape {tuple(lengths[: MAX_RANK + 1])}; at most "
            f"{MAX_RANK} lengths and {MAX_ELEMENTS} elements are taken"
        )
    return prod(lengths)


def _no_text(name: str) -> ModelError:
    return ModelError(f"{name} is damaged: a name in it is no UTF-8; export the model again")


def _first(outputs: Iterable[str]) -> str:
    return next(iter(outputs), "")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
