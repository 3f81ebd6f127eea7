"""Models priced from rows whose truth is known: the simulated backend's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from hwprof import ops
from hwprof.backends.simulated import true_latency_ms
from hwprof.cli.main import cli
from hwprof.errors import LutError, MissingRow
from hwprof.graph.onnx_emitter import to_onnx
from hwprof.lut import load_lut
from hwprof.models import ModelError, predict_file
from hwprof.models.predict import Predictor
from hwprof.models.reading import model_of
from hwprof.models.rows import select_rows
from hwprof.models.whole import fit_whole
from hwprof.ops import OpSpec, lower

NETWORK = (
    ops.conv((1, 3, 56, 56), 24, 3, stride=2, activation="relu"),
    ops.mbconv((1, 24, 28, 28), 40, 3, 3, stride=2),
    ops.mbconv((1, 40, 14, 14), 40, 5, 3),
    ops.conv((1, 40, 14, 14), 56, 3, activation="relu"),
    ops.head((1, 56, 14, 14), 100, 96),
)


def file_of(chain: tuple[OpSpec, ...], path: Path) -> Path:
    path.write_bytes(to_onnx(lower(chain)).SerializeToString())
    return path


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    return file_of(NETWORK, tmp_path / "network.onnx")


def test_a_network_of_no_space_is_priced_near_its_truth(model_file: Path, table_file: Path) -> None:
    found = predict_file(model_file, table_file)
    truth = true_latency_ms(lower(NETWORK))
    assert found.latency_ms == pytest.approx(truth, rel=0.06)
    assert found.low_ms <= truth <= found.high_ms
    assert found.refused == 0
    assert found.exact + found.interpolated == pytest.approx(1 - found.overhead_ms / found.latency_ms)
    assert sum(u.latency_ms or 0.0 for u in found.units) + found.overhead_ms == pytest.approx(
        found.latency_ms
    )


def test_most_random_networks_lie_in_their_intervals(predictor: Predictor) -> None:
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(12):
        ins, hidden, outs = (int(8 * rng.integers(2, 12)) for _ in range(3))
        side, kernel = int(rng.choice([14, 28])), int(rng.choice([3, 5]))
        chain = (
            ops.conv((1, ins, side, side), hidden, activation="relu"),
            ops.depthwise((1, hidden, side, side), kernel),
            ops.conv((1, hidden, side, side), outs),
        )
        found = predictor.predict(model_of(to_onnx(lower(chain)), "chain"))
        truth = true_latency_ms(lower(chain))
        assert found.latency_ms == pytest.approx(truth, rel=0.15)
        inside.append(found.low_ms <= truth <= found.high_ms)
    assert sum(inside) >= 10


def test_a_kernel_that_a_row_timed_is_exact_and_names_it(predictor: Predictor, table_file: Path) -> None:
    labels = load_lut(table_file).filter(kind="conv").columns(["label", "op_json"]).to_pylist()
    row = next(row for row in labels if "_k3." in row["label"])
    op = OpSpec.from_json(row["op_json"])
    found = predictor.predict(model_of(to_onnx(op.lower()), "one"))
    assert found.units[0].source == "exact"
    assert found.units[0].row == row["label"]
    assert found.exact > 0.5
    assert found.latency_ms == pytest.approx(true_latency_ms(op.lower()), rel=0.05)


def test_operators_that_no_row_runs_are_refused_by_name(
    predictor: Predictor, maker: Any, tmp_path: Path
) -> None:
    m = maker((1, 16, 14, 14))
    model = model_of(m.model(m.op("Softmax", m.op("Erf", m.conv("x", 16, 32)))), "odd")
    with pytest.raises(MissingRow) as caught:
        predictor.predict(model)
    text = str(caught.value)
    assert "2 of 3 units of odd" in text
    assert "Erf (Erf_t1): no row runs a Erf" in text
    assert "Softmax" in text
    assert "--allow-missing" in text
    partly = predictor.predict(model, allow_missing=True)
    assert partly.refused == 2
    assert [unit.source for unit in partly.units] == ["interpolated", "refused", "refused"]
    assert partly.units[1].latency_ms is None


def test_a_model_of_which_nothing_has_a_price_once_ended_in_a_division_by_zero(
    predictor: Predictor, maker: Any, tmp_path: Path
) -> None:
    m = maker((1, 16, 14, 14))
    odd = model_of(m.model(m.op("Softmax", m.op("Erf", "x"))), "odd")
    with pytest.raises(MissingRow, match="2 of 2 units of odd") as caught:
        predictor.predict(odd, allow_missing=True)
    assert "--allow-missing" not in str(caught.value)
    m = maker((1, 16, 14, 14))
    nothing = model_of(m.model(m.op("Identity", "x")), "nothing")
    with pytest.raises(ModelError, match="nothing has no operator that takes time"):
        predictor.predict(nothing)


def test_a_size_far_from_every_row_is_refused(predictor: Predictor) -> None:
    op = ops.conv((1, 4096, 256, 256), 4096, 3)
    from hwprof.models.graph_model import model_of_graph

    with pytest.raises(MissingRow, match="no rows are near enough"):
        predictor.predict(model_of_graph(op.lower()))


def test_another_element_type_than_the_rows_is_refused(predictor: Predictor) -> None:
    op = ops.conv((1, 16, 14, 14), 16, dtype="float16")
    with pytest.raises(ModelError, match="takes float16, the rows are of float32"):
        predictor.predict(model_of(to_onnx(op.lower()), "half"))


def test_rows_that_are_not_there_are_named(table_file: Path) -> None:
    table = load_lut(table_file)
    with pytest.raises(LutError, match="no op rows of cache evicted"):
        select_rows(table, cache="evicted")
    with pytest.raises(LutError, match="statistic 'mean' is unknown"):
        select_rows(table, statistic="mean")


def test_the_whole_is_fitted_on_networks_and_the_simplest_model_that_serves_is_taken() -> None:
    sums, weights = (
        [1.0, 2.0, 4.0, 3.0, 6.0, 5.0, 7.0],
        [float(i << 20) for i in (1, 9, 3, 20, 5, 50, 2)],
    )
    plain = fit_whole(sums[:5], weights[:5], [1.1 * s for s in sums[:5]])
    assert (plain.name, plain.networks) == ("sum", 0)
    scaled = fit_whole(sums, weights, [1.1 * s for s in sums])
    assert (scaled.name, scaled.networks) == ("scale", 7)
    assert scaled.latency_ms(10.0, 0.0) == pytest.approx(11.0)
    heavy = fit_whole(sums, weights, [s + 0.05 * w / 2**20 for s, w in zip(sums, weights, strict=True)])
    assert heavy.name == "weights"
    assert heavy.latency_ms(10.0, 20 * 2**20) == pytest.approx(11.0, rel=0.01)


def test_weights_never_cost_less_than_nothing() -> None:
    sums, mib = [1.0, 2.0, 4.0, 3.0, 6.0, 5.0, 7.0], [1, 9, 3, 20, 5, 50, 2]
    found = fit_whole(
        sums, [float(m << 20) for m in mib], [s - 0.02 * m for s, m in zip(sums, mib, strict=True)]
    )
    assert found.name in ("sum", "scale")


def run(*arguments: str) -> Any:
    return CliRunner().invoke(cli, ["predict", *arguments])


def test_command_prints_price_coverage_and_slowest_units(model_file: Path, table_file: Path) -> None:
    done = run(str(model_file), "--lut", str(table_file), "--units", "3")
    assert done.exit_code == 0, done.output
    assert "ms with 90 %" in done.output
    assert "interpolated, 0 of" in done.output
    assert done.output.count(" ms  Conv") == 3


def test_command_json_holds_every_unit(model_file: Path, table_file: Path) -> None:
    done = run(str(model_file), "--lut", str(table_file), "--json")
    told = json.loads(done.output)
    assert told["refused"] == 0
    assert told["measured_ms"] is None
    assert len(told["units"]) >= 12
    assert {"name", "kind", "source", "latency_ms", "low_ms", "high_ms"} <= set(told["units"][0])


def test_command_says_with_its_exit_code_that_the_price_is_of_a_part(
    maker: Any, table_file: Path, tmp_path: Path
) -> None:
    m = maker((1, 16, 14, 14))
    path = tmp_path / "odd.onnx"
    path.write_bytes(m.model(m.op("Erf", m.conv("x", 16, 32))).SerializeToString())
    done = run(str(path), "--lut", str(table_file), "--allow-missing")
    assert done.exit_code == 1
    assert "refused: Erf (Erf_t1)" in done.output
    assert isinstance(run(str(path), "--lut", str(table_file)).exception, MissingRow)


def test_a_model_that_cannot_be_read_leaves_no_file(table_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(b"nothing")
    done = run(str(path), "--lut", str(table_file), "--measure")
    assert isinstance(done.exception, ModelError)
    assert [p.name for p in tmp_path.iterdir()] == ["bad.onnx"]


def test_a_torch_module_is_priced_as_its_file(table_file: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    from torch import nn

    from hwprof.models import predict_module

    module = nn.Sequential(
        nn.Conv2d(3, 24, 3, 2, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU(),
        nn.Conv2d(24, 24, 3, 1, 1, groups=24), nn.Conv2d(24, 40, 1), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(40, 100),
    )  # fmt: skip
    found = predict_module(module, torch.zeros(1, 3, 56, 56), table_file)
    assert found.model == "Sequential"
    kinds = [unit.kind for unit in found.units if unit.source != "free"]
    assert [kind.split("+")[0] for kind in kinds] == ["Conv", "Conv", "Conv", kinds[3], "Gemm"]
    assert kinds[3] in ("ReduceMean", "GlobalAveragePool")
    assert found.latency_ms > 0


def test_a_module_with_control_flow_is_refused_in_one_line(table_file: Path) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    from hwprof.models import predict_module

    class Branch(torch.nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, x: Any) -> Any:
            return x if x.sum() > 0 else -x

    with pytest.raises(ModelError) as caught:
        predict_module(Branch(), torch.zeros(1, 3), table_file)
    assert "\n" not in str(caught.value)
