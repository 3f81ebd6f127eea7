"""Sessions of TVM's Relax virtual machine: on this machine's CPU, and on a device with its own memory.

On the CPU a timed call is one call of the virtual machine on buffers of ours: its bytecode, taking
the intermediate and output tensors from TVM's memory pool, and the kernels. Nothing is copied. On a
device (over RPC, or a GPU) TVM's `time_evaluator` times the same there, without the way to it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwprof.backends.backend import (
    Artifact,
    Session,
    fill_random,
    place_buffer,
    random_values,
    require_open,
)
from hwprof.backends.tvm_library import first_line
from hwprof.errors import BackendError

FLOAT32 = np.dtype(np.float32)

# Whether this process has asked TVM for more than one thread: its pool stays until the process ends.
_has_pool = False


def use_threads(threads: int) -> None:
    """Have kernels of this process run on so many threads, on the cores that the process may use.

    By default TVM pins the calling thread and its workers to the machine's first cores, whatever cores
    the process was given: `TVM_BIND_THREADS=0` forbids that. Its pool never grows, so it is made with
    room for all cores; a process that only ever asked for one thread has none.

    Raises:
        BackendError: the pool that this process has is too small.
    """
    global _has_pool
    import tvm

    os.environ["TVM_BIND_THREADS"] = "0"
    if threads > 1 or _has_pool:
        _has_pool = True
        os.environ["TVM_NUM_THREADS"] = str(max(threads, os.cpu_count() or 1))
        tvm.get_global_func("runtime.config_threadpool")(1, threads)
        if tvm.runtime.num_threads() != threads:
            raise BackendError(
                f"TVM's thread pool of this process has {tvm.runtime.num_threads()} threads, "
                f"{threads} were asked for; use a new process"
            )
    os.environ["TVM_NUM_THREADS"] = str(threads)


class HostSession(Session):
    """Runs on this machine's CPU, inputs in place.

    Attributes:
        machine: TVM's virtual machine; its function `hwprof` is the timed call. None when closed.
    """

    def __init__(self, library: Any, artifact: Artifact, rng: np.random.Generator) -> None:
        import tvm
        from tvm.relax import VirtualMachine

        self._kernels = int(artifact.metadata["kernels"] or 0)
        self._buffers = [place_buffer(shape, FLOAT32, rng) for shape in input_shapes(artifact)]
        for buffer in self._buffers:
            fill_random(buffer, rng)
        try:
            self.machine: Any | None = VirtualMachine(library, tvm.cpu())
            tensors = [tvm.runtime.from_dlpack(buffer) for buffer in self._buffers]
            self.machine.save_function("main", "hwprof", *tensors)
            self._call: Callable[[], Any] | None = self.machine["hwprof"]
        except Exception as error:  # noqa: BLE001 - TVM raises whatever its C++ side threw
            raise BackendError(f"TVM cannot start the op: {first_line(error)}") from None
        self._result: Any = None

    def run(self) -> None:
        require_open(self._call)
        self._result = None  # gives its memory back, so that each call writes to the same place
        try:
            self._result = self._call()  # type: ignore[misc]
        except Exception as error:  # noqa: BLE001 - TVM raises whatever its C++ side threw
            raise BackendError(f"TVM failed to run the op: {first_line(error)}") from None

    def outputs(self) -> list[NDArray[np.generic]]:
        require_open(self._call)
        if self._result is None:
            raise BackendError("no run has finished yet; call run first")
        return to_arrays(self._result)

    def input_buffers(self) -> list[NDArray[np.generic]]:
        return self._buffers

    def placement(self) -> Mapping[str, int]:
        """The kernels of one call; the op that does nothing launches none."""
        require_open(self._call)
        return {"llvm": self._kernels} if self._kernels else {}

    def close(self) -> None:
        """Also empties TVM's memory pool, so that the next session's tensors lie elsewhere."""
        import tvm

        if self._call is None:
            return
        self.machine = self._call = self._result = None
        self._buffers = []
        tvm.get_global_func("vm.builtin.memory_manager.clear")()


class DeviceSession(Session):
    """Runs on a device with its own memory and clock.

    `library` and `device` are TVM's, local or of an RPC session. `on_failure` turns TVM's exceptions
    into ours; a connection is given up there.
    """

    def __init__(
        self,
        library: Any,
        device: Any,
        artifact: Artifact,
        rng: np.random.Generator,
        on_failure: Callable[[Exception], BackendError],
    ) -> None:
        import tvm
        from tvm.relax import VirtualMachine

        self._on_failure = on_failure
        self._device = device
        self._placement = {tvm_kind(artifact): int(artifact.metadata["kernels"] or 0)}
        self._values: list[NDArray[np.generic]] = [
            random_values(shape, rng) for shape in input_shapes(artifact)
        ]
        try:
            self._machine: Any | None = VirtualMachine(library, device)
            self._tensors = [tvm.runtime.empty(v.shape, str(v.dtype), device) for v in self._values]
            self._upload()
        except Exception as error:  # noqa: BLE001 - TVM raises whatever its C++ side threw
            raise on_failure(error) from None

    def run(self) -> None:
        require_open(self._machine)
        try:
            self._machine.invoke_stateful("main")  # type: ignore[union-attr]
            self._device.sync()
        except Exception as error:  # noqa: BLE001 - TVM raises whatever its C++ side threw
            raise self._on_failure(error) from None

    def time_calls(self, count: int, group: int = 1) -> list[int]:
        """By TVM's evaluator on the device, which makes one more call first and leaves it out."""
        require_open(self._machine)
        try:
            evaluator = self._machine.time_evaluator(  # type: ignore[union-attr]
                "hwprof", self._device, number=group, repeat=count
            )
            seconds = evaluator().results
        except Exception as error:  # noqa: BLE001 - TVM raises whatever its C++ side threw
            raise self._on_failure(error) from None
        return [max(1, round(mean * group * 1e9)) for mean in seconds]

    def outputs(self) -> list[NDArray[np.generic]]:
        require_open(self._machine)
        try:
            return to_arrays(self._machine.get_outputs("main"))  # type: ignore[union-attr]
        except Exception as error:  # noqa: BLE001 - TVM raises whatever its C++ side threw
            raise self._on_failure(error) from None

    def input_buffers(self) -> list[NDArray[np.generic]]:
        return []

    def inputs(self) -> list[NDArray[np.generic]]:
        return [values.copy() for values in self._values]

    def set_inputs(self, values: Sequence[NDArray[np.generic]]) -> None:
        require_open(self._machine)
        for kept, value in zip(self._values, values, strict=True):
            kept[...] = value
        try:
            self._upload()
        except Exception as error:  # noqa: BLE001 - TVM raises whatever its C++ side threw
            raise self._on_failure(error) from None

    def placement(self) -> Mapping[str, int]:
        require_open(self._machine)
        return {kind: kernels for kind, kernels in self._placement.items() if kernels}

    def close(self) -> None:
        self._machine = None
        self._tensors = []

    def _upload(self) -> None:
        """`set_input` copies what it is given, so it is called again."""
        machine: Any = self._machine
        for tensor, values in zip(self._tensors, self._values, strict=True):
            tensor.copyfrom(values)
        machine.set_input("main", *self._tensors)
        machine.save_function("main", "hwprof", *self._tensors, include_return=False)


def device_failure(error: Exception) -> BackendError:
    """For a device of this machine."""
    return BackendError(f"TVM failed on the device: {first_line(error)}")


def input_shapes(artifact: Artifact) -> list[tuple[int, ...]]:
    try:
        return [tuple(shape) for shape in json.loads(str(artifact.metadata["shapes"]))]
    except (KeyError, ValueError):
        raise BackendError("the artifact does not say its inputs' shapes; compile it again") from None


def tvm_kind(artifact: Artifact) -> str:
    return str(json.loads(str(artifact.metadata["target"]))["kind"])


def to_arrays(result: Any) -> list[NDArray[np.generic]]:
    """Copies of a tensor, or of the tensors of a tuple."""
    tensors = [result] if hasattr(result, "numpy") else list(result)
    return [np.array(tensor.numpy()) for tensor in tensors]
