"""Tables to report on: a built and validated one, one by a hostile hand, a large one; and a browser."""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from hwprof.build import BuildOptions, build_lut
from hwprof.lut import load_lut, write_lut
from hwprof.report.page import write_report
from hwprof.validation.setting import Wanted
from hwprof.validation.validate import validate

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SPACE = """
name: small
family: chain
summary: for tests
input: [3, 16, 16]
stem: {channels: 8, kernel: 3, stride: 1, activation: relu}
stages:
  - {blocks: 3, channels: 8, stride: 1}
  - {blocks: 3, channels: 16, stride: 2}
block:
  kind: mbconv
  skip: true
  kernel: [3, 5]
  expansion: [2, 4]
  activation: relu
head: {hidden: 32, activation: relu, classes: 10}
"""
TAG = "<img src=x onerror=\"document.title='owned'\">"
HOSTILE = SimpleNamespace(
    device=f"</script><script>document.title='owned'</script>{TAG} board\u202e",
    licence="</style><b onclick='x'>licence</b>",
    reason=f"{TAG} the output was wrong",
    label=f'"><a href="javascript:document.title=\'owned\'">op</a>{TAG}',
)


@pytest.fixture(scope="session")
def small_space(tmp_path_factory):
    path = tmp_path_factory.mktemp("space") / "small.yaml"
    path.write_text(SPACE)
    return path


@pytest.fixture(scope="session")
def validated(tmp_path_factory, small_space):
    """A table of a machine with some noise, with 12 networks of the fit and 8 held-out ones."""
    path = tmp_path_factory.mktemp("validated") / "monday.parquet"
    build_lut(BuildOptions("simulated", str(small_space), path, target="quiet", effort="fast"))
    validate(path, Wanted(space=str(small_space), effort="fast"), networks=8, fit_networks=12)
    return path


@pytest.fixture(scope="session")
def hostile(validated, tmp_path_factory):
    """The same rows, one of them 30 % slower and one failed, with names that are HTML."""
    table = load_lut(validated)
    rows, visits = table.table.to_pylist(), table.visits.to_pylist()
    ops = [row["op_id"] for row in rows if row["granularity"] == "op"]
    for line in rows + visits:
        line["environment_id"] = "feedfeedfeedfeed"
        if line["op_id"] == ops[2]:
            line |= {name: 1.3 * value for name, value in line.items() if name.endswith("_ms") and value}
    failed = next(row for row in rows if row["op_id"] == ops[3])
    numbers = [name for name in failed if name.endswith("_ms") or name.startswith("energy_mj")]
    failed |= dict.fromkeys([*numbers, "visits", "clean_visits", "processes", "samples"])
    failed |= {"state": "failed", "reason": HOSTILE.reason, "label": HOSTILE.label}
    visits = [visit for visit in visits if visit["op_id"] != failed["op_id"]]
    ((_, facts),) = table.environments.items()
    identity = {**facts["identity"], "device": HOSTILE.device, HOSTILE.device: HOSTILE.device}
    environments = {"feedfeedfeedfeed": {"identity": identity, "conditions": facts["conditions"]}}
    path = tmp_path_factory.mktemp("hostile") / "friday.parquet"
    metadata = {"spaces": [TAG], "environments": environments, "licence": HOSTILE.licence}
    write_lut(path, rows, metadata=metadata, visits=visits)
    return path


@pytest.fixture(scope="session")
def large(validated, tmp_path_factory):
    """10,000 rows."""
    table = load_lut(validated)
    first = table.filter(granularity="op", kind="mbconv").table.to_pylist()[0]
    rows = [
        first | {"op_id": f"{place:020x}", "label": f"op_number_{place}", "latency_ms": 1 + place / 1e4}
        | {"latency_low_ms": 0.9, "latency_high_ms": 2.1}
        for place in range(10_000)
    ]  # fmt: skip
    path = tmp_path_factory.mktemp("large") / "large.parquet"
    write_lut(path, rows, metadata=table.metadata | {"composition": None, "validation": None})
    return path


@pytest.fixture(scope="session")
def pages(validated, hostile, large, tmp_path_factory):
    """Reports: `one` table, `two` side by side of which the second is hostile, and a `large` one."""
    folder = tmp_path_factory.mktemp("pages")
    made = {"one": [validated], "two": [validated, hostile], "large": [large]}
    for name, paths in made.items():
        write_report(paths, folder / f"{name}.html")
    return SimpleNamespace(**{name: folder / f"{name}.html" for name in made})


@pytest.fixture
def copy(tmp_path):
    """Copies a table and its visits to a folder of the test."""

    def copied(path):
        for name in (path.name, path.name.replace(".parquet", ".visits.parquet")):
            shutil.copy(path.with_name(name), tmp_path / name)
        return tmp_path / path.name

    return copied


@pytest.fixture(scope="session")
def hostile_texts():
    return HOSTILE


@pytest.fixture(scope="session")
def chromium():
    """A headless Chromium of this machine; `HWPROF_BROWSER` names one, which then must start."""
    named = os.environ.get("HWPROF_BROWSER")
    path = named or next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed (apt-get install chromium)")
    if named is None:
        pytest.importorskip("playwright", reason="needs playwright, of hwprof[test]")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as running:
        # Root, as in most containers, cannot use Chromium's sandbox.
        sandbox = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        browser = running.chromium.launch(executable_path=str(Path(path)), args=sandbox)
        yield browser
        browser.close()
