"""The truth beside a prediction: the whole model measured as the rows were."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hwprof.build import build_lut, plan_of
from hwprof.build.progress import Progress
from hwprof.errors import BuildError, LutError
from hwprof.graph.blocks import hwprof_home
from hwprof.lut import load_lut
from hwprof.measure.messages import Job
from hwprof.models.model import ModelError
from hwprof.models.reading import load_proto, model_of
from hwprof.models.rows import Selection
from hwprof.ops import from_onnx
from hwprof.validation.early_end import Interrupted
from hwprof.validation.setting import Wanted, find_setting, require_same_environment

if TYPE_CHECKING:
    import onnx

    from hwprof.ops import OpSpec


def measure_file(
    path: Path,
    selection: Selection,
    *,
    space: str | None = None,
    effort: str = "normal",
    op_timeout_s: float = 120.0,
    progress: Progress | None = None,
) -> float:
    """Latency of the model of an ONNX file, ms; see `measure_proto`.

    Raises:
        ModelError: as `read_model`.
        HwprofError: as `measure_proto`.
    """
    import onnx

    proto = load_proto(path)
    model = model_of(proto, str(path))
    for value in proto.graph.output:
        # A model need not say the shapes of its outputs; a block does.
        shape, element = model.shapes[value.name], value.type.tensor_type.elem_type
        value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, element, shape))
    try:
        onnx.load_external_data_for_model(proto, str(path.absolute().parent))
    except (OSError, ValueError, RuntimeError, onnx.checker.ValidationError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"{path}: its external data cannot be read: {first}") from None
    return measure_proto(
        proto, selection, space=space, effort=effort, op_timeout_s=op_timeout_s, progress=progress
    )


def measure_proto(
    proto: onnx.ModelProto,
    selection: Selection,
    *,
    space: str | None = None,
    effort: str = "normal",
    op_timeout_s: float = 120.0,
    progress: Progress | None = None,
) -> float:
    """Latency of a model, weights included, by the visits that a network of a space gets: backend,
    environment, dtype and cache state are those of the rows. Nothing of it is kept.

    Args:
        space: name or file of the rows' space, where it is not a shipped one.

    Raises:
        BuildError: this machine, runtime or setting is not that of the rows.
        BackendUnavailable: the runtime is not here.
        OpError: more than one input or output, or another element type than the rows'.
        LutError: no usable number; the reason is told.
        Interrupted: by SIGINT.
    """
    wanted = Wanted(
        space=space or _space_of(selection), environment_id=selection.environment_id,
        dtype=selection.dtype, cache=selection.cache, effort=effort, op_timeout_s=op_timeout_s,
    )  # fmt: skip
    setting = find_setting(selection.table.path, wanted, selection.statistic)
    require_same_environment(setting)
    blocks = hwprof_home() / "blocks"
    before = set(blocks.glob("*.onnx"))
    op: OpSpec | None = None
    try:
        op = from_onnx(proto, dtype=selection.dtype)
        with tempfile.TemporaryDirectory(prefix="hwprof-") as folder:
            build = replace(setting.build, out=Path(folder) / "model.parquet", batch=op.shape[0])
            planner = plan_of(setting.space, [Job((op,))], build.protocol().for_networks())
            report = build_lut(build, progress, planner=planner)
            if report.interrupted:
                raise Interrupted("interrupted: the model was not measured to the end; nothing is kept")
            row = load_lut(build.out).table.to_pylist()[0]
    finally:
        # Its weights would stay in the block store.
        for stored in set(blocks.glob(f"{op.content}.onnx" if op else "nothing")) - before:
            stored.unlink()
    if row[selection.column] is None:
        raise LutError(f"the model could not be measured: {row['state']}: {row['reason']}")
    return float(row[selection.column])


def _space_of(selection: Selection) -> str:
    rows = selection.table.filter(granularity="op", **selection.where)
    names = sorted({name for name in rows.columns(["space"]).column(0).to_pylist() if name})
    if not names:
        raise BuildError(
            f"the rows of {selection.table.path} belong to no space, so that it is not known how they "
            "were measured"
        )
    return str(names[0])
