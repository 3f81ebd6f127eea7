"""From a Graph to a library that TVM's Relax virtual machine runs, and back from its bytes."""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hwprof.backends.backend import Artifact, Scalar
from hwprof.backends.tvm_target import TvmTarget, links_here
from hwprof.errors import BackendError, BackendUnavailable, UnsupportedOp
from hwprof.graph import Graph

Passes = Callable[[Any, Any], Any]
"""From an imported module and its `tvm.target.Target` to one that only needs code."""


def import_graph(graph: Graph) -> Any:
    """A Relax module with one function `main`, the weights as constants of it.

    Raises:
        UnsupportedOp: TVM's ONNX reader does not know an operator.
        BackendError: it refused the model.
    """
    from tvm.relax.frontend.onnx import from_onnx

    from hwprof.graph.onnx_emitter import to_onnx

    model = to_onnx(graph)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # it prints the operator that it fails on
            return from_onnx(model)
    except NotImplementedError as error:
        raise UnsupportedOp(f"TVM cannot read the op: {first_line(error)}") from None
    except Exception as error:  # noqa: BLE001 - TVM raises whatever its C++ side threw
        raise BackendError(f"TVM refused the op: {first_line(error)}") from None


def default_passes(module: Any, native: Any) -> Any:
    """TVM's own pipeline for the target: fused operators, on GPUs with its default schedules."""
    from tvm import relax

    with native:
        return relax.get_default_pipeline(native)(module)


def build_library(graph: Graph, module: Any, target: TvmTarget, passes: Passes) -> Artifact:
    """Generate code and export it: a shared library where this machine's compiler can link it, else a
    tar of objects that the device links.

    Raises:
        BackendError: TVM or the linker refused.
        BackendUnavailable: as `require_linker`.
    """
    import tvm

    native = target.native()
    form = "so" if links_here(target) else "tar"
    if form == "so":
        require_linker()
    try:
        lowered = passes(module, native)
        executable = tvm.compile(lowered, native, relax_pipeline=None)
        with tempfile.TemporaryDirectory(prefix="hwprof-") as folder:
            path = Path(folder) / f"op.{form}"
            executable.export_library(str(path), workspace_dir=folder)
            data = path.read_bytes()
    except BackendError:
        raise
    except Exception as error:  # noqa: BLE001 - TVM raises whatever its C++ side threw
        raise BackendError(f"TVM refused to compile for {target.text}: {first_line(error)}") from None
    metadata: dict[str, Scalar] = {
        "form": form,
        "target": target.config,
        "target_text": target.text,
        "kernels": _count_kernels(lowered),
        "shapes": json.dumps([graph.shapes[name] for name in graph.inputs]),
    }
    return Artifact(data, metadata)


def require_linker() -> None:
    """Raises BackendUnavailable where there is no C++ compiler to link with."""
    from tvm.support import cc

    if cc.get_cc() is None:
        raise BackendUnavailable("TVM links its code with a C++ compiler; run: apt install g++")


def load_library(artifact: Artifact) -> Any:
    """The artifact as a loaded `tvm.runtime.Module`, unloaded with the last reference to it. (What
    `tvm.runtime.load_module` loads stays until the process ends: 0.4 MB a visit, for small ops.)

    Raises:
        BackendError: its bytes are no library for this machine.
    """
    import tvm_ffi

    with tempfile.TemporaryDirectory(prefix="hwprof-") as folder:
        path = Path(folder) / "op.so"
        path.write_bytes(artifact.data)
        try:
            return tvm_ffi.load_module(path, keep_module_alive=False)
        except Exception as error:  # noqa: BLE001 - TVM raises whatever its C++ side threw
            raise BackendError(f"TVM cannot load the artifact: {first_line(error)}") from None


def first_line(error: BaseException) -> str:
    """The first line of TVM's message: what follows is a C++ trace or a linker's output."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def _count_kernels(module: Any) -> int:
    """How many generated functions one call of `main` launches."""
    from tvm import relax, tirx

    launched: list[Any] = []

    def visit(node: Any) -> None:
        if isinstance(node, relax.Call) and isinstance(node.op, relax.GlobalVar):
            launched.extend([node] if isinstance(module[node.op], tirx.PrimFunc) else [])

    relax.analysis.post_order_visit(module["main"], visit)
    return len(launched)
