"""The shape of the package: which way imports point, what is light, what is packaged."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {
    "hwprof": "hwprof",
    "hwprof.backends": "backends",
    "hwprof.lut": "lut",
    "hwprof.search": "search",
}

# Layer -> layers it may import. A module belongs to the longest prefix that fits.
FIRST = {"hwprof", "hwprof.errors", "hwprof.graph", "hwprof.ops", "hwprof.space", "hwprof.stats",
         "hwprof.environment", "hwprof.machine", "hwprof.text"}  # fmt: skip
MAY_IMPORT = {
    "hwprof.errors": set(),
    "hwprof.stats": set(),
    "hwprof.text": set(),
    "hwprof.graph": {"hwprof.errors"},
    "hwprof.ops": {"hwprof.errors", "hwprof.graph"},
    "hwprof.space": {"hwprof.errors", "hwprof.graph", "hwprof.ops"},
    "hwprof.machine": {"hwprof", "hwprof.errors"},
    "hwprof.environment": {"hwprof", "hwprof.errors", "hwprof.machine"},
    "hwprof.doctor": {"hwprof.errors", "hwprof.environment", "hwprof.machine"},
    "hwprof.lut": FIRST,
    "hwprof.backends": FIRST,
    "hwprof.composition": FIRST | {"hwprof.lut"},
    "hwprof.validation.measured": FIRST | {"hwprof.lut", "hwprof.composition"},
    "hwprof.validation.scores": set(),
    "hwprof.prediction": FIRST
    | {"hwprof.lut", "hwprof.composition", "hwprof.validation.measured", "hwprof.validation.scores"},
    "hwprof.search": FIRST
    | {
        "hwprof.lut",
        "hwprof.composition",
        "hwprof.prediction",
        "hwprof.search.data",
        "hwprof.search.supernet",
    },
    "hwprof.search.cells": FIRST | {"hwprof.search", "hwprof.search.data", "hwprof.search.supernet"},
    "hwprof.search.data": {"hwprof.errors", "hwprof.text"},
    "hwprof.search.discrete": FIRST
    | {
        "hwprof.lut",
        "hwprof.composition",
        "hwprof.prediction",
        "hwprof.search.cells",
        "hwprof.search.data",
        "hwprof.search.supernet",
    },
    "hwprof.search.supernet": FIRST,
    "hwprof.measure": FIRST | {"hwprof.backends"},
    "hwprof.build": FIRST | {"hwprof.lut", "hwprof.backends", "hwprof.measure"},
    "hwprof.validation": FIRST
    | {
        "hwprof.lut",
        "hwprof.backends",
        "hwprof.measure",
        "hwprof.build",
        "hwprof.composition",
        "hwprof.validation.measured",
        "hwprof.validation.scores",
    },
    "hwprof.sampling": FIRST
    | {
        "hwprof.lut",
        "hwprof.backends",
        "hwprof.measure",
        "hwprof.build",
        "hwprof.composition",
        "hwprof.prediction",
        "hwprof.validation",
    },
    "hwprof.models": FIRST
    | {
        "hwprof.lut",
        "hwprof.composition",
        "hwprof.backends",
        "hwprof.measure",
        "hwprof.build",
        "hwprof.validation",
    },
    "hwprof.report": FIRST
    | {"hwprof.lut", "hwprof.composition", "hwprof.validation", "hwprof.validation.measured"},
    "hwprof.offline": FIRST | {"hwprof.lut", "hwprof.backends", "hwprof.measure", "hwprof.build"},
    "hwprof.cli": FIRST
    | {
        "hwprof.lut",
        "hwprof.backends",
        "hwprof.measure",
        "hwprof.build",
        "hwprof.models",
        "hwprof.offline",
        "hwprof.prediction",
        "hwprof.report",
        "hwprof.sampling",
        "hwprof.doctor",
        "hwprof.search",
        "hwprof.search.cells",
        "hwprof.search.data",
        "hwprof.search.discrete",
        "hwprof.search.supernet",
        "hwprof.validation",
    },
    "hwprof.__main__": {"hwprof.cli"},
    "hwprof": {"hwprof.lut"},
}


def modules():
    for package, folder in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            name = ".".join([package, *(p for p in parts if p != "__init__")])
            yield name, path


def layer(module):
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        prefix = ".".join(parts[:length])
        if prefix in MAY_IMPORT:
            return prefix
    raise AssertionError(module)


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize(
    ("module", "path"), list(modules()), ids=lambda value: str(value).split("/")[-1]
)
def test_imports_point_one_way(module, path):
    mine = layer(module)
    for name in imported(path):
        if not name.startswith("hwprof"):
            continue
        theirs = layer(name)
        if theirs == mine or (theirs == "hwprof" and name == "hwprof.__version__"):
            continue
        assert theirs in MAY_IMPORT[mine], f"{module} ({mine}) imports {name} ({theirs})"


def test_packages_list_equals_the_folders_on_disk():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    listed = set(project["tool"]["setuptools"]["packages"])
    found = {
        ".".join([package, *path.parent.relative_to(ROOT / folder).parts])
        for package, folder in FOLDERS.items()
        for path in (ROOT / folder).rglob("__init__.py")
    }
    assert listed == found


@pytest.mark.parametrize(
    "code",
    ["import hwprof", "from hwprof.cli.main import cli; cli.main(['--help'], standalone_mode=False)"],
)
def test_import_and_help_load_no_runtime(code):
    heavy = (
        "numpy",
        "torch",
        "onnx",
        "onnxruntime",
        "pandas",
        "pyarrow",
        "duckdb",
        "tvm",
        "ai_edge_litert",
        "pynvml",
        "rich",
        "yaml",
    )
    program = (
        f"import sys\ntry:\n    {code}\nexcept SystemExit:\n    pass\n"
        f"print([m for m in {heavy!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_no_module_is_longer_than_a_reader_can_hold():
    long = {str(path): len(path.read_text().splitlines()) for _, path in modules()}
    assert {path: lines for path, lines in long.items() if lines > 400} == {}


def test_nothing_pickles():
    for _, path in modules():
        assert not any(
            name.split(".")[0] in ("pickle", "marshal", "shelve") for name in imported(path)
        ), path


def test_no_test_file_lies_in_a_folder_that_pytest_skips(request):
    """`build` is skipped by default: 53 tests once stood there and never ran."""
    from fnmatch import fnmatch

    skipped = request.config.getini("norecursedirs")
    for path in (ROOT / "tests").rglob("test_*.py"):
        folders = path.relative_to(ROOT).parts[:-1]
        assert not any(fnmatch(folder, pattern) for folder in folders for pattern in skipped), path
