"""The supernet's gates are a network of the space, priced as that network, with gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402 - torch is optional
from hypothesis import strategies as st  # noqa: E402

from hwprof.errors import SpaceError  # noqa: E402
from hwprof.lut import Lut  # noqa: E402
from hwprof.search import ExpectedLatency  # noqa: E402
from hwprof.search.supernet import Supernet  # noqa: E402
from hwprof.space import Space, load_space  # noqa: E402

SUPERNETS = {name: Supernet(load_space(name)) for name in ("tiny", "s3nas-cifar", "mobilenet-v2-like")}


@pytest.mark.parametrize("name", SUPERNETS)
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_hard_gates_are_one_hot_and_read_as_s3nas_reads_them(name: str, seed: int) -> None:
    """Walk the nested gates, stop at the first that is closed."""
    supernet = SUPERNETS[name]
    gates = torch.randint(2, (len(supernet.gate_names),), generator=torch.Generator().manual_seed(seed))
    by_name = dict(zip(supernet.gate_names, gates.tolist(), strict=True))
    choices = supernet.choice_gates(gates.float())
    assert torch.equal(choices.sum(1), torch.ones(len(choices)))
    for block, position, row in zip(
        supernet.superblocks, supernet.space.positions[1:], choices[1:], strict=False
    ):
        mix: dict[int, int] = {}
        for number, branch in enumerate(block.block.branches, start=1):
            place = f"{position.name}.branch{number}"
            kernel = branch.kernels[0]
            for larger in branch.kernels[1:]:
                if not by_name[f"{place}.kernel{larger}"]:
                    break
                kernel = larger
            width = 0
            for group in branch.groups:
                if not by_name.get(f"{place}.channels{width + group}", 1):
                    break
                width += group
            mix[kernel] = mix.get(kernel, 0) + width
        if not by_name.get(f"{position.name}.block", 1):
            mix = {}
        chosen = position.choices[int(row.argmax())]
        assert (chosen.ops[0].mix if chosen.ops else ()) == tuple(
            sorted((k, c) for k, c in mix.items() if c)
        )


@pytest.mark.parametrize("name", SUPERNETS)
def test_choices_with_se_or_another_activation_are_never_chosen(name: str) -> None:
    supernet = SUPERNETS[name]
    gates = torch.rand(len(supernet.gate_names), generator=torch.Generator().manual_seed(1))
    choices = supernet.choice_gates(gates)
    assert torch.allclose(choices.sum(1), torch.ones(len(choices)))
    for position, row in zip(supernet.space.positions[1:-1], choices[1:-1], strict=True):
        plain = next(c.ops[0] for c in position.choices if c.ops and not c.ops[0].se_channels)
        for choice, gate in zip(position.choices, row.tolist(), strict=False):
            if choice.ops and (
                choice.ops[0].se_channels or choice.ops[0].activation != plain.activation
            ):
                assert gate == 0.0


def test_choice_gates_have_exact_gradients() -> None:
    supernet = Supernet(load_space("tiny")).double()
    gates = torch.rand(len(supernet.gate_names), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(supernet.choice_gates, (gates,))


def test_the_expected_latency_of_the_gates_is_the_price_of_the_point(
    save: Callable[..., Lut], make: Any, tiny: Space
) -> None:
    rows = [make.row(op, 0.1 * (number + 1)) for number, op in enumerate(tiny.ops())]
    latency = ExpectedLatency(save(rows), tiny)
    supernet = Supernet(tiny)
    thresholds = supernet.parameter_groups()[2]["params"][0]
    for seed in range(6):
        generator = torch.Generator().manual_seed(seed)
        thresholds.data = 1.0 + torch.randn(thresholds.shape, generator=generator)
        thresholds.grad = None
        expected = latency(supernet.choice_gates())
        assert expected.item() == pytest.approx(latency.price(supernet.point()).item(), rel=1e-6)
        expected.backward()
        assert thresholds.grad.abs().max() > 0


def test_raising_a_threshold_makes_the_network_smaller_and_the_gradient_says_so(tiny: Space) -> None:
    supernet = Supernet(tiny)
    widest = supernet.point()
    labels = [choice.label for choice in tiny.choices_of(widest)]
    assert labels[1:-1] == ["3:2+5:2 hswish"] * 3
    costs = torch.tensor([[len(choice.label) for choice in p.choices] + [0] * (5 - len(p.choices))
                          for p in tiny.positions])  # fmt: skip
    (supernet.choice_gates() * costs).sum().backward()
    thresholds = supernet.parameter_groups()[2]["params"][0]
    names = dict(zip(supernet.gate_names, thresholds.grad.tolist(), strict=True))
    assert names["stage1.block1.branch2.channels32"] < 0  # a higher one costs less
    thresholds.data[list(names).index("stage1.block2.block")] = 2.0
    assert tiny.choices_of(supernet.point())[2].label == "skip"


def test_evaluation_runs_the_network_of_the_thresholds_and_warm_training_a_drawn_one(
    tiny: Space,
) -> None:
    supernet = Supernet(tiny, dropout=0.0)
    images = torch.randn(2, 3, 32, 32)
    supernet.eval()
    with torch.no_grad():
        assert torch.equal(supernet(images), supernet(images, states=supernet.states()))
    supernet.train()
    supernet.set_phase("warm")
    supernet.generator.manual_seed(7)
    drawn = supernet(images)
    supernet.generator.manual_seed(7)
    assert torch.allclose(drawn, supernet(images, states=supernet.draw()))


def test_a_point_with_se_runs_as_its_mix(tiny: Space) -> None:
    supernet = Supernet(tiny)
    labels = [[choice.label for choice in position.choices] for position in tiny.positions]
    point = (0, labels[1].index("3:2 se0.25 hswish"), 0, labels[3].index("skip"), 0)
    plain = supernet.point_of(supernet.states_of(point))
    assert [tiny.positions[i].choices[c].label for i, c in enumerate(plain)][1:4] == [
        "3:2 hswish", "3:2 hswish", "skip",
    ]  # fmt: skip


def test_thresholds_and_norms_have_no_weight_decay(tiny: Space) -> None:
    supernet = Supernet(tiny)
    groups = supernet.parameter_groups(1e-5)
    assert sum(len(group["params"]) for group in groups) == len(list(supernet.parameters()))
    decayed = {id(p) for g in groups if g["weight_decay"] for p in g["params"]}
    for name, parameter in supernet.named_parameters():
        is_weight = name.endswith((".conv.weight", ".depthwise", "classifier.weight"))
        assert (id(parameter) in decayed) == is_weight, name


def test_of_gates_that_would_flip_together_only_the_farthest_do(tiny: Space) -> None:
    supernet = Supernet(tiny)
    thresholds = supernet.parameter_groups()[2]["params"][0]
    thresholds.data[1] = 1.5  # closed
    before = supernet.margins()
    thresholds.data = torch.tensor([1.3, 0.5, 1.9, 0.2, 1.4])
    supernet.limit_flips(before, 2, 0.05)
    after = supernet.margins()
    assert (after >= 0).tolist() == [True, True, False, True, True]
    assert after[[0, 4]].tolist() == pytest.approx([0.05, 0.05], abs=1e-6)


@pytest.mark.parametrize(
    ("name", "words"),
    [("nb201", "nb201 is a cell space"), ("mobilenet-v2-split", "stage1.block1: choice")],
)
def test_a_space_without_nested_gates_is_refused(name: str, words: str) -> None:
    with pytest.raises(SpaceError, match=words):
        Supernet(load_space(name))


def test_an_unknown_phase_is_refused(tiny: Space) -> None:
    with pytest.raises(SpaceError, match="'train' is not one of warm, search"):
        Supernet(tiny).set_phase("train")


def test_equal_seeds_give_equal_supernets_and_other_seeds_others(tiny: Space) -> None:
    first, same, other = (Supernet(tiny, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["blocks.0.depthwise"], other["blocks.0.depthwise"])
