"""`hwprof design-supernet`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from hwprof.search.design import Design


@click.command("design-supernet")
@click.option("--lut", "path", required=True, type=click.Path(path_type=Path), help="The table.")
@click.option("--blocks", required=True, type=int, help="How many blocks all stages have together.")
@click.option("--space", "base", required=True, help="Base space: a shipped name or a YAML file.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the space, NAME.yaml.")
@click.option("--name", help="Name of the new space; default: the base's with the number of blocks.")
@click.option("--kernel", default=5, show_default=True, help="Kernel of the block that is compared.")
@click.option("--expansion", default=6, show_default=True, help="Expansion of that block.")
@click.option("--environment", help="Environment id of the rows, where the table has several.")
@click.option("--batch", default=1, show_default=True, help="Batch size of the rows.")
@click.option("--dtype", default="float32", show_default=True, help="Element type of the rows.")
@click.option("--cache", default="warm", show_default=True, help="Cache state of the rows.")
@click.option("--allow-unstable", is_flag=True, help="Use rows in state unstable too.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
def design_supernet(
    path: Path, blocks: int, base: str, out: Path | None, name: str | None, kernel: int, expansion: int,
    environment: str | None, batch: int, dtype: str, cache: str, allow_unstable: bool, as_json: bool,
) -> None:  # fmt: skip
    """Distribute blocks over the stages of a space: the cheaper one block of a stage, the more of them.

    \b
    Example:
      hwprof design-supernet --lut lut.parquet --blocks 29 --space s3nas --out my-space.yaml
    """
    from hwprof.lut import load_lut
    from hwprof.search.design import design_supernet as run
    from hwprof.search.design import write_design
    from hwprof.search.space_file import check_space_file
    from hwprof.space import load_space

    if out is not None:
        check_space_file(out)
    design = run(
        load_lut(path), load_space(base).with_options(batch, dtype), blocks, kernel=kernel,
        expansion=expansion, environment=environment, cache=cache, allow_unstable=allow_unstable,
    )  # fmt: skip
    if out is not None:
        write_design(design, base, out, name)
    summary = {**design.summary(), "out": None if out is None else str(out)}
    click.echo(json.dumps(summary) if as_json else _text(design, out))


def _text(design: Design, out: Path | None) -> str:
    lines = [f"{design.base}: {sum(design.depths)} blocks as {_spell(design.depths)}"]
    lines += [
        f"  stage {number}: {stage.blocks} blocks (share {stage.share:.2f}), one takes "
        f"{stage.latency_ms:.4g} ms ({stage.reference.label})"
        for number, stage in enumerate(design.stages, start=1)
    ]
    lines += [
        f"  published with {sum(theirs)} blocks: {_spell(theirs)}; by this table: {_spell(ours)}"
        for theirs, ours in design.published
    ]
    if out is not None:
        lines.append(f"  written to {out}")
    return "\n".join(lines)


def _spell(depths: tuple[int, ...]) -> str:
    return "-".join(map(str, depths))
