"""`hwprof check-backend`."""

from __future__ import annotations

import json

import click


@click.command("check-backend")
@click.argument("name")
@click.option("--target", default="", help="Target to check; default: the backend's first.")
@click.option(
    "--dtype", "dtypes", multiple=True, help="Element types to check; default: all it declares."
)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.pass_context
def check_backend(
    context: click.Context, name: str, target: str, dtypes: tuple[str, ...], as_json: bool
) -> None:
    """Hold a backend to the conformance suite, the checks that need a clock included.

    \b
    Example:
      hwprof check-backend onnxruntime
    """
    from hwprof.backends import load_backend
    from hwprof.backends.backend import Target
    from hwprof.backends.conformance import CHECKS, DEVICE_CHECKS, ConformanceError

    backend = load_backend(name)
    if not target and not backend.targets:
        raise click.UsageError(f"backend {name!r} needs --target")
    results = []
    for dtype in dtypes or backend.dtypes:
        chosen = Target(target or backend.targets[0], 1, dtype)
        clocked = DEVICE_CHECKS if backend.host_clock else ()
        for check in (*CHECKS, *clocked):
            failure = ""
            try:
                check(backend, chosen)
            except ConformanceError as error:
                failure = str(error)
            except Exception as error:  # noqa: BLE001 - a third party's backend may raise anything
                failure = f"{type(error).__name__}: {' '.join(str(error).split())}"
            results.append(
                {"dtype": dtype, "check": check.__name__, "ok": not failure, "failure": failure}
            )
            if not as_json:
                mark = "ok  " if not failure else "FAIL"
                click.echo(
                    f"{mark} {dtype:9} {check.__name__.removeprefix('check_')}  {failure}".rstrip()
                )
    if as_json:
        click.echo(json.dumps(results))
    if not all(r["ok"] for r in results):
        context.exit(1)
