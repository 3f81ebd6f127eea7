"""A whole backend in sixty lines, to start your own from: ONNX's reference evaluator, in numpy.

hwprof finds it by the entry point in `example_backend-1.0.dist-info`; a project of your own names the
same line in its pyproject.toml.
"""

from importlib.metadata import PackageNotFoundError, version

import numpy as np

from hwprof.backends.backend import (
    Artifact,
    Availability,
    Backend,
    Session,
    fill_random,
    import_runtime,
    place_buffer,
    require_open,
)
from hwprof.errors import UnsupportedOp


class OnnxReferenceBackend(Backend):
    name = "onnx-reference"
    targets = ("cpu",)
    dtypes = ("float32",)

    @classmethod
    def probe(cls):
        try:
            return Availability(True, version("onnx"))
        except PackageNotFoundError:
            return Availability(False, missing="the package onnx", install="pip install onnx")

    def check_target(self, target):
        import_runtime("onnx.reference", "pip install onnx")

    def environment(self, target):
        return {"runtime": "onnx-reference", "runtime_version": self.probe().version}

    def compile(self, graph, target):
        from hwprof.graph.onnx_emitter import to_onnx

        if target.dtype not in self.dtypes:
            raise UnsupportedOp(f"onnx-reference computes float32, not {target.dtype}")
        return Artifact(to_onnx(graph).SerializeToString())

    def prepare(self, artifact, rng, target):
        from onnx.reference import ReferenceEvaluator

        return OnnxReferenceSession(ReferenceEvaluator(artifact.data), rng)


class OnnxReferenceSession(Session):
    def __init__(self, evaluator, rng):
        self._evaluator = evaluator
        self._inputs = {}
        for name, told in zip(evaluator.input_names, evaluator.input_types, strict=True):
            shape = tuple(side.dim_value for side in told.tensor_type.shape.dim)
            self._inputs[name] = place_buffer(shape, np.dtype(np.float32), rng)
            fill_random(self._inputs[name], rng)

    def run(self):
        require_open(self._evaluator)
        self._outputs = self._evaluator.run(None, self._inputs)

    def outputs(self):
        return [output.copy() for output in self._outputs]

    def input_buffers(self):
        return list(self._inputs.values())

    def placement(self):
        return {"numpy": len(self._evaluator.rt_nodes_)}

    def close(self):
        self._evaluator, self._inputs = None, {}
