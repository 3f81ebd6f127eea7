"""`hwprof search`."""

from __future__ import annotations

import contextlib
import importlib.util
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hwprof.cli.searching import Curves, MeasuredTable, about, latencies, shortlist_lines, shortlist_of
from hwprof.cli.validation import given_options, narrowing, seed_option
from hwprof.errors import BackendUnavailable, HwprofError

if TYPE_CHECKING:
    from hwprof.search.engine.folder import SearchFolder
    from hwprof.search.engine.search import FoundNetwork
    from hwprof.search.engine.settings import Schedule, SearchSettings

Point = tuple[int, ...]
PACKAGES = ("torch", "safetensors", "PIL", "tensorboard")
MJ_PER_KWH = 3.6e9
OF_TRAINING = ("size", "train_epochs", "device", "loss", "warm")


@click.command("search")
@click.option("--lut", "path", required=True, type=click.Path(path_type=Path), help="The table.")
@click.option("--target-ms", required=True, type=float, help="Latency that the network shall have.")
@click.option("--out", "folder", required=True, type=click.Path(path_type=Path), help="Folder to fill.")
@click.option(
    "--data", type=click.Path(path_type=Path), help="Images: a Parquet of JPEGs, or class folders."
)
@click.option(
    "--proxy",
    help="Instead of training: params (the largest network that fits), or MODULE:FUNCTION, called with "
    "space and point, larger is better.",
)
@click.option(
    "--statistic", default="floor", show_default=True, help="What the target means: floor or p50."
)
@seed_option("Of everything that is drawn.")
@click.option(
    "--size",
    default="auto",
    show_default=True,
    help="How much training: full, reduced (5,000 images), smoke, or auto: full on a GPU, reduced else.",
)
@click.option(
    "--train-epochs",
    type=click.FloatRange(min=0),
    help="Of the found network, in place of the size's; 0 leaves it the supernet's weights.",
)
@click.option("--device", default="auto", show_default=True, help="Trains on: cpu, cuda, or auto.")
@click.option(
    "--loss", default="multiplier", show_default=True, help="Of the latency; see docs/losses.md."
)
@click.option(
    "--predictor", type=click.Path(path_type=Path), help="Of hwprof fit-predictor, for a DARTS space."
)
@click.option(
    "--latency-weight", type=float, help="Of --loss weighted, per ms, for a DARTS space (LA-DARTS)."
)
@click.option("--shortlist", default=3, show_default=True, help="Networks to measure at the end.")
@click.option(
    "--warm", type=click.Path(path_type=Path), help="warm.safetensors of another search, to start from."
)
@click.option("--allow-unstable", is_flag=True, help="Use rows in state unstable too.")
@narrowing
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
def search(
    path: Path, target_ms: float, folder: Path, data: Path | None, proxy: str | None, statistic: str,
    seed: int, size: str, train_epochs: float | None, device: str, loss: str, predictor: Path | None,
    latency_weight: float | None, shortlist: int, warm: Path | None, allow_unstable: bool, as_json: bool,
    **narrowed: Any,
) -> None:  # fmt: skip
    """Search the space of the table for the most accurate network whose latency is at the target, train
    it, and measure it: asked, predicted and measured latency stand beside each other.

    A search that was stopped goes on with the same command.

    \b
    Example:
      hwprof search --space s3nas-cifar --lut t.parquet --target-ms 2 --data cifar10.parquet --out found
      hwprof search --space s3nas --lut t.parquet --target-ms 30 --proxy params --out found
    """
    from hwprof.lut import load_lut
    from hwprof.validation.setting import Wanted

    _require_packages()
    from hwprof.search.engine.settings import SearchSettings

    if (data is None) == (proxy is None):
        raise click.UsageError(
            "give --data (images to train on) or --proxy (another source of accuracy), one of them"
        )
    if train_epochs is not None and not isfinite(train_epochs):
        raise click.UsageError(f"--train-epochs must be a number, 0 or more, got {train_epochs}")
    if proxy is not None and (unused := given_options(click.get_current_context(), OF_TRAINING)):
        raise click.UsageError(f"{unused[0]} is of no use with --proxy, which trains nothing")
    wanted = Wanted(**narrowed)
    if wanted.space is None:
        raise click.UsageError("give --space, the search space of the table's rows")
    settings = SearchSettings(target_ms, statistic=statistic, loss=loss, shortlist=shortlist, seed=seed)
    table = load_lut(path)
    measured = MeasuredTable(path, table, wanted, statistic, allow_unstable)
    cells = measured.space.family == "darts"
    for name, given, belongs in (
        ("--predictor", predictor, cells), ("--latency-weight", latency_weight, cells),
        ("--proxy", proxy, not cells), ("--warm", warm, not cells),
    ):  # fmt: skip
        if given is not None and not belongs:
            raise click.UsageError(f"{name} is of no use for a space of family {measured.space.family}")
    measured.check_measuring()
    with _filled(folder):
        if cells:
            from hwprof.cli.search_cells import search_cells

            assert data is not None
            device = _device(device)
            told = search_cells(
                data, measured, settings, folder, size, train_epochs, device, predictor, latency_weight
            )
        elif proxy is not None:
            from hwprof.cli.search_proxy import search_by_proxy

            told = search_by_proxy(proxy, measured, settings, folder)
        else:
            assert data is not None
            device = _device(device)
            schedule = _schedule(size, device, train_epochs)
            told = _by_training(data, measured, settings, folder, schedule, device, warm)
    click.echo(json.dumps(told) if as_json else _text(told))


@contextlib.contextmanager
def _filled(folder: Path) -> Iterator[None]:
    """A folder, made now so that a long search does not end without one; gone again if nothing came. No
    other search is in it meanwhile."""
    from hwprof.search.engine.folder import alone, make_folder

    was_there = folder.exists()
    make_folder(folder)
    try:
        with alone(folder):
            yield
    finally:
        if not was_there:
            with contextlib.suppress(OSError):  # it is not empty
                folder.rmdir()


def _require_packages() -> None:
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise BackendUnavailable(
            f"a search needs {', '.join(missing)}; run: pip install 'hwprof[search]'"
        )


def _device(device: str) -> str:
    """What trains."""
    import torch

    if device not in ("auto", "cpu", "cuda"):
        raise HwprofError(f"device {device!r} is unknown; choose of auto, cpu, cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise BackendUnavailable("PyTorch sees no GPU; give --device cpu")
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


def _schedule(size: str, device: str, train_epochs: float | None) -> Schedule:
    from hwprof.search.engine.settings import SCHEDULES

    if size == "auto":
        size = "full" if device == "cuda" else "reduced"
    if size not in SCHEDULES:
        raise HwprofError(f"size {size!r} is unknown; choose of auto, {', '.join(SCHEDULES)}")
    if train_epochs is None:
        return SCHEDULES[size]
    return replace(SCHEDULES[size], train_epochs=train_epochs)


def _by_training(
    data: Path, measured: MeasuredTable, settings: SearchSettings, folder: Path, schedule: Schedule,
    device: str, warm: Path | None,
) -> dict[str, Any]:  # fmt: skip
    from hwprof.search.data import load_images
    from hwprof.search.engine.outcome import ONNX, write_measuring, write_outcome
    from hwprof.search.engine.search import SuperkernelSearch
    from hwprof.search.supernet import Supernet

    measured.check(settings.target_ms)
    supernet = Supernet(measured.space, seed=settings.seed).to(device)
    height, width = measured.space.input_shape[2:]
    classes = measured.space.positions[-1].choices[0].ops[0].out_channels
    splits = load_images(
        data, (height, width), classes=classes, limit=schedule.images, seed=settings.seed
    ).to(device)
    with Curves(folder / "logs") as watcher:
        run = SuperkernelSearch(
            supernet, measured.latency.to(device), splits, settings, schedule, folder, watcher,
            warm=warm, sources=measured.sources(),
        )  # fmt: skip
        with _metered(run.folder, device) as reason:
            found = run.run(measured.measure)
    used_mj = run.folder.spent("mj")
    energy = {"kwh": sum(used_mj.values()) / MJ_PER_KWH if used_mj else None, "kwh_reason": reason}
    found.network.cpu().export_onnx(folder / ONNX, batch=measured.space.input_shape[0])
    write_measuring(folder, measured.space)
    told = {**_trained(found), **energy, **about(measured, settings)}
    told |= {"device": device, "schedule": asdict(schedule)}
    out = write_outcome(folder, measured.source, measured.space, found.point, told)
    content: dict[str, Any] = json.loads(out.read_text())
    return content


@contextlib.contextmanager
def _metered(folder: SearchFolder, device: str) -> Iterator[str | None]:
    """Adds the energy of the block to what the folder's search took; yields why it cannot be read."""
    from hwprof.machine.energy import open_energy_meter

    meter = open_energy_meter("cuda:0" if device == "cuda" else "host")
    if isinstance(meter, str):
        yield meter
        return
    before = meter.read_mj()
    try:
        yield None
    finally:
        folder.spend("mj", device, meter.read_mj() - before)


def _trained(found: FoundNetwork) -> dict[str, Any]:
    return {
        "trained": True,
        "accuracy": found.accuracy,
        "test_images": len(found.right),
        **latencies(found.shortlist[found.chosen]),
        **shortlist_of(found.shortlist, found.chosen),
        "steps": [asdict(step) for step in found.steps],
        "minutes": dict(found.minutes),
    }


def _text(told: Mapping[str, Any]) -> str:
    asked, measured = told["asked"], told["measured_ms"]
    uncalibrated = " (uncalibrated)" if told["composition"] is None else ""
    lines = [
        f"found {', '.join(told['choices'])}",
        f"  asked      {asked['target_ms']:.4g} ms, {asked['statistic']}",
        f"  predicted  {told['predicted_ms']:.4g} ms{uncalibrated}",
    ]
    if measured is None:
        lines.append(f"  measured   null ({told['reason']})")
    else:
        both = f"floor {told['measured_floor_ms']:.4g}, p50 {told['measured_p50_ms']:.4g}"
        doubt = f"; {told['reason']}" if told["reason"] else ""
        lines.append(f"  measured   {measured:.4g} ms ({both}{doubt})")
    lines += [f"  {line}" for line in shortlist_lines(told, {told["chosen"]: ", taken"})]
    lines.append(
        f"  size       {told['parameters'] / 1e6:.3g} M parameters, {told['flops'] / 1e6:.4g} MFLOPs"
    )
    if told["accuracy"] is not None:
        lines.append(f"  accuracy   {told['accuracy']:.2%} of {told['test_images']} test images")
        spent = sum(told["minutes"].values())
        energy = f"{told['kwh']:.3g} kWh" if told["kwh"] is not None else told["kwh_reason"]
        lines.append(f"  cost       {spent:.1f} minutes, {energy}")
    return "\n".join(lines)
