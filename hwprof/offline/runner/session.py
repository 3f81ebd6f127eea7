"""Models loaded by a runtime: a fresh session with newly placed buffers, its inputs drawn at random."""

from __future__ import annotations

import base64
import importlib
import json
import sys
import zlib
from importlib import metadata
from typing import Any

from hwprof.offline.runner.lines import Refused

LARGEST_OUTPUT = 1e3
RANDOM_BLOCK = 16384
HOST_PROVIDER = "CPUExecutionProvider"
LEVELS = {
    "all": "ORT_ENABLE_ALL",
    "extended": "ORT_ENABLE_EXTENDED",
    "basic": "ORT_ENABLE_BASIC",
    "disabled": "ORT_DISABLE_ALL",
}
XNNPACK, KERNELS = "XNNPACK", "TFLite kernels"
# Module, distributions and what pip installs by the plan's runtime. tflite-runtime is built against
# numpy 1 and does not tell pip so.
RUNTIMES = {
    "onnxruntime": ("onnxruntime", ("onnxruntime", "onnxruntime-gpu"), "onnxruntime"),
    "litert": (
        "ai_edge_litert.interpreter", ("ai-edge-litert", "ai-edge-litert-nightly"), "ai-edge-litert",
    ),
    "tflite-runtime": (
        "tflite_runtime.interpreter", ("tflite-runtime", "tflite-runtime-nightly"),
        "'numpy<2' tflite-runtime",
    ),
}  # fmt: skip


def load_runtime(name: str) -> tuple[Any, str]:
    """The runtime's module and version.

    Raises:
        Refused: it, or numpy, is missing or broken; the message says what installs it.
    """
    module, distributions, _ = RUNTIMES[name]
    try:
        importlib.import_module("numpy")
        runtime = importlib.import_module(module)
    except Exception as error:  # noqa: BLE001 - a broken runtime raises what it likes
        told = " ".join(str(error).split())
        raise Refused(
            f"{name} does not import in {sys.executable} ({told}), and the plan was exported for it; "
            f"run: {install_command(name)}"
        ) from None
    for distribution in distributions:
        try:
            return runtime, metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return runtime, str(getattr(runtime, "__version__", "unknown"))


def install_command(runtime: str) -> str:
    return f"{sys.executable} -m pip install {RUNTIMES[runtime][2]}"


def require_working(runtime: Any, plan: dict[str, Any]) -> None:
    """Run a model of one node, where the plan has one. Numbers without the delegate that the plan names
    must not pass for numbers with it.

    Raises:
        Refused: the runtime does not work at all (tflite-runtime imports beside a numpy that it cannot
            work with), or this build of it has no XNNPACK.
    """
    if not plan["probe"]:
        return
    import numpy as np

    model = zlib.decompress(base64.b64decode(plan["probe"]))
    wanted = plan["environment"]["xnnpack"]
    try:
        interpreter = tflite_interpreter(runtime, model, 1, wanted)
        interpreter.invoke()
        taken, _ = nodes_taken(interpreter._get_ops_details())
    except Exception as error:  # noqa: BLE001 - a broken runtime raises what it likes
        told = " ".join(str(error).split())
        raise Refused(
            f"{plan['runtime']} does not run a model of one node with numpy {np.__version__}: {told}; "
            f"run: {install_command(plan['runtime'])}"
        ) from None
    if wanted and not taken:
        raise Refused(
            f"this build of {plan['runtime']} has no XNNPACK; take another build, or export again with "
            "--option xnnpack=off"
        )


class OnnxSession:
    """A model that the device's own runtime optimises, inputs and outputs bound to buffers of ours."""

    def __init__(
        self, runtime: Any, plan: dict[str, Any], op: dict[str, Any], model: bytes, rng: Any
    ) -> None:
        options = runtime.SessionOptions()
        level = LEVELS[plan["environment"]["graph_optimization"]]
        options.graph_optimization_level = getattr(runtime.GraphOptimizationLevel, level)
        options.intra_op_num_threads = plan["threads"]
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._op = op
        self._fallback = ""
        if plan["dtype"] != "float32":
            self._fallback = "onnxruntime does not tell on the device which nodes compute in float32"
        self._session = runtime.InferenceSession(model, options, providers=[HOST_PROVIDER])
        self._binding = self._session.io_binding()
        binds = (self._binding.bind_input, self._binding.bind_output)
        inputs = [_bound(binds[0], value, rng) for value in self._session.get_inputs()]
        stored = json.loads(op["metadata"].get("quantisation", "[[], []]"))[0] or [None] * len(inputs)
        for buffer, scale_and_zero in zip(inputs, stored):  # noqa: B905 - `strict` is newer than 3.8
            fill_random(buffer, rng, scale_and_zero)
        self._outputs = [_bound(binds[1], value, rng) for value in self._session.get_outputs()]
        self._inputs = inputs

    def run(self) -> None:
        self._session.run_with_iobinding(self._binding)

    def outputs(self) -> list[Any]:
        return self._outputs

    def placement(self) -> tuple[dict[str, int], str]:
        """How many nodes ran where, and what did not run as the plan wants it."""
        held = self._session.get_providers()
        if held != [HOST_PROVIDER]:
            raise ValueError(f"asked for {HOST_PROVIDER} alone, the session holds {held}")
        return {HOST_PROVIDER: self._op["nodes"]}, self._fallback


class TfliteSession:
    """A fresh interpreter, whose arena and weights lie where it puts them: blocks of random sizes, held
    meanwhile, send them elsewhere, as hwprof's own backend does."""

    def __init__(
        self, runtime: Any, plan: dict[str, Any], op: dict[str, Any], model: bytes, rng: Any
    ) -> None:
        import numpy as np

        self._xnnpack = plan["environment"]["xnnpack"]
        blocks = [np.empty(int(1024 * 2**power), dtype=np.uint8) for power in rng.uniform(0, 10, 8)]
        self._interpreter = tflite_interpreter(
            runtime, bytes(bytearray(model)), plan["threads"], self._xnnpack
        )
        del blocks
        for details in self._interpreter.get_input_details():
            scale, zero = details["quantization"]
            # The interpreter refuses to run while a view of its tensors lives: this one ends here.
            buffer = self._interpreter.tensor(details["index"])()
            fill_random(buffer, rng, (scale, zero) if scale else None)
            del buffer

    def run(self) -> None:
        self._interpreter.invoke()

    def outputs(self) -> list[Any]:
        details = self._interpreter.get_output_details()
        return [self._interpreter.get_tensor(output["index"]) for output in details]

    def placement(self) -> tuple[dict[str, int], str]:
        """How many nodes ran where, and what did not run as the plan wants it."""
        taken, left = nodes_taken(self._interpreter._get_ops_details())
        counts = {name: len(kinds) for name, kinds in ((XNNPACK, taken), (KERNELS, left)) if kinds}
        if not self._xnnpack or not left:
            return counts, ""
        told = ", ".join(f"{left.count(kind)} {kind}" for kind in sorted(set(left)))
        whole = len(taken) + len(left)
        return (
            counts,
            f"{len(left)} of {whole} nodes ran on TFLite's own kernels, not on XNNPACK: {told}",
        )


def tflite_interpreter(runtime: Any, model: bytes, threads: int, xnnpack: bool) -> Any:
    kinds = runtime.OpResolverType
    interpreter = runtime.Interpreter(
        model_content=model,
        num_threads=threads,
        experimental_op_resolver_type=(
            kinds.BUILTIN if xnnpack else kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        ),
    )
    interpreter.allocate_tensors()
    return interpreter


def nodes_taken(nodes: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """Names of the model's operators that the delegate took, and of those left to TFLite's own kernels:
    one was taken if a delegate's output depends on it and none of the delegate's inputs lies between."""
    own = [node for node in nodes if node["op_name"] != "DELEGATE"]
    writers = {int(tensor): node for node in own for tensor in node["outputs"]}
    taken = set()
    for delegate in (node for node in nodes if node["op_name"] == "DELEGATE"):
        border = {int(tensor) for tensor in delegate["inputs"]}
        wanted = [int(tensor) for tensor in delegate["outputs"]]
        while wanted:
            writer = writers.get(wanted.pop())
            if writer is not None and writer["index"] not in taken:
                taken.add(writer["index"])
                wanted += [int(tensor) for tensor in writer["inputs"] if int(tensor) not in border]
    return (
        [node["op_name"] for node in own if node["index"] in taken],
        [node["op_name"] for node in own if node["index"] not in taken],
    )


def _bound(bind: Any, value: Any, rng: Any) -> Any:
    import numpy as np

    types = {"float": np.float32, "float16": np.float16, "uint8": np.uint8, "int8": np.int8}
    dtype = np.dtype(types[value.type[len("tensor(") : -1]])
    buffer = placed_buffer(tuple(value.shape), dtype, rng)
    bind(value.name, "cpu", 0, dtype.type, buffer.shape, buffer.ctypes.data)
    return buffer


def placed_buffer(shape: tuple[int, ...], dtype: Any, rng: Any) -> Any:
    """An array at a random 64-byte-aligned place in a fresh allocation, as hwprof places them."""
    import numpy as np

    size, lines = int(np.prod(shape)) * dtype.itemsize, 1024
    pool = np.empty(size + 64 * (lines + 1), dtype=np.uint8)
    start = -pool.ctypes.data % 64 + 64 * int(rng.integers(lines))
    return pool[start : start + size].view(dtype).reshape(shape)


def fill_random(buffer: Any, rng: Any, scale_and_zero: Any) -> None:
    """Standard normal values, a block of which repeats; stored with scale and zero point where given."""
    import numpy as np

    block = rng.standard_normal(min(buffer.size, RANDOM_BLOCK), dtype=np.float32)
    values = np.resize(block, buffer.shape)
    if scale_and_zero is not None:
        scale, zero = scale_and_zero
        limits = np.iinfo(buffer.dtype)
        values = np.clip(np.round(values / np.float32(scale)) + zero, limits.min, limits.max)
    buffer[...] = values


def check_outputs(outputs: list[Any], shapes: list[list[int]]) -> None:
    """Raise ValueError where numbers would spoil a timing (denormals take 15 times as long) or tell of
    another model."""
    import numpy as np

    found = [list(out.shape) for out in outputs]
    if found != shapes:
        raise ValueError(f"the outputs have shapes {found}, the plan says {shapes}")
    for out in outputs:
        values = np.abs(out.astype(np.float64))
        if not np.isfinite(values).all():
            raise ValueError("an output holds NaN or infinity")
        if values.max() >= LARGEST_OUTPUT:
            raise ValueError(f"an output reaches {values.max():.3g}; {LARGEST_OUTPUT:g} is the limit")
        if out.dtype.kind == "f":
            denormal = int(((values > 0) & (values < np.finfo(out.dtype).tiny)).sum())
            if denormal > 0.01 * values.size:
                raise ValueError(f"an output holds {denormal} denormals of {values.size} values")
