"""`from_module`: what becomes of a torch module."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")
nn = torch.nn

from hwprof import ops  # noqa: E402 - torch is optional
from hwprof.errors import OpError  # noqa: E402
from hwprof.graph import cost  # noqa: E402
from hwprof.graph.blocks import load_block  # noqa: E402
from hwprof.graph.onnx_emitter import to_onnx  # noqa: E402
from hwprof.graph.reference import run_reference  # noqa: E402


class Attention(nn.Module):  # type: ignore[misc, name-defined]
    """One head over 9 tokens of width 16."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(16)
        self.qkv = nn.Linear(16, 48)
        self.out = nn.Linear(16, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
        return x + self.out(torch.softmax(q @ k.transpose(-1, -2) / 4.0, -1) @ v)


class Scaled(nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((4,), 0.5))
        self.temperature = nn.Parameter(torch.tensor(2.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gamma[None, :, None, None] / self.temperature


class Branching(nn.Module):  # type: ignore[misc, name-defined]
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1 if x.sum() > 0 else x - 1


class Pair(nn.Module):  # type: ignore[misc, name-defined]
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, x + 1


def architecture_ids(seed: int) -> list[str]:
    """Ids of two fresh modules whose weights were drawn from `seed`."""
    torch.manual_seed(seed)
    convolution = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
    made = [ops.from_module(convolution, (1, 3, 8, 8)), ops.from_module(Attention(), (1, 9, 16))]
    return [op.op_id for op in made]


def test_an_architecture_has_one_id_in_every_process(block_store: Path) -> None:
    program = f"import runpy; print(*runpy.run_path({__file__!r})['architecture_ids'](2))"
    environment = {**os.environ, "PYTHONHASHSEED": "2"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True
    )
    ids = architecture_ids(1)
    assert done.stdout.split() == ids
    assert len(set(ids)) == len(list(block_store.iterdir())) == 2


def test_an_attention_block_is_priced_and_runs() -> None:
    op = ops.from_module(Attention(), (1, 9, 16))
    graph = op.lower()
    kinds = {node.op_type for node in load_block(op.content).graph.node}
    assert {"MatMul", "Softmax"} <= kinds
    counted = cost(graph)
    assert counted.flops == 2 * (9 * 16 * 48 + 9 * 16 * 9 + 9 * 9 * 16 + 9 * 16 * 16)
    assert counted.parameters == sum(p.numel() for p in Attention().parameters())
    x = np.random.default_rng(0).standard_normal((1, 9, 16), dtype=np.float32)
    session = onnxruntime.InferenceSession(to_onnx(graph).SerializeToString())
    (out,) = session.run(None, {"x0": x})
    np.testing.assert_allclose(out, run_reference(graph, {"x0": x})[0], atol=1e-5)


def test_the_users_weights_are_kept_when_asked_for() -> None:
    module = Attention().eval()
    op = ops.from_module(module, (1, 9, 16), keep_weights=True)
    x = torch.randn(1, 9, 16)
    (out,) = run_reference(op.lower(), {"x0": x.numpy()})
    np.testing.assert_allclose(out, module(x).detach().numpy(), atol=1e-5)
    assert op != ops.from_module(module, (1, 9, 16))


def test_batch_norm_is_folded_away_and_the_module_left_as_it_was() -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()).train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    op = ops.from_module(module, (1, 3, 8, 8))
    assert [node.op_type for node in load_block(op.content).graph.node] == ["Conv", "Relu"]
    assert cost(op.lower()).parameters == 8 * 3 * 9 + 8
    assert module.training
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())


def test_no_parameter_is_seeded_so_that_it_hides_or_divides_by_zero() -> None:
    op = ops.from_module(Scaled(), (1, 4, 6, 6))
    (out,) = run_reference(op.lower(), {"x0": np.ones((1, 4, 6, 6))})
    assert np.isfinite(out).all()
    assert np.abs(out).min() > 0.5


def test_half_precision_is_exported_in_half_precision() -> None:
    op = ops.from_module(nn.Conv2d(4, 8, 1), (1, 4, 6, 6), dtype="float16")
    model = to_onnx(op.lower())
    onnx.checker.check_model(model, full_check=True)
    assert {t.data_type for t in model.graph.initializer} == {onnx.TensorProto.FLOAT16}


@pytest.mark.parametrize(
    ("module", "words"),
    [(Branching(), "Branching cannot be exported to ONNX: .*data-dependent"), (Pair(), "got 1 and 2")],
)
def test_a_module_that_is_no_block_is_refused_in_one_line(module: nn.Module, words: str) -> None:  # type: ignore[name-defined]
    with pytest.raises(OpError, match=words) as caught:
        ops.from_module(module, (1, 4))
    assert "\n" not in str(caught.value)
