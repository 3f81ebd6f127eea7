"""How well do rows predict whole networks, and what does each composition cost?

    python benchmarks/whole_network.py --backend onnxruntime --space s3nas --networks 100 \\
        --work FOLDER --out benchmarks/results/whole_network_onnxruntime.json

Builds the table, measures networks in shuffled rounds, `--fit` of them to calibrate on (with a pair of
neighbours for each edge) and the others held out, and tries every model on these, for the floor and for
the median. Tables stay in
FOLDER: a killed run goes on where it stopped. `--no-edges` leaves out the pairs, `--behind` adds those
of rows behind a neighbour.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import print_table, write_result

from hwprof.composition.composition import COLUMN_OF, Composition, composition_for
from hwprof.composition.models import MODELS
from hwprof.lut import Lut, load_lut
from hwprof.validation.calibrate import fit_models
from hwprof.validation.measured import measured_networks
from hwprof.validation.setting import Wanted, find_setting
from hwprof.validation.validate import Report, compare


def hwprof(*arguments: str) -> dict[str, Any]:
    """One command with `--json`; exit code 1 (some rows failed) is no reason to stop."""
    command = [sys.executable, "-m", "hwprof", *arguments, "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(f"{' '.join(command)} ended with exit code {done.returncode}")
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def described(report: Report) -> dict[str, Any]:
    """A report without the networks that it used."""
    summary = report.summary()
    summary["failed"] = len(summary["failed"])
    return summary


def every_model(
    table: Lut, composition: Composition, spread: dict[str, bool], chain: bool, unstable: bool
) -> dict[str, Any]:
    """Each model fitted on the composition's networks and held against the same held-out ones."""
    fitted = measured_networks(table, composition.scope, composition.networks, allow_unstable=True)
    found = {}
    for fit in fit_models(table, composition.scope, fitted, MODELS.values()):
        tried = replace(
            composition,
            model=fit.model.name,
            coefficients=fit.coefficients,
            error=fit.error,
            sigma=fit.sigma,
        )
        report = compare(table, tried, spread, chain, allow_unstable=unstable)
        found[fit.model.name] = {
            "mean_error": report.errors.mean,
            "within_1": report.errors.within[0.01],
            "within_2": report.errors.within[0.02],
            "bias": report.errors.bias,
            "left_out_error": fit.error,
            "coefficients": dict(fit.coefficients),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", default="onnxruntime")
    parser.add_argument("--target", default="")
    parser.add_argument("--option", action="append", default=[])
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--threads", default="1")
    parser.add_argument("--space", default="s3nas")
    parser.add_argument("--networks", type=int, default=100)
    parser.add_argument("--fit", type=int, default=30)
    parser.add_argument("--seed", default="0", help="which networks are drawn")
    parser.add_argument("--effort", default="normal")
    parser.add_argument("--no-edges", action="store_true")
    parser.add_argument("--behind", action="store_true")
    parser.add_argument("--allow-unstable", action="store_true")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    chosen.work.mkdir(parents=True, exist_ok=True)
    path = chosen.work / f"{'-'.join([chosen.backend, chosen.dtype, Path(chosen.space).stem])}.parquet"
    options = [word for option in chosen.option for word in ("--option", option)]
    target = ["--target", chosen.target] if chosen.target else []
    start = time.monotonic()
    hwprof(
        "build-lut", "--backend", chosen.backend, "--space", chosen.space, "--out", str(path),
        "--dtype", chosen.dtype, "--threads", chosen.threads, "--effort", chosen.effort,
        *target, *options,
    )  # fmt: skip
    rows_s = time.monotonic() - start
    shared = ["--space", chosen.space, "--effort", chosen.effort, "--seed", chosen.seed, *options]
    start = time.monotonic()
    count = ["--networks", str(chosen.networks), "--fit-networks", str(chosen.fit)]
    count += ["--allow-unstable"] * chosen.allow_unstable
    hwprof("validate", str(path), *count, *shared)
    networks_s = time.monotonic() - start
    held_out = load_lut(path).metadata["validation"][-1]
    spread = {op_id: op_id in held_out["spread_ids"] for op_id in held_out["ids"]}
    start = time.monotonic()
    # The networks are there by now: this measures the pairs and fits again.
    pairs = 0
    wanted = ["--edges"] * (not chosen.no_edges) + ["--behind"] * chosen.behind
    if wanted:
        made = hwprof("calibrate", str(path), "--networks", str(chosen.fit), *wanted, *shared)
        pairs = made["pairs"]
    pairs_s = time.monotonic() - start
    statistics: dict[str, Any] = {}
    table = load_lut(path)
    states = table.filter(granularity="op").summary()["rows_by_state"]
    lines = []
    for statistic in COLUMN_OF:
        setting = find_setting(path, Wanted(space=chosen.space), statistic)
        composition = composition_for(table.metadata, setting.scope)
        assert composition is not None
        chain = setting.space.family == "chain"
        report = compare(table, composition, spread, chain, allow_unstable=chosen.allow_unstable)
        statistics[statistic] = {
            **described(report),
            "models": every_model(table, composition, spread, chain, chosen.allow_unstable),
            "networks_ms": [
                [n.measured_ms, n.predicted_ms, n.raw_ms, n.disagreement] for n in report.networks
            ],
        }
        errors = report.errors
        lines += [
            (f"{statistic}: mean error", f"{errors.mean:.2%}", f"noise floor {report.noise_floor:.2%}"),
            (
                f"{statistic}: within 1 %, 2 %",
                f"{errors.within[0.01]:.0%}, {errors.within[0.02]:.0%}",
                "",
            ),
            (f"{statistic}: plain sum", f"{report.raw.mean:.2%}", composition.model),
        ]
    result = {
        "networks": chosen.networks,
        "fit_networks": chosen.fit,
        "seed": int(chosen.seed),
        "op_rows": states,
        "seconds": {
            "rows": round(rows_s, 1),
            "networks": round(networks_s, 1),
            "pairs": round(pairs_s, 1),
        },
        "pairs": pairs,
        "statistics": statistics,
    }
    write_result(chosen.out, result)
    print_table(f"{chosen.networks} held-out networks of {chosen.space}, {chosen.backend}", lines)


if __name__ == "__main__":
    main()
