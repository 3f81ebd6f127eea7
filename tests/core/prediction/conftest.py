"""Small spaces whose networks can all be listed, and tables of made-up networks with known laws."""

from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest

from hwprof.lut import chain_columns, load_lut, null_row, op_columns, write_lut
from hwprof.prediction.knowledge import knowledge_of
from hwprof.space import load_space
from hwprof.validation.networks import network_job

CHAIN = """
name: short
family: chain
summary: for tests
input: [3, 16, 16]
stem: {channels: 8, kernel: 3, stride: 1, activation: [relu, hswish]}
stages:
  - {blocks: 3, channels: 8, stride: 1}
block:
  kind: mbconv
  skip: true
  kernel: [3, 5]
  expansion: [2, 4]
  activation: relu
head: {hidden: 32, activation: relu, classes: 10}
"""
CELL = """
name: cell3
family: cell
summary: for tests
input: [3, 8, 8]
stem: {channels: 4, kernel: 3, stride: 1, activation: none}
stages:
  - {cells: 2, channels: 4, stride: 1}
cell:
  nodes: 3
  choices:
    - {name: none, kind: none}
    - {name: skip, kind: skip}
    - {name: conv1, kind: relu_conv, kernel: 1}
    - {name: conv3, kind: relu_conv, kernel: 3}
head: {activation: relu, classes: 10}
"""
ENVIRONMENT = "env-made"
SHARED = {
    "cache": "warm", "backend": "made", "target": "cpu", "threads": 1, "regime": "burst",
    "source": "measured", "state": "converged", "energy_reason": "no sensor here",
    "peak_memory_source": "not measured", "hwprof_version": "0.1.0", "schema_version": 1,
    "environment_id": ENVIRONMENT,
}  # fmt: skip


def read_space(folder, text):
    path = folder / "space.yaml"
    path.write_text(text)
    return load_space(path)


@pytest.fixture(scope="session")
def chain(tmp_path_factory):
    """2 x 5 x 5 x 5 networks; the skips are choices without ops."""
    return read_space(tmp_path_factory.mktemp("chain"), CHAIN)


@pytest.fixture(scope="session")
def cell(tmp_path_factory):
    return read_space(tmp_path_factory.mktemp("cell"), CELL)


@pytest.fixture(scope="session")
def known(chain):
    return knowledge_of(chain)


@pytest.fixture(scope="session")
def every_point(chain):
    return np.array(list(product(*(range(len(p.choices)) for p in chain.positions))))


@pytest.fixture(scope="session")
def laws(known):
    """From points to values: what each choice adds, multiplies, and does to the next one."""
    rng = np.random.default_rng(0)
    encoding = known.encoding
    alone = rng.uniform(0.5, 2.0, encoding.columns)
    pairs = rng.uniform(-0.3, 0.3, (encoding.columns, encoding.columns))
    places = encoding.position_of
    pairs = np.where(places[:, None] < places[None, :], pairs, 0.0)

    def additive(points):
        return encoding.one_hot(points) @ alone

    def product_law(points):
        return np.exp(encoding.one_hot(points) @ (alone - 1.0))

    def pairwise(points):
        x = encoding.one_hot(points)
        return x @ alone + np.einsum("nc,cd,nd->n", x, pairs, x)

    return SimpleNamespace(additive=additive, product=product_law, pairwise=pairwise)


def network_row(space, point, **changes):
    job = network_job(space, tuple(int(index) for index in point))
    # Without the point, as imported tables have it.
    label = job.label.partition(":")[0]
    columns = chain_columns(job.job_id, label, job.ops, job.lower())
    return {**null_row(), **columns, **SHARED, "granularity": "network", "space": space.name, **changes}


def op_row(op, latency_ms, space, **changes):
    fixed = {"granularity": "op", "space": space.name, "latency_ms": latency_ms}
    return {**null_row(), **op_columns(op), **SHARED, **fixed, **changes}


def save(path, space, rows):
    environments = {
        row["environment_id"]: {"identity": {"runtime": row["environment_id"]}, "conditions": {}}
        for row in rows
    }
    write_lut(path, rows, metadata={"spaces": [space.name], "environments": environments})
    return load_lut(path)


@pytest.fixture(scope="session")
def row_of():
    """Makes the row of a point's network."""
    return network_row


@pytest.fixture
def made(tmp_path):
    """Makes tables."""
    return SimpleNamespace(
        network_row=network_row,
        op_row=op_row,
        save=lambda space, rows: save(tmp_path / "lut.parquet", space, rows),
    )
