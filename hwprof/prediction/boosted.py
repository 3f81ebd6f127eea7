"""Boosted: gradient-boosted trees (XGBoost, Chen and Guestrin 2016) for uses that need no gradient.

Grown by XGBoost, kept as plain arrays and walked by numpy: a predictor's file is never parsed by
XGBoost, and predicting does not need it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hwprof.errors import BackendUnavailable
from hwprof.prediction.encoding import Encoding, Floats
from hwprof.prediction.errors import PredictionError
from hwprof.prediction.knowledge import Knowledge

if TYPE_CHECKING:
    from torch import Tensor

ROUNDS = 600
SETTINGS = {
    "objective": "reg:squarederror", "base_score": 0.0, "eta": 0.05, "max_depth": 5, "subsample": 0.8,
    "colsample_bytree": 0.5, "min_child_weight": 2.0, "lambda": 1.0, "tree_method": "hist", "nthread": 1,
    "verbosity": 0,
}  # fmt: skip
NETWORKS_AT_ONCE = 2048
ARRAYS = ("feature", "threshold", "left", "right", "value", "roots")


@dataclass(frozen=True)
class Boosted:
    """scale x exp(sum of trees), on vectors x and x @ shared.

    Attributes:
        shared: (columns, features): what the table and the space tell of each choice.
        trees: arrays over all nodes of all trees: `feature`, -1 at a leaf; `threshold`, below which a
            value goes `left`, else `right`; `value` of a leaf; and `roots`.
    """

    encoding: Encoding
    shared: Floats
    trees: Mapping[str, NDArray[Any]]
    scale: float

    @property
    def name(self) -> str:
        return "boosted"

    @property
    def differentiable(self) -> bool:
        return False

    def predict(self, one_hot: Floats) -> Floats:
        parts = [np.zeros(0)]
        for start in range(0, len(one_hot), NETWORKS_AT_ONCE):
            some = one_hot[start : start + NETWORKS_AT_ONCE]
            parts.append(self._sums(_inputs(some, self.shared)))
        return self.scale * np.exp(np.concatenate(parts))

    def _sums(self, inputs: NDArray[np.float32]) -> Floats:
        trees = self.trees
        node = np.broadcast_to(trees["roots"], (len(inputs), len(trees["roots"])))
        network = np.arange(len(inputs))[:, None]
        while (inner := trees["feature"][node] >= 0).any():
            below = inputs[network, trees["feature"][node]] < trees["threshold"][node]
            node = np.where(inner, np.where(below, trees["left"][node], trees["right"][node]), node)
        return np.asarray(trees["value"][node].astype(np.float64).sum(1))

    def expected(self, relaxed: Tensor) -> Tensor:
        raise PredictionError("boosted trees have no gradient; fit a differentiable member")

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"shared": self.shared, **self.trees}

    def facts(self) -> dict[str, Any]:
        return {"scale": self.scale}

    @classmethod
    def load(cls, encoding: Encoding, facts: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Boosted:
        """Raises KeyError, TypeError or ValueError where the parts do not fit; a walk along these
        trees ends."""
        shared = arrays["shared"].astype(np.float64)
        trees = {name: arrays[name] for name in ARRAYS}
        if shared.ndim != 2 or len(shared) != encoding.columns:
            raise ValueError("features do not fit the encoding")
        count = len(trees["feature"])
        here = np.arange(count)
        inner = trees["feature"] >= 0
        for name in ("feature", "left", "right", "roots"):
            if trees[name].dtype != np.int32 or trees[name].ndim != 1:
                raise ValueError(f"{name} of the trees")
        if any(trees[name].shape != (count,) for name in ARRAYS[:-1]):
            raise ValueError("trees of different lengths")
        if (trees["feature"] >= encoding.columns + shared.shape[1]).any():
            raise ValueError("a tree asks for a feature that is not there")
        # A child stands behind its parent, so no walk can turn in a circle.
        for name in ("left", "right"):
            child = trees[name][inner]
            if (child <= here[inner]).any() or (child >= count).any():
                raise ValueError(f"{name} of the trees")
        if not len(trees["roots"]) or (trees["roots"] < 0).any() or (trees["roots"] >= count).any():
            raise ValueError("roots of the trees")
        scale = float(facts["scale"])
        if not 0.0 < scale < np.inf:
            raise ValueError("scale of the trees")
        return cls(encoding, shared, trees, scale)


def fit_boosted(one_hot: Floats, values: Floats, knowledge: Knowledge, seed: int = 0) -> Boosted:
    """Trees on the logarithm, from one-hot vectors, counts of ops, analytic costs, and sums of rows
    where the table prices every choice.

    Raises:
        BackendUnavailable: XGBoost is not installed.
    """
    try:
        import xgboost
    except ModuleNotFoundError:
        raise BackendUnavailable("XGBoost is not installed: pip install 'hwprof[boosted]'") from None
    parts = [knowledge.counts, knowledge.costs]
    if knowledge.rows is not None:
        parts.append(knowledge.rows.columns)
    shared = np.hstack(parts)
    largest = np.abs(shared).max(axis=0)
    shared = shared[:, largest > 0] / largest[largest > 0]
    scale = float(np.exp(np.log(values).mean()))
    data = xgboost.DMatrix(_inputs(one_hot, shared), label=np.log(values / scale))
    grown = xgboost.train({**SETTINGS, "seed": seed}, data, num_boost_round=ROUNDS)
    trees = _flattened(json.loads(text) for text in grown.get_dump(dump_format="json"))
    return Boosted(knowledge.encoding, shared, trees, scale)


def _inputs(one_hot: Floats, shared: Floats) -> NDArray[np.float32]:
    return np.hstack([one_hot, one_hot @ shared]).astype(np.float32)


def _flattened(dumped: Iterator[dict[str, Any]]) -> dict[str, NDArray[Any]]:
    """XGBoost's dump of nested nodes as arrays, each child behind its parent."""
    nodes: list[tuple[int, float, int, int, float]] = []
    roots = []

    def add(node: dict[str, Any]) -> int:
        place = len(nodes)
        nodes.append((-1, 0.0, -1, -1, 0.0))
        if "leaf" in node:
            nodes[place] = (-1, 0.0, -1, -1, node["leaf"])
            return place
        children = {child["nodeid"]: child for child in node["children"]}
        left, right = add(children[node["yes"]]), add(children[node["no"]])
        nodes[place] = (int(node["split"].removeprefix("f")), node["split_condition"], left, right, 0.0)
        return place

    for tree in dumped:
        roots.append(add(tree))
    feature, threshold, left, right, value = zip(*nodes, strict=True)
    return {
        "feature": np.array(feature, dtype=np.int32),
        "threshold": np.array(threshold, dtype=np.float32),
        "left": np.array(left, dtype=np.int32),
        "right": np.array(right, dtype=np.int32),
        "value": np.array(value, dtype=np.float32),
        "roots": np.array(roots, dtype=np.int32),
    }
