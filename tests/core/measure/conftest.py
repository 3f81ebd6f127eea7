"""A second Python interpreter that has numpy and nothing else, made without a network."""

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def other_python(tmp_path_factory):
    folder = tmp_path_factory.mktemp("other") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    packages = next(folder.glob("lib/python*/site-packages"))
    here = Path(sysconfig.get_path("platlib"))
    for name in ("numpy", "numpy.libs"):
        if (here / name).exists():
            (packages / name).symlink_to(here / name)
    return folder / "bin" / "python"
