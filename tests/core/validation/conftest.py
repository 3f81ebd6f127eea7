"""A space of some thousand networks and its table on the simulated backend, whose networks cost what
their ops cost alone less the overhead of all calls but one."""

import shutil

import pytest

from hwprof.build import BuildOptions, build_lut
from hwprof.validation.calibrate import calibrate
from hwprof.validation.setting import Wanted
from hwprof.validation.validate import validate

SPACE = """
name: small
family: chain
summary: for tests
input: [3, 16, 16]
stem: {channels: 8, kernel: 3, stride: 1, activation: relu}
stages:
  - {blocks: 3, channels: 8, stride: 1}
  - {blocks: 3, channels: 16, stride: 2}
block:
  kind: mbconv
  skip: true
  kernel: [3, 5]
  expansion: [2, 4]
  activation: relu
head: {hidden: 32, activation: relu, classes: 10}
"""


@pytest.fixture(scope="session")
def small_space(tmp_path_factory):
    path = tmp_path_factory.mktemp("space") / "small.yaml"
    path.write_text(SPACE)
    return path


@pytest.fixture(scope="session")
def built(tmp_path_factory, small_space):
    path = tmp_path_factory.mktemp("built") / "lut.parquet"
    options = BuildOptions("simulated", str(small_space), path, target="exact", effort="fast")
    build_lut(options)
    return path


@pytest.fixture
def table(built, tmp_path):
    """A copy to calibrate."""
    return copy_of(built, tmp_path)


def copy_of(path, folder):
    for name in ("lut.parquet", "lut.visits.parquet"):
        shutil.copy(path.with_name(name), folder / name)
    return folder / "lut.parquet"


@pytest.fixture(scope="session")
def calibrated_once(built, wanted, tmp_path_factory):
    """Calibrated on 12 networks."""
    path = copy_of(built, tmp_path_factory.mktemp("calibrated"))
    return path, calibrate(path, wanted, networks=12)


@pytest.fixture
def calibrated(calibrated_once, tmp_path):
    """A copy of it."""
    return copy_of(calibrated_once[0], tmp_path)


@pytest.fixture(scope="session")
def validated(built, wanted, tmp_path_factory):
    """Uncalibrated before, then held against 10 networks."""
    path = copy_of(built, tmp_path_factory.mktemp("validated"))
    return path, validate(path, wanted, networks=10)


@pytest.fixture
def validated_copy(validated, tmp_path):
    """A copy of it."""
    return copy_of(validated[0], tmp_path)


@pytest.fixture(scope="session")
def wanted(small_space):
    return Wanted(space=str(small_space), effort="fast")
