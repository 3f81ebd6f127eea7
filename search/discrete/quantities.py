"""Quantities: the objectives that can be asked for by name."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from hwprof.graph import cost
from hwprof.search.discrete.errors import ObjectiveError
from hwprof.search.discrete.memory import peak_bytes
from hwprof.search.discrete.objectives import Objective, Objectives, Point
from hwprof.space import Space

if TYPE_CHECKING:
    from hwprof.lut import Lut
    from hwprof.search.discrete.replay import Replay

COUNTS = {"parameters": "", "flops": "", "bytes_moved": "B"}
MEMORY, LATENCY, ENERGY = "memory", "latency", "energy"
LARGER, COLUMN, PREDICTOR = "+", "column:", "predictor:"
ALLOWED = (
    f"{', '.join(COUNTS)}, {MEMORY}, {LATENCY}, {ENERGY}, {COLUMN}NAME, {PREDICTOR}FOLDER, "
    f"MODULE:FUNCTION; {LARGER} in front of one means that larger is better"
)


class Quantities:
    """What objectives of one space can come from.

    Args:
        latency: from a point to ms; None where no table is given.
        energy: from a point to mJ; likewise.
        replay: a table of networks with known values; likewise.
    """

    def __init__(
        self,
        space: Space,
        *,
        latency: Callable[[Point], float] | None = None,
        energy: Callable[[Point], float] | None = None,
        replay: Replay | None = None,
    ) -> None:
        self.space, self.latency, self.energy, self.replay = space, latency, energy, replay
        self._cost = lru_cache(maxsize=1)(lambda point: cost(space.network(point)))

    def objectives(self, specs: Sequence[str]) -> Objectives:
        """
        Raises:
            ObjectiveError: a name is unknown, its source is not given, or a function cannot be imported.
            HwprofError: a predictor cannot be read, or is of another space.
        """
        return Objectives([self.objective(spec) for spec in specs])

    def objective(self, spec: str) -> Objective:
        """As `objectives`, of one: a name of `ALLOWED`."""
        name = spec.removeprefix(LARGER)
        larger = name != spec
        if name in COUNTS:
            return Objective(
                name, lambda point: float(getattr(self._cost(point), name)), larger, COUNTS[name]
            )
        if name == MEMORY:
            space = self.space
            return Objective(name, lambda point: peak_bytes(space.network(point)), larger, "B")
        if name in (LATENCY, ENERGY):
            source = self.latency if name == LATENCY else self.energy
            if source is None:
                raise ObjectiveError(f"objective {name} needs a table: --lut")
            return Objective(name, source, larger, "ms" if name == LATENCY else "mJ")
        if name.startswith(COLUMN):
            if self.replay is None:
                raise ObjectiveError(f"objective {name} needs a table of known networks: --replay")
            return self.replay.objective(name.removeprefix(COLUMN), larger_is_better=larger)
        if name.startswith(PREDICTOR):
            return predicted(Path(name.removeprefix(PREDICTOR)), self.space, larger)
        return user_objective(name, self.space, larger)


def predicted(folder: Path, space: Space, larger_is_better: bool) -> Objective:
    """The metric of a fitted predictor, as of `hwprof fit-predictor`.

    Raises:
        HwprofError: the folder cannot be read, or is of another space.
    """
    from hwprof.prediction import load_predictor

    predictor = load_predictor(folder)
    predictor.encoding.require(space)
    return Objective(
        f"predicted {predictor.metric}",
        lambda point: float(predictor.predict([point]).value[0]),
        larger_is_better,
        predictor.origin.unit,
    )


def table_energy(
    table: Lut, space: Space, environment: str | None, cache: str, *, allow_unstable: bool
) -> Callable[[Point], float]:
    """From a point to mJ: the plain sum of the rows' `energy_mj`.

    Raises:
        MissingRow: rows are missing or have no energy, named.
    """
    ops = space.ops()
    values = table.latencies_ms(
        ops, "energy_mj", environment=environment, cache=cache, allow_unstable=allow_unstable
    )
    energy_of = dict(zip(ops, values.tolist(), strict=True))
    return lambda point: float(sum(energy_of[op] for op in space.point_ops(point)))


def user_objective(name: str, space: Space, larger_is_better: bool) -> Objective:
    """A function of the user, called with space and point.

    Raises:
        ObjectiveError: it cannot be imported, or its module fails at that.
    """
    module, colon, attribute = name.partition(":")
    if not colon or not module or not attribute:
        raise ObjectiveError(f"objective {name!r} is unknown; choose of {ALLOWED}")
    try:
        function: Callable[[Space, Point], float] = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ObjectiveError(
            f"objective {name!r} cannot be imported: {error}; its folder must be on PYTHONPATH"
        ) from None
    except (Exception, SystemExit) as error:
        raise ObjectiveError(
            f"objective {name!r} cannot be imported: {type(error).__name__}: {error}; mend {module}"
        ) from error
    return Objective(name, lambda point: function(space, point), larger_is_better)
