"""TND-NAS with a shared supernet of DARTS cells, on images whose colour is their class."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from hwprof.errors import HwprofError  # noqa: E402
from hwprof.graph import cost  # noqa: E402
from hwprof.search.cells import CellSupernet, cell_recipe  # noqa: E402
from hwprof.search.data import Batches, Images, Normalisation  # noqa: E402
from hwprof.search.discrete.objectives import Objective  # noqa: E402
from hwprof.search.discrete.supernet import SharedSupernet, StagePlan, search_supernet  # noqa: E402
from hwprof.search.discrete.tnd_nas import TndSettings  # noqa: E402
from hwprof.space import load_space  # noqa: E402
from hwprof.space.darts import is_genotype  # noqa: E402

SPACE = """
name: small-darts
family: darts
summary: cells of two nodes
input: [3, 8, 8]
stem: {channels: 6, kernel: 3, stride: 1, activation: none}
stages:
  - {cells: 1, channels: 4, stride: 1}
  - {cells: CELLS, channels: 8, stride: 2}
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
SETTINGS = TndSettings(policies=4, warm=0.2)


def coloured(count, seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 4
    colours = torch.tensor([[200, 60, 60], [60, 200, 60], [60, 60, 200], [150, 150, 150]])
    noise = torch.randint(-160, 160, (count, 8, 8, 3), generator=generator)
    pixels = (colours[labels][:, None, None] + noise).clamp(0, 255).to(torch.uint8)
    return Images(pixels, labels, tuple("abcd"))


@pytest.fixture(scope="module")
def spaces(tmp_path_factory):
    """The one that is searched, and a deeper one whose networks are found."""
    made = []
    for cells in (1, 3):
        path = tmp_path_factory.mktemp("space") / "small.yaml"
        path.write_text(SPACE.replace("CELLS", str(cells)))
        made.append(load_space(path))
    return made


@pytest.fixture
def shared(spaces):
    train, validation = coloured(64, 0), coloured(64, 1)
    normalisation = Normalisation.of(train)
    return SharedSupernet(
        CellSupernet(spaces[0], seed=0),
        Batches(train, normalisation, 16, seed=0, shift=0),
        validation,
        normalisation,
        cell_recipe(60),
        seed=0,
    )


def test_stages_train_query_and_shrink_and_the_front_is_of_the_deeper_space(shared, spaces):
    parameters = Objective("parameters", lambda point: cost(spaces[1].network(point)).parameters)
    plans = [StagePlan(12, 24, 0.7), StagePlan(8, 24, 0.5), StagePlan(8, 24)]
    archive, reports = search_supernet(shared, spaces[1], [parameters], plans, settings=SETTINGS)
    assert len(archive) == 24
    assert [report.offered for report in reports] == sorted(
        (report.offered for report in reports), reverse=True
    )
    assert reports[-1].offered == int(shared.supernet.offered.sum()) - len(shared.supernet.offered)
    assert reports[-1].offered < int(shared.supernet.offered.numel()) - len(shared.supernet.offered)
    assert shared.step == 28
    for entry in archive.front():
        assert is_genotype(spaces[1].cell, spaces[1].choices_of(entry.point))
    best = max(entry.values[0] for entry in archive.entries)
    assert best > 0.5, "four colours are told apart better than by chance"


def test_a_step_trains_the_weights_of_the_network_that_was_drawn_alone(shared, spaces):
    supernet = shared.supernet
    point = spaces[0].sample(np.random.default_rng(0))
    used = {id(weight) for weight in supernet.weights_of(point)}
    before = {name: weight.detach().clone() for name, weight in supernet.named_parameters()}
    shared.train(lambda: point, 1)
    for name, weight in supernet.named_parameters():
        if id(weight) not in used:
            assert torch.equal(weight, before[name]), name
    assert any(not torch.equal(w, before[n]) for n, w in supernet.named_parameters() if id(w) in used)


def test_a_user_objective_that_fails_ends_the_search(shared, spaces):
    broken = Objective("board", lambda point: float("nan"))
    with pytest.raises(HwprofError, match="objective board is nan"):
        search_supernet(shared, spaces[1], [broken], [StagePlan(1, 8)], settings=SETTINGS)


@pytest.mark.parametrize("plans", [[], [StagePlan(1, 8, 0.5)], [StagePlan(1, 8), StagePlan(1, 8)]])
def test_each_stage_but_the_last_says_what_it_keeps(shared, spaces, plans):
    with pytest.raises(HwprofError, match="says what it keeps"):
        search_supernet(shared, spaces[1], [], plans)
