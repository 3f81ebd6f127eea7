"""What is carried beside the models: run.py, joined of its parts, and README.txt."""

from __future__ import annotations

import ast
from pathlib import Path

from hwprof.offline import runner
from hwprof.offline.plan import OfflinePlan
from hwprof.offline.runner import PARTS
from hwprof.offline.runner.session import RUNTIMES

README = """\
{ops} ops of the space {space}, to be measured with {runtime} on a device that has no hwprof.

1. Copy this whole folder to the device:

     scp -r {folder} user@board:

   On a phone, Python runs in Termux. The runtimes have no packages for Android itself: use them in a
   Linux distribution inside it (proot-distro).

2. There, with Python 3.8 or newer, install the runtime and measure. It takes about {minutes:.0f}
   minutes on a server's core and longer on a small one. It can be stopped or killed at any moment, and
   the same command goes on:

     python3 -m pip install {packages}
     python3 run.py

   Keep the device on its charger, cool, and with the screen on; close other apps.

3. Copy results.jsonl back into this folder and make it a table:

     hwprof import-results {folder} --out lut.parquet

   Results of more devices: copy each back under a name of its own, beside plan.json, and import each.
"""


def runner_source() -> str:
    """run.py: the parts of `hwprof.offline.runner` in one file, their imports first and once."""
    imports: set[str] = set()
    bodies = []
    for name in PARTS:
        source = Path(str(runner.__file__)).with_name(f"{name}.py").read_text()
        lines = source.splitlines(keepends=True)
        title, *statements = ast.parse(source).body
        for node in reversed(statements):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                del lines[node.lineno - 1 : node.end_lineno]
                imports.add(ast.unparse(node))
        bodies.append("".join(lines[title.end_lineno :]).strip())
    kept = [line for line in imports if not line.startswith(("from hwprof.", "from __future__"))]
    kept.sort(key=lambda line: (line.startswith("from"), line))
    head = f'"""{(runner.__doc__ or "").splitlines()[0]}"""\n\nfrom __future__ import annotations\n'
    return "\n\n\n".join(["\n".join([head, *kept]), *bodies]) + "\n"


def readme(plan: OfflinePlan, folder: str, minutes: float) -> str:
    """How to carry, run and import the folder of that name."""
    return README.format(
        ops=sum(bool(planned.model) for planned in plan.ops),
        space=plan.space,
        runtime=plan.runtime,
        folder=folder,
        minutes=max(1.0, minutes),
        packages=RUNTIMES[plan.runtime][2],
    )
