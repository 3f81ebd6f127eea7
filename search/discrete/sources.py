"""Sources: hashes of what a search's values come from, so that one that changed is noticed."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Sequence
from pathlib import Path

from hwprof.composition.composition import COLUMN_OF, Composition
from hwprof.composition.edges import pair_latencies_ms
from hwprof.lut import Lut
from hwprof.lut.places.cache import file_sha256
from hwprof.ops import OpSpec
from hwprof.search.discrete.quantities import COLUMN, LARGER, PREDICTOR


def rows_sha256(
    table: Lut,
    ops: Sequence[OpSpec],
    quantity: str,
    *,
    environment: str,
    cache: str,
    allow_unstable: bool,
    composition: Composition | None = None,
) -> str:
    """sha256 (hex) of what prices of these ops come from: their rows' numbers and, with a composition,
    its coefficients and the pairs that it reads. Other rows, such as those of networks that were
    measured since, leave it as it is.

    Args:
        quantity: a statistic of the latency (`floor`, `p50`), or a column.

    Raises:
        MissingRow: an op has no usable row.
    """
    values = table.latencies_ms(
        ops,
        COLUMN_OF.get(quantity, quantity),
        environment=environment,
        cache=cache,
        allow_unstable=allow_unstable,
    )
    found: list[object] = [sorted(zip((op.op_id for op in ops), values.tolist(), strict=True))]
    if composition is not None:
        found.append(sorted(composition.coefficients.items()))
        if composition.uses_edges or composition.uses_behind:
            pairs = pair_latencies_ms(table, composition.scope)
            found.append(sorted((one.op_id, two.op_id, *numbers) for one, two, *numbers in pairs))
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()


def objective_sha256(spec: str) -> str | None:
    """sha256 (hex) of the files that an objective of this name comes from: a predictor's, or that of a
    function's module (not what the function reads or imports). None where it comes from no file of its
    own.

    Raises:
        HwprofError: a file cannot be read.
    """
    name = spec.removeprefix(LARGER)
    if name.startswith(COLUMN):
        return None
    if name.startswith(PREDICTOR):
        from hwprof.prediction.storage import FILES

        folder = Path(name.removeprefix(PREDICTOR))
        digests = [file_sha256(folder / each) for each in FILES]
        return hashlib.sha256("".join(digests).encode()).hexdigest()
    module, colon, _ = name.partition(":")
    file = getattr(importlib.import_module(module), "__file__", None) if colon else None
    return file_sha256(Path(file)) if file is not None and Path(file).is_file() else None
