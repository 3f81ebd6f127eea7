"""Gates are 0 or 1 with a sigmoid's gradient; gate dropout draws each dimension uniformly."""

from __future__ import annotations

from collections import Counter
from math import prod

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402 - torch is optional
from hypothesis import strategies as st  # noqa: E402

from hwprof.search.supernet import Supernet  # noqa: E402
from hwprof.search.supernet.gates import Products, straight_through  # noqa: E402
from hwprof.search.supernet.layout import Gate, Literal  # noqa: E402
from hwprof.space import load_space  # noqa: E402

DRAWS = 4000
# Chi-square quantile 0.9999 by degrees of freedom.
CHI_SQUARE = {1: 15.1, 2: 18.4, 3: 21.1}


def test_a_gate_is_exactly_0_or_1_and_has_the_gradient_of_a_sigmoid() -> None:
    margins = torch.tensor([-2.0, -1e-6, 0.0, 0.3, 12.0], requires_grad=True)
    gates = straight_through(margins)
    assert gates.tolist() == [0.0, 0.0, 1.0, 1.0, 1.0]
    gates.sum().backward()
    soft = margins.detach().sigmoid()
    assert torch.allclose(margins.grad, soft * (1 - soft))


def test_gates_after_another_are_dropped_as_s3nas_does() -> None:
    gates = [Gate("g", place, 3, ()) for place in range(3)]
    assert [gate.drop_probability for gate in gates] == pytest.approx([1 / 4, 1 / 3, 1 / 2])


@pytest.mark.parametrize("name", ["s3nas-cifar", "mobilenet-v2-like", "tiny"])
def test_gate_dropout_draws_every_choice_of_a_dimension_equally_often(name: str) -> None:
    supernet = Supernet(load_space(name), seed=3)
    kernels: dict[tuple[int, int], Counter[int]] = {}
    widths: dict[tuple[int, int], Counter[int]] = {}
    blocks: dict[int, Counter[bool]] = {}
    for _ in range(DRAWS):
        for place, (block, number) in enumerate(zip(supernet.superblocks, supernet.draw(), strict=True)):
            state = block.states[number]
            if block.block.skip_gate:
                blocks.setdefault(place, Counter())[state is None] += 1
            for branch, (kernel, channels) in enumerate(state or ()):
                widths.setdefault((place, branch), Counter())[channels] += 1
                if channels:  # the kernel of a branch that is off does not show
                    kernels.setdefault((place, branch), Counter())[kernel] += 1
    for place, block in enumerate(supernet.superblocks):
        if block.block.skip_gate:
            assert uniform(blocks[place], 2)
        for number, branch in enumerate(block.block.branches):
            assert uniform(kernels[place, number], len(branch.kernels))
            assert uniform(widths[place, number], len(branch.groups) + branch.optional)


def uniform(counts: Counter[int], choices: int) -> bool:
    assert len(counts) == choices
    expected = counts.total() / choices
    statistic = sum((count - expected) ** 2 / expected for count in counts.values())
    return choices == 1 or statistic < CHI_SQUARE[choices - 1]


def test_gates_that_were_dropped_with_one_probability_would_not_be_uniform() -> None:
    """The test above can fail."""
    counts = Counter({0: round(DRAWS / 2), 1: round(DRAWS / 4), 2: round(DRAWS / 4)})
    assert not uniform(counts, 3)


@settings(max_examples=50)
@given(st.data())
def test_products_multiply_gates_and_complements(data: st.DataObject) -> None:
    gates = data.draw(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=5))
    literal = st.builds(Literal, st.integers(0, len(gates) - 1), st.booleans())
    terms = data.draw(st.lists(st.lists(literal, max_size=4).map(tuple), max_size=5))
    values = Products(terms, len(gates))(torch.tensor(gates, dtype=torch.float64))
    expected = [prod(gates[t.gate] if t.on else 1 - gates[t.gate] for t in term) for term in terms]
    assert values.tolist() == pytest.approx(expected)
