"""What a user can type or read is documented, and README's code runs."""

import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import click
import pytest

from hwprof.backends import backend_class
from hwprof.cli.main import cli
from hwprof.measure.protocol import EFFORTS

ROOT = Path(__file__).parents[1]
DOCS = "\n".join(path.read_text() for path in (ROOT / "docs").glob("*.md"))


def commands(group=cli, prefix="hwprof"):
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{prefix} {name}")
        else:
            yield f"{prefix} {name}", command


COMMANDS = list(commands())


@pytest.mark.parametrize(("name", "command"), COMMANDS, ids=[name for name, _ in COMMANDS])
def test_command_and_its_options_are_in_the_docs(name, command):
    row = next(
        (line for line in (ROOT / "docs" / "cli.md").read_text().splitlines() if f"`{name}" in line), ""
    )
    assert row, f"docs/cli.md has no row for {name}"
    for parameter in command.params:
        if isinstance(parameter, click.Option) and "--help" not in parameter.opts:
            for option in (*parameter.opts, *parameter.secondary_opts):
                assert option in row, f"docs/cli.md does not name {option} of {name}"


@pytest.mark.parametrize(("name", "command"), COMMANDS, ids=[name for name, _ in COMMANDS])
def test_help_of_every_command_has_an_example_and_json(name, command):
    assert "Example" in command.help
    assert name in command.help
    assert any("--json" in parameter.opts for parameter in command.params)


BUILT_IN = sorted(p.name for p in entry_points(group="hwprof.backends") if "hwprof." in p.value)


@pytest.mark.parametrize("name", BUILT_IN)
def test_backend_with_its_targets_dtypes_and_options_is_in_docs_and_readme(name):
    page = (ROOT / "docs" / "backends.md").read_text()
    assert f"| `{name}` |" in page
    assert f"| `{name}` |" in (ROOT / "README.md").read_text()
    backend = backend_class(name)
    row = next(line for line in page.splitlines() if line.startswith(f"| `{name}` |"))
    for target in backend.targets:
        assert f"`{target}`" in row
    for dtype in backend.dtypes:
        assert dtype in row or "| all |" in row
    for option, settings in backend.options.items():
        assert f"`{option}`" in page
        for choice in settings.choices:
            assert f"`{choice}`" in page


def test_efforts_are_in_the_docs():
    for effort in EFFORTS:
        assert f"`{effort}`" in DOCS or f"--effort {effort}" in DOCS


def test_links_between_pages_lead_somewhere():
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+\.md)", page.read_text()):
            assert (page.parent / target).is_file(), f"{page.name} links to {target}"


def test_python_of_readme_runs_on_a_table_of_tiny(tmp_path):
    pytest.importorskip("torch")
    from hwprof.build import BuildOptions, build_lut

    build_lut(BuildOptions("simulated", "tiny", tmp_path / "lut.parquet", target="exact", effort="fast"))
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        done = subprocess.run(
            [sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
