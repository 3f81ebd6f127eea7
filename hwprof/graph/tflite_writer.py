"""Writes a .tflite flatbuffer: tensors, operators and one signature. Knows nothing of a Graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

SIGNATURE = "serving_default"
FILE_IDENTIFIER = b"TFL3"
ELEMENT_TYPES = {
    "float32": schema.TensorType.FLOAT32,
    "float16": schema.TensorType.FLOAT16,
    "int8": schema.TensorType.INT8,
    "int32": schema.TensorType.INT32,
}
# The codes of operators of the first years stand in a field of one byte as well.
LARGEST_BYTE_CODE = 127


class TfliteWriter:
    """Collects tensors and operators, in execution order, and packs them into a file."""

    def __init__(self) -> None:
        self._tensors: list[Any] = []
        self._buffers: list[Any] = [schema.BufferT()]  # buffer 0 is empty by definition
        self._operators: list[Any] = []
        self._codes: dict[tuple[int, int], int] = {}

    def tensor(self, name: str, shape: Sequence[int], dtype: str = "float32") -> int:
        """Add a tensor that the runtime allocates; its index."""
        tensor = schema.TensorT(
            name=name.encode(), shape=list(shape), type=ELEMENT_TYPES[dtype], hasRank=True
        )
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def constant(self, name: str, value: NDArray[np.generic]) -> int:
        """Add a tensor whose values are part of the file; its index."""
        index = self.tensor(name, value.shape, value.dtype.name)
        data = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
        self._buffers.append(schema.BufferT(data=data))
        self._tensors[index].buffer = len(self._buffers) - 1
        return index

    def operator(
        self,
        kind: str,
        inputs: Sequence[int],
        outputs: Sequence[int],
        options: Any = None,
        version: int = 1,
    ) -> None:
        """Append an operator: its name in the schema, its tensors, and its options object."""
        code = getattr(schema.BuiltinOperator, kind)
        index = self._codes.setdefault((code, version), len(self._codes))
        operator = schema.OperatorT(opcodeIndex=index, inputs=list(inputs), outputs=list(outputs))
        if options is not None:
            member = type(options).__name__.removesuffix("T")
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, member)
            operator.builtinOptions = options
        self._operators.append(operator)

    def finish(self, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> bytes:
        """The file. `inputs` and `outputs` are tensors by their names in the signature."""
        subgraph = schema.SubGraphT(
            tensors=self._tensors, operators=self._operators, name=b"main",
            inputs=list(inputs.values()), outputs=list(outputs.values()),
        )  # fmt: skip
        signature = schema.SignatureDefT(
            inputs=_tensor_maps(inputs), outputs=_tensor_maps(outputs), signatureKey=SIGNATURE.encode()
        )
        codes = [
            schema.OperatorCodeT(
                builtinCode=code, deprecatedBuiltinCode=min(code, LARGEST_BYTE_CODE), version=version
            )
            for code, version in self._codes
        ]
        model = schema.ModelT(
            version=3, operatorCodes=codes, subgraphs=[subgraph], buffers=self._buffers,
            signatureDefs=[signature], description=b"hwprof",
        )  # fmt: skip
        return pack_model(model)


class _AlignedBuilder(flatbuffers.Builder):  # type: ignore[misc]
    """Constants start at multiples of 16 bytes, as the schema demands (`force_align: 16`) and its
    generated Python code forgets."""

    def CreateNumpyVector(self, x: NDArray[np.generic]) -> int:
        self.StartVector(x.itemsize, x.size, 16)
        payload = x.tobytes()
        start = self.Head() - len(payload)
        self.Bytes[start : start + len(payload)] = payload
        self.head = start
        self.vectorNumElems = x.size
        return int(self.EndVector())


def pack_model(model: Any) -> bytes:
    """A `ModelT`, whose constants are numpy arrays of bytes, as a .tflite file."""
    size = sum(buffer.data.size + 64 for buffer in model.buffers if buffer.data is not None)
    builder = _AlignedBuilder(size + 4096)
    builder.Finish(model.Pack(builder), FILE_IDENTIFIER)
    return bytes(builder.Output())


def _tensor_maps(indices: Mapping[str, int]) -> list[Any]:
    return [schema.TensorMapT(name=name.encode(), tensorIndex=index) for name, index in indices.items()]
