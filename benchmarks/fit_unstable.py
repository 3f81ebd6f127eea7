"""Fit a composition on the networks whose visits agree, or on all that were measured?

    python benchmarks/fit_unstable.py whole/onnxruntime-int8-s3nas.parquet:20:30 ... \\
        --out benchmarks/results/fit_unstable.json

Each table is one of `whole_network.py` with its counts of fit and of held-out networks. Both fits are
held against the same networks: those held out whose visits agree.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import print_table, write_result

from hwprof.composition.composition import COLUMN_OF, composition_for
from hwprof.composition.models import MODELS, choose
from hwprof.lut import load_lut
from hwprof.validation.calibrate import fit_models, priced_rows
from hwprof.validation.measured import measured_networks
from hwprof.validation.networks import CALIBRATION, VALIDATION, draw
from hwprof.validation.setting import Wanted, find_setting
from hwprof.validation.validate import compare


def held_against(path: Path, fit: int, networks: int, seed: int, statistic: str) -> dict[str, Any]:
    """Errors of both fits for a table of `whole_network.py`."""
    table = load_lut(path)
    setting = find_setting(path, Wanted(space=path.stem.split("-", 2)[2]), statistic)
    scope, rows_ms = setting.scope, priced_rows(setting)
    to_fit = draw(setting.space, rows_ms, fit, seed, CALIBRATION)
    seen = frozenset(network.job.job_id for network in to_fit)
    drawn = draw(setting.space, rows_ms, networks, seed, VALIDATION, without=seen)
    held_out = measured_networks(table, scope, [network.job.job_id for network in drawn])
    spread = dict.fromkeys([network.op_id for network in held_out], False)
    stored = composition_for(table.metadata, scope)
    assert stored is not None
    found: dict[str, Any] = {"statistic": statistic, "held_out": len(held_out)}
    for name in ("stable", "all"):
        fitted = measured_networks(
            table, scope, [n.job.job_id for n in to_fit], allow_unstable=name == "all"
        )
        errors: dict[str, float] = {}
        fits = fit_models(table, scope, fitted, MODELS.values())
        for each in fits:
            tried = replace(
                stored,
                model=each.model.name,
                coefficients=each.coefficients,
                networks=tuple(network.op_id for network in fitted),
            )
            chain = setting.space.family == "chain"
            errors[each.model.name] = compare(table, tried, spread, chain).errors.mean
        chosen = choose(fits).model.name
        found[name] = {
            "networks": len(fitted), "chosen": chosen, "mean_error": errors[chosen], "models": errors
        }  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tables", nargs="+", metavar="TABLE:FIT:NETWORKS")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    found, lines = [], []
    for word in chosen.tables:
        path, fit, networks = word.rsplit(":", 2)
        for statistic in COLUMN_OF:
            entry = held_against(Path(path), int(fit), int(networks), chosen.seed, statistic)
            found.append({"table": Path(path).stem, **entry})
            stable, every = entry["stable"], entry["all"]
            told = f"{stable['mean_error']:.2%} ({stable['chosen']}, {stable['networks']})"
            other = f"{every['mean_error']:.2%} ({every['chosen']}, {every['networks']})"
            lines.append((f"{Path(path).stem} {statistic}", told, other))
    write_result(chosen.out, {"seed": chosen.seed, "tables": found})
    print_table("mean error on stable held-out networks: fitted on stable ones, on all", lines)


if __name__ == "__main__":
    main()
