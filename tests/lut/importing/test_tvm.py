"""TVM's tuning: databases that TVM itself wrote, and logs of its older tuners."""

import json

import pytest

from hwprof import ops
from hwprof.errors import LutError
from hwprof.lut.importing import Request, import_table
from hwprof.ops import lower

TOLD = {"device": "server"}
CHAIN = (
    ops.conv((1, 3, 32, 32), 8, 3, stride=2, activation="relu"),
    ops.mbconv((1, 8, 16, 16), 16, 5, 2, activation="relu6"),
    ops.head((1, 16, 16, 16), 10, 24),
)


@pytest.fixture(scope="session")
def database(tmp_path_factory):
    """A database of the tasks of a small network, written by TVM: for each task a failed candidate,
    one of 20 us and one of 10 us."""
    pytest.importorskip("tvm")
    import tvm
    from tvm import relax
    from tvm.relax.frontend.onnx import from_onnx
    from tvm.s_tir import Schedule, meta_schedule
    from tvm.s_tir.meta_schedule import database as databases
    from tvm.s_tir.meta_schedule.arg_info import ArgInfo

    from hwprof.graph.onnx_emitter import to_onnx

    folder = tmp_path_factory.mktemp("tuned") / "tvm-0-x" / "TASK"
    folder.mkdir(parents=True)
    target = tvm.target.Target({"kind": "llvm", "num-cores": 2})
    module = from_onnx(to_onnx(lower(CHAIN)), keep_params_in_input=False)
    with target:
        module = relax.get_pipeline("zero")(relax.transform.DecomposeOpsForInference()(module))
    records = databases.JSONDatabase(work_dir=str(folder))
    for task in meta_schedule.relax_integration.extract_tasks(module, target, {}):
        function = task.dispatched[0]
        workload = records.commit_workload(function)
        for seconds in ([1e10], [2e-5, 2e-5], [0.9e-5, 1.1e-5]):
            arguments = ArgInfo.from_entry_func(function, False)
            records.commit_tuning_record(
                databases.TuningRecord(Schedule(function).trace, workload, seconds, target, arguments)
            )
    return folder.parents[1]


def test_the_fastest_candidate_of_each_task_of_a_database_is_a_row(database, imported):
    made, lut = imported(database, "tvm", **TOLD)
    for op in (
        CHAIN[0],
        ops.conv((1, 16, 16, 16), 16),
        ops.conv((1, 16, 16, 16), 24, activation="relu"),
        ops.pool((1, 24, 16, 16), "global_avg"),
        ops.fc((1, 24), 10),
    ):
        row = lut.find(op)
        assert row["latency_ms"] == pytest.approx(0.01, rel=1e-9)
        assert row["tuning"] == "MetaSchedule, fastest of 2 candidates"
        assert row["bytes_moved"] is not None
        assert row["threads"] == 2
    # The reshape before the classifier, and the convolutions fused with ReLU6, whose bounds are buffers.
    assert {reason for _, reason in made.refused} == {
        "its blocks 'T_reshape', 'root' are no op of ours",
        "'[]' is no shape of 1 to 8 lengths",
    }
    (facts,) = lut.environments.values()
    assert facts["identity"]["compiled_for"]["kind"] == "llvm"
    assert any("fastest of many" in doubt for doubt in facts["conditions"]["doubts"])


def test_threads_that_are_told_go_before_the_targets_cores(database, imported):
    _, lut = imported(database, "tvm", **TOLD, threads=7)
    assert set(lut.table.column("threads").to_pylist()) == {7}


def test_a_database_of_two_targets_is_two_environments(database, imported, tmp_path):
    (task,) = database.rglob("TASK")
    for name in ("database_workload.json", "database_tuning_record.json"):
        lines = (task / name).read_text().splitlines()
        if "record" in name:
            slower = [json.loads(line) for line in lines]
            for _, (_, seconds, target, _) in slower:
                seconds[:] = [10 * value for value in seconds]
                target["num-cores"] = 1
            lines += map(json.dumps, slower)
        (tmp_path / name).write_text("\n".join(lines))
    made, lut = imported(tmp_path, "tvm", **TOLD)
    assert len(made.environment_ids) == 2
    one = lut.filter(threads=1).latency_ms(CHAIN[0])
    assert one == pytest.approx(10 * lut.filter(threads=2).latency_ms(CHAIN[0]), rel=1e-9)


@pytest.mark.parametrize(
    ("workloads", "records", "why"),
    [
        (None, "", "and no database_workload.json; both are needed"),
        ("", "[0, [[], [1.0], {}, []]]", "is no tuning record of a workload"),
        ('["1", "bm9uZQ=="]', "[1, [[], [1.0], {}, []]]", "is no tuning record of a workload"),
        ('["1", "bm9uZQ=="]', "{}", "is no tuning record of a workload"),
        ('["1", "bm9uZQ=="]', "[" * 100_000, "nested deeper than 64"),
        ('["1", "bm9uZQ=="]', "[0, [[], [1.0], {}, []]]", "loop nest cannot be read.*its length"),
        ('["1", "%%%%"]', "[0, [[], [1.0], {}, []]]", "loop nest cannot be read"),
        ("[1, 2]", "[0, [[], [1.0], {}, []]]", r"the line is no \[HASH, LOOP NEST\]"),
    ],
)
def test_other_databases_are_one_line(write, tmp_path, workloads, records, why):
    (tmp_path / "db").mkdir()
    write("db/database_tuning_record.json", records)
    if workloads is not None:
        write("db/database_workload.json", workloads)
    with pytest.raises(LutError, match=why):
        import_table(tmp_path / "db", tmp_path / "lut.parquet", "tvm", Request(**TOLD))
    assert not (tmp_path / "lut.parquet").exists()


def packed(nodes):
    """A line of `database_workload.json` as TVM packs it."""
    import base64

    data = json.dumps({"root_index": 0, "nodes": nodes}).encode()
    return json.dumps(["7", base64.b64encode(len(data).to_bytes(8, "little") + data).decode()])


def nest(*blocks, types=()):
    """Nodes of a loop nest with these blocks, and nodes of further types."""
    nodes = [{"type": "None"}]
    for block in (*blocks, "root"):
        nodes.append({"type": "ffi.String", "data": block})
        nodes.append({"type": "s_tir.SBlock", "data": {"name_hint": len(nodes) - 1}})
    nodes += [{"type": kind, "data": {}} for kind in types]
    return nodes


CONV = ([1, 3, 8, 8], [4, 3, 3, 3], [1, 4, 1, 1], [1, 4, 8, 8])


@pytest.mark.parametrize(
    ("nodes", "shapes", "found"),
    [
        (nest("pad_temp", "conv2d_nchw", "T_add"), CONV, ops.conv((1, 3, 8, 8), 4, 3)),
        (nest("conv2d_nchw", "T_add", "T_relu"), CONV, ops.conv((1, 3, 8, 8), 4, 3, activation="relu")),
        (nest("conv2d_nchw", "T_add", "compute", types=["prim.Max"]), CONV,
         ops.conv((1, 3, 8, 8), 4, 3, activation="relu")),
        (nest("conv2d_nchw", "T_add", "compute", types=["prim.Max", "prim.Min"]), CONV, "no op of ours"),
        (nest("conv2d_nchw", "T_add", "compute"), CONV, "no op of ours"),
        (nest("conv2d_nchw", "T_add"), (*CONV[:2], [1, 4, 8, 8], CONV[3]), "which is no bias"),
        (nest("conv2d_nchw"), CONV, "it has 4 buffers"),
        (nest("conv2d_nhwc", "T_add"), CONV, "no op of ours"),
        (nest("matmul", "T_add"), ([1, 8], [8, 4], [4], [1, 4]), ops.fc((1, 8), 4)),
        (nest("matmul"), ([1, 8], [8, 4], [1, 4]), ops.fc((1, 8), 4)),
        (nest("matmul"), ([1, 8], [7, 4], [1, 4]), "no op of ours"),
        (nest("x_red", "T_divide"), ([1, 4, 8, 8], [1, 4, 1, 1]), ops.pool((1, 4, 8, 8), "global_avg")),
        (nest("x_red", "T_divide"), ([1, 4, 8, 8], [1, 4, 8, 1]), "no global pool"),
        (nest(*["conv2d_nchw"] * 100), CONV, "it has 101 blocks"),
        ([{"type": "s_tir.SBlock", "data": {"name_hint": 10**9}}], CONV, "cannot be read"),
        ([{"type": 5}], CONV, "cannot be read"),
        ([[]], CONV, "cannot be read"),
        ({}, CONV, "no op of ours"),
    ],
)  # fmt: skip
def test_what_a_loop_nest_computes_is_told_by_blocks_and_shapes(
    write, imported, tmp_path, nodes, shapes, found
):
    (tmp_path / "db").mkdir()
    good = ([1, 2], [2, 3], [1, 3])
    write("db/database_workload.json", packed(nest("matmul")) + "\n" + packed(nodes))
    lines = [
        [number, [[], [2e-3], {"kind": "llvm"}, [["TENSOR", "float32", shape] for shape in of]]]
        for number, of in enumerate((good, shapes))
    ]
    write("db/database_tuning_record.json", "\n".join(map(json.dumps, lines)))
    made, lut = imported(tmp_path / "db", "tvm", **TOLD)
    if isinstance(found, str):
        ((_, reason),) = made.refused
        assert found in reason
    else:
        assert lut.latency_ms(found) == 2.0


@pytest.mark.parametrize(
    ("value", "why"),
    [("1e999", "Out of range"), ("9" * 400, "Out of range"),
     ('"\\u001b[2J"', r"control character U\+001B"),
     ('"\\ud800"', "surrogates"), (f'"{"a" * 5000}"', "5,000 characters")],
)  # fmt: skip
def test_a_target_that_no_table_can_hold_is_one_line(write, tmp_path, value, why):
    (tmp_path / "db").mkdir()
    write("db/database_workload.json", packed(nest("matmul")))
    shapes = [["TENSOR", "float32", shape] for shape in ([1, 2], [2, 3], [1, 3])]
    line = json.dumps([0, [[], [2e-3], {"kind": "llvm", "mattr": "VALUE"}, shapes]])
    write("db/database_tuning_record.json", line.replace('"VALUE"', value))
    with pytest.raises(
        LutError, match=f"no table can hold what .*db tells of its device: .*{why}"
    ) as caught:
        import_table(tmp_path / "db", tmp_path / "lut.parquet", "tvm", Request(**TOLD))
    assert str(caught.value).isprintable()
    assert not (tmp_path / "lut.parquet").exists()


def autotvm(task, arguments, seconds=(0.004, 0.002), error=0, target="llvm -keys=cpu "):
    return json.dumps(
        {
            "input": [target, task, arguments, {}], "config": {"index": 172, "entity": []},
            "result": [list(seconds), error, 0.53, 1676344759.5], "version": 0.2,
            "tvm_version": "0.10.0",
        }
    )  # fmt: skip


def tensor(*shape):
    return ["TENSOR", list(shape), "float32"]


STEM = [
    tensor(1, 3, 224, 224),
    tensor(64, 3, 7, 7),
    [2, 2],
    [3, 3, 3, 3],
    [1, 1],
    "NCHW",
    "NCHW",
    "float32",
]
LOG = {
    ("conv2d_NCHWc.x86", json.dumps(STEM)): ops.conv((1, 3, 224, 224), 64, 7, stride=2),
    ("conv2d_nchw_spatial_pack.arm_cpu", json.dumps(
        [tensor(1, 8, 14, 14), tensor(16, 8, 1, 1), [1, 1], [0, 0, 0, 0], [1, 1], "float32"]
    )): ops.conv((1, 8, 14, 14), 16),
    ("depthwise_conv2d_NCHWc.x86", json.dumps(
        [tensor(1, 8, 14, 14), tensor(8, 1, 3, 3), [2, 2], [1, 1, 1, 1], [1, 1], "NCHW", "NCHW"]
    )): ops.depthwise((1, 8, 14, 14), 3, stride=2),
    ("dense_nopack.x86", json.dumps([tensor(1, 1280), tensor(1000, 1280), None, "float32"])): ops.fc(
        (1, 1280), 1000
    ),
}  # fmt: skip


def test_a_log_of_autotvm_tells_operators_and_their_arguments(write, imported):
    lines = []
    for task, arguments in LOG:
        arguments = json.loads(arguments)
        lines += [
            autotvm(task, arguments), autotvm(task, arguments, (0.001,)),
            autotvm(task, arguments, (1e-9,), error=4), autotvm(task, arguments, (1e10,)),
        ]  # fmt: skip
    made, lut = imported(write("tuning.log", "\n".join(lines)), "tvm", **TOLD)
    for op in LOG.values():
        row = lut.find(op)
        assert row["latency_ms"] == 1.0
        assert row["tuning"] == "AutoTVM, fastest of 2 candidates"
    assert (made.rows, made.refused) == (len(LOG), ())


def test_autoscheduler_tells_no_op_and_is_named(write, imported):
    task = '["0bcb8746286db050", 1, 56, 56, 64, 3, 3, 64, 64]'
    scheduled = {"i": [[task, "llvm", [], "", 0, []], [[], []]], "r": [[0.001], 0, 1.0, 1], "v": "v0.6"}
    dense = autotvm("dense_pack.x86", [tensor(1, 8), tensor(4, 8), None, "float32"])
    made, _ = imported(write("tuning.json", f"{json.dumps(scheduled)}\n{dense}"), "tvm", **TOLD)
    ((name, reason),) = made.refused
    assert "0bcb8746286db050" in name
    assert reason == "a hash and shapes tell no op"


@pytest.mark.parametrize(
    ("task", "arguments", "why"),
    [
        ("conv2d_nchw.cuda", [*STEM[:3], [3, 3, 2, 2], *STEM[4:]], "is not half the kernel"),
        ("conv2d_nchw.cuda", [*STEM[:4], [2, 2], *STEM[5:]], "none of ours"),
        ("conv2d_nchw.cuda", [*STEM[:2], [2, 1], *STEM[3:]], "none of ours"),
        ("conv2d_nchw.cuda", [*STEM[:2], [0.5, 0.5], *STEM[3:]], "no whole number"),
        ("conv2d_nchw.cuda", [["TENSOR", [1], "float32"], *STEM[1:]], "not both of rank 4"),
        ("conv2d_nchw.cuda", STEM[:2], "has no op of ours"),
        ("conv2d_nchw.cuda", ["x", *STEM[1:]], "is no tensor"),
        ("conv2d_transpose_nchw.x86", STEM, "has no op of ours"),
        ("batch_matmul.x86", [tensor(1, 2, 3), tensor(1, 3, 4)], "has no op of ours"),
        ("dense_nopack.x86", [tensor(1, 8), tensor(4, 7)], "no op of ours"),
    ],
)
def test_operators_of_autotvm_that_are_none_of_ours_are_named(write, imported, task, arguments, why):
    good = autotvm("dense_pack.x86", [tensor(1, 8), tensor(4, 8), None, "float32"])
    made, _ = imported(write("tuning.log", f"{good}\n{autotvm(task, arguments)}"), "tvm", **TOLD)
    ((_, reason),) = made.refused
    assert why in reason


@pytest.mark.parametrize("text", ["[]", "{}", '{"input": 1, "result": 2}', "not json", "[" * 100_000])
def test_other_logs_are_one_line(write, tmp_path, text):
    with pytest.raises(LutError, match=r"tuning.log:1.*(no record of AutoTVM|no JSON|nested deeper)"):
        import_table(write("tuning.log", text), tmp_path / "lut.parquet", "tvm", Request(**TOLD))


def test_a_folder_without_a_database_is_an_error(tmp_path):
    with pytest.raises(LutError, match=r"holds no database_tuning_record.json"):
        import_table(tmp_path, tmp_path / "lut.parquet", "tvm", Request(**TOLD))
