"""The `hwprof` command, its exit codes and its one-line errors.

Exit codes: 0 ok; 1 the verdict is negative or some rows failed; 2 usage or a HwprofError;
130 interrupted and sealed.
"""

from __future__ import annotations

import os
import sys

import click

from hwprof import __version__
from hwprof.cli.backends import backends
from hwprof.cli.build import build_lut
from hwprof.cli.check_backend import check_backend
from hwprof.cli.design_supernet import design_supernet
from hwprof.cli.doctor import doctor
from hwprof.cli.fit_predictor import fit_predictor
from hwprof.cli.lut import lut
from hwprof.cli.make_interpreter import make_interpreter
from hwprof.cli.offline import export_jobs, import_results
from hwprof.cli.pareto import pareto
from hwprof.cli.predict import predict
from hwprof.cli.report import report
from hwprof.cli.sample import sample
from hwprof.cli.scale import scale
from hwprof.cli.search import search
from hwprof.cli.spaces import spaces
from hwprof.cli.transfer import transfer
from hwprof.cli.validation import calibrate, validate
from hwprof.errors import HwprofError

EXIT_ERROR = 2
EXIT_INTERRUPTED = 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="hwprof")
def cli() -> None:
    """Measure every op of a neural-architecture search space on this machine, and use the table.

    Exit codes: 0 ok, 1 a negative verdict or failed rows, 2 wrong usage or input, 130 interrupted.

    \b
    Example:
      hwprof build-lut --backend onnxruntime --space tiny --out lut.parquet
      hwprof lut show lut.parquet
    """


for command in (build_lut, spaces, backends, check_backend, make_interpreter, doctor, lut,
                export_jobs, import_results, calibrate, validate, design_supernet, scale, report,
                search, fit_predictor, predict, transfer, sample, pareto):  # fmt: skip
    cli.add_command(command)


def main() -> None:
    """Run the command line; never returns."""
    try:
        code = cli.main(standalone_mode=False)
    except HwprofError as error:
        click.echo(f"hwprof: error: {' '.join(str(error).split())}", err=True)
        sys.exit(EXIT_ERROR)
    except click.ClickException as error:
        where = getattr(error, "ctx", None)
        command = where.command_path if where is not None else "hwprof"
        message = " ".join(error.format_message().split())
        click.echo(f"hwprof: error: {message} See: {command} --help", err=True)
        sys.exit(EXIT_ERROR)
    except (click.Abort, KeyboardInterrupt):
        click.echo("hwprof: interrupted", err=True)
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        # The reader (head, less) went away: not an error of ours. Silence the flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_ERROR)
    sys.exit(code if isinstance(code, int) else 0)
