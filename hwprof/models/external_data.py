"""Weights outside a model's file: only files inside the model's own folder are accepted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from hwprof.models.model import ModelError

if TYPE_CHECKING:
    import onnx


def check_external_data(model: onnx.ModelProto, path: Path) -> None:
    """Nothing is read here but the sizes of the files.

    Raises:
        ModelError: a tensor whose data lie outside the folder of `path`, in no file, or beyond its end.
    """
    folder = path.absolute().parent.resolve()
    for tensor in _tensors(model):
        if tensor.data_location != tensor.EXTERNAL:
            continue
        told = {entry.key: entry.value for entry in tensor.external_data}
        location = told.get("location", "")
        where = f"{path}: the data of tensor {tensor.name[:80]!r} lie in {location[:200]!r}"
        if not location or "\0" in location or Path(location).is_absolute():
            raise ModelError(f"{where}; only files in the model's own folder are read")
        try:
            file = (folder / location.replace("\\", "/")).resolve()
            inside = file.is_relative_to(folder)
            size = file.stat().st_size if inside and file.is_file() else -1
        except (OSError, ValueError, RuntimeError) as error:
            raise ModelError(f"{where}, which cannot be read: {error}") from None
        if not inside:
            raise ModelError(
                f"{where}, outside the model's folder; save the model with its data beside it"
            )
        if size < 0:
            raise ModelError(f"{where}, which is no file; copy it beside the model")
        if _number(told, "offset", where) + _number(told, "length", where) > size:
            raise ModelError(f"{where}, beyond the end of that file of {size} bytes; copy it again")


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    yield from model.graph.initializer
    bodies = [model.graph.node, *(function.node for function in model.functions)]
    for nodes in bodies:
        for node in nodes:
            for attribute in node.attribute:
                if attribute.type == attribute.TENSOR:
                    yield attribute.t


def _number(told: dict[str, str], key: str, where: str) -> int:
    text = told.get(key, "0")
    if not text.isdecimal() or len(text) > 18:
        raise ModelError(f"{where} at {key} {text[:40]!r}, which is no whole number")
    return int(text)
