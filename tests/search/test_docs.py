"""The code of docs/expected-latency.md and docs/losses.md runs as it stands, and names all there is."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from hwprof.lut import Lut  # noqa: E402 - torch is optional
from hwprof.search import (  # noqa: E402
    LOSSES,
    AcrossDevices,
    ExpectedCosts,
    ExpectedLatency,
    PairwiseLatency,
)
from hwprof.search.costs import SUMMED  # noqa: E402
from hwprof.search.devices import WAYS  # noqa: E402
from hwprof.space import load_space  # noqa: E402

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "expected-latency.md").read_text(encoding="utf-8")
LOSSES_PAGE = (DOCS / "losses.md").read_text(encoding="utf-8")


def test_the_code_runs(
    save: Callable[..., Lut], make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = load_space("tiny")
    save([make.row(op, 0.1) for op in space.ops()])  # as lut.parquet in tmp_path
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.*?)```", PAGE + LOSSES_PAGE, re.DOTALL):
        exec(code, names)
    assert names["logits"].grad.shape == names["latency"].shape
    assert names["expected"].item() > 0
    assert names["costs"].columns == ("latency_ms", "flops", "parameters")
    assert names["latency_ms"].grad.item() > 0


@pytest.mark.parametrize("public", [ExpectedLatency, ExpectedCosts, AcrossDevices, PairwiseLatency])
def test_every_argument_is_documented(public: type) -> None:
    call = re.search(rf"`{public.__name__}\((.*?)\)`", PAGE, re.DOTALL)
    assert call is not None
    documented = [argument.split("=")[0].strip() for argument in call[1].split(",")]
    assert documented == list(inspect.signature(public).parameters)


def test_every_method_column_and_way_is_documented() -> None:
    for name in ("probabilities", "price", "breakdown", "mask", "shape"):
        assert f"latency.{name}" in PAGE
    for word in (*SUMMED, *WAYS):
        assert f"`{word}`" in PAGE


def test_every_loss_stands_in_the_table_with_its_settings_and_defaults() -> None:
    for name, loss in LOSSES.items():
        row = next(line for line in LOSSES_PAGE.splitlines() if line.startswith(f"| `{name}` |"))
        assert f"| {'product' if loss.factor else 'sum'} |" in row
        for setting, parameter in inspect.signature(loss).parameters.items():
            if setting == "target":
                continue
            default = parameter.default
            shown = "none" if default is inspect.Parameter.empty else f"{default:g}"
            assert re.search(rf"`{setting}` \({re.escape(shown)}[,:)]", row), (name, setting)
