"""Full-integer quantisation of a TFLite model with ai-edge-quantizer: int8 weights (per channel),
activations, inputs and outputs."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from hwprof.backends.backend import import_runtime
from hwprof.errors import BackendError, BackendUnavailable
from hwprof.graph import Graph

RECIPE = "static_wi8_ai8"
INSTALL = "pip install 'hwprof[tflite]' (or: pip install 'ai-edge-quantizer>=0.10')"
CALIBRATION_SEED = 20261122
# A small op gets many samples, since few values say little about their range; a large op has many
# values in one sample, and each costs a call in float32.
CALIBRATION_VALUES = 1 << 17
LEAST_SAMPLES, MOST_SAMPLES = 2, 16


def quantise(model: bytes, graph: Graph) -> bytes:
    """The float32 model as an int8 one. Ranges are the smallest and largest values that each tensor took
    for seeded standard normal inputs.

    Raises:
        BackendUnavailable: ai-edge-quantizer is missing, broken or of a version that does not fit.
        BackendError: it refused the model; its message is kept.
    """
    quantizer = import_runtime("ai_edge_quantizer.quantizer", INSTALL)
    from ai_edge_quantizer import recipe

    try:
        chosen = getattr(recipe, RECIPE)()
        # It shows progress, and warns that an interpreter which keeps all tensors is for debugging.
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore", UserWarning)
            ranges = _calibrate(model, graph, chosen)
            made = quantizer.Quantizer(model, chosen).quantize(
                ranges, enable_progress_bar=False, enable_progress_report=False
            )
    except (ImportError, AttributeError) as error:
        raise BackendUnavailable(
            f"ai-edge-quantizer is too old or too new ({error}); run: {INSTALL}"
        ) from error
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise BackendError(f"ai-edge-quantizer refused the model: {lines[0]}") from error
    return _repacked(bytes(made.quantized_model))


def _calibrate(model: bytes, graph: Graph, recipe: Any) -> Mapping[str, Any]:
    from ai_edge_quantizer import calibrator
    from ai_edge_quantizer.recipe_manager import RecipeManager
    from ai_edge_quantizer.utils import qsv_utils

    from hwprof.graph.tflite_emitter import nhwc
    from hwprof.graph.tflite_writer import SIGNATURE

    rng = np.random.default_rng(CALIBRATION_SEED)
    shapes = {name: nhwc(graph.shapes[name]) for name in graph.inputs}
    largest = max(int(np.prod(shape)) for shape in shapes.values())
    count = min(max(CALIBRATION_VALUES // largest, LEAST_SAMPLES), MOST_SAMPLES)
    samples = [
        {n: rng.standard_normal(shape, dtype=np.float32) for n, shape in shapes.items()}
        for _ in range(count)
    ]
    recipes = RecipeManager()
    recipes.load_quantization_recipe(recipe)
    # The default is a moving average over the samples, which clips: global average pooling came out
    # wrong by 55 % of its largest value. The profiler's mode is 2 to 3 times faster than the default.
    runner = calibrator.Calibrator(
        model,
        num_threads=1,
        mode=calibrator.CalibrationMode.CALIBRATION_PROFILER_BASED,
        qsv_update_func=qsv_utils.min_max_update,
    )
    runner.calibrate({SIGNATURE: samples}, recipes)
    ranges: dict[str, Any] = runner.get_model_qsvs()
    for source, padded in _pads_with_lowest(model):
        ranges[padded] = ranges[source]
    return ranges


def _pads_with_lowest(model: bytes) -> list[tuple[str, str]]:
    """Input and output of each PADV2. It fills in the lowest float, which is no part of the range: it
    becomes the lowest int8."""
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools.flatbuffer_utils import read_model_from_bytearray

    read = read_model_from_bytearray(model)
    graph = read.subgraphs[0]
    names = [tensor.name.decode() for tensor in graph.tensors]
    codes = [code.builtinCode for code in read.operatorCodes]
    return [
        (names[operator.inputs[0]], names[operator.outputs[0]])
        for operator in graph.operators
        if codes[operator.opcodeIndex] == schema.BuiltinOperator.PADV2
    ]


def _repacked(model: bytes) -> bytes:
    """The same model with aligned constants inside the flatbuffer. The quantiser appends those of more
    than 256 KiB behind it, which older runtimes do not read."""
    from ai_edge_litert.tools.flatbuffer_utils import read_model_from_bytearray

    from hwprof.graph.tflite_writer import pack_model

    read = read_model_from_bytearray(model)
    for buffer in read.buffers:
        if buffer.data is not None:
            buffer.data = np.frombuffer(buffer.data, dtype=np.uint8)
    return pack_model(read)
