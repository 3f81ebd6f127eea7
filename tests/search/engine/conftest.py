"""A small space with SE and h-swish, its simulated table, and images that can be learned: each class
has a colour."""

import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed")
PIL = pytest.importorskip("PIL.Image", reason="Pillow is not installed")

from hwprof.build import BuildOptions, build_lut  # noqa: E402

SPACE = """
name: coloured
family: chain
summary: for tests
input: [3, 16, 16]
stem: {channels: 8, kernel: 3, stride: 1, activation: relu}
stages:
  - {blocks: 2, channels: 8, stride: 1}
  - {blocks: 2, channels: 16, stride: 2}
block:
  kind: mixconv
  skip: true
  se_ratio: [0, 1]
  activation: [relu, hswish]
  choices:
    - {expansion: 2, mix: {3: 2}}
    - {expansion: 2, mix: {5: 2}}
    - {expansion: 4, mix: {3: 4}}
    - {expansion: 4, mix: {5: 4}}
head: {hidden: 16, activation: relu, classes: 4}
"""
CLASSES, EACH = 4, 40


@pytest.fixture(scope="session")
def space_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("space") / "coloured.yaml"
    path.write_text(SPACE)
    return path


@pytest.fixture(scope="session")
def built(tmp_path_factory, space_file):
    path = tmp_path_factory.mktemp("built") / "lut.parquet"
    build_lut(BuildOptions("simulated", str(space_file), path, target="exact", effort="fast"))
    return path


@pytest.fixture
def table(built, tmp_path):
    for name in ("lut.parquet", "lut.visits.parquet"):
        shutil.copy(built.with_name(name), tmp_path / name)
    return tmp_path / "lut.parquet"


@pytest.fixture(scope="session")
def images(tmp_path_factory) -> Path:
    """A folder of class folders."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    colours = rng.integers(40, 216, (CLASSES, 3))
    for label in range(CLASSES):
        (folder / f"class{label}").mkdir()
        for number in range(EACH):
            noise = rng.integers(-20, 20, (16, 16, 3))
            pixels = np.clip(colours[label] + noise, 0, 255).astype(np.uint8)
            PIL.fromarray(pixels).save(folder / f"class{label}" / f"{number}.png")
    return folder
