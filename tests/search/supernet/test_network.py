"""The found network: the layers of its ops, the supernet's weights on request, and the same as ONNX."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import onnxruntime  # noqa: E402 - after torch is found to be there

from hwprof.errors import SpaceError  # noqa: E402
from hwprof.graph import cost  # noqa: E402
from hwprof.search.supernet import Network, Supernet, inherit  # noqa: E402
from hwprof.search.supernet.network import DropConnect  # noqa: E402
from hwprof.space import load_space  # noqa: E402

SAMPLES = [("tiny", 0), ("tiny", 1), ("s3nas-cifar", 2), ("mobilenet-v2-like", 3)]


@pytest.mark.parametrize(("name", "seed"), SAMPLES)
def test_onnx_and_torch_agree(
    name: str, seed: int, tmp_path: Path, trained_like: Callable[[torch.nn.Module], torch.nn.Module]
) -> None:
    """A point drawn with its SE, h-swish and skips; BatchNorm folded."""
    space = load_space(name)
    network = Network(space.point_ops(space.sample(np.random.default_rng(seed))), seed=seed)
    trained_like(network).eval()
    images = torch.randn(2, *space.input_shape[1:], generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        expected = network(images).numpy()
    network.export_onnx(tmp_path / "network.onnx", batch=2)
    session = onnxruntime.InferenceSession(tmp_path / "network.onnx", providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    assert np.abs(expected).max() > 0.01
    assert np.abs(logits - expected).max() < 1e-4 * max(1.0, np.abs(expected).max())


@pytest.mark.parametrize("name", ["tiny", "s3nas-cifar", "mobilenet-v2-like"])
def test_a_network_with_the_supernets_weights_computes_what_the_supernet_does(
    name: str, trained_like: Callable[[Supernet], Supernet]
) -> None:
    space = load_space(name)
    supernet = trained_like(Supernet(space)).eval()
    for seed in (1, 2):
        supernet.generator.manual_seed(seed)
        point = supernet.point_of(supernet.draw())
        network = Network(space.point_ops(point)).eval()
        inherit(network, supernet, point)
        images = torch.randn(1, *space.input_shape[1:])
        with torch.no_grad():
            expected = supernet(images, states=supernet.states_of(point))
            assert torch.allclose(network(images), expected, atol=1e-5 * expected.abs().max().item())


def test_a_network_with_se_inherits_all_but_its_se() -> None:
    space = load_space("tiny")
    supernet = Supernet(space)
    labels = [[choice.label for choice in position.choices] for position in space.positions]
    point = (0, labels[1].index("3:2+5:2 se0.25 hswish"), labels[2].index("skip"), 0, 0)
    network, fresh = (Network(space.point_ops(point), seed=9) for _ in range(2))
    inherit(network, supernet, point)
    changed = {
        name.split(".")[1]
        for (name, mine), theirs in zip(network.named_parameters(), fresh.parameters(), strict=True)
        if mine.ndim > 1 and not torch.equal(mine, theirs)
    }
    same = {name.split(".")[1] for name, p in network.named_parameters() if p.ndim > 1} - changed
    assert len(same) == 2  # reduce and expand
    assert all(network.body.get_submodule(name).bias is not None for name in same)


def test_a_network_of_another_point_does_not_inherit() -> None:
    space = load_space("tiny")
    with pytest.raises(SpaceError, match=r"not the point \(0, 0, 4, 4, 0\) of tiny"):
        inherit(Network(space.point_ops((0, 0, 0, 0, 0))), Supernet(space), (0, 0, 4, 4, 0))


def test_every_convolution_but_those_of_se_has_a_norm_and_every_weight_is_trained() -> None:
    space = load_space("tiny")
    point = (0, *(max(range(len(p.choices)), key=lambda i, p=p: len(p.choices[i].label))
                  for p in space.positions[1:-1]), 0)  # fmt: skip
    ops = space.point_ops(point)
    assert sum(bool(op.se_channels) for op in ops) == 3
    network = Network(ops, drop_connect=0.3).train()
    assert all(parameter.requires_grad for parameter in network.parameters())
    norms = sum(isinstance(m, torch.nn.BatchNorm2d) for m in network.modules())
    convolutions = sum(isinstance(m, torch.nn.Conv2d) for m in network.modules())
    assert convolutions - norms == 6
    network(torch.randn(4, 3, 32, 32)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_parameters_are_those_that_the_table_counts_once_norms_are_folded() -> None:
    space = load_space("s3nas-cifar")
    ops = space.point_ops(space.sample(np.random.default_rng(0)))
    network = Network(ops)
    scales = sum(
        module.weight.numel() for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)
    )
    trained = sum(parameter.numel() for parameter in network.parameters())
    assert trained - scales == cost(network.graph).parameters


def test_drop_connect_grows_over_the_residual_blocks_and_only_acts_in_training() -> None:
    space = load_space("s3nas-cifar")
    network = Network(space.point_ops([0] * len(space.positions)), drop_connect=0.2)
    rates = [module.rate for module in network.modules() if isinstance(module, DropConnect)]
    residual = sum(op.residual for op in network.ops)
    assert rates == pytest.approx([0.2 * n / (residual - 1) for n in range(1, residual)])
    drop, x = DropConnect(0.25), torch.ones(4000, 1, 1, 1)
    dropped = drop.train()(x)
    assert dropped.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.05)
    assert torch.equal(drop.eval()(x), x)


def test_ops_in_another_dtype_are_refused() -> None:
    space = load_space("tiny").with_options(1, "float16")
    with pytest.raises(SpaceError, match="float32, its ops are float16"):
        Network(space.point_ops((0, 0, 0, 0, 0)))
