"""Genomes and points: chains, cells, DARTS."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprof.errors import SpaceError
from hwprof.search.discrete.decisions import DartsDecisions, decisions_of
from hwprof.space import load_space
from hwprof.space.darts import is_genotype

DARTS = load_space("darts")
DECISIONS = decisions_of(DARTS)
genomes = st.tuples(*[st.integers(0, width - 1) for width in DECISIONS.widths])


def test_a_chain_has_a_decision_for_each_position_with_a_choice():
    tiny = load_space("tiny")
    decisions = decisions_of(tiny)
    assert decisions.widths == tuple(len(p.choices) for p in tiny.positions if len(p.choices) > 1)
    point = decisions.point([1] * len(decisions.widths))
    assert [len(tiny.positions[n].choices) > 1 for n, choice in enumerate(point) if choice] == [
        True
    ] * sum(point)


def test_a_cell_without_a_path_is_no_network(nb201):
    decisions = decisions_of(nb201)
    assert decisions.widths == (5,) * 6
    assert decisions.point((0,) * 6) is None
    assert decisions.point((0, 0, 0, 3, 0, 0)) is not None


@given(genomes)
def test_every_genome_of_darts_is_a_genotype(genome):
    assert is_genotype(DARTS.cell, DARTS.choices_of(DECISIONS.point(genome)))


@given(genomes, st.data())
def test_a_decision_that_is_not_active_changes_no_network(genome, data):
    place = data.draw(st.integers(0, len(genome) - 1))
    other = data.draw(st.integers(0, DECISIONS.widths[place] - 1))
    changed = (*genome[:place], other, *genome[place + 1 :])
    same = DECISIONS.point(changed) == DECISIONS.point(genome)
    assert same == (other == genome[place] or not DECISIONS.active(genome)[place])


def test_a_mask_of_decisions_is_one_of_a_supernets_edges():
    mask = np.ones((len(DECISIONS.widths), max(DECISIONS.widths)), dtype=bool)
    assert isinstance(DECISIONS, DartsDecisions)
    edges = DARTS.cell.edge_places()
    assert DECISIONS.offered(mask).all()
    mask[-1, 0] = False
    offered = DECISIONS.offered(mask)
    assert offered.shape == (len(edges), 8)
    assert offered.sum() == offered.size - 1
    closed = next(n for n, c in enumerate(DARTS.positions[edges[0]].choices) if c.cut)
    assert offered[:, closed].all()


def test_a_list_of_ops_has_no_networks_to_search(tmp_path):
    path = tmp_path / "ops.yaml"
    path.write_text(
        "name: some\nfamily: ops\nsummary: one op\nops:\n  - {kind: relu, shape: [1, 8, 4, 4]}\n"
    )
    with pytest.raises(SpaceError):
        decisions_of(load_space(path))
