"""Recipes for interpreters of their own: which Python and packages a runtime needs that cannot live
beside hwprof's, and how such an interpreter is made."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from hwprof.errors import BuildError
from hwprof.graph.blocks import hwprof_home

# Lies in every folder that was made here. Only such a folder is ever cleared.
MARKER = ".made-by-hwprof"


@dataclass(frozen=True)
class Recipe:
    """What an interpreter is made of.

    Attributes:
        version: the Python that the runtime has a wheel for.
        packages: what pip installs.
        module: what must import afterwards.
        use: how a build uses it.
    """

    version: tuple[int, int]
    packages: tuple[str, ...]
    module: str
    use: str


RECIPES = {
    # 2.14 is its last release: built against numpy 1, no wheel beyond Python 3.11.
    "tflite-runtime": Recipe(
        (3, 11),
        ("numpy<2", "tflite-runtime==2.14.0"),
        "tflite_runtime.interpreter",
        "--backend tflite --option runtime=tflite-runtime",
    ),
}


def make_interpreter(name: str, into: Path | None = None, base: Path | None = None) -> Path:
    """Make the interpreter of that recipe, and return the path to pass as `--python`.

    One that is there already and works is left as it is; one that was made here before and does not
    work is made anew.

    Args:
        into: its folder; default: `interpreters/NAME` in hwprof's home folder.
        base: the Python to make it from; default: this one or `pythonX.Y` of the search path.

    Raises:
        BuildError: an unknown name, no fitting Python, a folder that was not made here, a path that is
            no folder or cannot be written, or pip failed.
    """
    if name not in RECIPES:
        raise BuildError(f"interpreter {name!r} is unknown; choose of {', '.join(RECIPES)}")
    recipe = RECIPES[name]
    folder = into or hwprof_home() / "interpreters" / name
    python = folder / "bin" / "python"
    if _works(python, recipe):
        return python
    source = base or _find_base(recipe)
    _empty(folder)
    _run([str(source), "-m", "venv", str(folder)], f"{source} made no environment")
    install = [str(python), "-m", "pip", "install", "--quiet", *recipe.packages]
    _run(install, f"pip could not install {' '.join(recipe.packages)}")
    if not _works(python, recipe):
        raise BuildError(f"{python} does not import {recipe.module}; look with {python} -c 'import ...'")
    return python


def _works(python: Path, recipe: Recipe) -> bool:
    command = [str(python), "-P", "-c", f"import numpy, {recipe.module}"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:  # no such file, or none that can be run
        return False


def _empty(folder: Path) -> None:
    """Make the folder, or clear it where an interpreter was made in it before. The marker comes first:
    one whose making was killed is known by it."""
    hint = "pass --into with a new folder"
    try:
        if (folder / MARKER).is_file():
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise BuildError(f"{folder} holds something that hwprof did not make; {hint}")
        (folder / MARKER).write_text("hwprof make-interpreter made this folder and may clear it.\n")
    except OSError as error:
        raise BuildError(f"{folder} cannot be made a folder: {error.strerror}; {hint}") from None


def _find_base(recipe: Recipe) -> Path:
    if sys.version_info[:2] == recipe.version:
        return Path(sys.executable)
    wanted = ".".join(map(str, recipe.version))
    found = shutil.which(f"python{wanted}")
    if found is None:
        raise BuildError(f"no Python {wanted} on the search path; install it, or pass --base PATH")
    return Path(found)


def _run(command: list[str], failure: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise BuildError(f"{failure}: {command[0]}: {error.strerror}") from None
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        raise BuildError(f"{failure}: {lines[-1]}")
