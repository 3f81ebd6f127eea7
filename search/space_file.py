"""Writing a search space as a YAML file that `load_space` reads."""

from __future__ import annotations

import os
from pathlib import Path

from hwprof.errors import SpaceError
from hwprof.lut.files import partial_path
from hwprof.space import Space
from hwprof.space.load import read_space

SUFFIXES = (".yaml", ".yml")


def check_space_file(path: Path) -> None:
    """Raise where no space can be written; an existing file is never overwritten.

    Raises:
        SpaceError: not a .yaml or .yml name, the folder is missing, or the file exists.
    """
    if path.suffix not in SUFFIXES:
        raise SpaceError(f"{path} does not end in .yaml; give a name such as my-space.yaml")
    if not path.absolute().parent.is_dir():
        raise SpaceError(f"{path}: the folder {path.absolute().parent} does not exist; make it first")
    if path.exists():
        raise SpaceError(f"{path} exists; give another name or remove it")


def write_space(path: Path, text: str) -> Space:
    """Write the text of a space under `path`, whole or not at all, and read it back.

    Raises:
        SpaceError: as `check_space_file`; the text is no space; the file cannot be written.
    """
    check_space_file(path)
    partial = partial_path(path)
    try:
        partial.write_text(text, encoding="utf-8")
        space = read_space(partial)
        os.replace(partial, path)
    except OSError as error:
        raise SpaceError(f"{path} cannot be written: {error.strerror or error}") from None
    finally:
        partial.unlink(missing_ok=True)
    return space
