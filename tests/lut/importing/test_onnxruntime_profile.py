"""Profiles of ONNX Runtime: those that the runtime here writes, and made-up ones."""

import json

import onnxruntime
import pytest

from hwprof import ops
from hwprof.errors import LutError
from hwprof.graph.onnx_emitter import to_onnx
from hwprof.lut.importing import Request, import_table
from hwprof.ops import lower

TOLD = {"device": "laptop"}
CHAIN = (
    ops.conv((1, 3, 32, 32), 8, 3, stride=2, activation="relu"),
    ops.mbconv((1, 8, 16, 16), 16, 5, 3, stride=2, activation="relu6"),
    ops.head((1, 16, 8, 8), 10, 24),
)
RUNS = 3


def profiled(folder, level):
    import numpy as np

    options = onnxruntime.SessionOptions()
    options.enable_profiling = True
    options.intra_op_num_threads = 1
    options.profile_file_prefix = str(folder / "profile")
    options.graph_optimization_level = level
    model = to_onnx(lower(CHAIN)).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    image = np.zeros((1, 3, 32, 32), np.float32)
    for _ in range(RUNS):
        session.run(None, {session.get_inputs()[0].name: image})
    return session.end_profiling()


def call(name, kind, inputs, outputs, duration=100, provider="CPUExecutionProvider", dtype="float"):
    shapes = {
        f"{side}_type_shape": [{dtype: list(shape)} for shape in shapes]
        for side, shapes in (("input", inputs), ("output", outputs))
    }
    return {
        "cat": "Node", "pid": 1, "tid": 1, "dur": duration, "ts": 1, "ph": "X",
        "name": f"{name}_kernel_time", "args": {"op_name": kind, "provider": provider, **shapes},
    }  # fmt: skip


CONV = ("Conv", [(1, 3, 32, 32), (8, 3, 3, 3), (8,)], [(1, 8, 16, 16)])
CONV_OP = ops.conv((1, 3, 32, 32), 8, 3, stride=2)


def test_a_profile_of_the_runtime_here_gives_each_plain_node_a_row(imported, tmp_path):
    level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    made, lut = imported(profiled(tmp_path, level), "onnxruntime", **TOLD)
    for op in (
        CONV_OP,
        ops.activation((1, 8, 16, 16), "relu"),
        ops.depthwise((1, 24, 16, 16), 5, stride=2),
        ops.conv((1, 24, 8, 8), 16),
        ops.pool((1, 24, 8, 8), "global_avg"),
        ops.fc((1, 24), 10),
    ):
        row = lut.find(op, cache="in_chain")
        assert row["latency_ms"] * 1000 == pytest.approx(round(row["latency_ms"] * 1000 * 2) / 2)
        assert f"median of {RUNS - 1} calls" in row["reason"] or "median of 2: " in row["reason"]
        assert json.loads(row["placement"]) == {"CPUExecutionProvider": 1}
        assert (row["state"], row["p50_ms"], row["samples"]) == ("imported", None, None)
    (facts,) = lut.environments.values()
    assert facts["identity"]["providers"] == ["CPUExecutionProvider"]
    assert {"Clip", "Flatten"} <= {name.split()[-1] for name, _ in made.refused}


def test_nodes_with_something_fused_in_are_named_not_guessed(imported, tmp_path):
    level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    made, _ = imported(profiled(tmp_path, level), "onnxruntime", **TOLD)
    reasons = {name.split()[-1]: reason for name, reason in made.refused}
    assert "fused activation is not told" in reasons["FusedConv"]


def test_the_first_call_of_a_node_is_left_out_and_nodes_of_one_op_are_one_row(write, imported):
    events = [call("a", *CONV, duration=d) for d in (9000, 100, 300)]
    events += [call("b", *CONV, duration=d) for d in (9000, 400)]
    events += [{"cat": "Session", "name": "model_run", "dur": 5, "args": {}}]
    made, lut = imported(write("p.json", json.dumps(events)), "onnxruntime", **TOLD)
    row = lut.find(CONV_OP, cache="in_chain")
    assert row["latency_ms"] == pytest.approx(0.3, rel=1e-12)
    assert row["reason"] == "median of 2: a Conv (200 us, median of 2 calls), b Conv (400 us, one call)"
    assert (made.rows, made.repeated) == (1, 1)


@pytest.mark.parametrize(
    ("event", "why"),
    [
        (call("t2_nchwc", *CONV), "a blocked layout does not tell its fused activation"),
        (call("a", "FusedConv", *CONV[1:]), "fused activation is not told"),
        (call("a", "Conv", [*CONV[1], (1, 8, 16, 16)], CONV[2]), "it has 4 inputs"),
        (call("a", "Conv", CONV[1], [(1, 8, 12, 12)]), "its output would be"),
        (call("a", "Conv", CONV[1], [(1, 8, 16, 8)]), "its output would be"),
        (call("a", "Conv", [(1, 3, 32), (8, 3, 3)], [(1, 8, 30)]), "not both of rank 4"),
        (call("a", "MaxPool", [(1, 8, 16, 16)], [(1, 8, 8, 8)]), "its kernel is not told"),
        (call("a", "Clip", [(1, 8, 16, 16)], [(1, 8, 16, 16)]), "its bounds are not told"),
        (call("a", "Mul", [(1, 8, 16, 16)], [(1, 8, 16, 16)]), "'Mul' has no op of ours"),
        (call("a", "Gemm", [(1, 8, 4)], [(1, 8, 4)]), "no fully connected layer of ours"),
        (call("a", *CONV, duration=0), "0 is no latency"),
        (call("a", *CONV, dtype="uint8"), "element type 'uint8' is none of float"),
        (call("a", *CONV, dtype="double"), "element type 'double' is none of float"),
        (call("a", "Conv", [], []), "element type 'None'"),
        (call("a\nb" * 100, "Relu", [(0, 1)], [(1,)]), "is not 1 to"),
    ],
)
def test_nodes_that_do_not_tell_their_op_are_named(write, imported, event, why):
    source = write("p.json", json.dumps([event, call("good", *CONV)]))
    made, _ = imported(source, "onnxruntime", **TOLD)
    assert made.rows == 1
    ((name, reason),) = made.refused
    assert name.isprintable()
    assert why in reason


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{}", "no list of trace events"),
        ("[]", "has no calls of nodes"),
        ('[{"cat": "Node"}, 5, null, [], {"cat": "Node", "name": "x_kernel_time"}]', "has no calls"),
        ("[" * 100_000, "nested deeper than 64"),
        ('[{"cat": "Node"', "no JSON"),
        (json.dumps([call("a", "Mul", [(1,)], [(1,)])]), "no number of an op that can be expressed"),
    ],
)
def test_other_files_are_one_line(write, tmp_path, text, why):
    with pytest.raises(LutError, match=why):
        import_table(write("p.json", text), tmp_path / "lut.parquet", "onnxruntime", Request(**TOLD))
    assert not (tmp_path / "lut.parquet").exists()


def test_element_types_are_kept_apart(write, imported):
    events = [call("a", *CONV), call("b", *CONV, dtype="float16", duration=50)]
    _, lut = imported(write("p.json", json.dumps(events)), "onnxruntime", **TOLD)
    assert sorted(lut.table.column("dtype").to_pylist()) == ["float16", "float32"]


def test_an_op_that_ran_on_two_providers_is_named_not_averaged(write, imported):
    relu = ("Relu", [(1, 3, 4, 4)], [(1, 3, 4, 4)])
    events = [call("cpu", *relu), call("cuda", *relu, duration=2, provider="CUDAExecutionProvider")]
    events += [call("conv", *CONV)]
    made, lut = imported(write("p.json", json.dumps(events)), "onnxruntime", **TOLD)
    why = "nodes of this op ran on CPUExecutionProvider and CUDAExecutionProvider: no one number"
    assert {name: reason.partition(";")[0] for name, reason in made.refused} == {
        "cpu Relu": why, "cuda Relu": why,
    }  # fmt: skip
    assert (made.rows, lut.find(CONV_OP, cache="in_chain")["latency_ms"]) == (1, 0.1)
    (facts,) = lut.environments.values()
    assert facts["identity"]["providers"] == ["CPUExecutionProvider"]


def test_ops_of_several_providers_each_of_one_are_rows(write, imported):
    relu = ("Relu", [(1, 3, 4, 4)], [(1, 3, 4, 4)])
    events = [call("a", *relu, provider="CUDAExecutionProvider"), call("conv", *CONV)]
    made, lut = imported(write("p.json", json.dumps(events)), "onnxruntime", **TOLD)
    assert (made.rows, made.refused) == (2, ())
    row = lut.find(ops.activation((1, 3, 4, 4), "relu"), cache="in_chain")
    assert json.loads(row["placement"]) == {"CUDAExecutionProvider": 1}


def test_calls_longer_than_any_number_are_named(write, imported):
    events = [call("bad", *CONV, duration=10**400)] * 3 + [call("good", *CONV)]
    made, _ = imported(write("p.json", json.dumps(events)), "onnxruntime", **TOLD)
    ((name, reason),) = made.refused
    assert (name, made.rows) == ("bad Conv", 1)
    assert "inf is no latency" in reason
