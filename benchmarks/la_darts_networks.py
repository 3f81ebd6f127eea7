"""How many measured networks does a latency regressor of the DARTS space need?

    python benchmarks/la_darts_networks.py --networks 3300 --work FOLDER \\
        --out benchmarks/results/la_darts_networks.json

Draws genotypes of the `darts` space uniformly (8 cells, 16 channels, 32 px, batch 1), measures each as a
whole network, holds out `--test` of them, and fits a predictor on 100, 300, 1,000 and 3,000 of the
others, `--seeds` draws of each. Goals: mean relative error 5 % or less with 300 and 3 % or less with
1,000 networks, on those held out (LA-DARTS: below 10 % with 80,000). FOLDER keeps the table,
`darts.parquet`, and `points.json`, the genotype of each of its networks: a killed run goes on, one that
is asked for more networks measures only those, and the run fits again from what is there.

Every network gets six visits in six worker processes, three now and three at the end of its batch of
`--batch`; networks held out are spread over all batches. One with a disturbed visit is unstable, and
measured again in `--retries` more passes. `--no-fit` only measures.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from common import print_table, write_result

from hwprof.build import BuildOptions, build_lut
from hwprof.build.progress import Progress
from hwprof.lut import load_lut
from hwprof.measure.protocol import Protocol
from hwprof.prediction import fit_family
from hwprof.prediction.knowledge import knowledge_of
from hwprof.prediction.measured import Measured, read_measured
from hwprof.space import Space
from hwprof.validation.calibrate import measure
from hwprof.validation.networks import network_job
from hwprof.validation.setting import Setting, Wanted, find_setting

SIZES = (100, 300, 1000, 3000)
GOALS = {300: 0.05, 1000: 0.03}
# An error of 3 % leaves room for noise of 1 %: few visits on many networks teach more than the reverse.
PROTOCOL = Protocol(
    processes=3, agreeing=2, rounds=1, least_rounds=1, rel_precision=0.05, second_pass=True, twice=True
)


def genotypes(space: Space, count: int, path: Path) -> dict[str, list[int]]:
    """Row id -> point of `count` different networks, drawn one after the other: a longer list begins
    with a shorter one."""
    known: dict[str, list[int]] = json.loads(path.read_text()) if path.exists() else {}
    rng = np.random.default_rng(0)
    by_point = {tuple(point): op_id for op_id, point in known.items()}
    found: dict[str, list[int]] = {}
    while len(found) < count:
        point = space.sample(rng)
        job_id = by_point.get(point)
        if job_id is None:
            job = network_job(space, point)
            assert job is not None
            job_id = job.job_id
        found.setdefault(job_id, list(point))
    if len(found) > len(known):
        path.write_text(json.dumps(found))
    return found


def measure_all(
    setting: Setting, points: dict[str, list[int]], batch: int, times: Path
) -> list[dict[str, Any]]:
    """Networks batch by batch; seconds of each batch that had some to measure, of earlier runs too."""
    spent: list[dict[str, Any]] = json.loads(times.read_text()) if times.exists() else []
    progress = Progress()
    every = list(points.values())
    for first in range(0, len(every), batch):
        part = every[first : first + batch]
        jobs = [network_job(setting.space, tuple(point)) for point in part]
        seconds = measure(setting, [job for job in jobs if job is not None], PROTOCOL, progress)
        if seconds:
            spent.append({"first": first, "networks": len(part), "seconds": round(seconds, 1)})
            times.write_text(json.dumps(spent))
            progress.note(f"of networks {first} to {first + len(part)}: {seconds:.0f} s")
    return spent


def curve(
    measured: Measured, setting: Setting, test: int, seeds: int, members: list[str]
) -> dict[str, list[dict[str, Any]]]:
    """Errors on the held-out networks by number of networks that were fitted on."""
    knowledge = knowledge_of(
        measured.space, load_lut(setting.build.out), metric=measured.metric,
        environment=measured.environment_id, cache="warm",
    )  # fmt: skip
    order = np.random.default_rng(1).permutation(len(measured.values))
    held_out, rest = order[:test], order[test:]
    found: dict[str, list[dict[str, Any]]] = {}
    for size in [size for size in SIZES if size <= len(rest)]:
        for seed in range(seeds):
            chosen = np.random.default_rng([2, seed]).permutation(rest)[:size]
            start = time.monotonic()
            predictor = fit_family(
                knowledge, measured.points[chosen], measured.values[chosen], metric=measured.metric,
                members=members, seed=seed,
                test=(measured.points[held_out], measured.values[held_out]),
            )  # fmt: skip
            assert predictor.test is not None
            found.setdefault(str(size), []).append(
                {
                    "seed": seed,
                    "member": predictor.member.name,
                    "test": asdict(predictor.test),
                    "interval": asdict(predictor.interval),
                    "tried": [asdict(one) for one in predictor.tried],
                    "fit_s": round(time.monotonic() - start, 1),
                }
            )
            print(size, seed, predictor.member.name, f"{predictor.test.mean:.2%}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", default="onnxruntime")
    parser.add_argument("--target", default="")
    parser.add_argument("--space", default="darts")
    parser.add_argument("--networks", type=int, default=3300)
    parser.add_argument("--test", type=int, default=300)
    parser.add_argument("--batch", type=int, default=220)
    parser.add_argument("--retries", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--members", default="")
    parser.add_argument("--effort", default="normal")
    parser.add_argument("--no-fit", action="store_true")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    chosen.work.mkdir(parents=True, exist_ok=True)
    path = chosen.work / "darts.parquet"
    options = BuildOptions(
        chosen.backend, chosen.space, path, target=chosen.target, effort=chosen.effort
    )
    rows_s = build_lut(options, Progress()).wall_s
    setting = find_setting(path, Wanted(space=chosen.space, effort=chosen.effort))
    once = replace(setting, build=replace(setting.build, retry_failed=False))
    points = genotypes(setting.space, chosen.networks, chosen.work / "points.json")
    for which in [once] + [setting] * chosen.retries:
        spent = measure_all(which, points, chosen.batch, chosen.work / "seconds.json")
    table = load_lut(path)
    measured = read_measured(table, setting.space, points=points)
    seconds = sum(each["seconds"] for each in spent)
    result: dict[str, Any] = {
        "space": chosen.space,
        "backend": chosen.backend,
        "networks": len(points),
        "usable": len(measured.values),
        "states": table.filter(granularity="network").summary()["rows_by_state"],
        "latency_ms": np.quantile(measured.values, [0, 0.1, 0.5, 0.9, 1]).tolist(),
        "noise_floor": measured.noise_floor,
        "protocol": asdict(PROTOCOL),
        "rows_s": round(rows_s, 1),
        "networks_s": round(seconds, 1),
        "seconds_per_network": seconds / len(points),
        "batches": spent,
        "test": chosen.test,
    }
    lines = [
        ("networks", str(len(measured.values)), f"of {len(points)}"),
        ("noise floor", f"{measured.noise_floor or 0.0:.2%}", ""),
        ("seconds per network", f"{seconds / len(points):.3f}", ""),
    ]
    if not chosen.no_fit:
        members = [name for name in chosen.members.split(",") if name]
        found = curve(measured, setting, chosen.test, chosen.seeds, members)
        result["curve"] = found
        for size, fits in found.items():
            errors = [fit["test"]["mean"] for fit in fits]
            goal = f"goal {GOALS[int(size)]:.0%}" if int(size) in GOALS else ""
            lines.append((f"mean error with {size}", f"{np.mean(errors):.2%}", goal))
    write_result(chosen.out, result)
    print_table(f"Latency of {chosen.space} networks on {chosen.backend}", lines)


if __name__ == "__main__":
    main()
