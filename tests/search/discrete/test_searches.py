"""Each search through the one interface, and the properties that a search promises."""

import numpy as np
import pytest

from hwprof.errors import HwprofError
from hwprof.search.discrete.decisions import decisions_of
from hwprof.search.discrete.objectives import Objective, Objectives
from hwprof.search.discrete.random_search import RandomSearch
from hwprof.search.discrete.run import run_search
from hwprof.search.discrete.scalarise import chebyshev, neighbours, weightings
from hwprof.search.discrete.searches import SEARCHES, make_search
from hwprof.search.discrete.tnd_nas import TndNas, TndSettings
from hwprof.space import load_space

QUERIES = 120


def search(name, decisions, seed=0, queries=QUERIES):
    if name == "nsga2":
        pytest.importorskip("pymoo", reason="pymoo is not installed")
    return make_search(name, decisions, 2, queries=queries, seed=seed)


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_spends_its_queries_on_different_networks(name, decisions, objectives):
    archive = run_search(search(name, decisions), objectives, QUERIES)
    assert len(archive) == QUERIES


@pytest.mark.parametrize("name", SEARCHES)
def test_the_same_seed_asks_for_the_same_networks(name, decisions, objectives):
    first, again, other = (
        [entry.point for entry in run_search(search(name, decisions, seed), objectives, 60).entries]
        for seed in (3, 3, 4)
    )
    assert first == again
    assert first != other


@pytest.mark.parametrize("name", [name for name in SEARCHES if name != "random"])
def test_a_search_that_learns_finds_more_than_random_draws(name, decisions, objectives):
    best = run_search(search("random", decisions, 99, 3000), objectives, 3000)
    reference = best.reference()

    def mean(which):
        return np.mean(
            [
                run_search(search(which, decisions, seed, 300), objectives, 300).hypervolume(reference)
                for seed in range(4)
            ]
        )

    assert mean(name) > mean("random")


def test_a_space_smaller_than_the_queries_is_searched_whole():
    tiny = decisions_of(load_space("tiny"))
    size = int(np.prod(tiny.widths))
    both = Objectives(
        [Objective("one", lambda p: float(sum(p))), Objective("other", lambda p: float(p[1] - p[2]))]
    )
    free = TndSettings().without_shrinking()
    for made in (
        RandomSearch(tiny, seed=0),
        TndNas(tiny, 2, queries=2 * size, seed=0, settings=free),
    ):
        assert len(run_search(made, both, 2 * size)) == size


def test_shrinking_leaves_fewer_choices_and_the_archive_as_it_is(decisions, objectives):
    tnd = TndNas(decisions, 2, queries=QUERIES, seed=0)
    archive = run_search(tnd, objectives, QUERIES)
    assert tnd.policies.offered.sum() < 30
    assert len(archive) == QUERIES
    free = TndNas(decisions, 2, queries=QUERIES, seed=0, settings=TndSettings().without_shrinking())
    run_search(free, objectives, QUERIES)
    assert free.policies.offered.sum() == 30


def test_policies_of_different_weightings_end_at_different_ends_of_the_front(decisions, objectives):
    tnd = TndNas(decisions, 2, queries=300, seed=1)
    run_search(tnd, objectives, 300)
    likeliest = tnd.policies.probabilities().argmax(-1)
    ends = [objectives.values(decisions.point(likeliest[policy])) for policy in (0, -1)]
    accuracies, latencies = zip(*ends, strict=True)
    assert max(accuracies) - min(accuracies) > 1.0
    assert (accuracies[0] > accuracies[1]) == (latencies[0] > latencies[1])


@pytest.mark.parametrize("update", ["natural", "reinforce"])
def test_after_values_are_forgotten_networks_can_be_asked_again_and_alpha_stays(
    update, decisions, objectives
):
    tnd = TndNas(decisions, 2, queries=100, seed=0, settings=TndSettings(update=update, warm=0.2))
    run_search(tnd, objectives, 100)
    alpha = tnd.policies.alpha.copy()
    tnd.forget()
    assert (tnd.policies.alpha == alpha).all()
    assert len(run_search(tnd, objectives, 50)) == 50


@pytest.mark.parametrize(
    ("objectives_count", "count", "rows"), [(1, 10, 1), (2, 10, 10), (3, 10, 10), (4, 10, 10)]
)
def test_weightings_are_a_lattice_of_the_simplex(objectives_count, count, rows):
    found = weightings(objectives_count, count)
    assert found.shape == (rows, objectives_count)
    assert found.sum(1) == pytest.approx(1.0)
    assert len(np.unique(found, axis=0)) == rows


def test_neighbours_are_next_to_each_other_on_the_lattice():
    assert neighbours(weightings(2, 4)).round(3).tolist() == [
        [0.5, 0.5, 0.0, 0.0],
        [0.333, 0.333, 0.333, 0.0],
        [0.0, 0.333, 0.333, 0.333],
        [0.0, 0.0, 0.5, 0.5],
    ]
    assert neighbours(weightings(1, 4)).tolist() == [[1.0]]
    corners = neighbours(weightings(3, 3))
    assert corners == pytest.approx(np.full((3, 3), 1 / 3))


def test_a_hollow_of_the_front_has_a_weighting_whose_chebyshev_minimum_it_is():
    front = np.array([[0.0, 1.0], [0.6, 0.6], [1.0, 0.0]])
    weights = weightings(2, 11)
    assert set(chebyshev(front, weights).argmin(1)) == {0, 1, 2}
    assert set((front @ weights.T).argmin(0)) == {0, 2}


def test_unknown_names_and_settings_are_refused(decisions):
    with pytest.raises(HwprofError, match="search 'tabu' is unknown; choose of tnd-nas"):
        make_search("tabu", decisions, 2, queries=10, seed=0)
    with pytest.raises(HwprofError, match="update 'adam' is unknown"):
        TndSettings(update="adam")
    with pytest.raises(HwprofError, match="policies must be 1 or more, got 0"):
        TndSettings(policies=0)
    with pytest.raises(HwprofError, match="exploration is a share"):
        TndSettings(exploration=1.5)
