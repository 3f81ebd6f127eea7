"""What an export writes, and what it refuses."""

import ast
import hashlib
import json
from collections import Counter

import onnx
import pytest
from onnx import TensorProto, helper

from hwprof.errors import BuildError
from hwprof.offline import ExportOptions, export_jobs
from hwprof.offline.carried import runner_source
from hwprof.offline.plan import OfflinePlan
from hwprof.space import load_space

SPACE = """\
name: my-blocks
family: ops
summary: A block that only ONNX knows, and a convolution
ops:
  - {onnx: block.onnx}
  - {op: '{"kind": "conv", "shape": [1, 3, 16, 16], "out_channels": 8, "mix": [[3, 8]]}'}
"""


def test_folder_holds_models_plan_runner_and_readme(exported):
    plan, _ = OfflinePlan.read(exported / "plan.json")
    assert sorted(path.name for path in exported.iterdir()) == [
        "README.txt",
        "models",
        "plan.json",
        "run.py",
    ]
    assert [planned.op for planned in plan.ops] == list(load_space("tiny").ops()[:3])
    for planned in plan.ops:
        content = (exported / planned.model).read_bytes()
        assert hashlib.sha256(content).hexdigest() == planned.sha256
    assert (exported.stat().st_mode & 0o777) == 0o755


def test_plan_survives_being_written_and_read(exported):
    plan, _ = OfflinePlan.read(exported / "plan.json")
    assert json.loads(plan.to_json()) == json.loads((exported / "plan.json").read_text())


def test_readme_names_the_commands_and_the_package(exported):
    text = (exported / "README.txt").read_text()
    for words in ("pip install onnxruntime", "python3 run.py", "hwprof import-results jobs"):
        assert words in text


def test_runner_is_one_file_of_python_3_8_that_imports_nothing_of_hwprof(exported):
    source = (exported / "run.py").read_text()
    assert source == runner_source()
    tree = ast.parse(source, feature_version=(3, 8))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in (
            [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
        )
    }
    assert "hwprof" not in imported
    assert "numpy" not in {
        alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names
    }


def test_parts_of_the_runner_do_not_hide_each_others_names():
    names = Counter()
    for node in ast.parse(runner_source()).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names[node.name] += 1
        elif isinstance(node, ast.Assign):
            names.update(name.id for target in node.targets for name in ast.walk(target)
                         if isinstance(name, ast.Name))  # fmt: skip
    assert [name for name, count in names.items() if count > 1] == []


@pytest.mark.parametrize("backend", ["simulated", "replay"])
def test_backend_that_no_device_can_run_names_those_that_can(tmp_path, backend):
    with pytest.raises(BuildError, match="choose of onnxruntime, tflite"):
        export_jobs(ExportOptions(backend, "tiny", tmp_path / "jobs"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"dtype": "int7"}, "int7"),
        ({"options": {"colour": "red"}}, "colour"),
        ({"options": {"graph_optimization": "most"}}, "extended"),
        ({"target": "cuda"}, "processor only"),
        ({"threads": 0}, "threads 0"),
        ({"effort": "some"}, "some"),
        ({"limit": 0}, "limit"),
    ],
)
def test_bad_option_is_named_and_leaves_nothing(tmp_path, wrong, words):
    with pytest.raises(BuildError, match=words):
        export_jobs(ExportOptions("onnxruntime", "tiny", tmp_path / "jobs", **wrong))
    assert list(tmp_path.iterdir()) == []


def test_device_may_have_more_cores_than_this_machine(tmp_path):
    options = ExportOptions("onnxruntime", "tiny", tmp_path / "jobs", threads=64, limit=1)
    export_jobs(options)
    assert OfflinePlan.read(tmp_path / "jobs" / "plan.json")[0].threads == 64


def test_op_that_the_runtime_lacks_stays_in_the_plan_with_its_reason(tmp_path, monkeypatch):
    pytest.importorskip("ai_edge_litert")
    monkeypatch.setenv("HWPROF_HOME", str(tmp_path / "home"))
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 8, 4, 4)) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Erf", ["x"], ["y"])], "block", values[:1], values[1:])
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "block.onnx")
    (tmp_path / "mine.yaml").write_text(SPACE)
    noted = []
    report = export_jobs(
        ExportOptions("tflite", str(tmp_path / "mine.yaml"), tmp_path / "jobs"), noted.append
    )
    assert (report.exported, report.failed, len(report.failures)) == (1, 0, 1)
    assert noted[0].startswith("unsupported: subgraph")
    plan, _ = OfflinePlan.read(tmp_path / "jobs" / "plan.json")
    assert [planned.failure is None for planned in plan.ops] == [False, True]


def test_existing_folder_is_not_touched(exported):
    before = (exported / "plan.json").read_bytes()
    with pytest.raises(BuildError, match="there already"):
        export_jobs(ExportOptions("onnxruntime", "tiny", exported))
    assert (exported / "plan.json").read_bytes() == before


def test_command_says_in_one_line_what_is_wrong(hwprof_command):
    done = hwprof_command("export-jobs", "--backend", "simulated", "--space", "tiny", "--out", "jobs")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("hwprof: error: backend 'simulated' cannot be exported")
    assert done.stderr.count("\n") == 1


def test_command_exports_and_tells_as_json(hwprof_command, tmp_path):
    done = hwprof_command(
        "export-jobs", "--backend", "onnxruntime", "--space", "tiny", "--out", "jobs", "--limit", 1,
        "--option", "graph_optimization=extended", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["exported"] == 1
    plan = json.loads((tmp_path / "jobs" / "plan.json").read_text())
    assert plan["environment"]["graph_optimization"] == "extended"
