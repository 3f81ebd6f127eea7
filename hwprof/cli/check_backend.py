"""`hwprof check-backend`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hwprof.cli.build import option_pairs

if TYPE_CHECKING:
    from hwprof.backends.backend import Backend, Target


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

    A dtype that the target takes no op of is unsupported; it fails only where --dtype names it.

    \b
    Example:
      hwprof check-backend onnxruntime
      hwprof check-backend pytorch --target cpu --option mode=compile --dtype float32
    """
    from hwprof.backends import load_backend
    from hwprof.backends.backend import Target
    from hwprof.backends.conformance import CHECKS, DEVICE_CHECKS, run_check
    from hwprof.build.options import check_options
    from hwprof.measure.conformance_worker import conformance_elsewhere

    backend = load_backend(name)
    if not target and not backend.targets:
        raise click.UsageError(f"backend {name!r} needs --target")
    check_options(type(backend), options)
    for dtype in dtypes:
        if dtype not in backend.dtypes:
            known = ", ".join(backend.dtypes)
            raise click.UsageError(f"dtype {dtype!r} is not declared by {name}; choose of {known}.")
    results = []

    def tell(dtype: str, check: str, failure: str) -> None:
        results.append({"dtype": dtype, "check": check, "ok": not failure, "failure": failure})
        if not as_json:
            mark = "ok  " if not failure else "FAIL"
            click.echo(f"{mark} {dtype:9} {check.removeprefix('check_')}  {failure}".rstrip())

    def tell_unsupported(dtype: str, reason: str) -> None:
        results.append({"dtype": dtype, "check": "", "ok": None, "failure": "", "unsupported": reason})
        if not as_json:
            click.echo(f"--   {dtype:9} unsupported  {reason}")

    for dtype in dtypes or backend.dtypes:
        chosen = Target(target or backend.targets[0], 1, dtype, options)
        timed = backend.device(chosen) not in ("simulated", "recording")
        checks = (*CHECKS, *DEVICE_CHECKS) if timed else CHECKS
        if python is None:
            backend.check_target(chosen)
        reason = "" if dtype in dtypes else _unsupported(backend, chosen)
        if reason:
            tell_unsupported(dtype, reason)
        elif python is not None:
            for check_name, failure in conformance_elsewhere(python, name, chosen, checks):
                tell(dtype, check_name, failure)
        else:
            for check in checks:
                tell(dtype, check.__name__, run_check(check, backend, chosen))
    if as_json:
        click.echo(json.dumps(results))
    verdicts = [result["ok"] for result in results]
    if False in verdicts or True not in verdicts:
        context.exit(1)


def _unsupported(backend: Backend, target: Target) -> str:
    """Why the target takes no op of its dtype, of any kind; empty where it may take one. Compiles here,
    as ops are that another interpreter runs."""
    from hwprof.backends.conformance import sample_ops
    from hwprof.errors import UnsupportedOp

    reason = ""
    for op in sample_ops(target.dtype):
        try:
            backend.compile(op.lower(), target)
        except UnsupportedOp as error:
            reason = reason or " ".join(str(error).split())
        except Exception:  # noqa: BLE001 - a third party's backend; the checks run into it and tell it
            return ""
        else:
            return ""
    return reason
