"""A .tflite model in an interpreter of LiteRT or tflite-runtime. Needs numpy and that runtime, nothing
else: tflite-runtime lives in an interpreter of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwprof.backends.backend import (
    Quantisation,
    Session,
    fill_random,
    require_open,
)
from hwprof.errors import BackendError, UnsupportedOp

DELEGATE = "DELEGATE"
XNNPACK = "XNNPACK"
KERNELS = "TFLite kernels"


def load(runtime: Any, model: bytes, threads: int, xnnpack: bool) -> Any:
    """An interpreter with its tensors allocated. `runtime` is the module that has the class.

    Raises:
        UnsupportedOp: the runtime has no kernel for an operator.
        BackendError: it refused the model; its message is kept.
    """
    kinds = runtime.OpResolverType
    kernels = kinds.BUILTIN if xnnpack else kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    try:
        interpreter = runtime.Interpreter(
            model_content=model, num_threads=threads, experimental_op_resolver_type=kernels
        )
        interpreter.allocate_tensors()
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        if "Didn't find op" in lines[0]:
            raise UnsupportedOp(f"{runtime.__name__} has no kernel: {lines[0]}") from None
        raise BackendError(f"{runtime.__name__} refused the model: {lines[0]}") from error
    return interpreter


def nodes_taken(interpreter: Any) -> tuple[list[str], list[str]]:
    """Names of the model's operators that the delegate took, and of those left to TFLite's own kernels.

    The runtime keeps the nodes of the model beside the delegate's; one was taken if a delegate's output
    depends on it and none of the delegate's inputs lies between.
    """
    nodes = interpreter._get_ops_details()
    own = [node for node in nodes if node["op_name"] != DELEGATE]
    writers = {int(tensor): node for node in own for tensor in node["outputs"]}
    taken: set[int] = set()
    for delegate in (node for node in nodes if node["op_name"] == DELEGATE):
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


class TfliteSession(Session):
    """Shapes are the Graph's (NCHW): input buffers are transposed views of the runtime's own tensors."""

    def __init__(
        self, runtime: Any, model: bytes, rng: np.random.Generator, threads: int, xnnpack: bool
    ) -> None:
        # TFLite allocates for itself: blocks of random sizes, held meanwhile, send its arena and packed
        # weights elsewhere (inputs of 16 sessions at 12 to 16 places; without blocks 3 to 10 of 12).
        blocks = [np.empty(int(1024 * 2**power), dtype=np.uint8) for power in rng.uniform(0, 10, 8)]
        # The runtime reads constants where they lie: a copy, so that they are placed anew as well.
        self._interpreter: Any | None = load(runtime, bytes(bytearray(model)), threads, xnnpack)
        del blocks
        self._xnnpack = xnnpack
        self._input_details = self._interpreter.get_input_details()
        self._output_details = self._interpreter.get_output_details()
        tensors = [_live_tensor(self._interpreter, d["index"]) for d in self._input_details]
        for tensor, details in zip(tensors, self._input_details, strict=True):
            fill_random(tensor, rng, _stored(details))
        self._inputs = [_nchw(tensor) for tensor in tensors]

    def run(self) -> None:
        require_open(self._interpreter)
        try:
            self._interpreter.invoke()  # type: ignore[union-attr]
        except (RuntimeError, ValueError) as error:
            raise BackendError(f"TFLite failed: {error}") from error

    def outputs(self) -> list[NDArray[np.generic]]:
        require_open(self._interpreter)
        get = self._interpreter.get_tensor  # type: ignore[union-attr]
        return [np.ascontiguousarray(_nchw(get(d["index"]))) for d in self._output_details]

    def input_buffers(self) -> list[NDArray[np.generic]]:
        return self._inputs

    def placement(self) -> Mapping[str, int]:
        require_open(self._interpreter)
        taken, left = nodes_taken(self._interpreter)
        return Counter({name: len(n) for name, n in ((XNNPACK, taken), (KERNELS, left)) if n})

    def fallback(self) -> str:
        require_open(self._interpreter)
        taken, left = nodes_taken(self._interpreter)
        if not self._xnnpack or not left:
            return ""
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(Counter(left).items()))
        whole = len(taken) + len(left)
        return f"{len(left)} of {whole} nodes ran on TFLite's own kernels, not on XNNPACK: {kinds}"

    def quantisation(self) -> Quantisation | None:
        stored = [list(_all_stored(details)) for details in (self._input_details, self._output_details)]
        if not any(stored):
            return None
        return Quantisation(tuple(stored[0]), tuple(stored[1]))

    def close(self) -> None:
        self._interpreter = None
        self._inputs = []


class _LiveTensor:
    """Hands numpy the runtime's own memory, and keeps the interpreter alive while a view of it lives."""

    def __init__(self, interpreter: Any, index: int) -> None:
        self._interpreter = interpreter
        self.__array_interface__ = interpreter.tensor(index)().__array_interface__


def _live_tensor(interpreter: Any, index: int) -> NDArray[np.generic]:
    """`Interpreter.tensor` hands out such a view too, and then refuses to run while one exists: it might
    reallocate. Here shapes never change after `allocate_tensors`."""
    return np.asarray(_LiveTensor(interpreter, index))


def _nchw(tensor: NDArray[np.generic]) -> NDArray[np.generic]:
    return tensor.transpose(0, 3, 1, 2) if tensor.ndim == 4 else tensor


def _stored(details: Mapping[str, Any]) -> tuple[float, int] | None:
    """Scale and zero point of a tensor; None for a float one, whose scale TFLite gives as 0."""
    scale, zero = details["quantization"]
    return (float(scale), int(zero)) if scale else None


def _all_stored(details: Sequence[Mapping[str, Any]]) -> Iterator[tuple[float, int]]:
    return (stored for stored in map(_stored, details) if stored is not None)
