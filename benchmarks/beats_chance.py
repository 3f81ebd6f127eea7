"""Does a search beat random networks of equal latency?

    python benchmarks/beats_chance.py --lut lut.parquet --data cifar10.parquet --work FOLDER \\
        --out benchmarks/results/beats_chance.json

At each target: networks that `hwprof search` finds (three seeds at the first target, one at the others,
and that of the most parameters, `--proxy params`), and ten random networks within 3 % of the target by
the table, all trained alike from scratch on the same images. Accuracy is that of the test images, which
chose nothing. Goal: above the 75th percentile of the random networks, and above their mean by more than
the paired 95 % interval.

`--jobs` networks are trained at once; FOLDER keeps each one's result, so that a killed or timed-out run
(`--budget-s`) goes on. About three hours on two cores at `--size reduced`.
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

import numpy as np
from common import print_table, write_result
from numpy.typing import NDArray

from hwprof.lut import load_lut
from hwprof.search.engine.settings import SCHEDULES
from hwprof.search.evolution import evolve
from hwprof.search.largest import additive_costs
from hwprof.space import load_space

RANDOM = 10
SPREAD = 0.03


def find(chosen: argparse.Namespace, target_ms: float, folder: Path, *own: str) -> dict[str, Any]:
    """One `hwprof search`, with options of its own."""
    if (folder / "found.json").exists():
        told: dict[str, Any] = json.loads((folder / "found.json").read_text())
        return told
    command = [sys.executable, "-m", "hwprof", "search", "--space", chosen.space, "--json"]
    command += ["--lut", str(chosen.lut), "--target-ms", str(target_ms), "--out", str(folder)]
    command += ["--allow-unstable", *own]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with exit code {done.returncode}")
    told = json.loads(done.stdout)
    return told


def search(chosen: argparse.Namespace, seed: int, warm: Path | None) -> list[str]:
    """Options of S3NAS's search without its last training: all networks are trained by `train` alike."""
    own = ["--data", chosen.data, "--size", chosen.size, "--seed", str(seed)]
    own += ["--train-epochs", "0", "--device", chosen.device]
    return own + (["--warm", str(warm)] if warm is not None else [])


def random_points(chosen: argparse.Namespace, target_ms: float, seed: int) -> list[list[int]]:
    """Uniform draws, moved into the bounds."""
    space = load_space(chosen.space)
    costs = additive_costs(load_lut(chosen.lut), space, allow_unstable=True)
    found = evolve(
        space,
        lambda _: 0.0,
        lambda points: [costs.latency_ms(point) for point in points],
        target_ms * (1 + SPREAD),
        least=target_ms * (1 - SPREAD),
        seed=seed,
        population=RANDOM,
        evaluations=RANDOM,
    )
    return [list(one.point) for one in found]


def train(chosen: argparse.Namespace, task: Path) -> None:
    """Train the network of a task file; leaves right and wrong of each test image beside it."""
    import torch

    from hwprof.search.data import Batches, evaluation_batches, load_images
    from hwprof.search.engine.retraining import NetworkTraining, network_recipe
    from hwprof.search.supernet import Network, correct_predictions, recalibrate

    torch.set_num_threads(1)
    space = load_space(chosen.space)
    wanted = json.loads(task.read_text())
    schedule = replace(SCHEDULES[chosen.size], train_epochs=wanted["epochs"])
    height, width = space.input_shape[2:]
    splits = load_images(Path(chosen.data), (height, width), limit=schedule.images).to(chosen.device)
    network = Network(space.point_ops(wanted["point"]), seed=wanted["seed"]).to(chosen.device)
    batches = Batches(
        splits.whole_train().train, splits.normalisation, schedule.batch_size, seed=wanted["seed"]
    )
    steps = round(schedule.train_epochs * batches.steps_per_epoch)
    bfloat16 = chosen.device == "cuda"
    training = NetworkTraining(
        network, batches, network_recipe(steps, schedule.batch_size, bfloat16=bfloat16),
        seed=wanted["seed"],
    )  # fmt: skip
    checkpoint = task.with_suffix(".safetensors")
    if checkpoint.exists():
        training.load(checkpoint)
    saved = time.monotonic()
    for _ in training.run(report_every=20):
        if time.monotonic() - saved > 30:
            training.save(checkpoint)
            saved = time.monotonic()
    recalibrate(network, [batches.at(step) for step in range(20)])
    right = correct_predictions(network, evaluation_batches(splits.test, splits.normalisation))
    task.with_suffix(".right").write_bytes(np.packbits(right.numpy()).tobytes())
    task.with_suffix(".done").write_text(json.dumps({"images": len(right)}))
    checkpoint.unlink(missing_ok=True)


def train_all(chosen: argparse.Namespace, tasks: list[Path], deadline: float) -> bool:
    """Every task that is not done, some at once; False where the time ran out."""
    waiting = [task for task in tasks if not task.with_suffix(".done").exists()]
    running: list[subprocess.Popen[bytes]] = []
    while waiting or running:
        if time.monotonic() > deadline:
            for process in running:
                process.terminate()
                process.wait()
            return False
        while waiting and len(running) < chosen.jobs:
            task = waiting.pop(0)
            running.append(subprocess.Popen([sys.executable, *sys.argv, "--task", str(task)]))
        time.sleep(1.0)
        for process in [p for p in running if p.poll() is not None]:
            running.remove(process)
            if process.returncode != 0:
                raise SystemExit(f"a training ended with exit code {process.returncode}")
    return True


def right_of(task: Path) -> NDArray[np.bool_]:
    images = json.loads(task.with_suffix(".done").read_text())["images"]
    packed = np.frombuffer(task.with_suffix(".right").read_bytes(), dtype=np.uint8)
    return np.unpackbits(packed)[:images].astype(bool)


def compare(found: NDArray[np.bool_], others: list[NDArray[np.bool_]]) -> dict[str, Any]:
    """A found network against the random ones on the same test images."""
    rng = np.random.default_rng(0)
    accuracies = [float(other.mean()) for other in others]
    gain = found.astype(float) - np.mean(others, axis=0)
    picks = rng.integers(0, len(gain), (2000, len(gain)))
    low, high = np.percentile(gain[picks].mean(axis=1), [2.5, 97.5])
    return {
        "accuracy": float(found.mean()),
        "random_accuracies": accuracies,
        "random_mean": float(np.mean(accuracies)),
        "random_percentile_75": float(np.percentile(accuracies, 75)),
        "above_percentile_75": bool(found.mean() > np.percentile(accuracies, 75)),
        "gain_over_mean": float(gain.mean()),
        "gain_interval": [float(low), float(high)],
        "above_mean_beyond_interval": bool(low > 0),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lut", type=Path, required=True)
    parser.add_argument("--space", default="s3nas-cifar")
    parser.add_argument("--data", required=True)
    parser.add_argument("--size", default="reduced")
    parser.add_argument(
        "--epochs", type=float, nargs="+",
        help="of the trainings at each target, in place of the size's",
    )  # fmt: skip
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--target-share", type=float, nargs="+", default=[0.2, 0.1, 0.35])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--budget-s", type=float, default=1e9)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--task", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.task is not None:
        train(chosen, chosen.task)
        return
    deadline = time.monotonic() + chosen.budget_s
    chosen.work.mkdir(parents=True, exist_ok=True)
    costs = additive_costs(load_lut(chosen.lut), load_space(chosen.space), allow_unstable=True)
    entries: list[dict[str, Any]] = []
    tasks: list[Path] = []
    warms: dict[int, Path] = {}
    own = SCHEDULES[chosen.size].train_epochs
    all_epochs = chosen.epochs or [own] * len(chosen.target_share)
    for number, (share, epochs) in enumerate(zip(chosen.target_share, all_epochs, strict=True)):
        target_ms = round(costs.fastest_ms + share * (costs.slowest_ms - costs.fastest_ms), 4)
        for seed in [*range(3 if number == 0 else 1), None]:
            # The last one is the network of the most parameters: a search that trains nothing.
            source = "params" if seed is None else f"seed{seed}"
            folder = chosen.work / f"target{target_ms:g}-{source}"
            own = ["--proxy", "params", "--shortlist", "1"]
            if seed is not None:
                own = search(chosen, seed, warms.get(seed))
                warms.setdefault(seed, folder / "warm.safetensors")
            told = find(chosen, target_ms, folder, *own)
            task = folder / "train.json"
            task.write_text(json.dumps({"point": told["point"], "seed": seed or 0, "epochs": epochs}))
            tasks.append(task)
            about = {"target_ms": target_ms, "source": source, "epochs": epochs}
            entries.append({"about": about, "task": task, "told": told})
        for place, point in enumerate(random_points(chosen, target_ms, 100 + number)):
            task = chosen.work / f"target{target_ms:g}-random{place}.json"
            task.write_text(json.dumps({"point": point, "seed": place, "epochs": epochs}))
            tasks.append(task)
    if not train_all(chosen, tasks, deadline):
        left = sum(not task.with_suffix(".done").exists() for task in tasks)
        print(f"time is up; {left} of {len(tasks)} networks are left: give the same command")
        return
    searches, lines = [], []
    for entry in entries:
        target_ms = entry["about"]["target_ms"]
        others = [
            right_of(task) for task in tasks if task.name.startswith(f"target{target_ms:g}-random")
        ]
        made = compare(right_of(entry["task"]), others)
        told = {
            name: entry["told"].get(name)
            for name in ("predicted_ms", "measured_ms", "parameters", "flops", "point", "minutes")
        }
        searches.append({**entry["about"], **told, **made})
        lines.append(
            (
                f"{target_ms:g} ms, {entry['about']['source']}",
                f"{made['accuracy']:.2%}",
                f"random {made['random_mean']:.2%}, 75th {made['random_percentile_75']:.2%}, gain "
                f"{made['gain_over_mean']:+.2%} [{made['gain_interval'][0]:+.2%}, "
                f"{made['gain_interval'][1]:+.2%}]",
            )
        )
    write_result(chosen.out, {"size": chosen.size, "searches": searches})
    print_table("found networks against random ones of equal latency", lines)


if __name__ == "__main__":
    main()
