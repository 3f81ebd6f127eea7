"""`hwprof pareto`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hwprof.cli.validation import narrowing, seed_option
from hwprof.errors import BackendUnavailable, HwprofError

if TYPE_CHECKING:
    from hwprof.cli.searching import MeasuredTable
    from hwprof.lut import Lut
    from hwprof.search.discrete.archive import Archive
    from hwprof.search.discrete.decisions import Decisions
    from hwprof.search.discrete.objectives import Point
    from hwprof.search.discrete.quantities import Quantities
    from hwprof.space import Space
    from hwprof.validation.setting import Wanted

JOURNAL = "journal.jsonl"
NO_TABLE = "no table: give --lut"
NOTE_EVERY = 50


@click.command("pareto")
@click.option(
    "--objectives",
    "specs",
    required=True,
    help="Comma-separated: parameters, flops, bytes_moved, memory, latency, energy, column:NAME (of "
    "--replay), predictor:FOLDER, MODULE:FUNCTION (called with space and point). Smaller is better, "
    "with a + in front larger.",
)
@click.option("--out", "folder", required=True, type=click.Path(path_type=Path), help="Folder to fill.")
@click.option(
    "--lut", "path", type=click.Path(path_type=Path), help="The table, for latency and energy."
)
@click.option(
    "--replay", "replay_path", type=click.Path(path_type=Path),
    help="Parquet of networks with known values: NAS-Bench-201 strings in a column arch.",
)  # fmt: skip
@click.option(
    "--search", "name", default="tnd-nas", show_default=True, help="tnd-nas, nsga2, random or penalty."
)
@click.option("--queries", default=500, show_default=True, help="Networks to evaluate.")
@seed_option("Of everything that is drawn.")
@click.option(
    "--statistic", default="floor", show_default=True, help="What latency means: floor or p50."
)
@click.option("--shortlist", default=5, show_default=True, help="Networks of the front to measure.")
@click.option("--allow-unstable", is_flag=True, help="Use rows in state unstable too.")
@narrowing
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
def pareto(
    specs: str, folder: Path, path: Path | None, replay_path: Path | None, name: str, queries: int,
    seed: int, statistic: str, shortlist: int, allow_unstable: bool, as_json: bool, **narrowed: Any,
) -> None:  # fmt: skip
    """Search a space for the networks that trade several objectives best, whatever the objectives are,
    and measure a shortlist of them: predicted and measured latency stand beside each other.

    A search that was stopped goes on with the same command.

    \b
    Example:
      hwprof pareto --space s3nas-cifar --lut t.parquet --objectives +mine:score,latency --out front
      hwprof pareto --space nb201 --replay nb201.parquet \\
          --objectives +column:cifar100_accuracy,column:raspi4 --search nsga2 --out front
    """
    from hwprof.lut import load_lut
    from hwprof.report.files import write_whole
    from hwprof.search.discrete.journal import Journal
    from hwprof.search.discrete.outcome import FRONT, PICTURE, WITHOUT_PICTURE, front_summary, picture
    from hwprof.search.discrete.quantities import ENERGY, LARGER, table_energy
    from hwprof.search.discrete.run import run_search
    from hwprof.search.discrete.searches import make_search
    from hwprof.validation.setting import Wanted

    wanted = Wanted(**narrowed)
    if wanted.space is None:
        raise click.UsageError("give --space, the search space")
    if shortlist < 0:
        raise click.UsageError(f"--shortlist must be 0 or more, got {shortlist}")
    names = [spec.strip() for spec in specs.split(",") if spec.strip()]
    table = None if path is None else load_lut(path)
    measured = None
    if path is not None and table is not None:
        measured = _measured_table(path, table, wanted, statistic, allow_unstable)
        if shortlist:
            measured.check_measuring()
    energy = None
    if table is not None and measured is not None and ENERGY in (n.removeprefix(LARGER) for n in names):
        energy = table_energy(
            table, measured.space, measured.environment_id, measured.cache,
            allow_unstable=allow_unstable,
        )  # fmt: skip
    quantities, decisions = _sources(wanted, measured, energy, replay_path)
    objectives = quantities.objectives(names)
    search = make_search(name, decisions, len(objectives), queries=queries, seed=seed)
    composition = None if measured is None else measured.latency.composition
    settings = {
        "space": wanted.space,
        "space_hash": quantities.space.space_hash,
        "objectives": names,
        "values": [f"{one.name} ({one.unit})" if one.unit else one.name for one in objectives.all],
        "search": name,
        "queries": queries,
        "seed": seed,
        "statistic": statistic,
        "cache": wanted.cache or "warm",
        "allow_unstable": allow_unstable,
        "environment_id": None if measured is None else measured.environment_id,
        "composition": None if composition is None else composition.describe(),
        "sha256": _hashes(names, table, measured, replay_path, allow_unstable),
    }
    journal = Journal(folder / JOURNAL, settings)
    archive = run_search(search, objectives, queries, journal=journal, note=_noting(queries))
    told: dict[str, Any] = {**settings, "table": None if path is None else str(path)}
    told |= front_summary(archive, quantities.space)
    told |= _measured(archive, measured, shortlist)
    drawn = picture(archive)
    if drawn is not None:
        write_whole(folder / PICTURE, drawn)
    told["picture"] = PICTURE if drawn is not None else None
    told["picture_reason"] = None if drawn is not None else WITHOUT_PICTURE
    write_whole(folder / FRONT, json.dumps(told, indent=1).encode())
    click.echo(json.dumps(told) if as_json else _text(told))


def _measured_table(
    path: Path, table: Lut, wanted: Wanted, statistic: str, allow_unstable: bool
) -> MeasuredTable:
    import importlib.util

    from hwprof.cli.searching import MeasuredTable
    from hwprof.search.engine.settings import STATISTICS

    if importlib.util.find_spec("torch") is None:
        raise BackendUnavailable("a search on a table needs PyTorch: pip install 'hwprof[torch]'")
    if statistic not in STATISTICS:
        raise HwprofError(f"statistic {statistic!r} is unknown; choose of {', '.join(STATISTICS)}")
    return MeasuredTable(path, table, wanted, statistic, allow_unstable)


def _space(wanted: Wanted) -> Space:
    from hwprof.space import load_space

    assert wanted.space is not None
    return load_space(wanted.space).with_options(wanted.batch or 1, wanted.dtype or "float32")


def _sources(
    wanted: Wanted,
    measured: MeasuredTable | None,
    energy: Callable[[Point], float] | None,
    replay_path: Path | None,
) -> tuple[Quantities, Decisions]:
    """Where objectives come from, and which networks there are."""
    from hwprof.search.discrete.decisions import decisions_of
    from hwprof.search.discrete.quantities import Quantities
    from hwprof.search.discrete.replay import read_replay

    space = _space(wanted) if measured is None else measured.space
    price = None if measured is None else measured.latency.price
    latency = None if price is None else lambda point: float(price([point])[0])
    replay = None if replay_path is None else read_replay(replay_path, space)
    decisions = decisions_of(space) if replay is None else replay.decisions()
    return Quantities(space, latency=latency, energy=energy, replay=replay), decisions


def _hashes(
    names: Sequence[str],
    table: Lut | None,
    measured: MeasuredTable | None,
    replay_path: Path | None,
    allow_unstable: bool,
) -> dict[str, str]:
    """Of what the objectives' values come from: objective or option -> sha256 (hex)."""
    from hwprof.lut.places.cache import file_sha256
    from hwprof.search.discrete.quantities import ENERGY, LARGER, LATENCY
    from hwprof.search.discrete.sources import objective_sha256, rows_sha256

    found = {} if replay_path is None else {"--replay": file_sha256(replay_path)}
    for spec in names:
        name = spec.removeprefix(LARGER)
        if name in (LATENCY, ENERGY):
            assert table is not None
            assert measured is not None
            # The table's own hash will not do: measuring the shortlist adds rows to it.
            found[name] = rows_sha256(
                table, measured.space.ops(),
                measured.statistic if name == LATENCY else "energy_mj",
                environment=measured.environment_id, cache=measured.cache,
                allow_unstable=allow_unstable,
                composition=measured.latency.composition if name == LATENCY else None,
            )  # fmt: skip
        elif (digest := objective_sha256(spec)) is not None:
            found[name] = digest
    return found


def _noting(queries: int) -> Callable[[Archive], None]:
    from hwprof.build.progress import Progress

    progress, told = Progress(), {"at": 0}

    def note(archive: Archive) -> None:
        if len(archive) - told["at"] >= NOTE_EVERY or len(archive) == queries:
            told["at"] = len(archive)
            progress.note(f"{len(archive)} of {queries} networks, {len(archive.front())} on the front")

    return note


def _measured(archive: Archive, measured: MeasuredTable | None, count: int) -> dict[str, Any]:
    """The shortlist as predicted and as measured, and what that changed."""
    from hwprof.search.discrete.changes import changes, dropped
    from hwprof.search.discrete.outcome import shortlist_of
    from hwprof.search.discrete.quantities import LATENCY

    if measured is None or not count:
        return {"shortlist": [], "shortlist_reason": NO_TABLE if measured is None else "--shortlist 0",
                "changes": None, "dropped": []}  # fmt: skip
    picked = shortlist_of(archive.front(), count)
    points: list[Point] = [entry.point for entry in picked]
    entries = measured.measure(points)
    truths = [entry["measured_ms"] for entry in entries]
    found = changes([entry["predicted_ms"] for entry in entries], truths)
    names = archive.objectives.names
    gone: tuple[int, ...] = ()
    if LATENCY in names:
        values = archive.objectives.minimised([entry.values for entry in picked])
        gone = dropped(values, names.index(LATENCY), truths)
    return {
        "shortlist": [
            {"values": dict(zip(names, one.values, strict=True)), **entry}
            for one, entry in zip(picked, entries, strict=True)
        ],
        "shortlist_reason": None,
        "changes": None if found is None else found.summary(),
        "dropped": list(gone),
    }


def _text(told: Mapping[str, Any]) -> str:
    from hwprof.cli.searching import shortlist_lines

    units = {one["name"]: one["unit"] for one in told["objectives"]}
    lines = [
        f"{len(told['front'])} networks on the front of {told['evaluated']} evaluated; hypervolume "
        f"{told['hypervolume']:.6g} to {_values(told['reference'], units)}"
    ]
    lines += [f"  {_values(one['values'], units)}" for one in told["front"]]
    if told["shortlist_reason"] is not None:
        return "\n".join([*lines, f"shortlist: not measured ({told['shortlist_reason']})"])
    lines += shortlist_lines(told, dict.fromkeys(told["dropped"], ", no longer on the front"))
    return "\n".join(lines)


def _values(values: Mapping[str, float], units: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value:.5g} {units[name]}".rstrip() for name, value in values.items())
