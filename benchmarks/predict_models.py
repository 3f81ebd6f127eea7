"""How well does `hwprof predict` price thirteen well-known networks from a general-purpose table?

    python benchmarks/predict_models.py --work FOLDER --out benchmarks/results/predict_models.json

Builds the table of the space `general` (its shapes are drawn from ranges, none is taken from a network),
measures `--networks` networks of the spaces in NETWORK_SPACES to fit the whole on, exports the thirteen,
predicts each, and measures each as the rows were. FOLDER keeps table, models and what was measured: a
killed run goes on where it stopped. `--only NAME` (repeatable) takes some of the thirteen.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from common import print_table, write_result

from hwprof.build import BuildOptions, build_lut, plan_of
from hwprof.build.progress import Progress
from hwprof.lut import load_lut
from hwprof.measure.protocol import protocol
from hwprof.models.measuring import measure_file
from hwprof.models.predict import EXACT, INTERPOLATED, Prediction, Predictor
from hwprof.models.reading import read_model
from hwprof.models.rows import select_rows
from hwprof.space import load_space
from hwprof.validation.networks import CALIBRATION, generator, network_job
from hwprof.validation.scores import summarise_errors

BUILD_LIMIT_S = 900.0
NETWORK_SPACES = ("s3nas", "general-networks")
SLOWEST = 8


def build_table(path: Path, options: BuildOptions, networks: int) -> None:
    """Rows and networks; the seconds of all runs together are noted beside the table."""
    told = path.with_suffix(".build.json")
    spent = json.loads(told.read_text()) if told.exists() else {"rows_s": 0.0, "networks_s": 0.0}
    report = build_lut(options, Progress())
    if report.measured or report.unfinished:
        spent["rows_s"] += report.wall_s
    told.write_text(json.dumps(spent))
    each = networks // len(NETWORK_SPACES)
    for name in NETWORK_SPACES if each else ():
        space = load_space(name)
        rng = generator(0, CALIBRATION)
        jobs = {}
        while len(jobs) < each:
            job = network_job(space, space.sample(rng))
            if job is not None:
                jobs[job.job_id] = job
        planner = plan_of(space, list(jobs.values()), protocol("normal").for_networks())
        if planner(options).jobs:
            spent["networks_s"] += build_lut(options, Progress(), planner=planner).wall_s
            told.write_text(json.dumps(spent))


def told_of(path: Path) -> dict[str, Any]:
    """The seconds that a table took, and how many rows and networks there are."""
    spent = json.loads(path.with_suffix(".build.json").read_text())
    table = load_lut(path)
    states = table.filter(granularity="op").columns(["state"]).column(0).value_counts().to_pylist()
    return {
        **spent,
        "rows": len(table.filter(granularity="op")),
        "networks": len(table.filter(granularity="network")),
        "states": {entry["values"]: entry["counts"] for entry in states},
    }


def measured_ms(path: Path, predictor: Predictor, space: str, kept: Path, effort: str) -> float:
    """The truth, from FOLDER where it was measured before."""
    known = json.loads(kept.read_text()) if kept.exists() else {}
    key = f"{path.stem} {predictor.selection.environment_id} {predictor.selection.cache} {effort}"
    if key not in known:
        known[key] = measure_file(
            path, predictor.selection, space=space, effort=effort, progress=Progress()
        )
        kept.write_text(json.dumps(known, indent=1))
    return float(known[key])


def described(name: str, found: Prediction) -> dict[str, Any]:
    """A prediction, with its slowest units only."""
    summary = found.summary()
    units = sorted(summary.pop("units"), key=lambda unit: -(unit["latency_ms"] or 0.0))
    shares = {source: sum(u["source"] == source for u in units) for source in (EXACT, INTERPOLATED)}
    inside = found.measured_ms is not None and found.low_ms <= found.measured_ms <= found.high_ms
    return {**summary, "model": name, "units": shares, "slowest": units[:SLOWEST], "inside": inside}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--space", default="general")
    parser.add_argument("--cache", default="in_chain")
    parser.add_argument("--effort", default="fast", help="of the rows")
    parser.add_argument("--networks", type=int, default=18, help="to fit the whole on; 0: plain sum")
    parser.add_argument("--truth-effort", default="normal", help="of the thirteen")
    parser.add_argument("--only", action="append")
    parser.add_argument("--as-is", action="store_true", help="price again from FOLDER's table")
    chosen = parser.parse_args()
    chosen.work.mkdir(parents=True, exist_ok=True)
    table = chosen.work / "general.parquet"
    options = BuildOptions("onnxruntime", chosen.space, table, cache=chosen.cache, effort=chosen.effort)
    if not chosen.as_is:
        build_table(table, options, chosen.networks)
    built = told_of(table)

    import well_known

    start = time.monotonic()
    predictor = Predictor(select_rows(load_lut(table), cache=chosen.cache))
    fit_s = time.monotonic() - start
    results, predict_s = [], []
    for name in chosen.only or well_known.NETWORKS:
        path = well_known.export(name, chosen.work)
        start = time.monotonic()
        found = predictor.predict(read_model(path), allow_missing=True)
        predict_s.append(time.monotonic() - start)
        truth = measured_ms(
            path, predictor, chosen.space, chosen.work / "measured.json", chosen.truth_effort
        )
        results.append(described(name, found.measured(truth)))
        print(
            f"{name:20} {found.latency_ms:8.2f} ms predicted, {truth:8.2f} measured, "
            f"{found.latency_ms / truth - 1:+6.1%}; exact {found.exact:.0%}, interpolated "
            f"{found.interpolated:.0%}, refused {found.refused}",
            flush=True,
        )
    import numpy as np

    errors = np.array([result["error"] for result in results])
    exact = np.array([result["exact"] for result in results])
    interpolated = np.array([result["interpolated"] for result in results])
    total = summarise_errors(errors)
    whole = predictor.whole
    result = {
        "build": built,
        "fit_s": fit_s,
        "predict_s": predict_s,
        "whole": {"model": whole.name, "coefficients": dict(whole.coefficients),
                  "networks": whole.networks, "error": whole.error, "sd": whole.sd},
        "rows": row_errors(predictor),
        "mean_error": total.mean,
        "worst_error": total.worst,
        "bias": total.bias,
        "inside_interval": float(np.mean([result["inside"] for result in results])),
        "exact_share": {"mean": float(exact.mean()), "most": float(exact.max())},
        "interpolated_share": float(interpolated.mean()),
        "models": results,
    }  # fmt: skip
    write_result(chosen.out, result)
    minutes = (built["rows_s"] + built["networks_s"]) / 60
    rows = result["rows"]
    print_table(
        "hwprof predict",
        [
            ("mean error", f"{total.mean:.1%}", "goal 5 %"),
            ("worst error", f"{total.worst:.1%}", "goal 10 %"),
            ("truths inside the interval", f"{result['inside_interval']:.0%}", "stated 90 %"),
            ("time from exact rows, most", f"{exact.max():.0%}", "goal 30 %"),
            ("table", f"{built['rows']} rows, {built['networks']} networks", ""),
            ("build", f"{minutes:.1f} min", f"goal {BUILD_LIMIT_S / 60:.0f} min"),
            ("a row by itself (exact)", f"{rows['exact_mean_error']:.1%}", ""),
            ("a row by the other rows (interpolated)", f"{rows['left_out_mean_error']:.1%}", ""),
        ],
    )


def row_errors(predictor: Predictor) -> dict[str, float]:
    """Errors of the table's own rows: each with itself among the rows that it is priced from, as exact
    rows are, and each left out, as interpolated ones are."""
    import numpy as np

    terms = predictor.terms
    exact = []
    for row in terms.rows:
        found = terms.run_ms + terms.unit_ms * row.units + terms.costs(row.terms).each_ms.sum()
        exact.append(abs(found / row.latency_ms - 1.0))
    left_out = np.abs(terms.left_out)
    return {
        "exact_mean_error": float(np.mean(exact)),
        "left_out_mean_error": float(left_out.mean()),
        "left_out_median_error": float(np.median(left_out)),
        "left_out_inside": float((left_out <= 1.6449 * terms.left_out_sd).mean()),
    }


if __name__ == "__main__":
    main()
