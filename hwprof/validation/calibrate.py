"""Calibration: measure some networks, fit every model on them, keep the best one in the table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from typing import Any

from hwprof import __version__
from hwprof.build import build_lut, plan_of
from hwprof.build.pipeline import BuildReport
from hwprof.build.progress import Progress
from hwprof.composition.behind import behind_ms, behind_pairs, require_behind
from hwprof.composition.composition import COLUMN_OF, Composition, Scope
from hwprof.composition.edges import (
    edge_keys,
    edge_latencies_ms,
    edge_pairs,
    require_edges,
    space_edges,
)
from hwprof.composition.models import MODELS, Fit, Model, choose, fit
from hwprof.composition.terms import network_terms
from hwprof.errors import LutError
from hwprof.lut import Lut, load_lut
from hwprof.lut.write import update_metadata
from hwprof.measure.messages import Job
from hwprof.measure.protocol import Protocol
from hwprof.ops import OpSpec
from hwprof.space import Space
from hwprof.validation.early_end import Interrupted, OldTable
from hwprof.validation.measured import MeasuredNetwork, measured_networks
from hwprof.validation.networks import CALIBRATION, Drawn, draw
from hwprof.validation.setting import Setting, Wanted, find_setting, require_same_environment

LEAST_NETWORKS = 4


@dataclass(frozen=True)
class Calibration:
    """What a calibration did: a composition for each statistic, and the measuring behind it.

    Attributes:
        failed: label and reason of networks without a usable number.
        unstable_rows: ops of the space whose row is in state `unstable`; the fit takes them as they are.
    """

    compositions: tuple[Composition, ...]
    networks: int
    pairs: int
    failed: tuple[tuple[str, str], ...]
    wall_s: float
    unstable_rows: int = 0

    def summary(self) -> dict[str, Any]:
        return {
            "networks": self.networks,
            "pairs": self.pairs,
            "failed": [{"label": label, "reason": reason} for label, reason in self.failed],
            "wall_s": self.wall_s,
            "unstable_rows": self.unstable_rows,
            "compositions": [c.to_dict() for c in self.compositions],
        }


def calibrate(
    path: Path,
    wanted: Wanted,
    *,
    networks: int = 20,
    seed: int = 0,
    model: str = "auto",
    edges: bool = False,
    behind: bool = False,
    progress: Progress | None = None,
) -> Calibration:
    """Measure `networks` networks of the table's space where their rows are missing, fit, and store the
    composition in the table. Networks whose usable row is in the table are not measured again. Those
    whose visits disagree are fitted on too: with the stable ones alone, often a half of few sizes, the
    error on other networks was as large or larger on five of six tables (docs/composition.md, Measured).

    Args:
        model: a name of `MODELS`, or `auto` for the best by leaving one out.
        edges: measure a pair of neighbours for each edge of the space too.
        behind: measure each op of the space behind a fixed neighbour too.

    Raises:
        Interrupted: by SIGINT; what was measured is kept, and the same command goes on.
        LutError: too few networks for the model, too few that the backend could measure, or a space
            without edges where they are asked for. The table is as it was.
        HwprofError: as `find_setting`, `require_same_environment` and `build_lut`.
    """
    if model != "auto" and model not in MODELS:
        raise LutError(f"model {model!r} is unknown; choose of auto, {', '.join(MODELS)}")
    check_count(networks, least_networks(model))
    setting = find_setting(path, wanted)
    require_same_environment(setting)
    rows_ms = priced_rows(setting)
    drawn = draw(setting.space, rows_ms, networks, seed, CALIBRATION)
    wants = MODELS[model].terms if model != "auto" else ()
    pairs: list[Job] = []
    if (edges or behind or {"edges", "behind"} & set(wants)) and setting.space.family != "chain":
        raise LutError(
            f"{setting.space.name} is no chain: its networks have no edges to measure; leave out "
            "--edges and --behind, or choose --model sum, scale or terms"
        )
    if edges or "edges" in wants:
        pairs += [Job(pair, "pair") for pair in edge_pairs(setting.space, rows_ms)]
    if behind or "behind" in wants:
        pairs += [Job(pair, "pair") for pair in behind_pairs(setting.space, rows_ms)]
    pairs = list({pair.job_id: pair for pair in pairs}.values())
    with OldTable(path) as old:
        networks_protocol = setting.build.protocol().for_networks()
        wall_s = measure(setting, [network.job for network in drawn], networks_protocol, progress)
        if pairs:
            wall_s += measure(setting, pairs, setting.build.protocol(), progress)
        with old.back_on_error():
            made, failed = fit_drawn(setting, drawn, model)
    unstable = unstable_rows(setting.table, setting.scope, setting.space.ops())
    return Calibration(made, len(drawn), len(pairs), failed, wall_s, unstable)


def fit_drawn(
    setting: Setting, drawn: Sequence[Drawn], model: str = "auto"
) -> tuple[tuple[Composition, ...], tuple[tuple[str, str], ...]]:
    """Fit on the rows of these networks, for each statistic, and store the compositions in the table;
    also label and reason of the networks that have no number.

    Raises:
        LutError: as `compose`, and as `store`.
    """
    path = setting.build.out
    table = load_lut(path)
    made = tuple(
        compose(
            table,
            replace(setting.scope, statistic=statistic),
            setting.space,
            drawn,
            model,
        )
        for statistic in COLUMN_OF
    )
    store(path, table, made)
    where = setting.scope.environment_id, setting.scope.cache
    return made, failures(table, drawn, *where, allow_unstable=True)


def compose(
    table: Lut,
    scope: Scope,
    space: Space,
    drawn: Sequence[Drawn],
    model: str,
) -> Composition:
    """Fit the model, or all that the table has the rows for, on the drawn networks.

    Raises:
        LutError: too few of the networks have a number.
        MissingRow: the model uses pairs, and the table lacks one of the space.
    """
    ids = [network.job.job_id for network in drawn]
    networks = measured_networks(table, scope, ids, allow_unstable=True)
    if len(networks) < least_networks(model):
        failed = failures(table, drawn, scope.environment_id, scope.cache, allow_unstable=True)
        raise too_few_usable(len(networks), len(drawn), failed, least_networks(model))
    fits = fit_models(table, scope, networks, _candidates(table, scope, space, model))
    best = choose(fits)
    return Composition(
        scope=scope,
        model=best.model.name,
        coefficients=best.coefficients,
        networks=tuple(network.op_id for network in networks),
        error=best.error,
        sigma=best.sigma,
        compared={each.model.name: each.error for each in fits},
        fitted_at=datetime.now(UTC).isoformat(timespec="seconds"),
        hwprof_version=__version__,
    )


def _candidates(table: Lut, scope: Scope, space: Space, model: str) -> list[Model]:
    """The named model; of `auto` those with pairs only where these price every network of the space."""
    edges = space_edges(space) if space.family == "chain" else []
    known = edge_latencies_ms(table, scope) if edges else {}
    following = [op for op in space.ops() if op not in _beginning(space)] if edges else []
    behind = behind_ms(table, scope) if edges else {}
    if model != "auto":
        if "edges" in MODELS[model].terms:
            require_edges(table, edges, known)
        if "behind" in MODELS[model].terms:
            require_behind(table, following, behind)
        return [MODELS[model]]
    lacking = set()
    if not known or any(key not in known for key in edges):
        lacking.add("edges")
    if not behind or any(op.op_id not in behind for op in following):
        lacking.add("behind")
    return [each for each in MODELS.values() if not lacking & set(each.terms)]


def _beginning(space: Space) -> set[OpSpec]:
    """Ops that a network of the space can begin with."""
    return {choice.ops[0] for choice in space.positions[0].choices if choice.ops}


def fit_models(
    table: Lut, scope: Scope, networks: Sequence[MeasuredNetwork], models: Iterable[Model]
) -> list[Fit]:
    """A fit of each model that these networks suffice for; of a single model, or an error.

    Raises:
        LutError: the only model asked for has as many weights as there are networks.
        MissingRow: it uses pairs, and the table lacks some.
    """
    models = list(models)
    ops = list(dict.fromkeys(op for network in networks for op in network.ops))
    values = table.latencies_ms(
        ops, scope.column, environment=scope.environment_id, cache=scope.cache, allow_unstable=True
    )
    rows_ms = dict(zip(ops, values.tolist(), strict=True))
    terms = [network_terms(n.ops, [rows_ms[op] for op in n.ops]) for n in networks]
    edges = edge_latencies_ms(table, scope)
    keys = [edge_keys(network.ops) for network in networks]
    complete = all(key in edges for each in keys for key in each)
    if complete:
        terms = [
            {**t, "edges": sum(edges[k] for k in each)} for t, each in zip(terms, keys, strict=True)
        ]
    behind = behind_ms(table, scope)
    following = [op for network in networks for op in network.ops[1:]]
    all_behind = all(op.op_id in behind for op in following)
    if all_behind:
        terms = [
            {**t, "behind": rows_ms[n.ops[0]] + sum(behind[op.op_id] for op in n.ops[1:])}
            for t, n in zip(terms, networks, strict=True)
        ]
    fits = []
    for model in models:
        if "edges" in model.terms and not complete:
            if len(models) == 1:
                require_edges(table, [key for each in keys for key in each], edges)
            continue
        if "behind" in model.terms and not all_behind:
            if len(models) == 1:
                require_behind(table, following, behind)
            continue
        if len(models) > 1 and len(networks) <= 2 * model.parameters:
            continue
        fits.append(fit(model, terms, [network.latency_ms for network in networks]))
    return fits


def priced_rows(setting: Setting) -> dict[OpSpec, float]:
    """Floor of every op of the space.

    Raises:
        MissingRow: the space no longer matches its table: ops without a row.
        LutError: a latency is none: zero, negative or infinite.
    """
    ops = setting.space.ops()
    scope = setting.scope
    values = setting.table.latencies_ms(
        ops, environment=scope.environment_id, cache=scope.cache, allow_unstable=True
    )
    for op, value in zip(ops, values.tolist(), strict=True):
        if not 0.0 < value < inf:
            raise LutError(
                f"latency_ms of {op.label} in {setting.table.path} is {value:g}, not above 0 and finite"
                f"; see what else is wrong: hwprof lut lint {setting.table.path}"
            )
    return dict(zip(ops, values.tolist(), strict=True))


def unstable_rows(table: Lut, scope: Scope, ops: Sequence[OpSpec]) -> int:
    """How many of these ops have a number that is not to be trusted."""
    where = {"environment_id": scope.environment_id, "cache": scope.cache}
    ids = [op.op_id for op in ops]
    return len(table.filter(granularity="op", state="unstable", op_id=ids, **where))


def measure(
    setting: Setting, jobs: Sequence[Job], protocol: Protocol, progress: Progress | None
) -> float:
    """Rows for these jobs in the setting's table; the seconds that it took.

    Raises:
        HwprofError: as `build_lut`.
        Interrupted: by SIGINT; the same command goes on.
    """
    planner = plan_of(setting.space, jobs, protocol)
    if not planner(setting.build).jobs:
        return 0.0  # a build of nothing would seal the journal of other jobs, which are to go on
    report: BuildReport = build_lut(setting.build, progress, planner=planner)
    if report.interrupted:
        raise Interrupted("interrupted: what was measured is kept; give the same command to go on")
    return report.wall_s


def failures(
    table: Lut,
    drawn: Sequence[Drawn],
    environment_id: str | None = None,
    cache: str | None = None,
    *,
    allow_unstable: bool = False,
) -> tuple[tuple[str, str], ...]:
    """Label and reason of the drawn networks whose row (of that environment and cache state) is not
    usable."""
    wanted: Set[str] = {network.job.job_id for network in drawn}
    where = {"environment_id": environment_id, "cache": cache}
    rows = table.filter(granularity="network", **{k: v for k, v in where.items() if v is not None})
    pairs = zip(
        rows.columns(["op_id", "label", "state", "reason"]).to_pylist(),
        rows.usable(allow_unstable),
        strict=True,
    )
    return tuple(
        (row["label"], f"{row['state']}: {row['reason']}")
        for row, usable in pairs
        if not usable and row["op_id"] in wanted
    )


def store(path: Path, table: Lut, made: Sequence[Composition]) -> None:
    """Put compositions into the table's metadata, in place of older ones of the same scope. The errors
    of one that is replaced go with it: the new one may have been fitted on those very networks.

    Raises:
        LutError: the table cannot be written; it stays as it was.
    """
    scopes = [asdict(composition.scope) for composition in made]
    stored = table.metadata["composition"]
    kept = [
        entry
        for entry in (stored if isinstance(stored, list) else ())
        if isinstance(entry, Mapping) and entry.get("scope") not in scopes
    ]
    validation = [
        entry
        for entry in table.metadata["validation"] or ()
        if not any(_judges_another(entry, composition) for composition in made)
    ]
    update_metadata(
        path, composition=[*kept, *(c.to_dict() for c in made)], validation=validation or None
    )


def _judges_another(entry: Mapping[str, Any], composition: Composition) -> bool:
    """Whether a validation of this composition's scope is one of other weights."""
    here = all(entry.get(name) == value for name, value in asdict(composition.scope).items())
    same = (entry.get("model"), entry.get("coefficients")) == (
        composition.model, dict(composition.coefficients),
    )  # fmt: skip
    return here and not same


def too_few_usable(usable: int, drawn: int, failed: Sequence[tuple[str, str]], least: int) -> LutError:
    """The error for networks that the backend could not measure; the first of them is named."""
    first = f" (first of the others: {failed[0][0]}: {failed[0][1]})" if failed else ""
    unstable = any(reason.startswith("unstable") for _, reason in failed)
    take = ", or take unstable ones with --allow-unstable" if unstable else ""
    return LutError(
        f"{usable} of {drawn} networks have a usable number{first}, {least} is the least; give more "
        f"with --networks, other ones with --seed, or another --op-timeout or --effort{take}; the table "
        "is as it was"
    )


def least_networks(model: str) -> int:
    """How many networks a model (or `auto`) needs."""
    return max(LEAST_NETWORKS, 1 + MODELS[model].parameters if model != "auto" else 0)


def check_count(networks: int, least: int) -> None:
    """Raises LutError where too few networks to fit on are asked for."""
    if networks < least:
        raise LutError(
            f"{networks} networks are too few to calibrate with, {least} is the least; give 20 or more"
        )
