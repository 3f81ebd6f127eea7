"""Points, relaxed architectures and what does not fit the space."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hwprof.prediction import Encoding
from hwprof.prediction.errors import PredictionError
from hwprof.space import load_space


@pytest.fixture(scope="module")
def encoding(chain):
    return Encoding.of(chain)


def test_a_position_of_one_choice_has_no_column(chain, encoding):
    assert len(chain.positions) == 5
    assert encoding.chosen == (0, 1, 2, 3)
    assert encoding.columns == 2 + 3 * 5


def test_a_relaxed_architecture_of_certain_choices_is_the_one_hot_point(encoding, every_point):
    for point in every_point[::17]:
        parts = [
            torch.nn.functional.one_hot(torch.tensor(int(i)), width).double()
            for i, width in zip(point, encoding.widths, strict=True)
        ]
        padded = torch.zeros(len(parts), max(encoding.widths), dtype=torch.float64)
        for place, part in enumerate(parts):
            padded[place, : len(part)] = part
        wanted = encoding.one_hot([point])[0]
        assert np.array_equal(encoding.relaxed(parts).numpy(), wanted)
        assert np.array_equal(encoding.relaxed(padded).numpy(), wanted)


@given(st.integers(0, 2**32 - 1))
def test_networks_drawn_from_probabilities_take_each_choice_as_often_as_it_says(seed):
    encoding = Encoding("made", "0", ("a", "b"), (("x", "y", "z"), ("u", "v")))
    rng = np.random.default_rng(seed)
    mix = np.concatenate([rng.dirichlet([0.5] * 3), rng.dirichlet([2.0] * 2)])[None]
    drawn = encoding.sampled(mix, 200, rng)[0]
    assert np.array_equal(drawn[:, :3].sum(1), np.ones(200))
    assert np.array_equal(drawn[:, 3:].sum(1), np.ones(200))
    # A Latin hypercube of 200 is at most one network off at each end of a choice's stretch.
    assert np.abs(drawn.mean(0) - mix[0]).max() <= 2.0 / 200 + 1e-9


@pytest.mark.parametrize(
    ("points", "said"),
    [
        ([[0, 0, 0, 0]], r"have shape \(networks, 5\), got \(1, 4\)"),
        ([[0, 0, 0, 5, 0]], "stage1.block3: choice 5 of network 0 is not one of 0 to 4"),
        ([[0, 0, 0, 0, 0], [0, -1, 0, 0, 0]], "choice -1 of network 1"),
        ([[0.0, 0, 0, 0, 0]], "are integers, got float64"),
        ([[0], [0, 0]], "differ in their lengths"),
    ],
)
def test_a_point_outside_the_encoding_is_named(encoding, points, said):
    with pytest.raises(PredictionError, match=said):
        encoding.one_hot(points)


def test_probabilities_of_another_space_are_refused(encoding):
    with pytest.raises(PredictionError, match=r"have shape \(..., 5, 5\), got \(5, 4\)"):
        encoding.relaxed(torch.ones(5, 4))
    with pytest.raises(PredictionError, match=r"5 positions of 2, 5, 5, 5, 1 choices, got 2, 5"):
        encoding.relaxed([torch.ones(2), torch.ones(5)])


def test_the_same_space_at_another_batch_is_another_space(chain, encoding):
    encoding.require(chain)
    with pytest.raises(PredictionError, match="batch and dtype included"):
        encoding.require(chain.with_options(8, "float32"))


def test_a_space_of_the_same_hash_whose_choices_stand_in_another_order_is_refused(chain, encoding):
    """A damaged or edited folder: its weights would be another choice's."""
    turned = (encoding.choices[0][::-1], *encoding.choices[1:])
    with pytest.raises(PredictionError, match="of other positions or choices"):
        replace(encoding, choices=turned).require(chain)
    renamed = (encoding.positions[0] + "x", *encoding.positions[1:])
    with pytest.raises(PredictionError, match="of other positions or choices"):
        replace(encoding, positions=renamed).require(chain)


def test_a_list_of_ops_has_nothing_to_predict(tmp_path):
    path = tmp_path / "ops.yaml"
    path.write_text(
        'name: o\nfamily: ops\nsummary: s\nops:\n  - {op: \'{"kind": "conv", "shape": [1, 3, 8, 8], '
        '"out_channels": 8, "mix": [[3, 8]]}\'}\n'
    )
    with pytest.raises(PredictionError, match="it has no networks to predict"):
        Encoding.of(load_space(path))
