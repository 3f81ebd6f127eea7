"""The tflite backend: the contract for every dtype and option, where nodes really ran, live buffers, and
tflite-runtime in an interpreter of its own."""

import base64
import json
import os
import subprocess
import sys
import zlib
from dataclasses import replace

import numpy as np
import pytest

from hwprof import ops
from hwprof.backends import tflite as tflite_module
from hwprof.backends.backend import Artifact, Target
from hwprof.backends.conformance import CHECKS, DEVICE_CHECKS, opened, outputs_of
from hwprof.backends.tflite import PROBE_MODEL, TfliteBackend
from hwprof.errors import BackendError, BackendUnavailable, UnsupportedOp
from hwprof.graph import GraphBuilder
from hwprof.measure.artifact import write_artifact
from hwprof.measure.interpreter import make_bundle

pytest.importorskip("ai_edge_litert", reason="needs ai-edge-litert")

IMAGE = (1, 8, 12, 12)
BACKEND = TfliteBackend()
CASES = [
    ("float32", "on"), ("float16", "on"), ("int8", "on"),
    ("float32", "off"), ("float16", "off"), ("int8", "off"),
]  # fmt: skip
RELU_MIX = ops.mixconv((1, 8, 12, 12), 8, {3: 16, 5: 8}, se_ratio=0.25, activation="relu")


def target(dtype="float32", threads=1, **options):
    return Target("cpu", threads, dtype, options)


def seen(op, dtype="float32", xnnpack="on"):
    """Placement and fallback of an op's session."""
    chosen = target(dtype, xnnpack=xnnpack)
    with opened(BACKEND, replace(op, dtype=dtype).lower(), chosen) as session:
        session.run()
        return dict(session.placement()), session.fallback()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(("dtype", "xnnpack"), CASES)
def test_tflite_keeps_the_contract(check, dtype, xnnpack):
    if dtype == "int8":
        pytest.importorskip("ai_edge_quantizer", reason="needs ai-edge-quantizer")
    check(BACKEND, target(dtype, xnnpack=xnnpack))


@pytest.mark.device
@pytest.mark.parametrize("check", DEVICE_CHECKS, ids=lambda check: check.__name__)
def test_tflite_runs_synchronously_and_works_for_its_time(check):
    check(BACKEND, target())


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_xnnpack_takes_all_nodes_of_a_float_block(dtype):
    placement, fallback = seen(RELU_MIX, dtype)
    assert set(placement) == {"XNNPACK"}
    assert fallback == ""


def test_xnnpack_off_leaves_all_nodes_to_tflites_own_kernels_and_that_is_no_fallback():
    taken, _ = seen(RELU_MIX)
    left, fallback = seen(RELU_MIX, xnnpack="off")
    assert left == {"TFLite kernels": taken["XNNPACK"]}
    assert fallback == ""


def test_node_that_xnnpack_does_not_take_is_counted_and_named():
    placement, fallback = seen(ops.pool(IMAGE, "max", 3, stride=2))
    assert placement == {"XNNPACK": 1, "TFLite kernels": 1}
    assert fallback == "1 of 2 nodes ran on TFLite's own kernels, not on XNNPACK: 1 PADV2"


def test_placement_tells_nodes_between_two_parts_of_the_delegate_apart():
    """conv (taken), padding (left), pool and conv (taken) make two delegate nodes."""
    chain = [ops.conv(IMAGE, 8, 3), ops.pool(IMAGE, "max", 3, stride=2), ops.conv((1, 8, 6, 6), 8, 3)]
    with opened(BACKEND, ops.lower(chain), target()) as session:
        assert dict(session.placement()) == {"XNNPACK": 3, "TFLite kernels": 1}


class TestInt8:
    @pytest.fixture(autouse=True)
    def _quantizer(self):
        pytest.importorskip("ai_edge_quantizer", reason="needs ai-edge-quantizer")

    def test_input_and_output_are_int8_with_scale_and_zero_point(self):
        op = replace(RELU_MIX, dtype="int8")
        with opened(BACKEND, op.lower(), target("int8")) as session:
            session.run()
            assert session.inputs()[0].dtype == session.outputs()[0].dtype == np.int8
            ((scale, zero),) = session.quantisation().inputs
            assert 0.02 < scale < 0.05  # normal values reach 3 to 5 in 255 steps
            assert -128 <= zero <= 127

    def test_float_sessions_say_nothing_of_quantisation(self):
        with opened(BACKEND, RELU_MIX.lower(), target("float16")) as session:
            assert session.quantisation() is None
            assert session.inputs()[0].dtype == np.float32

    def test_no_node_is_left_in_float(self):
        from ai_edge_litert.tools.flatbuffer_utils import read_model_from_bytearray

        op = replace(RELU_MIX, dtype="int8")
        model = read_model_from_bytearray(BACKEND.compile(op.lower(), target("int8")).data)
        types = {tensor.type for tensor in model.subgraphs[0].tensors}
        int32, int8 = 2, 9
        assert types == {int32, int8}
        assert all(code.builtinCode not in (6, 114) for code in model.operatorCodes)  # (de)quantise

    def test_relu_behind_a_concatenation_keeps_the_block_on_xnnpack(self):
        placement, fallback = seen(RELU_MIX, "int8")
        assert set(placement) == {"XNNPACK"}
        assert fallback == ""

    def test_activation_without_an_int8_kernel_in_xnnpack_is_named(self):
        _, fallback = seen(ops.conv(IMAGE, 8, 3, activation="hswish"), "int8")
        assert fallback == "1 of 2 nodes ran on TFLite's own kernels, not on XNNPACK: 1 HARD_SWISH"

    def test_padding_of_a_pool_does_not_spoil_the_range(self):
        op = ops.pool(IMAGE, "max", 3, stride=2, dtype="int8")
        with opened(BACKEND, op.lower(), target("int8")) as session:
            (result,), (expected,) = outputs_of(session, op.lower())
            ((scale, _),) = session.quantisation().outputs
        np.testing.assert_allclose(result, expected, atol=scale)

    def test_average_without_its_padding_is_right(self):
        op = ops.pool(IMAGE, "avg", 3, stride=2, dtype="int8")
        with opened(BACKEND, op.lower(), target("int8")) as session:
            (result,), (expected,) = outputs_of(session, op.lower())
        assert np.abs(result - expected).max() < 0.05

    def test_same_graph_gives_the_same_bytes(self):
        graph = replace(RELU_MIX, dtype="int8").lower()
        first, second = (BACKEND.compile(graph, target("int8")) for _ in range(2))
        assert first == second
        assert first.metadata["quantizer"].startswith("ai-edge-quantizer ")

    def test_large_constants_lie_inside_the_flatbuffer(self):
        """Older runtimes do not read those that the quantiser appends."""
        from ai_edge_litert import schema_py_generated as schema

        op = ops.conv((1, 512, 4, 4), 1024, 1, dtype="int8")
        root = schema.Model.GetRootAs(BACKEND.compile(op.lower(), target("int8")).data)
        buffers = [root.Buffers(index) for index in range(root.BuffersLength())]
        assert max(buffer.DataLength() for buffer in buffers) == 512 * 1024
        assert all(buffer.Offset() <= 1 for buffer in buffers)

    def test_compiler_names_quantizer_and_recipe_and_the_interpreter_that_runs_need_not_have_it(self):
        told = BACKEND.compiler(target("int8"))
        assert told["quantizer"].startswith("ai-edge-quantizer ")
        assert told["quantizer"].endswith(", static_wi8_ai8")
        assert "quantizer" not in BACKEND.environment(target("int8"))
        assert BACKEND.compiler(target("float16")) == {}

    def test_build_without_the_quantizer_stops_before_it_starts(self, monkeypatch):
        monkeypatch.setattr(tflite_module, "_version", lambda distribution: "")
        with pytest.raises(BackendUnavailable, match="pip install 'ai-edge-quantizer"):
            BACKEND.compiler(target("int8"))

    def test_missing_quantizer_is_named_with_what_installs_it(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "ai_edge_quantizer.quantizer", None)
        with pytest.raises(BackendUnavailable, match="pip install 'ai-edge-quantizer"):
            BACKEND.compile(replace(RELU_MIX, dtype="int8").lower(), target("int8"))


def test_input_buffers_are_views_of_the_runtimes_memory_in_the_graphs_shape():
    graph = ops.conv((2, 3, 9, 7), 4, 3).lower()
    with opened(BACKEND, graph, target()) as session:
        (buffer,) = session.input_buffers()
        assert buffer.shape == (2, 3, 9, 7)
        assert buffer.transpose(0, 2, 3, 1).flags.c_contiguous
        for value in (1.0, -2.0):
            buffer[...] = value
            results, expected = outputs_of(session, graph)
            np.testing.assert_allclose(results[0], expected[0], atol=1e-5)


def test_view_of_the_input_stays_readable_after_the_session_is_closed():
    session = BACKEND.prepare(
        BACKEND.compile(RELU_MIX.lower(), target()), np.random.default_rng(0), target()
    )
    (buffer,) = session.input_buffers()
    before = buffer.copy()
    session.close()
    np.testing.assert_array_equal(buffer, before)


def test_sessions_place_their_buffers_anew():
    artifact = BACKEND.compile(RELU_MIX.lower(), target())
    places = set()
    for seed in range(16):
        with BACKEND.prepare(artifact, np.random.default_rng(seed), target()) as session:
            places.update(session.addresses())
    assert len(places) >= 4


def test_several_inputs_and_outputs_keep_their_order():
    builder = GraphBuilder()
    small, large = builder.input((1, 2, 1, 1)), builder.input((1, 2, 5, 5))
    product = builder.mul(large, small)
    graph = builder.build(builder.global_avg_pool(product), product)
    with opened(BACKEND, graph, target()) as session:
        assert [values.shape for values in session.inputs()] == [(1, 2, 1, 1), (1, 2, 5, 5)]
        for result, expected in zip(*outputs_of(session, graph), strict=True):
            np.testing.assert_allclose(result, expected, atol=1e-5)


def test_two_threads_compute_the_same():
    graph = ops.mbconv((1, 16, 28, 28), 16, 3, 4).lower()
    with opened(BACKEND, graph, target(threads=2)) as session:
        results, expected = outputs_of(session, graph)
    np.testing.assert_allclose(results[0], expected[0], atol=1e-4)


def test_garbage_as_an_artifact_is_refused_in_one_line():
    with pytest.raises(BackendError, match="refused the model") as caught:
        BACKEND.prepare(Artifact(b"garbage"), np.random.default_rng(0), target())
    assert "\n" not in str(caught.value)


def test_operator_that_the_runtime_does_not_know_is_unsupported():
    from hwprof.graph.tflite_writer import TfliteWriter

    writer = TfliteWriter()
    x, y = writer.tensor("x", (1, 2)), writer.tensor("y", (1, 2))
    writer.operator("RELU", [x], [y], version=99)
    model = Artifact(writer.finish({"x": x}, {"y": y}))
    with pytest.raises(UnsupportedOp, match=r"no kernel.*RELU"):
        BACKEND.prepare(model, np.random.default_rng(0), target())


def test_environment_names_runtime_version_delegate_and_weights():
    facts = BACKEND.environment(target("float16", xnnpack="off"))
    assert facts == {
        "runtime": "litert",
        "runtime_version": BACKEND.probe().version,
        "xnnpack": False,
        "weights": "float16",
        "activations": "float32",
    }


@pytest.mark.parametrize("options", [{"xnnpack": "gpu"}, {"runtime": "tflite-micro"}])
def test_delegate_or_runtime_that_is_not_offered_is_refused(options):
    for ask in (BACKEND.environment, BACKEND.check_target):
        with pytest.raises(BackendUnavailable, match="tflite takes"):
            ask(target(**options))


def test_missing_runtime_is_named_with_what_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(BackendUnavailable, match=r"pip install 'hwprof\[tflite\]'"):
        BACKEND.check_target(target())
    monkeypatch.setitem(sys.modules, "tflite_runtime.interpreter", None)
    with pytest.raises(BackendUnavailable, match="make-interpreter tflite-runtime"):
        BACKEND.check_target(target(runtime="tflite-runtime"))


def test_runtime_without_the_delegate_stops_before_the_first_op(monkeypatch):
    """LiteRT itself, its default delegates taken away, is such a build."""
    from ai_edge_litert import interpreter

    bare = interpreter.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    monkeypatch.setattr(interpreter, "_get_op_resolver_id", lambda _: bare.value)
    BACKEND.check_target(target(xnnpack="off"))
    with pytest.raises(BackendUnavailable, match=r"no XNNPACK delegate; .* xnnpack=off"):
        BACKEND.check_target(target())


def test_probe_model_is_one_relu_as_the_emitter_writes_it():
    from hwprof.graph.tflite_emitter import to_tflite

    builder = GraphBuilder()
    graph = builder.build(builder.activation(builder.input((1, 1)), "relu"))
    written = zlib.decompress(base64.b64decode(PROBE_MODEL))
    assert fields(written) == fields(to_tflite(graph))


def fields(model):
    """Every field of a model, whatever its layout in the file."""
    from ai_edge_litert.tools.flatbuffer_utils import read_model_from_bytearray

    def plain(part):
        if isinstance(part, (list, np.ndarray)):
            return [plain(item) for item in part]
        return {k: plain(v) for k, v in vars(part).items()} if hasattr(part, "__dict__") else part

    return plain(read_model_from_bytearray(model))


IN_ITS_OWN_INTERPRETER = """
import json, sys
from pathlib import Path
import numpy as np
from hwprof.backends.backend import Target
from hwprof.backends.registry import backend_class
from hwprof.measure.artifact import read_artifact

folder, answers = Path(sys.argv[1]), {}
backend = backend_class("tflite")()
for xnnpack in ("on", "off"):
    for dtype in ("float32", "float16", "int8"):
        target = Target("cpu", 1, dtype, {"runtime": "tflite-runtime", "xnnpack": xnnpack})
        backend.check_target(target)
        with backend.prepare(read_artifact(folder / dtype), np.random.default_rng(0), target) as session:
            session.run()
            stored = session.quantisation()
            answers[f"{dtype} {xnnpack}"] = {
                "input": session.inputs()[0].tolist(), "output": session.outputs()[0].tolist(),
                "scales": [*stored.inputs[0], *stored.outputs[0]] if stored else [1, 0, 1, 0],
                "placement": dict(session.placement()), "fallback": session.fallback(),
                "environment": dict(backend.environment(target)),
            }
heavy = [name for name in ("onnx", "ai_edge_litert", "flatbuffers", "click") if name in sys.modules]
json.dump({"answers": answers, "heavy": heavy}, sys.stdout)
"""


@pytest.fixture(scope="module")
def tflite_runtime(tmp_path_factory):
    """What tflite-runtime answered, in the interpreter that the variable names."""
    python = os.environ.get("HWPROF_TFLITE_RUNTIME_PYTHON")
    if not python:
        pytest.skip("HWPROF_TFLITE_RUNTIME_PYTHON names no Python with tflite-runtime and numpy<2")
    pytest.importorskip("ai_edge_quantizer", reason="needs ai-edge-quantizer")
    folder = tmp_path_factory.mktemp("artifacts")
    for dtype in BACKEND.dtypes:
        write_artifact(
            folder / dtype, BACKEND.compile(replace(RELU_MIX, dtype=dtype).lower(), target(dtype))
        )
    with make_bundle() as bundle:
        done = subprocess.run(
            [python, "-P", "-c", IN_ITS_OWN_INTERPRETER, str(folder)],
            env={"PYTHONPATH": bundle}, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("xnnpack", ["on", "off"])
@pytest.mark.parametrize("dtype", TfliteBackend.dtypes)
def test_tflite_runtime_in_its_own_interpreter_computes_the_same(tflite_runtime, dtype, xnnpack):
    from hwprof.backends.conformance import TOLERANCES
    from hwprof.graph.reference import run_reference

    answer = tflite_runtime["answers"][f"{dtype} {xnnpack}"]
    scale, zero, out_scale, out_zero = answer["scales"]
    graph = RELU_MIX.lower()
    taken = scale * (np.asarray(answer["input"]) - zero)
    given = out_scale * (np.asarray(answer["output"]) - out_zero)
    (expected,) = run_reference(graph, {graph.inputs[0]: taken})
    assert given.shape == expected.shape
    assert np.abs(given - expected).max() < TOLERANCES[dtype] * np.abs(expected).max()
    assert answer["environment"]["runtime"] == "tflite-runtime"
    assert answer["environment"]["runtime_version"]


def test_tflite_runtime_tells_that_its_xnnpack_takes_no_int8(tflite_runtime):
    answers = tflite_runtime["answers"]
    assert set(answers["float32 on"]["placement"]) == {"XNNPACK"}
    assert set(answers["int8 on"]["placement"]) == {"TFLite kernels"}
    assert "not on XNNPACK" in answers["int8 on"]["fallback"]
    assert answers["int8 off"]["fallback"] == ""


def test_nothing_but_numpy_and_the_runtime_is_imported_there(tflite_runtime):
    assert tflite_runtime["heavy"] == []
