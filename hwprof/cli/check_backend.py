"""`hwprof check-backend`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from hwprof.cli.build import option_pairs


@click.command("check-backend")
@click.argument("name")
@click.option("--target", default="", help="Target to check; default: the backend's first.")
@click.option(
    "--dtype", "dtypes", multiple=True, help="Element types to check; default: all it declares."
)
@click.option(
    "--option",
    "options",
    multiple=True,
    callback=option_pairs,
    help="A setting of the backend, NAME=VALUE.",
)
@click.option(
    "--python", type=click.Path(path_type=Path), help="Interpreter to run the ops in, as in build-lut."
)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.pass_context
def check_backend(
    context: click.Context,
    name: str,
    target: str,
    dtypes: tuple[str, ...],
    options: dict[str, str],
    python: Path | None,
    as_json: bool,
) -> None:
    """Hold a backend to the conformance suite, the checks that need a clock included.

    \b
    Example:
      hwprof check-backend onnxruntime
      hwprof check-backend pytorch --target cpu --option mode=compile --dtype float32
    """
    from hwprof.backends import load_backend
    from hwprof.backends.backend import Target
    from hwprof.backends.conformance import CHECKS, DEVICE_CHECKS, run_check
    from hwprof.measure.conformance_worker import conformance_elsewhere

    backend = load_backend(name)
    if not target and not backend.targets:
        raise click.UsageError(f"backend {name!r} needs --target")
    results = []

    def tell(dtype: str, check: str, failure: str) -> None:
        results.append({"dtype": dtype, "check": check, "ok": not failure, "failure": failure})
        if not as_json:
            mark = "ok  " if not failure else "FAIL"
            click.echo(f"{mark} {dtype:9} {check.removeprefix('check_')}  {failure}".rstrip())

    for dtype in dtypes or backend.dtypes:
        chosen = Target(target or backend.targets[0], 1, dtype, options)
        timed = backend.device(chosen) not in ("simulated", "recording")
        checks = (*CHECKS, *DEVICE_CHECKS) if timed else CHECKS
        if python is not None:
            for check_name, failure in conformance_elsewhere(python, name, chosen, checks):
                tell(dtype, check_name, failure)
            continue
        backend.check_target(chosen)
        for check in checks:
            tell(dtype, check.__name__, run_check(check, backend, chosen))
    if as_json:
        click.echo(json.dumps(results))
    if not all(r["ok"] for r in results):
        context.exit(1)
