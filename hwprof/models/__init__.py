"""A model of anyone's (ONNX, torch) priced from a table: split into the units that the runtime compiles,
each priced from rows, interpolated where rows are near, refused by name where none are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hwprof.models.model import Model, ModelError
    from hwprof.models.module import predict_module
    from hwprof.models.predict import Prediction, UnitPrice, predict_file, predict_model
    from hwprof.models.reading import read_model

__all__ = [
    "Model", "ModelError", "Prediction", "UnitPrice", "predict_file", "predict_model", "predict_module",
    "read_model",
]  # fmt: skip

_HOME = {
    "Model": "model",
    "ModelError": "model",
    "Prediction": "predict",
    "UnitPrice": "predict",
    "predict_file": "predict",
    "predict_model": "predict",
    "predict_module": "module",
    "read_model": "reading",
}


def __getattr__(name: str) -> Any:
    """Numpy, ONNX and Arrow are imported when a name is used."""
    from importlib import import_module

    if name not in _HOME:
        raise AttributeError(f"module 'hwprof.models' has no attribute {name!r}")
    return getattr(import_module(f"hwprof.models.{_HOME[name]}"), name)
