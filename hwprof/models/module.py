"""A torch module as a Model."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwprof.lut import Lut, load_lut
from hwprof.models.model import Model, ModelError
from hwprof.models.predict import Prediction, predict_model
from hwprof.models.reading import model_of

if TYPE_CHECKING:
    import onnx
    import torch

OPSET = 18


def predict_module(
    module: torch.nn.Module,
    example_input: torch.Tensor | tuple[torch.Tensor, ...],
    lut: Lut | str | Path,
    *,
    allow_missing: bool = False,
    **rows: Any,
) -> Prediction:
    """The price of a torch module in eval mode at the shape of `example_input`; `rows` as of
    `hwprof.models.rows.select_rows`.

    Raises:
        ModelError: the module cannot be exported or split.
        LutError, MissingRow: the rows do not price it.
        ModuleNotFoundError: torch or onnxscript is missing (`pip install 'hwprof[torch]'`).
    """
    table = lut if isinstance(lut, Lut) else load_lut(lut)
    return predict_model(module_model(module, example_input), table, allow_missing=allow_missing, **rows)


def module_model(
    module: torch.nn.Module, example_input: torch.Tensor | tuple[torch.Tensor, ...]
) -> Model:
    """The module's operators. Raises as `export_module` and `hwprof.models.reading.model_of`."""
    return model_of(export_module(module, example_input), type(module).__name__)


def export_module(
    module: torch.nn.Module, example_input: torch.Tensor | tuple[torch.Tensor, ...]
) -> onnx.ModelProto:
    """The module as ONNX, weights included. The module is copied and put in eval mode.

    Raises:
        ModelError: torch cannot export it; control flow that depends on values is the usual reason.
    """
    import torch

    arguments = example_input if isinstance(example_input, tuple) else (example_input,)
    try:
        program = torch.onnx.export(
            copy.deepcopy(module).cpu().eval(),
            tuple(argument.cpu() for argument in arguments),
            dynamo=True,
            opset_version=OPSET,
            verbose=False,
        )
    except ModuleNotFoundError:
        raise
    except Exception as error:
        # torch wraps the reason in a page of next steps; the cause says what went wrong
        reason = error.__cause__ or error
        first = (str(reason).strip() or type(reason).__name__).splitlines()[0]
        raise ModelError(f"{type(module).__name__} cannot be exported to ONNX: {first}") from error
    assert program is not None
    proto: onnx.ModelProto = program.model_proto
    return proto
