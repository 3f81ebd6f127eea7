"""NSGA-II (Deb et al. 2002) of pymoo, as a search of ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwprof.errors import BackendUnavailable
from hwprof.search.discrete.decisions import Decisions
from hwprof.search.discrete.objectives import Floats, Point

POPULATION = 20


class Nsga2:
    """See `hwprof.search.discrete.interface.Search`. Uniform crossover; a mutation changes each decision
    with probability 1 / decisions, to any other choice, since choices have no order. Genomes that are no
    network break a constraint and cost no query.

    Args:
        objectives: how many there are.
        population: of a generation.

    Raises:
        BackendUnavailable: pymoo is not installed.
    """

    name = "nsga2"

    def __init__(
        self, decisions: Decisions, objectives: int, *, seed: int, population: int = POPULATION
    ) -> None:
        try:
            from pymoo.algorithms.moo.nsga2 import NSGA2
            from pymoo.core.mutation import Mutation
            from pymoo.core.problem import Problem
            from pymoo.operators.crossover.ux import UniformCrossover
            from pymoo.operators.sampling.rnd import IntegerRandomSampling
        except ModuleNotFoundError as error:
            raise BackendUnavailable(
                f"search nsga2 needs pymoo ({error.name} is missing); run: pip install 'hwprof[pareto]'"
            ) from None
        widths = np.array(decisions.widths)

        class OtherChoice(Mutation):  # type: ignore[misc]
            def _do(self, problem: Any, X: NDArray[Any], **kwargs: Any) -> NDArray[Any]:
                return mutated(X, widths, kwargs["random_state"])

        self._decisions = decisions
        self._problem = Problem(
            n_var=len(widths), n_obj=objectives, n_ieq_constr=1, xl=0, xu=widths - 1, vtype=int
        )
        self._algorithm = NSGA2(
            pop_size=population,
            sampling=IntegerRandomSampling(),
            crossover=UniformCrossover(),
            mutation=OtherChoice(prob=1.0),
            eliminate_duplicates=True,
        )
        self._algorithm.setup(self._problem, termination=("n_gen", np.inf), seed=seed, verbose=False)
        self._offspring: Any = None
        self._points: list[Point | None] = []

    def ask(self) -> Sequence[Point]:
        self._offspring = self._algorithm.ask()
        genomes = self._offspring.get("X").astype(int)
        self._points = [self._decisions.point(genome) for genome in genomes]
        return [point for point in self._points if point is not None]

    def tell(self, values: Floats) -> None:
        from pymoo.core.evaluator import Evaluator
        from pymoo.problems.static import StaticProblem

        exists = np.array([point is not None for point in self._points])
        filled = np.zeros((len(exists), self._problem.n_obj))
        filled[exists] = values
        broken = np.where(exists, -1.0, 1.0)[:, None]
        Evaluator().eval(StaticProblem(self._problem, F=filled, G=broken), self._offspring)
        self._algorithm.tell(infills=self._offspring)


def mutated(genomes: NDArray[Any], widths: NDArray[Any], rng: Any) -> NDArray[Any]:
    """Each decision with probability 1 / decisions at another of its choices."""
    changed = rng.random(genomes.shape) < 1.0 / genomes.shape[1]
    steps = 1 + (rng.random(genomes.shape) * (widths - 1)).astype(int)
    found: NDArray[Any] = np.where(changed, (genomes.astype(int) + steps) % widths, genomes)
    return found
