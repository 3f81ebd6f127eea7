"""A superblock computes what the block of its gates would, in both of its ways."""

from __future__ import annotations

from collections.abc import Callable

import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional  # noqa: E402 - torch is optional

from hwprof.search.supernet import Supernet  # noqa: E402
from hwprof.search.supernet.blocks import Coefficients, Superblock  # noqa: E402
from hwprof.search.supernet.branches import canonical_mix, searched_block  # noqa: E402
from hwprof.search.supernet.layout import block_layout  # noqa: E402
from hwprof.space import load_space  # noqa: E402


def new_block(position: int = 2) -> Superblock:
    """A residual block of s3nas-cifar (24 channels, branches of 48)."""
    block = searched_block(load_space("s3nas-cifar").positions[position])
    torch.manual_seed(0)
    superblock = Superblock(block, torch.Generator().manual_seed(0))
    for norm in (superblock.depthwise_norm, superblock.project.norm, superblock.expand.norm):
        torch.nn.init.uniform_(norm.bias, 0.2, 0.5)
    return superblock


def coefficients(block: Superblock, gates: list[float]) -> Coefficients:
    """By hand from gates in the order of the layout."""
    layout = block_layout(block.block)

    def product(term: tuple) -> float:  # type: ignore[type-arg]
        result = 1.0
        for literal in term:
            result *= gates[literal.gate] if literal.on else 1 - gates[literal.gate]
        return result

    off = torch.tensor([product(layout.off)]) if layout.off is not None else None
    return Coefficients(
        torch.tensor([product(term) for term in layout.kernels]),
        torch.tensor([product(term) for term in layout.groups]),
        off,
    )


def gates_of(block: Superblock, **closed: bool) -> list[float]:
    """All open but those whose name ends so."""
    names = [gate.name for gate in block.layout.gates]
    endings = [key.replace("_", ".") for key in closed]
    return [0.0 if any(name.endswith(e) for e in endings) else 1.0 for name in names]


def test_the_effective_kernel_is_nested() -> None:
    """Without its 5x5 ring a branch is 3x3, whatever the gate of its 7x7 ring says."""
    block = new_block().eval()
    x = torch.randn(2, 24, 32, 32)
    with torch.no_grad():
        closed = block(x, coefficients(block, gates_of(block, branch3_kernel5=True)))
        both = block(x, coefficients(block, gates_of(block, branch3_kernel5=True, branch3_kernel7=True)))
        whole = block(x, coefficients(block, gates_of(block)))
    assert torch.equal(closed, both)
    assert not torch.allclose(closed, whole)


def test_a_kernel_of_three_is_the_core_of_the_superkernel() -> None:
    block = new_block().eval()
    x = torch.randn(2, 24, 32, 32)
    gates = gates_of(block, branch1_kernel5=True, branch2_channels48=True, branch3_channels48=True)
    with torch.no_grad():
        y = block(x, coefficients(block, gates))
        h = functional.relu(block.expand(x))[:, :48]
        kernel = block.depthwise[:48, :, 2:5, 2:5]
        h = functional.conv2d(h, kernel, padding=1, groups=48)
        norm = block.depthwise_norm
        h = functional.batch_norm(
            h, norm.running_mean[:48], norm.running_var[:48], norm.weight[:48], norm.bias[:48],
            eps=norm.eps,
        )  # fmt: skip
        h = functional.conv2d(functional.relu(h), block.project.conv.weight[:, :48])
        expected = x + block.project.norm(h)
    assert torch.allclose(y, expected, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("name", "position"), [("s3nas-cifar", 2), ("tiny", 3)])
def test_a_block_that_is_off_returns_its_input_exactly(name: str, position: int, training: bool) -> None:
    block = Superblock(searched_block(load_space(name).positions[position]), torch.Generator())
    for norm in (block.depthwise_norm, block.project.norm):
        torch.nn.init.constant_(norm.bias, 0.7)  # would leak
    block.train(training)
    x = torch.randn(2, *block.block.op.shape[1:])
    off = coefficients(block, [0.0] * len(block.layout.gates))
    assert torch.equal(block(x, off), x)
    skip = next(i for i, state in enumerate(block.states) if not canonical_mix(state))
    assert torch.equal(block.run_state(x, skip), x)


def test_a_closed_group_adds_nothing_although_its_norm_has_a_bias() -> None:
    block = new_block().eval()
    x = torch.randn(2, 24, 32, 32)
    gates = coefficients(block, gates_of(block, branch1_channels48=True))
    with torch.no_grad():
        before = block(x, gates)
        block.depthwise[:48] += 1.0
        block.depthwise_norm.bias[:48] += 1.0
        assert torch.equal(block(x, gates), before)


def test_every_state_runs_alike_as_a_state_and_under_gates(
    trained_like: Callable[[Supernet], Supernet],
) -> None:
    for name in ("tiny", "mobilenet-v2-like"):
        supernet = trained_like(Supernet(load_space(name))).eval()
        generator = torch.Generator().manual_seed(1)
        for block in supernet.superblocks[:3]:
            shape = block.block.op.shape[1:]
            x = torch.randn(1, shape[0], 12, 12, generator=generator)
            for number, term in enumerate(block.layout.states):
                gates = [0.0] * len(block.layout.gates)
                for literal in term:
                    gates[literal.gate] = float(literal.on)
                with torch.no_grad():
                    gated = block(x, coefficients(block, gates))
                    assert torch.allclose(gated, block.run_state(x, number), atol=1e-5)


def test_a_state_trains_only_its_own_weights_and_statistics() -> None:
    block = new_block().train()
    number = block.states.index(((3, 48), (0, 0), (0, 0)))
    before = block.depthwise_norm.running_mean.clone()
    block.run_state(torch.randn(2, 24, 32, 32), number).sum().backward()
    used = block.depthwise.grad.abs().sum((1, 2, 3)) > 0
    assert used[:48].all()
    assert not used[48:].any()
    assert block.depthwise.grad[:48, 0, 1].abs().sum() == 0  # its ring
    moved = block.depthwise_norm.running_mean != before
    assert moved[:48].all()
    assert not moved[48:].any()


def test_initial_norms_are_about_1_for_every_gate() -> None:
    for name in ("s3nas-cifar", "tiny", "mobilenet-v2-like"):
        supernet = Supernet(load_space(name))
        assert supernet.margins().sub(1).abs().max() < 0.25


def test_closed_gates_feel_what_opening_them_would_change() -> None:
    block = new_block().train()
    x = torch.randn(4, 24, 32, 32)
    whole = ("branch1_channels48", "branch2_channels48", "branch3_channels48")
    for closed in (whole[:1], whole):
        products = coefficients(block, gates_of(block, **dict.fromkeys(closed, True)))
        groups = products.groups.requires_grad_()
        off = products.off.requires_grad_()
        block(x, Coefficients(products.kernels, groups, off)).square().sum().backward()
        felt = off.grad if len(closed) == 3 else groups.grad[:1]
        assert felt.abs().item() > 0.1
