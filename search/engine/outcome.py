"""Outcome: what a search leaves for others. `found.json` names the network and says what was asked,
predicted and measured; `network.onnx` is the network; `measure.yaml` is a space of that one op, which
measures it on any device."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hwprof.graph import cost
from hwprof.search.supernet.files import replace_file
from hwprof.space import Space, list_spaces

FOUND, ONNX, MEASURE, SPACE = "found.json", "network.onnx", "measure.yaml", "space.yaml"


def write_outcome(
    folder: Path, source: str, space: Space, point: Sequence[int], told: Mapping[str, Any]
) -> Path:
    """Write `found.json`, which `hwprof scale` reads too; the space beside it where it is a file.

    Args:
        source: the space as `load_space` takes it.
        told: what else to say.
    """
    name = source
    if source not in list_spaces():
        replace_file(folder / SPACE, Path(source).read_bytes())
        name = SPACE
    size = cost(space.network(point))
    content = {
        "space": name,
        "point": list(point),
        "choices": [choice.label for choice in space.choices_of(point)],
        "parameters": size.parameters,
        "flops": size.flops,
        **told,
    }
    replace_file(folder / FOUND, json.dumps(content, indent=1).encode())
    return folder / FOUND


def write_measuring(folder: Path, space: Space) -> Path:
    """Write the space that measures `network.onnx` on another device: `hwprof build-lut --space
    measure.yaml`, or `hwprof export-jobs` for one that cannot run hwprof."""
    text = (
        f"name: {space.name[:57]}-found\n"
        "family: ops\n"
        f"summary: the network that hwprof search found in {space.name}\n"
        "ops:\n"
        f"  - {{onnx: {ONNX}}}\n"
    )
    replace_file(folder / MEASURE, text.encode())
    return folder / MEASURE
