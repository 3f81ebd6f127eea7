"""The time of nni's `ExpectationProfilerPenalty` for the same expected latency, forward and backward.

Run by `expected_latency.py` in an interpreter that has nni (3.0 with torch, pytorch_lightning and
setuptools below 81); imports nothing of hwprof. Reads {"latencies_ms": [[...]], "seconds": s} from
standard input and writes {"value_ms", "steps_us", "versions"} to standard output.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from importlib.metadata import version

import torch


def main() -> None:
    warnings.filterwarnings("ignore")
    from nni.mutable import Categorical, MutableExpression
    from nni.nas.oneshot.pytorch.profiler import ExpectationProfilerPenalty
    from nni.nas.profiler import ExpressionProfiler

    torch.set_num_threads(1)
    asked = json.load(sys.stdin)
    blocks = asked["latencies_ms"]

    class TableProfiler(ExpressionProfiler):
        """A sum over blocks of the chosen candidate's latency, as nni writes layer choices."""

        expression = sum(
            MutableExpression.switch_case(
                Categorical(list(range(len(costs))), label=f"block{i}"), dict(enumerate(costs))
            )
            for i, costs in enumerate(blocks)
        )

    penalty = ExpectationProfilerPenalty(TableProfiler.__new__(TableProfiler), baseline=1.0)
    shares = [torch.full((len(costs),), 1.0 / len(costs), requires_grad=True) for costs in blocks]

    def step() -> float:
        sample = {f"block{i}": dict(enumerate(each.unbind())) for i, each in enumerate(shares)}
        latency = penalty.profile(sample)
        torch.autograd.grad(latency, shares)
        return float(latency)

    value = step()
    steps_us = []
    end = time.perf_counter() + asked["seconds"]
    while time.perf_counter() < end or len(steps_us) < 10:
        start = time.perf_counter()
        step()
        steps_us.append((time.perf_counter() - start) * 1e6)
    versions = {name: version(name) for name in ("nni", "torch", "pytorch-lightning", "setuptools")}
    print(json.dumps({"value_ms": value, "steps_us": steps_us, "versions": versions}))


if __name__ == "__main__":
    main()
