"""The emitted PyTorch module computes what the reference computes, as a hand-written one would."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from hwprof import ops
from hwprof.errors import UnsupportedOp
from hwprof.graph import Graph
from hwprof.graph.reference import run_reference
from hwprof.graph.torch_emitter import TORCH_DTYPES, seeded_weights, to_torch
from hwprof.graph.weights import random_inputs
from hwprof.ops import OpSpec

# Half precision keeps 11 bits, bfloat16 8; a block sums a few hundred products of values near one.
TOLERANCE = {"float32": 2e-6, "float16": 6e-3, "bfloat16": 5e-2}


def check(graph: Graph) -> None:
    dtype = TORCH_DTYPES[graph.dtype]
    feed = {
        name: torch.from_numpy(values).to(dtype)
        for name, values in random_inputs(graph, np.random.default_rng(3)).items()
    }
    outputs = to_torch(graph)(*feed.values())
    wanted = run_reference(graph, {name: value.double().numpy() for name, value in feed.items()})
    for name, got, want in zip(graph.outputs, outputs, wanted, strict=True):
        assert got.dtype == dtype
        assert tuple(got.shape) == tuple(graph.shapes[name])
        assert not got.requires_grad
        assert np.abs(got.double().numpy() - want).max() <= TOLERANCE[graph.dtype] * np.abs(want).max()


@pytest.mark.parametrize("dtype", list(TORCH_DTYPES))
def test_every_op_kind_in_every_dtype_but_the_opaque_block(example: OpSpec, dtype: str) -> None:
    if example.kind == "subgraph":
        with pytest.raises(UnsupportedOp, match=r"opaque ONNX block .*; use onnxruntime"):
            to_torch(example.lower())
        return
    check(OpSpec.from_dict({**example.to_dict(), "dtype": dtype}).lower())


def test_a_network_is_one_module() -> None:
    check(
        ops.lower(
            [
                ops.conv((1, 3, 33, 33), 8, 3, stride=2, activation="hswish"),
                ops.mixconv((1, 8, 17, 17), 8, {3: 16, 5: 16}, se_ratio=0.25),
                ops.head((1, 8, 17, 17), 10, 32),
            ]
        )
    )


def test_it_equals_a_hand_written_module_bit_by_bit() -> None:
    graph = ops.mbconv((1, 8, 12, 12), 8, 3, 6, activation="relu6").lower()
    weights = seeded_weights(graph)

    class Block(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.expand = torch.nn.Conv2d(8, 48, 1)
            self.depthwise = torch.nn.Conv2d(48, 48, 3, padding=1, groups=48)
            self.project = torch.nn.Conv2d(48, 8, 1)
            self.load_state_dict(
                dict(zip(self.state_dict(), weights.values(), strict=True))  # in order of execution
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = torch.nn.functional.relu6(self.expand(x))
            y = torch.nn.functional.relu6(self.depthwise(y))
            return x + self.project(y)

    x = torch.from_numpy(next(iter(random_inputs(graph, np.random.default_rng(0)).values())))
    with torch.inference_mode():
        assert torch.equal(to_torch(graph)(x)[0], Block()(x))


def test_given_weights_are_used_where_they_lie() -> None:
    graph = ops.mbconv((1, 8, 12, 12), 8, 3, 6).lower()
    weights = seeded_weights(graph)
    parameters = dict(to_torch(graph, weights).named_parameters())
    assert parameters.keys() == weights.keys()
    assert all(parameters[name].data_ptr() == weights[name].data_ptr() for name in weights)


def test_a_tensor_is_freed_after_its_last_use() -> None:
    """Else the peak memory and the allocator's reuse would not be those of an eager module."""
    graph = ops.mbconv((1, 8, 12, 12), 8, 3, 6).lower()
    code = to_torch(graph).code
    assert code.count("= None") >= len(graph.nodes) - 1


def test_building_a_module_leaves_the_random_state_of_torch_alone() -> None:
    before = torch.get_rng_state()
    to_torch(ops.mbconv((1, 8, 12, 12), 8, 3, 6).lower())
    assert torch.equal(before, torch.get_rng_state())


def test_int8_and_unknown_primitives_are_unsupported_by_name() -> None:
    with pytest.raises(UnsupportedOp, match=r"int8.*float32, float16, bfloat16"):
        to_torch(ops.conv((1, 3, 8, 8), 4, dtype="int8").lower())
    graph = ops.skip((1, 3, 8, 8)).lower()
    odd = dataclasses.replace(graph, nodes=(dataclasses.replace(graph.nodes[0], primitive="erf"),))
    with pytest.raises(UnsupportedOp, match="erf"):
        to_torch(odd)
