"""Tables on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

CUT_AT_LEAST = 20


def print_table(
    headings: Sequence[str], rows: Sequence[Sequence[object]], cut: str | None = None
) -> None:
    """A table as wide as the terminal, the column `cut` shortened to what the others leave; piped, one
    line per row and nothing cut off."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from hwprof.text import visible

    lines = [[visible(str(cell)) for cell in line] for line in (headings, *rows)]
    widths = [max(map(len, column)) + 2 for column in zip(*lines, strict=True)]
    console = Console()
    if not console.is_terminal:
        console = Console(width=sum(widths) + 1)
    others = sum(width for heading, width in zip(lines[0], widths, strict=True) if heading != cut)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in lines[0]:
        if heading == cut:
            left = max(console.width - others, CUT_AT_LEAST)
            table.add_column(heading, overflow="ellipsis", no_wrap=True, max_width=left)
        else:
            table.add_column(heading, overflow="fold")
    for line in lines[1:]:
        table.add_row(*(Text(cell) for cell in line))
    console.print(table)
