"""Another Python interpreter for worker processes: a runtime that cannot share this one's packages
(tflite-runtime needs numpy below 2) gets its own, and hwprof's modules travel to it in a bundle."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

from hwprof import __version__
from hwprof.errors import BuildError

OLDEST = (3, 11)
ANSWER_LIMIT_S = 30.0
PACKAGES = ("hwprof", "hwprof.backends", "hwprof.lut", "hwprof.search")
# The empty entry is the current folder, whose modules are not the interpreter's. `-P` leaves it out too,
# from Python 3.11 on; an older one would not get to say how old it is.
QUESTION = (
    "import sys\n"
    "sys.path[:] = [folder for folder in sys.path if folder]\n"
    "import json\n"
    "try:\n    import numpy\n    version = numpy.__version__\n"
    "except ImportError:\n    version = ''\n"
    "print(json.dumps({'python': list(sys.version_info[:3]), 'numpy': version}))"
)


def check_interpreter(python: Path) -> None:
    """Make sure that a path is a Python that can run a worker process.

    Raises:
        BuildError: no file, no Python, too old, or without numpy.
    """
    hint = "pass --python a Python 3.11 or newer with numpy, e.g. one made by `hwprof make-interpreter`"
    if not python.is_file():
        raise BuildError(f"--python {python} is no file; {hint}")
    try:
        done = subprocess.run(
            [str(python), "-c", QUESTION],
            env={**os.environ, "PYTHONPATH": ""},  # a worker gets hwprof's bundle there instead
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=ANSWER_LIMIT_S,
            check=True,
        )
        found = json.loads(done.stdout)
        version = tuple(found["python"])
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError) as error:
        lines = str(getattr(error, "stderr", "") or error).strip().splitlines() or [""]
        raise BuildError(
            f"--python {python} does not answer as a Python does ({lines[-1][:200]}); {hint}"
        ) from None
    if version < OLDEST:
        raise BuildError(f"--python {python} is Python {'.'.join(map(str, version))}; {hint}")
    if not found["numpy"]:
        raise BuildError(f"--python {python} has no numpy; {hint}")


def make_bundle() -> tempfile.TemporaryDirectory[str]:
    """A folder for another interpreter's module path: hwprof's own modules and its entry points, and
    nothing of this interpreter's packages. Removed when the object is closed."""
    folder = tempfile.TemporaryDirectory(prefix="hwprof-bundle-")
    root = Path(folder.name)
    for package in PACKAGES:
        source = Path(import_module(package).__path__[0])
        for module in source.rglob("*.py"):
            copy = root.joinpath(*package.split("."), module.relative_to(source))
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(module, copy)
    facts = root / f"hwprof-{__version__}.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: hwprof\nVersion: {__version__}\n")
    own = [p for p in entry_points(group="hwprof.backends") if p.value.startswith("hwprof.")]
    lines = sorted({f"{point.name} = {point.value}" for point in own})
    (facts / "entry_points.txt").write_text("\n".join(["[hwprof.backends]", *lines, ""]))
    return folder
