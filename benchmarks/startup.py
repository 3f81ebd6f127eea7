"""How long do `import hwprof` and `hwprof --help` take?

    python benchmarks/startup.py --out benchmarks/results/startup.json

Whole processes, median of 15 after one warm-up; an empty interpreter beside them.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from common import print_table, write_result

COMMANDS = {
    "empty interpreter": [sys.executable, "-c", "pass"],
    "import hwprof": [sys.executable, "-c", "import hwprof"],
    "hwprof --help": [sys.executable, "-m", "hwprof", "--help"],
}
RUNS = 15
GOAL_S = 0.3


def whole_process_s(command: list[str]) -> list[float]:
    """Wall times of finished processes."""
    times = []
    for _ in range(RUNS + 1):
        start = time.perf_counter()
        subprocess.run(command, capture_output=True, check=True)
        times.append(time.perf_counter() - start)
    return times[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/startup.json"))
    arguments = parser.parse_args()
    times = {name: whole_process_s(command) for name, command in COMMANDS.items()}
    medians = {name: float(np.median(seconds)) for name, seconds in times.items()}
    rows = [
        (name, f"{s * 1e3:.0f} ms", f"<= {GOAL_S * 1e3:.0f} ms" if "hwprof" in name else "")
        for name, s in medians.items()
    ]
    print_table(f"start-up, median of {RUNS}", rows)
    write_result(arguments.out, {"median_s": medians, "runs_s": times})


if __name__ == "__main__":
    main()
