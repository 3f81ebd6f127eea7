"""A validation as a picture: predicted against measured, and the errors. Needs matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hwprof.errors import BackendUnavailable, LutError

if TYPE_CHECKING:
    from hwprof.validation.report import Report

ENDINGS = (".png", ".svg")


def check_plot(path: Path) -> None:
    """Raise before anything is measured where no plot could be written.

    Raises:
        LutError: another ending, or no such folder.
        BackendUnavailable: matplotlib is not installed.
    """
    if path.suffix not in ENDINGS:
        raise LutError(f"a plot is .png or .svg, not {path.name!r}")
    if not path.absolute().parent.is_dir():
        raise LutError(f"the folder {path.absolute().parent} does not exist; make it first")
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError:
        raise BackendUnavailable(
            "plots need matplotlib, which is not installed; run: pip install 'hwprof[plot]'"
        ) from None


def plot_report(report: Report, path: Path) -> None:
    """Write the plot. Call `check_plot` first.

    Raises:
        LutError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    measured = [network.measured_ms for network in report.networks]
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    ends = [min(measured), max(measured)]
    left.plot(ends, ends, color="0.6", linewidth=1, label="equal")
    left.scatter(measured, [n.raw_ms for n in report.networks], s=14, color="#d98c3f", label="plain sum")
    predicted = [network.predicted_ms for network in report.networks]
    left.scatter(measured, predicted, s=14, color="#2f6fb0", label=report.composition.model)
    left.set(xlabel="measured, ms", ylabel="predicted, ms")
    left.legend(frameon=False)
    errors = [100 * network.error for network in report.networks]
    right.axhline(0.0, color="0.6", linewidth=1)
    if report.noise_floor is not None:
        noise = 100 * report.noise_floor
        right.axhspan(-noise, noise, color="0.9", label="noise floor")
    right.scatter(measured, errors, s=14, color="#2f6fb0")
    right.set(xlabel="measured, ms", ylabel="error, %")
    right.set_title(f"mean error {report.errors.mean:.2%}", loc="left")
    right.legend(frameon=False)
    scope = report.composition.scope
    figure.suptitle(f"{len(report.networks)} held-out networks of {scope.space}, {scope.statistic}")
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise LutError(f"{path} could not be written: {error.strerror or error}") from None
