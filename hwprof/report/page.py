"""The report: one HTML page with everything inside, which opens from a file and asks no network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwprof.errors import LutError
from hwprof.lut import Lut
from hwprof.report import changes, facts
from hwprof.report.chart import Absent
from hwprof.report.charts import CHARTS
from hwprof.report.files import check_file, write_whole
from hwprof.report.render import Comparison, Figure, Page, Section, render
from hwprof.report.row_table import judged_rows, row_table
from hwprof.report.rows import open_table, sampled
from hwprof.report.script import require_report
from hwprof.report.text import UNKNOWN, number, percent, visible

if TYPE_CHECKING:
    import pandas as pd

ENDINGS = (".html", ".htm")
MOST_TABLES = 2
MOST_ROWS = 20_000
SURPRISES = 15


def write_report(
    paths: Sequence[Path], out: Path, environments: Sequence[str] = (), most_rows: int = MOST_ROWS
) -> dict[str, Any]:
    """Write the page of one table, or of two side by side. An existing page is replaced.

    Args:
        environments: only rows of these environments.
        most_rows: of more rows than this the page lists the most surprising ones and a random sample.

    Returns:
        `path`, `bytes`, `tables`, `rows` (listed on the page), `rows_of_tables`, `charts` (drawn) and
        `absent` (chart -> reason).

    Raises:
        LutError: a table is missing or damaged, has no such environment, or `out` cannot be written.
        BackendUnavailable: the extra `report` is not installed.
    """
    if not 1 <= len(paths) <= MOST_TABLES:
        raise LutError(f"a report is of one table or two, got {len(paths)}")
    check_file(out, ENDINGS, paths)
    require_report()
    page = made_page(paths, environments, most_rows)
    content = render(page).encode()
    write_whole(out, content)
    return {
        "path": str(out),
        "bytes": len(content),
        "tables": [str(path) for path in paths],
        "rows": page.rows["rows"],
        "rows_of_tables": page.rows_of_tables,
        "charts": [figure.key for figure in page.figures if figure.drawn],
        "absent": {f.key: f.chart.reason for f in page.figures if isinstance(f.chart, Absent)},
    }


def made_page(paths: Sequence[Path], environments: Sequence[str], most_rows: int) -> Page:
    """Read the tables and make every view of them.

    Raises:
        LutError: as `write_report`.
    """
    tables = [_opened(path, environments, len(paths)) for path in paths]
    names = _names(paths)
    looked_at = [sampled(table) for table in tables]
    frames = [judged_rows(table) for table in looked_at]
    listed = [_sample(frame, most_rows // len(frames)) for frame in frames]
    columns, lines, left_out = facts.environments(looked_at)
    return Page(
        names=names,
        quality=_side_by_side([facts.quality(table) for table in tables]),
        environments=columns,
        environment_lines=lines,
        environments_left_out=left_out,
        comparison=_compared(tables, environments) if len(tables) == MOST_TABLES else None,
        sections=_sections(looked_at, names),
        surprises=[_surprises(frame) for frame in frames],
        rows=row_table(looked_at, listed, names),
        rows_of_tables=sum(map(len, tables)),
        rows_looked_at=sum(map(len, looked_at)),
    )


def _opened(path: Path, environments: Sequence[str], tables: int) -> Lut:
    """Of two tables each needs only some of the environments that were named."""
    if tables == 1:
        return open_table(path, environments)
    here = open_table(path).environments
    own = [name for name in environments if name in here]
    return open_table(path, own or environments)


def _names(paths: Sequence[Path]) -> list[str]:
    names = [visible(path.name) for path in paths]
    often = Counter(names)
    return [f"{place}: {name}" if often[name] > 1 else name for place, name in enumerate(names, start=1)]


def _sample(frame: pd.DataFrame, most: int) -> pd.DataFrame:
    """The surprising rows and a random sample of the others."""
    if len(frame) <= most:
        return frame
    named = _most_surprising(frame).index[:most]
    others = frame.drop(named).sample(most - len(named), random_state=0).index
    return frame.loc[sorted([*named, *others])]


def _most_surprising(frame: pd.DataFrame) -> pd.DataFrame:
    order = frame["score"].abs().sort_values(ascending=False, kind="stable")
    return frame.loc[order.dropna().index[:SURPRISES]]


def _surprises(frame: pd.DataFrame) -> list[dict[str, str]]:
    return [
        {
            "op_id": row["op_id"],
            "label": row["label"],
            "latency": number(row["latency_ms"]),
            "interval": percent(row["interval"]),
            "ratio": f"{row['ratio']:.3f}×",
            "score": f"{row['score']:+.1f}",
            "among": row["among"],
            "state": row["state"],
        }
        for row in _most_surprising(frame).to_dict("records")
    ]


def _sections(tables: Sequence[Lut], names: Sequence[str]) -> list[Section]:
    sections = []
    for name, make in CHARTS.items():
        made = [make(table) for table in tables]
        figures = tuple(
            Figure(f"{name}-{place}", names[place] if len(names) > 1 else "", chart)
            for place, chart in enumerate(made)
        )
        sections.append(Section(name, made[0].title, figures))
    return sections


def _compared(tables: Sequence[Lut], environments: Sequence[str]) -> Comparison:
    from hwprof.lut.diff.tables import diff

    try:
        found = diff(tables[0], tables[1], environments)
    except LutError as error:
        return Comparison((), None, visible(error))
    return Comparison(changes.facts(found), Figure(changes.NAME, "", changes.change(found)), "")


def _side_by_side(columns: Sequence[dict[str, str]]) -> list[list[str]]:
    names = dict.fromkeys(name for column in columns for name in column)
    return [[name, *(column.get(name, UNKNOWN) for column in columns)] for name in names]
