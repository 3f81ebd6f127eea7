"""Does a latency in the loss buy latency at the same accuracy? Replay on NAS-Bench-201.

    python benchmarks/la_darts_replay.py --nb201 nb201.parquet \\
        --out benchmarks/results/la_darts_replay.json

A differentiable search over relaxed cells, blind to latency, against the same search with the latency of
a regressor in its loss: once as LA-DARTS has it (weight x T, the lightest weight of a sweep whose
network is predicted fast enough), once as a target (`multiplier`). 20 seeds, four devices: those that
HELP (Lee et al. 2021) holds out and that were timed on hardware: a desktop GPU (titan_rtx_256), a
server CPU (gold_6226), a phone (pixel2) and a board (raspi4). Goal: latency 20 % or more below the
blind search's at an accuracy within 0.3 points, on average over the seeds.

Nothing is trained here, so that something must replace the supernet's cross entropy: a regressor of the
error rate (100 - CIFAR-100 accuracy), fitted on `--known` cells that the seed draws, the same for the
blind and the aware search. The latency's regressor is fitted on `--measured` cells of that device. Both
are the predictors of hwprof (LA-DARTS's multi-layer regressor, trained on relaxations too).

Every search ends alike. Its shortlist is of the argmax, 500 cells drawn from its distribution and the
cells one edge away from the ten best of these, for an aware search of those predicted at most 5 % above
the target. A second regressor puts it in order, fitted on the better half (`--better`) of the known
cells: good ones are told apart better without the bad ones. Five latencies of it are looked up, or two
for each cell that is trained, and what is more than 1 % above the target falls out. Of the first
`--trained` that are left the accuracy is looked up, as if they had been trained, and the most accurate
is taken: with 1 the regressor alone decides. Reported is the table's own accuracy and latency of it, and
how much accuracy the best of all cells that are as fast would lose (`best_possible_lost`).

Weights, steps and temperatures were chosen on seed 0, which is left out (`--first-seed`); the rest on
seeds 100 to 104.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from common import print_table, write_result
from torch import Tensor

from hwprof.prediction.encoding import Encoding, Floats, Integers
from hwprof.prediction.knowledge import Knowledge, knowledge_of
from hwprof.prediction.predictor import Member
from hwprof.prediction.regressor import fit_regressor
from hwprof.search import make_loss
from hwprof.search.losses import LatencyLoss
from hwprof.space import load_space, point_from_string

DEVICES = ("titan_rtx_256", "gold_6226", "pixel2", "raspi4")
ACCURACY = "cifar100_accuracy"
EDGES = 6
# A cell without a path from input to output guesses; every other one has 10 or more.
CHANCE = 1.0
WANTED = 0.20
MARGIN = 0.01
TOLERANCE = 0.01
SHORTLIST = 5
# The latencies of a shortlist are looked up, so that one predicted a little too slow may yet be taken.
SLACK = 0.05
TRAINED = (1, 5, 20)
WALKED = 10
DRAWS = 500
STEPS, RATE = 200, 0.1
TEMPERATURES = (1.0, 0.2)
# Per share of the blind network's latency, in units of the error rate's standard deviation.
WEIGHTS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)


@dataclass(frozen=True)
class Cells:
    """All cells that have a network: one-hot, accuracy in percent, latency of each device in ms."""

    encoding: Encoding
    one_hot: Floats
    accuracy: Floats
    latency_ms: dict[str, Floats]


@dataclass(frozen=True)
class Found:
    """A cell by its index, with its own numbers."""

    cell: int
    accuracy: float
    latency_ms: float


def read(path: Path) -> tuple[Cells, Knowledge]:
    table = pq.read_table(path, columns=["arch", ACCURACY, *DEVICES])
    space = load_space("nb201")
    knowledge = knowledge_of(space)
    accuracy = table.column(ACCURACY).to_numpy().astype(np.float64)
    kept = accuracy > CHANCE
    texts = [text for text, keep in zip(table.column("arch").to_pylist(), kept, strict=True) if keep]
    one_hot = knowledge.encoding.one_hot([point_from_string(space, text) for text in texts])
    latency_ms = {name: table.column(name).to_numpy().astype(np.float64)[kept] for name in DEVICES}
    return Cells(knowledge.encoding, one_hot, accuracy[kept], latency_ms), knowledge


def search(
    error: Member, latency: Member | None, loss: LatencyLoss | None, scale: float, seed: int
) -> Tensor:
    """Probabilities (edges, ops) that a search ends with.

    Args:
        scale: standard deviation of the error rate over the cells at hand, to bring it to 1.
    """
    generator = torch.Generator().manual_seed(seed)
    parameters = (
        1e-3 * torch.randn(EDGES, 5, generator=generator, dtype=torch.float64)
    ).requires_grad_()
    optimizer = torch.optim.Adam([parameters], RATE)
    first, last = TEMPERATURES
    for step in range(STEPS):
        temperature = first * (last / first) ** (step / (STEPS - 1))
        relaxed = (parameters / temperature).softmax(-1).flatten()
        total = error.expected(relaxed) / scale
        if latency is not None and loss is not None:
            total = loss.total(total, latency.expected(relaxed))
        optimizer.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return (parameters.detach() / last).softmax(-1)


def candidates(cells: Cells, index_of: dict[bytes, int], shares: Tensor, seed: int) -> Integers:
    """The argmax and cells drawn from the distribution, those without a network left out."""
    rng = np.random.default_rng([seed, 5])
    # Also drawn at the temperature that the search began with: a sharp end has few neighbours.
    flat = shares.pow(TEMPERATURES[1]).numpy()
    flat /= flat.sum(-1, keepdims=True)
    rows = [shares.argmax(-1).numpy()]
    for mix in (shares.numpy(), flat):
        for _ in range(DRAWS // 2):
            rows.append(np.array([rng.choice(5, p=edge / edge.sum()) for edge in mix]))
    keys = [np.eye(5)[row].flatten().astype(np.int8).tobytes() for row in rows]
    found = [index_of[key] for key in dict.fromkeys(keys) if key in index_of]
    return np.array(found, dtype=np.int64)


def neighbours(cells: Cells, cell: int) -> Integers:
    """Cells with another op on one edge."""
    shared: Integers = np.flatnonzero(cells.one_hot @ cells.one_hot[cell] == EDGES - 1)
    return shared


def finish(
    cells: Cells, found: Integers, ranking: Member, latency: Member | None, target_ms: float | None,
    device: str, trained: int,
) -> Found | None:  # fmt: skip
    """The end that all searches share; None where no candidate is predicted below the target."""

    def ranked(some: Integers) -> Integers:
        if latency is not None and target_ms is not None:
            some = some[latency.predict(cells.one_hot[some]) <= target_ms * (1.0 + SLACK)]
        return some[np.argsort(ranking.predict(cells.one_hot[some]), kind="stable")]

    kept = ranked(found)
    if not len(kept):
        return None
    kept = ranked(np.unique(np.concatenate([kept, *(neighbours(cells, c) for c in kept[:WALKED])])))
    best = kept[: max(SHORTLIST, 2 * trained)]
    measured = cells.latency_ms[device]
    if target_ms is not None:
        meets = best[measured[best] <= target_ms * (1.0 + TOLERANCE)]
        best = meets if len(meets) else best[[measured[best].argmin()]]
    best = best[:trained]
    chosen = int(best[cells.accuracy[best].argmax()])
    return Found(chosen, float(cells.accuracy[chosen]), float(measured[chosen]))


def weighted(
    cells: Cells, end: Callable[[Tensor], Found | None], error: Member, latency: Member, scale: float,
    blind_ms: float, target_ms: float, seed: int,
) -> tuple[Found, float] | None:  # fmt: skip
    """LA-DARTS: the lightest weight whose own network, the argmax, is predicted at the target."""
    for weight in WEIGHTS:
        loss = make_loss("weighted", target_ms, weight=weight / blind_ms)
        shares = search(error, latency, loss, scale, seed)
        argmax = torch.nn.functional.one_hot(shares.argmax(-1), 5).flatten().numpy()
        if latency.predict(argmax[None].astype(np.float64))[0] <= target_ms:
            found = end(shares)
            return None if found is None else (found, weight)
    return None


def run_seed(
    cells: Cells, knowledge: Knowledge, index_of: dict[bytes, int], seed: int, chosen: argparse.Namespace
) -> dict[int, dict[str, Any]]:
    """By the number of trained cells, for each device: what the searches found."""
    rng = np.random.default_rng([seed, 4])
    order = rng.permutation(len(cells.accuracy))
    drawn = order[: chosen.known]
    errors = 100.0 - cells.accuracy
    error = fit_regressor(cells.one_hot[drawn], errors[drawn], knowledge, seed)
    better = drawn[errors[drawn] <= np.quantile(errors[drawn], chosen.better)]
    ranking = fit_regressor(cells.one_hot[better], errors[better], knowledge, seed)
    scale = float(errors[drawn].std())
    shares = search(error, None, None, scale, seed)
    blind_cells = candidates(cells, index_of, shares, seed)
    latencies = {}
    for device in DEVICES:
        timed = order[-chosen.measured :]
        latencies[device] = fit_regressor(
            cells.one_hot[timed], cells.latency_ms[device][timed], knowledge, seed
        )
    result: dict[int, dict[str, Any]] = {trained: {} for trained in chosen.trained}
    for trained, device in itertools.product(chosen.trained, DEVICES):
        latency = latencies[device]
        blind = finish(cells, blind_cells, ranking, None, None, device, trained)
        assert blind is not None
        target_ms = (1.0 - WANTED - MARGIN) * blind.latency_ms

        def end(shares: Tensor, device: str = device, latency: Member = latency,
                target_ms: float = target_ms, trained: int = trained) -> Found | None:  # fmt: skip
            found = candidates(cells, index_of, shares, seed)
            return finish(cells, found, ranking, latency, target_ms, device, trained)

        by_target = end(search(error, latency, make_loss("multiplier", target_ms), scale, seed))
        by_weight = weighted(
            cells, end, error, latency, scale, blind.latency_ms, target_ms, seed
        )  # fmt: skip
        fast = cells.latency_ms[device] <= target_ms * (1.0 + TOLERANCE)
        result[trained][device] = {
            "blind": vars(blind),
            "target_ms": target_ms,
            "target": None if by_target is None else vars(by_target),
            "weighted": None if by_weight is None else {**vars(by_weight[0]), "weight": by_weight[1]},
            "best_at_target": float(cells.accuracy[fast].max()),
        }
    return result


def summary(runs: list[dict[str, Any]], form: str) -> dict[str, Any]:
    """Means over the seeds of each device, with 95 % intervals by bootstrap."""
    told: dict[str, Any] = {}
    for device in DEVICES:
        pairs = [(run[device]["blind"], run[device][form]) for run in runs if run[device][form]]
        saved = np.array([1.0 - aware["latency_ms"] / blind["latency_ms"] for blind, aware in pairs])
        lost = np.array([blind["accuracy"] - aware["accuracy"] for blind, aware in pairs])
        told[device] = {
            "seeds": len(pairs),
            "without_a_network": len(runs) - len(pairs),
            "latency_saved": interval(saved),
            "accuracy_lost": interval(lost),
            "blind_accuracy": float(np.mean([run[device]["blind"]["accuracy"] for run in runs])),
            "best_possible_lost": float(
                np.mean(
                    [run[device]["blind"]["accuracy"] - run[device]["best_at_target"] for run in runs]
                )
            ),
        }
    return told


def interval(values: Floats) -> dict[str, float | None]:
    if not len(values):
        return {"mean": None, "low": None, "high": None}
    rng = np.random.default_rng(0)
    means = rng.choice(values, (2000, len(values))).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return {"mean": float(values.mean()), "low": float(low), "high": float(high)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nb201", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--known", type=int, default=500)
    parser.add_argument("--measured", type=int, default=300)
    parser.add_argument("--better", type=float, default=0.5)
    parser.add_argument("--trained", type=int, nargs="+", default=TRAINED)
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    start = time.monotonic()
    cells, knowledge = read(chosen.nb201)
    index_of = {row.astype(np.int8).tobytes(): place for place, row in enumerate(cells.one_hot)}
    runs = []
    for seed in range(chosen.first_seed, chosen.first_seed + chosen.seeds):
        runs.append(run_seed(cells, knowledge, index_of, seed, chosen))
        print(f"seed {seed}: {time.monotonic() - start:.0f} s", flush=True)
    told = {
        trained: {form: summary([run[trained] for run in runs], form) for form in ("target", "weighted")}
        for trained in chosen.trained
    }
    result = {
        "known": chosen.known,
        "measured": chosen.measured,
        "seeds": chosen.seeds,
        "first_seed": chosen.first_seed,
        "summary": told,
        "runs": runs,
        "seconds": round(time.monotonic() - start, 1),
    }
    write_result(chosen.out, result)
    lines = [
        (
            f"{trained} trained, {form}, {device}",
            f"{(each['latency_saved']['mean'] or 0.0):.1%} faster, "
            f"{each['accuracy_lost']['mean'] if each['seeds'] else float('nan'):+.2f} points lost",
            f"goal 20 %, 0.30; best cell {each['best_possible_lost']:+.2f}",
        )
        for trained, forms in told.items()
        for form, devices in forms.items()
        for device, each in devices.items()
    ]
    print_table(f"NAS-Bench-201, {chosen.seeds} seeds", lines)


if __name__ == "__main__":
    main()
