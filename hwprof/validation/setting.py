"""What a table's rows were measured with, put together again so that networks can be measured alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hwprof.backends import backend_class
from hwprof.build import BuildOptions
from hwprof.build.plan import environment_of
from hwprof.composition.composition import Scope
from hwprof.environment import Environment
from hwprof.errors import BuildError, LutError
from hwprof.lut import Lut, load_lut
from hwprof.space import Space, list_spaces, load_space

_COLUMNS = ("environment_id", "space", "batch", "dtype", "cache")
MOST_KINDS = 6
"""Listed in an error's one line."""


@dataclass(frozen=True)
class Wanted:
    """What narrows a table down to one kind of rows; None where the table has only one.

    Attributes:
        space: name or YAML file.
        options: backend settings that differ from, or are not part of, the environment's identity.
        python, effort, op_timeout_s: as of `BuildOptions`.
    """

    space: str | None = None
    environment_id: str | None = None
    batch: int | None = None
    dtype: str | None = None
    cache: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    python: Path | None = None
    effort: str = "normal"
    op_timeout_s: float = 120.0


@dataclass(frozen=True)
class Setting:
    """One kind of rows of a table, and the build options that measure more of it."""

    table: Lut
    space: Space
    scope: Scope
    build: BuildOptions


def find_setting(path: Path, wanted: Wanted, statistic: str = "floor") -> Setting:
    """The setting of the table's op rows that `wanted` names.

    Raises:
        LutError: no such rows, several kinds of them (listed), or rows of an environment that the table
            does not describe.
        SpaceError: the space cannot be read.
    """
    table = load_lut(path)
    row = _one_kind(table, wanted)
    space = load_space(wanted.space) if wanted.space else _space_of(table, row["space"])
    if space.name != row["space"]:
        raise LutError(f"{path} has no op rows of space {space.name}; it has {row['space']}")
    scope = Scope(**{name: row[name] for name in _COLUMNS}, statistic=statistic)
    build = BuildOptions(
        backend=row["backend"],
        space=wanted.space or row["space"],
        out=path,
        target=row["target"],
        options={**_options(table, row), **wanted.options},
        python=wanted.python,
        threads=row["threads"],
        batch=row["batch"],
        dtype=row["dtype"],
        cache=row["cache"],
        effort=wanted.effort,
        retry_failed=True,
        sustain_s=_identity(table, row).get("sustain_s") or 0.0,
        op_timeout_s=wanted.op_timeout_s,
    )
    return Setting(table, space.with_options(row["batch"], row["dtype"]), scope, build)


def require_same_environment(setting: Setting, measured_in: str | None = None) -> None:
    """Networks that are measured elsewhere say nothing about the rows, unless that is what is asked:
    `measured_in` names this machine's environment then.

    Raises:
        BuildError: this machine, runtime or setting is another one; the differences are named.
        BackendUnavailable: the runtime is not here.
    """
    here = environment_of(setting.build)
    if here.environment_id == (measured_in or setting.scope.environment_id):
        return
    if measured_in is not None:
        raise BuildError(
            f"here is environment {here.environment_id}, not {measured_in}: networks can only be "
            "measured here"
        )
    there = Environment.from_dict(setting.table.environments[setting.scope.environment_id])
    names = ", ".join(f"{name} {theirs!r} -> {mine!r}" for name, mine, theirs in here.differences(there))
    raise BuildError(
        f"{setting.table.path} was measured in environment {setting.scope.environment_id}, here it is "
        f"{here.environment_id}: {names}; build the rows here first, or give the settings that differ "
        "with --option; to hold its rows against networks measured here: hwprof validate --measured-in "
        f"{here.environment_id}"
    )


def _one_kind(table: Lut, wanted: Wanted) -> Mapping[str, Any]:
    """A row that stands for all op rows of one environment, space, batch, dtype and cache state."""
    space = load_space(wanted.space) if wanted.space else None
    given = {
        "environment_id": wanted.environment_id,
        "space": space.name if space else None,
        "batch": wanted.batch,
        "dtype": wanted.dtype,
        "cache": wanted.cache,
    }
    only = {name: value for name, value in given.items() if value is not None}
    rows = table.filter(granularity="op", **only)
    if space is not None and not len(rows):
        del only["space"]
        rows = _rows_of_its_ops(table.filter(granularity="op", **only), space)
    said = ", ".join(f"{name} {value}" for name, value in given.items() if value is not None)
    if not len(rows):
        kinds = _kinds(table.filter(granularity="op"))
        has = "it has " + _spelled_out(kinds) if kinds else "build them: hwprof build-lut"
        raise LutError(f"{table.path} has no op rows{f' of {said}' if said else ''}; {has}")
    own = {"space": space.name} if space else {}
    kinds = list({tuple(kind.items()): kind for kind in ({**k, **own} for k in _kinds(rows))}.values())
    if len(kinds) > 1:
        raise LutError(
            f"{table.path} has op rows of {len(kinds)} kinds ({_spelled_out(kinds)}); name "
            "one with --space, --environment, --batch, --dtype or --cache"
        )
    row: Mapping[str, Any] = {**rows.table.slice(0, 1).to_pylist()[0], **own}
    if row["space"] is None:
        raise LutError(
            f"the rows of {table.path} belong to no search space, so they make up no networks; build "
            "the table of one: hwprof build-lut --space"
        )
    return row


def _rows_of_its_ops(rows: Lut, space: Space) -> Lut:
    """The rows of a space's ops under another space's name; none where one is missing. A space that is
    made of another one's ops, as `hwprof design-supernet` writes it, has no others."""
    there = set(rows.columns(["op_id"]).column(0).to_pylist())
    options = {(kind["batch"], kind["dtype"]) for kind in _kinds(rows)}
    needed = [{op.op_id for op in space.with_options(*each).ops()} for each in options]
    ids = {op_id for ops in needed if ops <= there for op_id in ops}
    return rows.filter(op_id=sorted(ids))


def _space_of(table: Lut, name: str) -> Space:
    """The space that the rows say they are of."""
    if name not in list_spaces():
        raise LutError(
            f"{table.path} was measured for space {name!r}, which is not a shipped one; give its file: "
            f"--space {name}.yaml"
        )
    return load_space(name)


def _kinds(rows: Lut) -> list[dict[str, Any]]:
    found = rows.columns(_COLUMNS).group_by(list(_COLUMNS)).aggregate([]).to_pylist()
    return sorted(found, key=lambda kind: [str(kind[name]) for name in _COLUMNS])


def _spelled_out(kinds: Sequence[Mapping[str, Any]]) -> str:
    more = f" and {len(kinds) - MOST_KINDS} more" if len(kinds) > MOST_KINDS else ""
    words = [", ".join(str(kind[name]) for name in _COLUMNS) for kind in kinds[:MOST_KINDS]]
    return " / ".join(words) + more


def _identity(table: Lut, row: Mapping[str, Any]) -> Mapping[str, Any]:
    return Environment.from_dict(table.environments.get(row["environment_id"], {})).identity


def _options(table: Lut, row: Mapping[str, Any]) -> dict[str, str]:
    """The backend's options that its environment states."""
    identity = _identity(table, row)
    known = backend_class(row["backend"]).options
    return {name: _spelled(identity[name]) for name in known if identity.get(name) is not None}


def _spelled(value: Any) -> str:
    """As an option takes it: a switch that an environment states as true is `on`."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)
