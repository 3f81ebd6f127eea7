"""A small DARTS space, and images whose colour is their class."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from hwprof.search.data import Images, Normalisation, Splits  # noqa: E402
from hwprof.space import load_space  # noqa: E402

SPACE = """
name: small-darts
family: darts
summary: three cells of two nodes
input: [3, 8, 8]
stem: {channels: 6, kernel: 3, stride: 1, activation: none}
stages:
  - {cells: 1, channels: 4, stride: 1}
  - {cells: 2, channels: 8, stride: 2}
cell:
  nodes: 2
  choices:
    - {name: none, kind: none}
    - {name: max_pool_3x3, kind: pool, pool: max, kernel: 3}
    - {name: skip_connect, kind: skip}
    - {name: sep_conv_3x3, kind: sep_conv, kernel: 3}
    - {name: dil_conv_3x3, kind: dil_conv, kernel: 3}
head: {activation: none, classes: 4}
"""
CLASSES = 4


@pytest.fixture(scope="session")
def space_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("space") / "small-darts.yaml"
    path.write_text(SPACE)
    return path


@pytest.fixture(scope="session")
def space(space_file):
    return load_space(space_file)


def coloured(count, seed):
    """Noise around one colour for each class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % CLASSES
    colours = torch.tensor([[200, 60, 60], [60, 200, 60], [60, 60, 200], [150, 150, 150]])
    noise = torch.randint(-40, 40, (count, 8, 8, 3), generator=generator)
    pixels = (colours[labels][:, None, None] + noise).clamp(0, 255).to(torch.uint8)
    return Images(pixels, labels, tuple("abcd"))


@pytest.fixture(scope="session")
def splits():
    train, validation, test = (coloured(count, seed) for seed, count in enumerate((64, 64, 80)))
    return Splits(train, validation, test, Normalisation.of(train))
