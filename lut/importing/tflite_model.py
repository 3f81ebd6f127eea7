"""The operators of a .tflite model as ops of ours, for profiles that name its nodes."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hwprof.errors import HwprofError, LutError
from hwprof.lut.importing import primitives
from hwprof.lut.importing.guarded import read_bytes, shown
from hwprof.ops import OpSpec

IDENTIFIER = b"TFL3"
MAX_BYTES = 512 << 20
MAX_OPERATORS = 100_000
# What flatbuffers' accessors raise for offsets and types that lie.
UNREADABLE = (struct.error, IndexError, TypeError, ValueError, AttributeError, OverflowError, KeyError)
FUSED = {0: "none", 1: "relu", 3: "relu6"}
ALONE = {"RELU": "relu", "RELU6": "relu6", "LOGISTIC": "sigmoid", "HARD_SWISH": "hswish"}
DTYPES = {0: "float32", 1: "float16", 9: "int8"}


class Model:
    """The first subgraph of a model."""

    def __init__(self, graph: Any, kinds: list[str], schema: Any) -> None:
        self._graph, self._kinds, self._schema = graph, kinds, schema
        self._outputs: dict[str, list[int]] | None = None

    def op(self, kind: str, index: int | None, outputs: str) -> OpSpec:
        """The op of a node.

        Args:
            kind: the operator that the profile says it is, e.g. CONV_2D.
            index: of the node; None where an old profile tells only its outputs.
            outputs: names of its outputs.

        Raises:
            LutError: no such node, the model has another operator there, or none of our ops is it.
        """
        with self._damaged():
            found = self._index_of(outputs) if index is None else index
            if not 0 <= found < self._graph.OperatorsLength() <= MAX_OPERATORS:
                raise LutError(f"the model has no node {found}")
            operator = self._graph.Operators(found)
            own = self._kinds[operator.OpcodeIndex()]
            if own != kind:
                raise LutError(
                    f"node {found} of the model is {own}: a delegate's or another model's operator"
                )
            return self._op(own, operator)

    def only_op(self) -> OpSpec:
        """The op of a model of one operator.

        Raises:
            LutError: the model has more, or none of our ops is it.
        """
        with self._damaged():
            if (count := self._graph.OperatorsLength()) != 1:
                raise LutError(f"the model has {count} operators: a whole model is no op of ours")
            operator = self._graph.Operators(0)
            return self._op(self._kinds[operator.OpcodeIndex()], operator)

    @contextmanager
    def _damaged(self) -> Iterator[None]:
        """Turn what a lying offset raises into one line."""
        try:
            yield
        except HwprofError:
            raise
        except UNREADABLE as error:
            raise LutError(f"the model is damaged here: {type(error).__name__}") from None

    def _index_of(self, outputs: str) -> int:
        if self._outputs is None:
            self._outputs = {}
            for number in range(min(self._graph.OperatorsLength(), MAX_OPERATORS)):
                operator = self._graph.Operators(number)
                if operator.OutputsLength() == 1:
                    name = self._graph.Tensors(operator.Outputs(0)).Name() or b""
                    self._outputs.setdefault(name.decode(errors="replace"), []).append(number)
        numbers = self._outputs.get(outputs, [])
        if len(numbers) != 1:
            raise LutError(f"the model has {len(numbers)} nodes with the output {shown(outputs)}")
        return numbers[0]

    def _op(self, kind: str, operator: Any) -> OpSpec:
        shape, dtype = self._tensor(operator.Inputs(0))
        out, _ = self._tensor(operator.Outputs(0))
        if kind in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            return self._convolution(kind, operator, shape, out, dtype)
        if kind in ("AVERAGE_POOL_2D", "MAX_POOL_2D"):
            options = self._options(operator, self._schema.Pool2DOptions)
            if options.FusedActivationFunction() or options.FilterHeight() != options.FilterWidth():
                raise LutError(
                    "a pool with an activation or a kernel that is not square is none of ours"
                )
            kernel, stride = options.FilterHeight(), options.StrideH()
            pad = 0 if options.Padding() == self._schema.Padding.VALID else kernel // 2
            mode = "avg" if kind == "AVERAGE_POOL_2D" else "max"
            return primitives.pool(shape, mode, kernel, stride, pad, dtype)
        if kind == "MEAN":
            return primitives.global_pool(shape, out, dtype)
        if kind == "FULLY_CONNECTED":
            options = self._options(operator, self._schema.FullyConnectedOptions)
            flat = shape[:2] if shape[2:] in ((), (1, 1)) else shape
            return primitives.fully_connected(flat, out, self._fused(options), dtype)
        if kind in ALONE:
            return primitives.activation(shape, ALONE[kind], dtype)
        raise LutError(f"operator {kind} has no op of ours")

    def _convolution(
        self, kind: str, operator: Any, shape: tuple[int, ...], out: tuple[int, ...], dtype: str
    ) -> OpSpec:
        weight, _ = self._tensor(operator.Inputs(1))  # OHWI as NCHW: (O, I, H, W)
        table = self._schema.Conv2DOptions if kind == "CONV_2D" else self._schema.DepthwiseConv2DOptions
        options = self._options(operator, table)
        if kind == "DEPTHWISE_CONV_2D":  # 1HWO
            weight = (weight[1], 1, *weight[2:])
        if options.DilationHFactor() != 1 or options.DilationWFactor() != 1:
            raise LutError("a dilated convolution is none of ours")
        if options.StrideH() != options.StrideW():
            raise LutError("its stride differs by direction")
        if options.Padding() == self._schema.Padding.VALID and weight[-1] != 1:
            raise LutError("a convolution without padding is none of ours")
        return primitives.convolution(
            shape, weight, out, stride=options.StrideH(), activation=self._fused(options), dtype=dtype
        )

    def _options(self, operator: Any, table: Callable[[], Any]) -> Any:
        union = operator.BuiltinOptions()
        if union is None:
            raise LutError("the model does not tell the operator's options")
        options = table()
        options.Init(union.Bytes, union.Pos)
        return options

    def _fused(self, options: Any) -> str:
        number = options.FusedActivationFunction()
        if number not in FUSED:
            raise LutError(f"fused activation {number} is none of ours")
        return FUSED[number]

    def _tensor(self, number: int) -> tuple[tuple[int, ...], str]:
        """Shape, channels second, and element type."""
        known = 0 <= number < self._graph.TensorsLength()
        tensor = self._graph.Tensors(number) if known else None
        if tensor is None or not 1 <= tensor.ShapeLength() <= 8:
            raise LutError("it has a tensor without a shape")
        shape = primitives.shape_of([int(tensor.Shape(place)) for place in range(tensor.ShapeLength())])
        if tensor.Type() not in DTYPES:
            raise LutError(f"element type {tensor.Type()} is none of {', '.join(DTYPES.values())}")
        channels_second = (shape[0], shape[-1], *shape[1:-1]) if len(shape) > 2 else shape
        return channels_second, DTYPES[tensor.Type()]


def read_model(path: Path) -> Model:
    """A .tflite model; its tables are read where they are asked for.

    Raises:
        LutError: no such file, no .tflite model, damaged, or ai-edge-litert is missing.
    """
    data = read_bytes(path, MAX_BYTES)
    if data[4:8] != IDENTIFIER:
        raise LutError(f"{path} is no .tflite model")
    try:
        from ai_edge_litert import schema_py_generated as schema
    except ModuleNotFoundError:
        raise LutError(
            "reading a .tflite model needs ai-edge-litert: pip install 'hwprof[tflite]'"
        ) from None
    names = {
        value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")
    }
    try:
        model = schema.Model.GetRootAs(data, 0)
        graph = model.Subgraphs(0)
        if model.OperatorCodesLength() > MAX_OPERATORS:
            raise LutError(f"{path} has more than {MAX_OPERATORS} kinds of operators")
        kinds = []
        for number in range(model.OperatorCodesLength()):
            code = model.OperatorCodes(number)
            # Codes of the first years stand in a field of one byte; newer ones in both or the other.
            kinds.append(names.get(max(code.BuiltinCode(), code.DeprecatedBuiltinCode()), "CUSTOM"))
        graph.OperatorsLength()
    except UNREADABLE as error:
        raise LutError(f"{path} is damaged: {type(error).__name__}") from None
    return Model(graph, kinds, schema)
