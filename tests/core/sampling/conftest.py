"""A space whose table has rows of some of its ops only, on the simulated backend."""

import shutil

import pytest

from hwprof.build import BuildOptions, build_lut
from hwprof.validation.setting import Wanted

SPACE = """
name: part
family: chain
summary: for tests
input: [3, 16, 16]
stem: {channels: 8, kernel: 3, stride: 1, activation: relu}
stages:
  - {blocks: 3, channels: 8, stride: 1}
  - {blocks: 2, channels: 16, stride: 2}
block:
  kind: mbconv
  skip: true
  kernel: [3, 5]
  expansion: [2, 4]
  activation: relu
head: {hidden: 32, activation: relu, classes: 10}
"""
CELL = """
name: cell4
family: cell
summary: for tests
input: [3, 8, 8]
stem: {channels: 4, kernel: 3, stride: 1, activation: none}
stages:
  - {cells: 1, channels: 4, stride: 1}
  - {cells: 1, channels: 8, stride: 2}
reduction: {kernel: 3, activation: relu}
cell:
  nodes: 4
  choices:
    - {name: none, kind: none}
    - {name: skip, kind: skip}
    - {name: conv3, kind: relu_conv, kernel: 3}
head: {activation: relu, classes: 10}
"""


def written(folder, text):
    path = folder / "space.yaml"
    path.write_text(text)
    return path


@pytest.fixture(scope="session")
def copied():
    """Copies a table into a folder."""

    def copy(table, folder):
        for name in ("lut.parquet", "lut.visits.parquet"):
            shutil.copy(table.with_name(name), folder / name)
        return folder / "lut.parquet"

    return copy


def built(folder, space, limit, target="exact"):
    path = folder / "lut.parquet"
    build_lut(BuildOptions("simulated", str(space), path, target=target, effort="fast", limit=limit))
    return path


@pytest.fixture(scope="session")
def part_space(tmp_path_factory):
    return written(tmp_path_factory.mktemp("part"), SPACE)


@pytest.fixture(scope="session")
def part_wanted(part_space):
    return Wanted(space=str(part_space), effort="fast")


@pytest.fixture(scope="session")
def part_once(tmp_path_factory, part_space):
    return built(tmp_path_factory.mktemp("part-table"), part_space, 8)


@pytest.fixture
def part(part_once, copied, tmp_path):
    """A table with 8 of the space's ops."""
    return copied(part_once, tmp_path)


@pytest.fixture(scope="session")
def cell_space(tmp_path_factory):
    return written(tmp_path_factory.mktemp("cell"), CELL)


@pytest.fixture(scope="session")
def cell_wanted(cell_space):
    return Wanted(space=str(cell_space), effort="fast")


@pytest.fixture(scope="session")
def cell_table(tmp_path_factory, cell_space):
    return built(tmp_path_factory.mktemp("cell-table"), cell_space, 3)
