"""The CUDA execution provider of ONNX Runtime: whether it is here, and sessions whose inputs and outputs
lie in device memory."""

from __future__ import annotations

import contextlib
import ctypes
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwprof.backends.backend import Session, random_values, require_open
from hwprof.backends.onnxruntime_session import (
    HOST_PROVIDER,
    element_type,
    make_session,
    session_options,
)
from hwprof.errors import BackendError, BackendUnavailable
from hwprof.graph import GraphBuilder

CUDA_PROVIDER = "CUDAExecutionProvider"
INSTALL = "pip uninstall -y onnxruntime && pip install 'onnxruntime-gpu[cuda,cudnn]'"
DRIVER_LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
PROVIDER_LIBRARY = (
    "onnxruntime_providers_cuda.dll" if sys.platform == "win32" else "libonnxruntime_providers_cuda.so"
)
SLACK_BYTES = 256
SLACK_STEPS = 1024


def cuda_settings(tf32: bool) -> dict[str, str]:
    """Settings of the provider that change a number. EXHAUSTIVE, the runtime's default, times cuDNN's
    convolutions in the first run of a session and keeps the fastest."""
    return {"device_id": "0", "use_tf32": str(int(tf32)), "cudnn_conv_algo_search": "EXHAUSTIVE"}


def check_cuda(onnxruntime: Any) -> None:
    """Make sure that sessions really get the provider: where its libraries, the driver or the GPU are
    missing, the runtime makes sessions on the CPU and only logs why.

    Raises:
        BackendUnavailable: what is missing, and what brings it.
    """
    if CUDA_PROVIDER not in onnxruntime.get_available_providers():
        raise BackendUnavailable(
            f"onnxruntime {onnxruntime.__version__} has no {CUDA_PROVIDER}: it takes the package "
            f"onnxruntime-gpu; run: {INSTALL}"
        )
    if reason := _refusal(DRIVER_LIBRARY):
        raise BackendUnavailable(
            f"target cuda needs an NVIDIA GPU and its driver ({reason}); where `nvidia-smi` answers, "
            "onnxruntime can use it"
        )
    if hasattr(onnxruntime, "preload_dlls"):  # since 1.21: finds libraries that pip installed
        with contextlib.redirect_stdout(sys.stderr):
            onnxruntime.preload_dlls()
    try:
        options = session_options("ORT_DISABLE_ALL", 1)
        make_session(_smallest_model(), options, [CUDA_PROVIDER, HOST_PROVIDER])
    except BackendError as error:
        library = Path(onnxruntime.__file__).parent / "capi" / PROVIDER_LIBRARY
        raise BackendUnavailable(
            f"{CUDA_PROVIDER} does not start: {_refusal(str(library)) or error}; run: {INSTALL}"
        ) from error


def _refusal(library: str) -> str:
    """Why the system does not load a library; empty where it does."""
    try:
        ctypes.CDLL(library)
    except OSError as error:
        return str(error)
    return ""


def _smallest_model() -> bytes:
    from hwprof.graph.onnx_emitter import to_onnx

    builder = GraphBuilder()
    graph = builder.build(builder.activation(builder.input((1, 1)), "relu"))
    model: bytes = to_onnx(graph).SerializeToString()
    return model


class OnnxRuntimeDeviceSession(Session):
    """Inputs and outputs are values in a device's memory, bound once, so that a run copies nothing.

    A run is finished when it returns: the provider waits for its stream at the end of each run, so a
    call timed on the host's clock holds launch and wait.

    Args:
        make: makes a session of the artifact; given a path, one that records a profile there.
        device: the runtime's word for where the values lie.
    """

    def __init__(
        self, make: Callable[[Path | None], Any], rng: np.random.Generator, device: str = "cuda"
    ) -> None:
        self._make, self._device = make, device
        session = make(None)
        self._session: Any | None = session
        self._providers: Counter[str] | None = None
        # The device's allocator hands a freed place out again: an allocation of random size before
        # each value moves it.
        self._slack: list[Any] = []
        self._inputs = [self._allocate(value, rng) for value in session.get_inputs()]
        self._outputs = [self._allocate(value, rng) for value in session.get_outputs()]
        self.set_inputs(
            [
                random_values(tuple(value.shape()), rng).astype(element_type(told))
                for value, told in zip(self._inputs, session.get_inputs(), strict=True)
            ]
        )
        self._binding = session.io_binding()
        for told, value in zip(session.get_inputs(), self._inputs, strict=True):
            self._binding.bind_ortvalue_input(told.name, value)
        for told, value in zip(session.get_outputs(), self._outputs, strict=True):
            self._binding.bind_ortvalue_output(told.name, value)

    def run(self) -> None:
        require_open(self._session)
        self._session.run_with_iobinding(self._binding)  # type: ignore[union-attr]

    def outputs(self) -> list[NDArray[np.generic]]:
        require_open(self._session)
        return [np.array(value.numpy()) for value in self._outputs]

    def input_buffers(self) -> list[NDArray[np.generic]]:
        return []

    def inputs(self) -> list[NDArray[np.generic]]:
        require_open(self._session)
        return [np.array(value.numpy()) for value in self._inputs]

    def set_inputs(self, values: Sequence[NDArray[np.generic]]) -> None:
        require_open(self._session)
        for held, value in zip(self._inputs, values, strict=True):
            held.update_inplace(np.ascontiguousarray(value))

    def addresses(self) -> list[int]:
        return [value.data_ptr() for value in self._inputs]

    def placement(self) -> Mapping[str, int]:
        """Provider of each node, as the runtime's profiler tells it of one run of a second session."""
        require_open(self._session)
        if self._providers is None:
            self._providers = self._profile()
        return self._providers

    def fallback(self) -> str:
        """Nodes that ran on the host."""
        placement = self.placement()
        on_host = placement.get(HOST_PROVIDER, 0)
        if not on_host:
            return ""
        return f"{on_host} of {sum(placement.values())} nodes ran on {HOST_PROVIDER}"

    def close(self) -> None:
        self._session = self._binding = None
        self._inputs, self._outputs, self._slack = [], [], []

    def _allocate(self, told: Any, rng: np.random.Generator) -> Any:
        from onnxruntime import OrtValue

        size = SLACK_BYTES * (1 + int(rng.integers(SLACK_STEPS)))
        self._slack.append(OrtValue.ortvalue_from_shape_and_type([size], np.uint8, self._device, 0))
        return OrtValue.ortvalue_from_shape_and_type(
            list(told.shape), element_type(told).type, self._device, 0
        )

    def _profile(self) -> Counter[str]:
        names = [told.name for told in self._session.get_inputs()]  # type: ignore[union-attr]
        with tempfile.TemporaryDirectory(prefix="hwprof-") as folder:
            session = self._make(Path(folder) / "profile")
            session.run(None, dict(zip(names, self.inputs(), strict=True)))
            events = json.loads(Path(session.end_profiling()).read_text())
        return Counter(
            event["args"]["provider"]
            for event in events
            if event["cat"] == "Node" and event["name"].endswith("_kernel_time")
        )
