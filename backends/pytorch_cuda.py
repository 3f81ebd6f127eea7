"""PyTorch on an NVIDIA GPU: what must be there, and a session with the device's own clock."""

from __future__ import annotations

import contextlib
import functools
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hwprof.backends.backend import Scalar, Session, import_runtime, random_values, require_open
from hwprof.backends.pytorch_session import (
    Program,
    first_line,
    load_program,
    numpy_dtype,
    refusal,
    tensor_over,
    to_numpy,
)
from hwprof.errors import BackendError, BackendUnavailable, DeviceLost
from hwprof.machine.nvml import open_gpu

if TYPE_CHECKING:
    from torch import Tensor

Array = NDArray[np.generic]

# PyTorch's allocator aligns to 512 bytes; cuDNN picks other kernels for pointers aligned to less.
ALIGNMENT = 512
SLACK_BYTES = 1 << 20
WARM_CALLS = 3
# No GPU of today reaches 3 GHz for long, so that a spin lasts at least as long as it is meant to.
SPIN_CYCLES_PER_NS = 3
SPIN_MARGIN_NS = 20_000
# Events tick every 0.5 us, which is 0.1 % of the least timing. Much more than that would hold more
# launches of the shortest kernels (1 to 2 us) than the 1000 that CUDA queues before the host must wait.
TICK_NS = 500
LEAST_TIMING_MS = 0.5
EMPTY_PAIRS = 21


def check_cuda(torch: Any, index: int) -> None:
    """Raise BackendUnavailable where this torch cannot reach GPU `index`."""
    if torch.version.cuda is None:
        raise BackendUnavailable(
            f"this torch ({torch.__version__}) has no CUDA; install a CUDA build of torch: "
            "https://pytorch.org/get-started/locally says which command"
        )
    if not torch.cuda.is_available():
        raise BackendUnavailable(
            f"torch {torch.__version__} finds no GPU; install NVIDIA's driver (`nvidia-smi` must list "
            "the GPU), and look whether CUDA_VISIBLE_DEVICES hides it"
        )
    count = torch.cuda.device_count()
    if index >= count:
        raise BackendUnavailable(
            f"target cuda:{index} is not here; choose of {', '.join(f'cuda:{i}' for i in range(count))}"
        )


def check_cuda_compiler() -> None:
    """Raise BackendUnavailable where Inductor cannot make code for a GPU."""
    import_runtime("triton", "pip install triton")
    from torch.utils.cpp_extension import CUDA_HOME

    if CUDA_HOME is None:
        raise BackendUnavailable(
            "--option mode=compile on cuda needs the headers of the CUDA toolkit; install it and set "
            "CUDA_HOME, or choose mode=eager or mode=cudagraph"
        )


def cuda_environment(torch: Any, index: int) -> dict[str, Scalar]:
    """GPU, driver, libraries, and the choices that change which kernels run.

    Name and driver come from NVML, which opens no context on the GPU; without it the name comes from
    torch and the driver is null.
    """
    check_cuda(torch, index)
    gpu, _ = open_gpu(index)
    name = gpu.name if gpu else torch.cuda.get_device_name(index)
    if gpu is None:
        # Asking torch has started CUDA, and now torch tells NVML which GPU this is: on a machine with
        # GPUs of several kinds the next call would find a driver that this one did not.
        gpu, _ = open_gpu(index)
    return {
        "gpu": name,
        "driver": gpu.driver if gpu else None,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "cudnn_benchmark": True,
        "deterministic": False,
    }


def configure_cuda(torch: Any, tf32: bool) -> None:
    """The process-wide choices that `cuda_environment` and the option tf32 name."""
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.deterministic = False


def require_working(torch: Any, index: int) -> None:
    """Start CUDA on GPU `index` in this process, or see that it still works there.

    After a kernel that failed (an illegal address, an assertion of the device) every call of CUDA fails
    with that error for as long as the process lives. The op that ran it has been told so; the next one
    is not to blame. Nor is an op where the GPU itself is gone.

    Raises:
        DeviceLost: CUDA does not work in this process.
        BackendError: other processes leave no memory for a context.
    """
    try:
        torch.cuda.synchronize(index)
    except RuntimeError as error:
        if "out of memory" in str(error):
            raise refusal(error) from error
        raise DeviceLost(
            f"cuda:{index} does not work in this process: {first_line(error)}; an earlier op broke it, "
            "or the GPU is gone (`nvidia-smi` lists those that are there)"
        ) from error


@functools.cache
def work_stream(index: int) -> Any:
    """The stream of all sessions of this process on GPU `index`. What PyTorch's allocator holds for one
    stream serves no other one: with a stream for each session (it hands out 32 in turn) freed memory
    stayed with streams that were not used again."""
    import torch

    return torch.cuda.Stream(index)  # type: ignore[no-untyped-call]


class CudaSession(Session):
    """Weights and inputs lie at random places in fresh allocations.

    A timing is the time between two events on the stream, less that of two events with nothing between
    them. Before the first event the GPU spins for longer than the host needs to launch the group, so
    that all of its kernels are queued when the first one starts: else short kernels would be timed at
    the speed at which the host launches them. What the host needs is told by `launch_calls`.
    """

    def __init__(
        self,
        program: Program,
        index: int,
        channels_last: bool,
        captured: bool,
        rng: np.random.Generator,
    ) -> None:
        import torch

        self._torch: Any = torch
        self._graph = program.graph
        self._index, self._device = index, torch.device("cuda", index)
        self._rng = rng
        self._channels_last = channels_last
        self._call: Callable[[], Sequence[Tensor]] | None = None
        self._captured: Any = None
        self._outputs: Sequence[Tensor] = ()
        self._sweep: Tensor | None = None
        self._weights: list[Tensor] = []
        self._inputs: list[Tensor] = []
        self._event_ns = 0
        require_working(torch, index)
        failure: BackendError | None = None
        try:
            with torch.cuda.device(self._device):
                self._open(program, captured)
        except RuntimeError as error:
            failure = refusal(error)
        except BackendError as error:
            failure = BackendError(str(error))
        if failure is not None:
            # Here, and without the error that was caught: its traceback holds weights and inputs.
            self.close()
            with contextlib.suppress(RuntimeError):  # where the GPU broke, the next session says so
                torch.cuda.empty_cache()
            raise failure

    def _open(self, program: Program, captured: bool) -> None:
        torch = self._torch
        self._stream = work_stream(self._index)
        weights = {name: self._place(values) for name, values in program.weights.items()}
        self._inputs = [
            self._place(
                random_values(self._graph.shapes[name], self._rng).astype(numpy_dtype(self._graph.dtype))
            )
            for name in self._graph.inputs
        ]
        self._weights = list(weights.values())
        placed = sum(t.numel() * t.element_size() for t in (*self._weights, *self._inputs))
        torch.cuda.synchronize(self._device)
        self._call = load_program(program, weights, self._inputs)
        with self._working():
            for _ in range(WARM_CALLS):
                self._call()
            self._stream.synchronize()
        # Autotuning and the libraries' own workspaces are allocated by now and not counted.
        before = torch.cuda.memory_allocated(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)
        if captured:
            self._capture()
        self.run()
        self._peak_bytes = torch.cuda.max_memory_allocated(self._device) - before + placed
        self._launch_ns = min(self.launch_calls(WARM_CALLS))
        self._event_ns = round(statistics.median(self._between_events(EMPTY_PAIRS, 0)))

    def _capture(self) -> None:
        """Record one call as a CUDA graph, on the stream that it is replayed on."""
        torch = self._torch
        graph = torch.cuda.CUDAGraph()
        with self._working() as call, torch.cuda.graph(graph, stream=self._stream):
            outputs = call()

        def replay() -> Sequence[Tensor]:
            graph.replay()
            return outputs

        self._captured, self._call = graph, replay

    def _place(self, values: Array) -> Tensor:
        """A copy at a random aligned place in a fresh allocation of the GPU."""
        torch = self._torch
        pool = torch.empty(values.nbytes + SLACK_BYTES, dtype=torch.uint8, device=self._device)
        start = ALIGNMENT * int(self._rng.integers(SLACK_BYTES // ALIGNMENT))
        source = tensor_over(np.array(values, order="C"))
        flat = pool[start : start + values.nbytes].view(source.dtype)
        if self._channels_last and values.ndim == 4:
            n, c, h, w = values.shape
            placed = flat.view(n, h, w, c).permute(0, 3, 1, 2)
        else:
            placed = flat.view(values.shape)
        copied: Tensor = placed.copy_(source)
        return copied

    @contextlib.contextmanager
    def _working(self) -> Iterator[Callable[[], Sequence[Tensor]]]:
        """Inference mode on the session's stream; an error of the runtime comes out as BackendError."""
        require_open(self._call)
        try:
            with self._torch.inference_mode(), self._torch.cuda.stream(self._stream):
                yield self._call  # type: ignore[misc]
        except RuntimeError as error:
            raise refusal(error) from error

    def run(self) -> None:
        with self._working() as call:
            self._outputs = call()
            self._stream.synchronize()

    def time_calls(self, count: int, group: int = 1) -> list[int]:
        """Time on the GPU's clock, gaps between its kernels included; a tick at least."""
        return [max(TICK_NS, ns - self._event_ns) for ns in self._between_events(count, group)]

    def least_timing_ms(self) -> float:
        return LEAST_TIMING_MS

    def _between_events(self, count: int, group: int) -> list[int]:
        """`count` times in nanoseconds between two events with `group` calls between them."""
        torch, stream = self._torch, self._stream
        spin = SPIN_CYCLES_PER_NS * (2 * self._launch_ns * group + SPIN_MARGIN_NS)
        events = [
            (torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True))
            for _ in range(count)
        ]
        with self._working() as call:
            for start, end in events:
                torch.cuda._sleep(spin)
                start.record(stream)
                for _ in range(group):
                    self._outputs = call()
                end.record(stream)
            stream.synchronize()
            return [round(start.elapsed_time(end) * 1e6) for start, end in events]

    def launch_calls(self, count: int) -> list[int]:
        """Host time from call to return, the GPU idle before each."""
        clock, timings = time.perf_counter_ns, []
        with self._working() as call:
            for _ in range(count):
                self._stream.synchronize()
                start = clock()
                self._outputs = call()
                timings.append(clock() - start)
            self._stream.synchronize()
        return timings

    def flush(self, cache: str) -> None:
        """`evicted`: overwrite twice the level 2 cache, on the stream, before the next call."""
        torch = self._torch
        if cache != "evicted":
            raise BackendError(f"cache state {cache!r} is unknown on cuda; choose of warm, evicted")
        with self._working():
            if self._sweep is None:
                level2 = torch.cuda.get_device_properties(self._device).L2_cache_size
                if level2 <= 0:
                    raise BackendError(
                        "the GPU does not tell the size of its cache; measure --cache warm"
                    )
                self._sweep = torch.empty(2 * level2, dtype=torch.uint8, device=self._device)
            self._sweep.zero_()

    def inputs(self) -> list[Array]:
        """Copies on the host; bfloat16 comes as float32."""
        return [to_numpy(tensor) for tensor in self._inputs]

    def set_inputs(self, values: Sequence[Array]) -> None:
        for tensor, value in zip(self._inputs, values, strict=True):
            tensor.copy_(tensor_over(np.array(value, order="C")))
        self._torch.cuda.synchronize(self._device)

    def addresses(self) -> list[int]:
        return [tensor.data_ptr() for tensor in self._inputs]

    def input_buffers(self) -> list[Array]:
        """None: they lie in the GPU's memory."""
        return []

    def outputs(self) -> list[Array]:
        """Copies on the host; bfloat16 comes as float32."""
        require_open(self._call)
        return [to_numpy(output) for output in self._outputs]

    def placement(self) -> Mapping[str, int]:
        """All nodes, after a look at where every weight, input and output lies."""
        require_open(self._call)
        found = {t.device for t in (*self._weights, *self._inputs, *self._outputs)}
        if found != {self._device}:
            raise BackendError(f"asked for {self._device}, found tensors on {sorted(map(str, found))}")
        name = self._torch.cuda.get_device_name(self._device)
        return {f"{self._device} {name}": len(self._graph.nodes)}

    def peak_memory(self) -> tuple[int, str]:
        """Weights, inputs and what one call allocates at most."""
        return self._peak_bytes, "torch.cuda.max_memory_allocated over one warm call"

    def close(self) -> None:
        if self._call is not None:
            # An error of the device was raised by the call that met it; closing must free the rest.
            with contextlib.suppress(RuntimeError):
                self._torch.cuda.synchronize(self._device)
                if self._captured is not None:
                    self._captured.reset()
        self._call = self._captured = self._sweep = None
        self._outputs, self._weights, self._inputs = (), [], []
