"""Outcome: a front as JSON and as a picture."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np

from hwprof.search.discrete.archive import Archive, Evaluated
from hwprof.space import Space

FRONT, PICTURE = "front.json", "front.svg"
WITHOUT_PICTURE = "matplotlib is not installed: pip install 'hwprof[plot]'"


def front_summary(archive: Archive, space: Space) -> dict[str, Any]:
    """JSON-able: objectives, front, reference point and hypervolume. Values are in the objectives' own
    units and signs; `reference` too."""
    objectives = archive.objectives
    reference = archive.reference()
    own = objectives.minimised([reference])[0]
    return {
        "objectives": [
            {"name": one.name, "unit": one.unit, "larger_is_better": one.larger_is_better}
            for one in objectives.all
        ],
        "evaluated": len(archive),
        "reference": dict(zip(objectives.names, own.tolist(), strict=True)),
        "hypervolume": archive.hypervolume(reference),
        "front": [
            {
                "point": list(entry.point),
                "choices": [choice.label for choice in space.choices_of(entry.point)],
                "values": dict(zip(objectives.names, entry.values, strict=True)),
            }
            for entry in archive.front()
        ],
    }


def shortlist_of(front: Sequence[Evaluated], count: int) -> tuple[Evaluated, ...]:
    """Networks spread evenly over an ordered front, its ends among them; all where it has no more."""
    if len(front) <= count:
        return tuple(front)
    places = np.unique(np.linspace(0, len(front) - 1, count).round().astype(int))
    return tuple(front[place] for place in places)


def picture(archive: Archive) -> bytes | None:
    """An SVG of all evaluated networks by the first and the last objective, the front among them; None
    without matplotlib, or with one objective."""
    objectives = archive.objectives
    if len(objectives) < 2 or importlib.util.find_spec("matplotlib") is None:
        return None
    from matplotlib.figure import Figure

    across, up = objectives.all[-1], objectives.all[0]
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.subplots()
    values = np.array([entry.values for entry in archive.entries])
    axes.scatter(values[:, -1], values[:, 0], s=10, color="0.75", label=f"{len(archive)} evaluated")
    front = np.array([entry.values for entry in archive.front()])
    axes.plot(front[:, -1], front[:, 0], "o-", ms=4, lw=1, color="#2f6fb0", label=f"{len(front)} front")
    axes.set(xlabel=_label(across.name, across.unit), ylabel=_label(up.name, up.unit))
    axes.legend(frameon=False)
    out = BytesIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()


def _label(name: str, unit: str) -> str:
    return f"{name}, {unit}" if unit else name
