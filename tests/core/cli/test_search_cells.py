"""`hwprof search` of a DARTS space as it is typed, on a simulated device."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")
pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
pytest.importorskip("PIL", reason="Pillow is not installed")

from PIL import Image

from hwprof.build import BuildOptions, build_lut
from hwprof.cli.main import cli
from hwprof.cli.search_cells import _Latency
from hwprof.cli.searching import MeasuredTable
from hwprof.errors import HwprofError
from hwprof.lut import load_lut
from hwprof.prediction import fit_family, save_predictor
from hwprof.prediction.knowledge import knowledge_of
from hwprof.prediction.predictor import Origin
from hwprof.search import ExpectedLatency
from hwprof.space import Space, load_space
from hwprof.validation.setting import Wanted

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
    - {name: skip_connect, kind: skip}
    - {name: sep_conv_3x3, kind: sep_conv, kernel: 3}
    - {name: dil_conv_3x3, kind: dil_conv, kernel: 3}
head: {activation: none, classes: 4}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A space, its table and images: each class has a colour."""
    path = tmp_path_factory.mktemp("cells")
    (path / "small.yaml").write_text(SPACE)
    build_lut(
        BuildOptions(
            "simulated", str(path / "small.yaml"), path / "lut.parquet", target="exact", effort="fast"
        )
    )
    rng = np.random.default_rng(0)
    for label, colour in enumerate([(200, 60, 60), (60, 200, 60), (60, 60, 200), (150, 150, 150)]):
        (path / "images" / f"class{label}").mkdir(parents=True)
        for number in range(60):
            pixels = np.clip(np.array(colour) + rng.integers(-30, 30, (8, 8, 3)), 0, 255).astype(
                np.uint8
            )
            Image.fromarray(pixels).save(path / "images" / f"class{label}" / f"{number}.png")
    return path


@pytest.fixture(scope="module")
def space(folder: Path) -> Space:
    return load_space(folder / "small.yaml")


def middle_ms(folder: Path, space: Space) -> float:
    latency = ExpectedLatency(load_lut(folder / "lut.parquet"), space)
    points = [space.sample(np.random.default_rng(seed)) for seed in range(50)]
    return float(latency.price(points).median())


def run(folder: Path, *arguments: object) -> Result:
    common = (
        "--space", folder / "small.yaml", "--lut", folder / "lut.parquet",
        "--data", folder / "images", "--size", "smoke", "--shortlist", 1, "--effort", "fast",
    )  # fmt: skip
    return CliRunner().invoke(cli, ["search", *map(str, (*common, *arguments))])


def test_search_under_a_target_ends_at_it_and_leaves_a_network(
    folder: Path, space: Space, tmp_path: Path
) -> None:
    target_ms = middle_ms(folder, space)
    done = run(folder, "--target-ms", target_ms, "--out", tmp_path / "found", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert 0.9 * target_ms <= told["predicted_ms"] <= target_ms
    assert told["measured_ms"] is not None
    assert told["test_images"] == 40
    assert 0.0 <= told["accuracy"] <= 1.0
    assert told["parameters"] > 0
    names = {path.name for path in (tmp_path / "found").iterdir()}
    assert {"found.json", "network.onnx", "measure.yaml", "cells.safetensors"} <= names


def test_search_with_a_predictor_and_a_weight_is_la_darts(
    folder: Path, space: Space, tmp_path: Path
) -> None:
    latency = ExpectedLatency(load_lut(folder / "lut.parquet"), space)
    points = list(dict.fromkeys(space.sample(np.random.default_rng(seed)) for seed in range(80)))
    predictor = fit_family(
        knowledge_of(space), points, latency.price(points).numpy().astype(float), members=["additive"]
    )
    save_predictor(predictor, tmp_path / "p")
    found = []
    for weight in (0.0, 1e4):
        out = tmp_path / f"weight{weight:g}"
        done = run(
            folder, "--target-ms", middle_ms(folder, space), "--loss", "weighted", "--latency-weight",
            weight, "--predictor", tmp_path / "p", "--out", out, "--json",
        )  # fmt: skip
        assert done.exit_code == 0, done.output
        found.append(json.loads(done.stdout))
    assert found[1]["predicted_ms"] < found[0]["predicted_ms"]
    assert found[0]["shortlist"][0]["rows_ms"] == pytest.approx(found[0]["predicted_ms"], rel=0.1)
    assert found[1]["latency_weight"] == 1e4


def test_a_predictor_of_another_device_does_not_meet_this_ones_target(
    folder: Path, space: Space, tmp_path: Path
) -> None:
    table = load_lut(folder / "lut.parquet")
    (here,) = set(table.columns(["environment_id"])["environment_id"].to_pylist())
    latency = ExpectedLatency(table, space)
    points = list(dict.fromkeys(space.sample(np.random.default_rng(seed)) for seed in range(40)))
    values = latency.price(points).numpy().astype(float)
    measured = MeasuredTable(
        folder / "lut.parquet", table, Wanted(space=str(folder / "small.yaml")), "floor", False
    )
    for environment in (here, "", "elsewhere"):
        origin = Origin("latency_ms", "ms", len(points), environment_id=environment)
        predictor = fit_family(knowledge_of(space), points, values, members=["additive"], origin=origin)
        save_predictor(predictor, tmp_path / "p")
        if environment != "elsewhere":
            assert _Latency(measured, tmp_path / "p", "floor").price(points[:1])[0] > 0
            continue
        with pytest.raises(
            HwprofError, match=f"is of environment elsewhere, .* of {here}; give"
        ) as told:
            _Latency(measured, tmp_path / "p", "floor")
        assert "hwprof fit-predictor" in str(told.value)


def test_what_cannot_be_asked_is_said(folder: Path, space: Space, tmp_path: Path) -> None:
    far = run(folder, "--target-ms", 99, "--out", tmp_path / "far")
    assert isinstance(far.exception, HwprofError)
    assert "by the rows they have" in str(far.exception)
    weightless = run(folder, "--target-ms", middle_ms(folder, space), "--loss", "weighted",
                     "--out", tmp_path / "weightless")  # fmt: skip
    assert "loss weighted needs weight=" in str(weightless.exception)
    warm = run(folder, "--target-ms", 1, "--warm", "x", "--out", tmp_path / "warm")
    assert warm.exit_code == 2
    assert "--warm is of no use for a space of family darts" in warm.output
    chain = CliRunner().invoke(
        cli, ["search", "--space", "tiny", "--lut", str(folder / "lut.parquet"), "--data", "x",
              "--target-ms", "1", "--latency-weight", "2", "--out", str(tmp_path / "chain")],
    )  # fmt: skip
    assert chain.exit_code != 0
