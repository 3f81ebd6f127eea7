"""How long the expected latency takes, forward and backward, beside a loop over dictionaries and nni.

    python benchmarks/expected_latency.py --out benchmarks/results/expected_latency.json

29 blocks x 16 choices, float32, one thread; the contenders take turns, round after round. The loop is
ProxylessNAS's `expected_latency` (search/models/super_nets/super_proxyless.py and
search/utils/latency_estimator.py of mit-han-lab/proxylessnas): for each candidate of each block a key is
written, looked up in a dictionary, and multiplied with the candidate's probability. All start from
probabilities that need a gradient; `from logits` adds the softmax. The table of `s3nas` holds the
simulated backend's latencies, and a composition with made-up edges.

`--nni-python` names an interpreter with nni, `--step-ms` the time of a supernet's training step.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import print_table, write_result

from hwprof.backends.simulated import true_latency_ms
from hwprof.composition.composition import Composition, Scope
from hwprof.composition.edges import edge_pairs
from hwprof.lut import Lut, chain_columns, load_lut, null_row, op_columns, write_lut
from hwprof.ops import lower
from hwprof.search import ExpectedCosts, ExpectedLatency, PairwiseLatency
from hwprof.search.expectation import Expectation
from hwprof.space import Space, load_space

BLOCKS, CHOICES = 29, 16
NETWORKS = 1_000_000
ROUND_S = 0.02
ENVIRONMENT = "simulated"
GOALS = {
    "additive_us": 60.0,
    "pairwise_us": 120.0,
    "pairwise_across_skips_us": 3000.0,
    "times_faster_than_loop": 100.0,
    "networks_per_s": 1e6,
    "share_of_step": 0.01,
}
Step = Callable[[], object]


class LoopOverDictionaries:
    """Expected latency as ProxylessNAS writes it."""

    def __init__(self, latencies_ms: list[list[float]]) -> None:
        self.candidates = [
            [{"kernel": 3 + 2 * (j % 3), "expand": 1 + j // 3, "stride": 1} for j in range(len(row))]
            for row in latencies_ms
        ]
        self.sides = [(7 * (1 + i), 8 * (1 + i)) for i in range(len(latencies_ms))]
        self.lut = {}
        for (side, channels), row, candidates in zip(
            self.sides, latencies_ms, self.candidates, strict=True
        ):
            for ms, candidate in zip(row, candidates, strict=True):
                self.lut[self.key(side, channels, candidate)] = {"mean": ms}

    @staticmethod
    def key(side: int, channels: int, candidate: dict[str, int]) -> str:
        shape = "x".join(str(number) for number in (side, side, channels))
        parts = ["expanded_conv", f"input:{shape}", f"output:{shape}"]
        parts += [f"expand:{candidate['expand']}", f"kernel:{candidate['kernel']}"]
        parts += [f"stride:{candidate['stride']}", "idskip:1"]
        return "-".join(parts)

    def __call__(self, probabilities: list[torch.Tensor]) -> torch.Tensor:
        expected: Any = 0
        for (side, channels), candidates, shares in zip(
            self.sides, self.candidates, probabilities, strict=True
        ):
            for i, candidate in enumerate(candidates):
                expected = expected + self.lut[self.key(side, channels, candidate)]["mean"] * shares[i]
        return expected


def turns(steps: dict[str, Step], seconds: float) -> dict[str, dict[str, float]]:
    """Microseconds a call of each: lowest and median over rounds in which all take turns."""
    calls = {}
    for name, step in steps.items():
        for _ in range(3):
            step()
        start = time.perf_counter()
        step()
        calls[name] = max(1, round(ROUND_S / (time.perf_counter() - start)))
    found: dict[str, list[float]] = {name: [] for name in steps}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(found[next(iter(steps))]) < 5:
        for name, step in steps.items():
            start = time.perf_counter()
            for _ in range(calls[name]):
                step()
            found[name].append((time.perf_counter() - start) / calls[name] * 1e6)
    return {
        name: {"lowest_us": min(values), "median_us": statistics.median(values), "rounds": len(values)}
        for name, values in found.items()
    }


def gradient_of(module: torch.nn.Module, shape: tuple[int, int], logits: bool = False) -> Step:
    """One forward and backward of a module on one network's probabilities."""
    start = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    leaf = (start if logits else start.softmax(-1)).requires_grad_()

    def step() -> object:
        gates = module.probabilities(leaf) if logits else leaf
        total = module(gates)
        return torch.autograd.grad(total if total.ndim == 0 else total.sum(), leaf)

    return step


def loop_step(loop: LoopOverDictionaries, logits: bool = False) -> Step:
    """The same of the loop, whose blocks have a tensor each."""
    leaves = [torch.randn(CHOICES) for _ in range(BLOCKS)]
    leaves = [(leaf if logits else leaf.softmax(-1)).requires_grad_() for leaf in leaves]

    def step() -> object:
        shares = [leaf.softmax(-1) for leaf in leaves] if logits else leaves
        return torch.autograd.grad(loop(shares), leaves)

    return step


def made_up_table(space: Space, folder: Path) -> Lut:
    """Rows and pairs of a space with the simulated backend's latencies, and a composition with edges."""
    blank = {
        **null_row(), "environment_id": ENVIRONMENT, "granularity": "op", "cache": "warm",
        "state": "converged", "backend": "simulated", "target": "exact", "threads": 1, "regime": "burst",
        "source": "derived", "energy_reason": "simulated", "peak_memory_source": "simulated",
        "hwprof_version": "0", "schema_version": 1, "space": space.name,
    }  # fmt: skip
    alone = {op: true_latency_ms(op.lower()) for op in space.ops()}
    rows = [
        {**blank, **op_columns(op), "latency_ms": ms, "latency_low_ms": 0.99 * ms,
         "latency_high_ms": 1.01 * ms}
        for op, ms in alone.items()
    ]  # fmt: skip
    for number, pair in enumerate(edge_pairs(space, alone)):
        graph = lower(pair)
        columns = chain_columns(f"{number:020x}", "pair", pair, graph)
        pair_ms = 0.95 * true_latency_ms(graph)
        rows.append({**blank, **columns, "granularity": "pair", "latency_ms": pair_ms})
    scope = Scope(ENVIRONMENT, space.name, 1, "float32", "warm", "floor")
    composition = Composition(
        scope, "edges", {"rows": 1.0, "edges": 1.0}, ("0" * 20,), 0.0, 0.01, {}, "", "0"
    )
    metadata = {
        "spaces": [space.name],
        "environments": {ENVIRONMENT: {"identity": {}, "conditions": {}}},
        "composition": [composition.to_dict()],
    }
    write_lut(folder / "lut.parquet", rows, metadata=metadata)
    return load_lut(folder / "lut.parquet")


def check_exactness() -> dict[str, float]:
    """Pairwise costs across skips against every network of a small space, and gradients against finite
    differences, in float64: largest relative errors."""
    generator = torch.Generator().manual_seed(5)
    count, width = 6, 4
    costs = torch.rand(count, width, generator=generator, dtype=torch.float64)
    pairs = torch.randn(count - 1, width, width, generator=generator, dtype=torch.float64)
    skips = torch.zeros(count, width, dtype=torch.bool)
    skips[1:, -1] = True
    module = PairwiseLatency(costs, pairs, skips=skips, dtype=torch.float64)
    logits = torch.randn(count, width, generator=generator, dtype=torch.float64, requires_grad=True)
    shares = module.probabilities(logits).detach()
    mean = 0.0
    for point in itertools.product(range(width), repeat=count):
        total, last, chance = 0.0, None, 1.0
        for place, choice in enumerate(point):
            chance *= float(shares[place, choice])
            if skips[place, choice]:
                continue
            total += float(costs[place, choice])
            total += 0.0 if last is None else float(pairs[place - 1, last, choice])
            last = choice
        mean += chance * total
    value = module(module.probabilities(logits))
    (gradient,) = torch.autograd.grad(value, logits)
    step = 1e-5
    shifts = step * torch.eye(logits.numel(), dtype=torch.float64).view(-1, count, width)
    with torch.no_grad():
        up, down = (module(module.probabilities(logits + sign * shifts)) for sign in (1, -1))
    slopes = ((up - down) / (2 * step)).view(count, width)
    return {
        "networks_enumerated": float(width**count),
        "expectation_relative_error": abs(float(value.detach()) - mean) / abs(mean),
        "gradient_relative_error": float((gradient - slopes).abs().max() / slopes.abs().max()),
    }


def networks_per_s(module: Expectation, seconds: float) -> dict[str, float]:
    """Discrete networks priced a second, a million in one call."""
    points = torch.stack([torch.randint(0, width, (NETWORKS,)) for width in module.widths], -1)
    rates = []
    end = time.perf_counter() + seconds
    with torch.no_grad():
        while time.perf_counter() < end or len(rates) < 3:
            start = time.perf_counter()
            module.price(points)
            rates.append(NETWORKS / (time.perf_counter() - start))
    return {"highest": max(rates), "median": statistics.median(rates)}


def nni_times(python: str | None, latencies_ms: list[list[float]], seconds: float) -> dict[str, Any]:
    """Of nni in its own interpreter, or why there is none."""
    if python is None:
        return {"reason": "no interpreter with nni was given (--nni-python)"}
    asked = json.dumps({"latencies_ms": latencies_ms, "seconds": seconds})
    script = Path(__file__).with_name("expected_latency_nni.py")
    done = subprocess.run(
        [python, str(script)], input=asked, capture_output=True, text=True, check=False
    )
    if done.returncode:
        return {"reason": (done.stderr.strip().splitlines() or ["no output"])[-1]}
    answer = json.loads(done.stdout.splitlines()[-1])
    steps_us = answer.pop("steps_us")
    wanted = sum(sum(row) / len(row) for row in latencies_ms)
    assert abs(answer["value_ms"] / wanted - 1.0) < 1e-4, (answer["value_ms"], wanted)
    return {**answer, "lowest_us": min(steps_us), "median_us": statistics.median(steps_us)}


def measure(seconds: float, nni_python: str | None) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    latencies = torch.rand(BLOCKS, CHOICES, generator=generator)
    pairs = torch.randn(BLOCKS - 1, CHOICES, CHOICES, generator=generator)
    skips = torch.zeros(BLOCKS, CHOICES, dtype=torch.bool)
    skips[1:, -1] = True
    names = [f"block{i}" for i in range(BLOCKS)]
    additive = Expectation("made", names, latencies.tolist())
    pairwise = PairwiseLatency(latencies, pairs)
    across = PairwiseLatency(latencies, pairs, skips=skips)
    loop = LoopOverDictionaries(latencies.tolist())
    shares = torch.rand(BLOCKS, CHOICES).softmax(-1)
    torch.testing.assert_close(loop(list(shares)), additive(shares))
    space = load_space("s3nas")
    with tempfile.TemporaryDirectory() as folder:
        table = made_up_table(space, Path(folder))
        plain = ExpectedLatency(table, space, calibrated=False)
        edges = ExpectedLatency(table, space)
        careful = ExpectedLatency(table, space, sigmas=2.0)
        columns = ("latency_ms", "flops", "parameters", "bytes_moved")
        costs = ExpectedCosts(table, space, columns, calibrated=False)
    side_by_side: dict[str, Step] = {
        "additive": gradient_of(additive, additive.shape),
        "loop over dictionaries": loop_step(loop),
        "pairwise": gradient_of(pairwise, pairwise.shape),
        "pairwise across skips": gradient_of(across, across.shape),
        "additive, from logits": gradient_of(additive, additive.shape, logits=True),
        "loop over dictionaries, from logits": loop_step(loop, logits=True),
        "s3nas, additive": gradient_of(plain, plain.shape),
        "s3nas, edges across skips": gradient_of(edges, edges.shape),
        "s3nas, edges across skips, 2 sigma": gradient_of(careful, careful.shape),
        "s3nas, 4 costs at once": gradient_of(costs, costs.shape),
    }
    result: dict[str, Any] = {
        "blocks": BLOCKS,
        "choices": CHOICES,
        "threads": torch.get_num_threads(),
        "forward_and_backward": turns(side_by_side, seconds),
        "nni": nni_times(nni_python, latencies.tolist(), seconds / 5),
        "networks_per_s": {
            "additive": networks_per_s(additive, seconds / 10),
            "s3nas, additive": networks_per_s(plain, seconds / 10),
            "pairwise": networks_per_s(pairwise, seconds / 10),
            "pairwise across skips": networks_per_s(across, seconds / 10),
        },
        "exactness": check_exactness(),
    }
    return result


def judged(result: dict[str, Any], step_ms: float | None) -> dict[str, Any]:
    """The figures that have a goal: medians."""
    times = {name: each["median_us"] for name, each in result["forward_and_backward"].items()}
    found: dict[str, Any] = {
        "additive_us": times["additive"],
        "pairwise_us": times["pairwise"],
        "pairwise_across_skips_us": times["pairwise across skips"],
        "times_faster_than_loop": times["loop over dictionaries"] / times["additive"],
        "networks_per_s": result["networks_per_s"]["additive"]["median"],
    }
    if "median_us" in result["nni"]:
        found["times_faster_than_nni"] = result["nni"]["median_us"] / times["additive"]
    if step_ms is not None:
        found["share_of_step"] = times["s3nas, edges across skips"] / 1e3 / step_ms
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=30.0, help="of the rounds side by side")
    parser.add_argument("--nni-python", help="interpreter that has nni")
    parser.add_argument("--step-ms", type=float, help="time of a supernet's training step")
    args = parser.parse_args()
    torch.set_num_threads(1)
    result = measure(args.seconds, args.nni_python)
    figures = judged(result, args.step_ms)
    write_result(args.out, {"figures": figures, "goals": GOALS, "step_ms": args.step_ms, **result})
    rows = [(name, f"{value:,.4g}", goal(name)) for name, value in figures.items()]
    print_table("expected latency, forward and backward, one thread", rows)


def goal(name: str) -> str:
    if name not in GOALS:
        return ""
    least = name in ("times_faster_than_loop", "networks_per_s")
    return f"goal: {'at least' if least else 'at most'} {GOALS[name]:,g}"


if __name__ == "__main__":
    main()
