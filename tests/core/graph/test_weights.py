"""Weights: the same everywhere, and numbers stay in range however deep the network is."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest

from hwprof import ops
from hwprof.graph import Graph
from hwprof.graph.onnx_emitter import to_onnx
from hwprof.graph.reference import run_reference
from hwprof.graph.weights import node_weights, random_inputs
from hwprof.ops import OpSpec

PROGRAM = """
import hashlib
from hwprof import ops
from hwprof.graph.weights import node_weights
graph = ops.mixconv((1, 16, 8, 8), 16, {3: 32, 5: 32}, se_ratio=0.25).lower()
digest = hashlib.sha256()
for index, node in enumerate(graph.nodes):
    if node.primitive == "conv":
        for array in node_weights(graph, index):
            digest.update(array.tobytes())
print(digest.hexdigest())
"""


def test_weights_are_the_same_in_every_process() -> None:
    graph = ops.mixconv((1, 16, 8, 8), 16, {3: 32, 5: 32}, se_ratio=0.25).lower()
    digest = hashlib.sha256()
    for index, node in enumerate(graph.nodes):
        if node.primitive == "conv":
            for array in node_weights(graph, index):
                digest.update(array.tobytes())
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == digest.hexdigest()


def test_making_weights_leaves_numpys_global_generator_alone() -> None:
    np.random.seed(1)
    expected = np.random.random()
    np.random.seed(1)
    node_weights(ops.conv((1, 8, 4, 4), 8, 3).lower(), 0)
    assert np.random.random() == expected


def test_kernels_are_he_normal_times_the_gain_and_biases_small_but_not_zero() -> None:
    graph = ops.conv((1, 64, 8, 8), 128, 3).lower()
    kernel, bias = node_weights(graph, 0)
    assert kernel.dtype == bias.dtype == np.float32
    assert kernel.std() == pytest.approx(np.sqrt(2 / (64 * 9)), rel=0.02)
    assert 0.02 < bias.std() < 0.1


def test_two_layers_of_one_shape_do_not_share_weights() -> None:
    op = ops.conv((1, 8, 4, 4), 8, 3)
    graph = ops.lower([op, op])
    assert not np.array_equal(node_weights(graph, 0)[0], node_weights(graph, 1)[0])


def test_a_node_without_weights_is_an_error() -> None:
    with pytest.raises(ValueError, match="identity"):
        node_weights(ops.skip((1, 8, 4, 4)).lower(), 0)


def test_inputs_follow_the_generator_that_is_given() -> None:
    graph = ops.skip((1, 8, 4, 4)).lower()
    first, second, other = (random_inputs(graph, np.random.default_rng(s))["x0"] for s in (1, 1, 2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)
    assert first.dtype == np.float32


def deep_network(dtype: str) -> Graph:
    """28 residual blocks of the S3NAS kinds, as its largest stages chain them."""
    shape = (1, 32, 14, 14)
    kinds = [
        ops.mbconv(shape, 32, 3, 6, dtype=dtype),
        ops.mixconv(shape, 32, {3: 64, 5: 64, 7: 64}, dtype=dtype, se_ratio=0.25),
        ops.fused_mbconv(shape, 32, 3, 4, dtype=dtype, activation="hswish"),
        ops.mbconv(shape, 32, 5, 4, dtype=dtype, activation="hswish", se_ratio=0.25),
    ]
    return ops.lower(kinds * 7)


def basic_network(dtype: str) -> Graph:
    shape = (1, 16, 8, 8)
    block = OpSpec("basic_block", shape, 16, mix=((3, 16),), activation="relu", dtype=dtype)
    return ops.lower([block] * 28)


@pytest.mark.parametrize("network", [deep_network, basic_network])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_numbers_stay_in_range_through_28_residual_blocks(network, dtype: str) -> None:  # type: ignore[no-untyped-def]
    graph = network(dtype)
    feed = {k: v.astype(dtype) for k, v in random_inputs(graph, np.random.default_rng(0)).items()}
    (out,) = onnxruntime.InferenceSession(to_onnx(graph).SerializeToString()).run(None, feed)
    sizes = np.abs(out)
    assert out.dtype == dtype
    assert np.isfinite(out).all()
    assert sizes.max() < 1e3
    assert 0.3 < out.std() < 10
    denormals = (sizes > 0) & (sizes < np.finfo(out.dtype).tiny)
    # Half precision has few exponents: an ordinary distribution holds some denormals around zero.
    assert denormals.mean() <= (0.01 if dtype == "float16" else 0.0)


def test_nothing_vanishes_without_residuals() -> None:
    shape = (1, 24, 8, 8)
    block = ops.mbconv(shape, 24, 3, 4, activation="hswish", se_ratio=0.25, residual=False)
    graph = ops.lower([block] * 28)
    (out,) = run_reference(graph, random_inputs(graph, np.random.default_rng(0)))
    assert 1e-2 < np.abs(out).max() < 1e3
