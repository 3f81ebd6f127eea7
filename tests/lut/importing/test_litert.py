"""LiteRT's benchmark tools: operator profiles in each form, results of models, and models that lie."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwprof import ops
from hwprof.errors import LutError
from hwprof.lut.importing import Request, import_table
from hwprof.lut.importing.tflite_model import read_model

schema = pytest.importorskip("ai_edge_litert.schema_py_generated")

CONV = ops.conv((1, 3, 32, 32), 8, 3, stride=2, activation="relu6")
DEPTHWISE = ops.depthwise((1, 8, 16, 16), 5, activation="relu")
POOL = ops.pool((1, 8, 16, 16), "global_avg")
FC = ops.fc((1, 8), 10)


def model(kinds=("CONV_2D", "DEPTHWISE_CONV_2D", "ADD", "MEAN", "FULLY_CONNECTED")):
    """A .tflite model of the first operators of a small network; node n writes the tensor `out{n}`."""
    from hwprof.graph.tflite_writer import TfliteWriter

    writer = TfliteWriter()
    x = first = writer.tensor("image", [1, 32, 32, 3])
    relu, relu6, same = schema.ActivationFunctionType.RELU, schema.ActivationFunctionType.RELU6, 0
    shapes = {"CONV_2D": [1, 16, 16, 8], "DEPTHWISE_CONV_2D": [1, 16, 16, 8], "ADD": [1, 16, 16, 8],
              "MEAN": [1, 8], "FULLY_CONNECTED": [1, 10]}  # fmt: skip
    weights = {"CONV_2D": (8, 3, 3, 3), "DEPTHWISE_CONV_2D": (1, 5, 5, 8), "FULLY_CONNECTED": (10, 8)}
    options = {
        "CONV_2D": schema.Conv2DOptionsT(
            padding=same, strideW=2, strideH=2, fusedActivationFunction=relu6, dilationWFactor=1,
            dilationHFactor=1,
        ),
        "DEPTHWISE_CONV_2D": schema.DepthwiseConv2DOptionsT(
            padding=same, strideW=1, strideH=1, depthMultiplier=1, fusedActivationFunction=relu,
            dilationWFactor=1, dilationHFactor=1,
        ),
        "ADD": schema.AddOptionsT(), "MEAN": schema.ReducerOptionsT(keepDims=False),
        "FULLY_CONNECTED": schema.FullyConnectedOptionsT(),
    }  # fmt: skip
    for number, kind in enumerate(kinds):
        inputs = [x]
        if kind in weights:
            inputs.append(writer.constant(f"w{number}", np.zeros(weights[kind], np.float32)))
        if kind == "MEAN":
            inputs.append(writer.constant(f"w{number}", np.array([1, 2], np.int32)))
        if kind == "ADD":
            inputs.append(x)
        x = writer.tensor(f"out{number}", shapes[kind])
        writer.operator(kind, inputs, [x], options[kind])
    return writer.finish({"image": first}, {"out": x})


RUNS = (
    ("CONV_2D", 0.11, 0.093, "[out0]:0"),
    ("DEPTHWISE_CONV_2D", 0.034, 0.030, "[out1]:1"),
    ("ADD", 0.026, 0.027, "[out2]:2"),
    ("MEAN", 0.03, 0.031, "[out3]:3"),
    ("FULLY_CONNECTED", 0.002, 0.00214, "[out4]:4"),
)
EXPECTED = {CONV: 0.093, DEPTHWISE: 0.030, POOL: 0.031, FC: 0.00214}
HEADING = "============================== {} =============================="


def as_csv(rows=RUNS, start=True):
    head = f"node type, {'start, ' if start else ''}first, avg_ms, %, cdf%, mem KB, times called, name"
    lines = [
        f"{kind}, {'0.5, ' if start else ''}{first}, {mean}, 44.8994%, 44.8994%, 0, 1, {name}"
        for kind, first, mean, name in rows
    ]
    return "\n".join([HEADING.format("Run Order"), head, *lines, ""])


def as_text(rows=RUNS, start=True):
    """As `StatsCalculator` prints it: tabs, and every field right-aligned."""
    names = ("[node type]", *(["[start]"] if start else []), "[first]", "[avg ms]", "[%]", "[cdf%]",
             "[mem KB]", "[times called]")  # fmt: skip
    head = "".join(f"\t{name:>17}" for name in names) + "\t[Name]"
    lines = []
    for kind, first, mean, name in rows:
        cells = [kind, *(["0.500"] if start else []), first, mean, "44.899%", "44.899%", "0.000", "1"]
        lines.append("".join(f"\t{cell!s:>17}" for cell in cells) + f"\t{name}")
    return "\n".join([HEADING.format("Run Order"), head, *lines, ""])


def as_log(table):
    """The whole output of benchmark_model, with the initialisation's own table before the runs'."""
    initial = as_text((("AllocateTensors", 0.029, 0.029, "AllocateTensors/0"),))
    return (
        f"STARTING!\nNum threads: [1]\nProfiling Info for Benchmark Initialization:\n{initial}\n"
        f"Operator-wise Profiling Info for Regular Benchmark Runs:\n{table}\n"
        f"{HEADING.format('Top by Computation Time')}\nnode type, first\nCONV_2D, 1\n\n"
        "Number of nodes executed: 5\n"
    )


def as_message():
    from ai_edge_litert import profiling_info_pb2

    data = profiling_info_pb2.BenchmarkProfilingData(model_name="net.tflite")
    data.init_profile.subgraph_profiles.add(subgraph_name="init").per_op_profiles.add(name="x")
    graph = data.runtime_profile.subgraph_profiles.add(subgraph_name="Primary graph", subgraph_index=0)
    for order, (kind, first, mean, name) in enumerate(RUNS):
        told = graph.per_op_profiles.add(node_type=kind, name=name, run_order=order, times_called=1)
        told.inference_microseconds.first = round(first * 1e6)
        told.inference_microseconds.avg = round(mean * 1e6)
        told.inference_microseconds.stddev = float("nan")
    return data


def as_prototext():
    from google.protobuf import text_format

    return text_format.MessageToString(as_message())


def as_json():
    from google.protobuf import json_format

    return json_format.MessageToJson(as_message())


@pytest.fixture
def told(write):
    return {"device": "phone", "model": write("net.tflite", model())}


@pytest.mark.parametrize("log", [True, False])
@pytest.mark.parametrize("start", [True, False])
@pytest.mark.parametrize("form", [as_csv, as_text])
def test_tables_of_benchmark_model_are_read_in_each_form(write, imported, told, form, start, log):
    table = form(start=start)
    made, lut = imported(write("profile", as_log(table) if log else table), "litert", **told)
    for op, mean in EXPECTED.items():
        row = lut.find(op, cache="in_chain")
        assert row["latency_ms"] == pytest.approx(mean, rel=1e-12)
        assert row["bytes_moved"] is not None
    assert made.refused == (("ADD [out2]:2", "operator ADD has no op of ours"),)


@pytest.mark.parametrize("form", [as_prototext, as_json])
def test_profiling_data_is_read_as_protobuf_writes_it(write, imported, told, form):
    made, lut = imported(write("profile", form()), "litert", **told)
    for op, mean in EXPECTED.items():
        assert lut.latency_ms(op, cache="in_chain") == pytest.approx(mean * 1000, rel=1e-9)
    assert len(made.refused) == 1


def test_old_profiles_name_the_output_alone(write, imported, told):
    rows = [(kind, first, mean, name.split(":")[0]) for kind, first, mean, name in RUNS]
    _, lut = imported(write("profile", as_text(rows)), "litert", **told)
    assert lut.latency_ms(CONV, cache="in_chain") == 0.093


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (("Convolution (NHWC, F32) IGEMM", 1.0, 1.0, "Delegate/Convolution (NHWC, F32) IGEMM:2"),
         r"not \[OUTPUT\]:INDEX"),
        (("TfLiteXNNPackDelegate", 1.0, 1.0, "[out4]:5"), "the model has no node 5"),
        (("TfLiteXNNPackDelegate", 1.0, 1.0, "[out4]:4"), "node 4 of the model is FULLY_CONNECTED"),
        (("CONV_2D", 1.0, 1.0, "[elsewhere]"), "0 nodes with the output 'elsewhere'"),
        (("CONV_2D", 0.0, 0.0, "[out0]:0"), "0 is no latency"),
        (("CONV_2D", 1.0, "slow", "[out0]:0"), "is no number"),
        (("CONV_2D", 1.0, 1.0, "[out0]:0" + "x" * 5000), "is no number"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", [as_csv, as_text])
def test_rows_that_are_no_nodes_of_the_model_are_named(write, imported, told, form, row, why):
    import re

    made, _ = imported(write("profile", form((RUNS[1], row))), "litert", **told)
    assert made.rows == 1
    ((name, reason),) = made.refused
    assert name.isprintable()
    assert re.search(why, reason)


def test_a_mean_longer_than_any_number_is_named(write, imported, told):
    profile = json.loads(as_json())
    first = profile["runtimeProfile"]["subgraphProfiles"][0]["perOpProfiles"][0]
    first["inferenceMicroseconds"]["avg"] = 10**400
    made, _ = imported(write("profile", json.dumps(profile)), "litert", **told)
    assert dict(made.refused)["CONV_2D [out0]:0"].startswith("inf is no latency")
    assert made.rows == 3


RESULT = {
    "model": "/somewhere/conv.tflite", "accelerators": "cpu", "signature": "serving_default",
    "fully_accelerated": True, "num_threads": 2, "throughput_mb_s": 1.0,
    "latency": {"avg_ms": 1.25, "min_ms": 1.1, "median_ms": 1.2, "p95_ms": 1.5, "num_runs": 50},
}  # fmt: skip


def test_a_result_of_a_model_of_one_operator_is_that_op(write, imported):
    single = write("conv.tflite", model(("CONV_2D",)))
    _, lut = imported(write("r.json", json.dumps(RESULT)), "litert", device="phone", model=single)
    row = lut.find(CONV)
    assert (row["latency_ms"], row["p50_ms"], row["threads"]) == (1.2, pytest.approx(1.2), 2)
    assert row["reason"] == "model conv.tflite (1.2 ms, median of 50 runs)"


def test_a_result_of_a_whole_model_is_no_op(write, told, tmp_path):
    source = write("r.json", json.dumps(RESULT))
    with pytest.raises(LutError, match="the model has 5 operators: a whole model is no op of ours"):
        import_table(source, tmp_path / "lut.parquet", "litert", Request(**told))


def test_a_benchmark_without_its_model_is_an_error(write, tmp_path):
    source = write("profile", as_csv())
    with pytest.raises(LutError, match=r"tells no shapes; give its model with --model"):
        import_table(source, tmp_path / "lut.parquet", "litert", Request(device="phone"))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "has no table of operators"),
        ("STARTING!\nnothing here", "has no table of operators"),
        ("{}", "has no operators in runtime_profile"),
        ('{"runtimeProfile": {"subgraphProfiles": [5]}}', "has no operators"),
        ("runtime_profile { subgraph_profiles {", "no protobuf text"),
        ("runtime_profile {" * 100_000, "nested deeper than 16"),
        ('{"runtimeProfile":' * 100_000, "nested deeper than 64"),
    ],
)
def test_other_files_are_one_line(write, tmp_path, told, text, why):
    with pytest.raises(LutError, match=why):
        import_table(write("profile", text), tmp_path / "lut.parquet", "litert", Request(**told))
    assert not (tmp_path / "lut.parquet").exists()


@pytest.mark.parametrize(
    ("data", "why"),
    [(b"", "is no .tflite model"), (b"x" * 100, "is no .tflite model"),
     (b"\xff\xff\xff\xffTFL3" + b"\0" * 50, "is damaged"), (b"\x08\0\0\0TFL3", "is damaged")],
)  # fmt: skip
def test_other_models_are_one_line(write, data, why):
    with pytest.raises(LutError, match=why):
        read_model(write("m.tflite", data))


@settings(max_examples=150)
@given(edits=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=20))
def test_a_model_that_lies_is_an_op_or_one_line(error_of, tmp_path_factory, edits):
    data = bytearray(model())
    for place, value in edits:
        data[8 + place % (len(data) - 8)] = value
    path = tmp_path_factory.mktemp("models") / "m.tflite"
    path.write_bytes(data)
    for number, (kind, _, _, name) in enumerate(RUNS):
        for index in (number, None):
            assert "\n" not in error_of(op_id_of, path, kind, index, name[1:5])


def op_id_of(path, kind, index, output):
    return read_model(path).op(kind, index, output).op_id
