"""The command ``ssl-wb``: its subcommands, exit codes and error messages."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, NoReturn

import typer

from ssl_wb import __version__
from ssl_wb.cli import recipes, tasks
from ssl_wb.cli.average import average
from ssl_wb.cli.bench import bench
from ssl_wb.cli.check import check
from ssl_wb.cli.classify import classify
from ssl_wb.cli.compare import compare, diff
from ssl_wb.cli.doctor import doctor
from ssl_wb.cli.embed import embed
from ssl_wb.cli.encoder_folders import export_encoder, import_encoder
from ssl_wb.cli.evaluate import evaluate
from ssl_wb.cli.new_plugin import new_plugin
from ssl_wb.cli.pack import pack
from ssl_wb.cli.plugins import describe, list_plugins
from ssl_wb.cli.preview import preview
from ssl_wb.cli.schema import schema
from ssl_wb.cli.sweep import sweep
from ssl_wb.cli.train import train
from ssl_wb.cli.validate import validate
from ssl_wb.errors import ExitCode, WorkbenchError

__all__ = ["app", "main", "run"]

app = typer.Typer(
    name="ssl-wb",
    help="Pre-train, compare and ship self-supervised audio encoders.",
    epilog="Exit codes: 0 done, 1 unexpected, 2 usage, 3 recipe, 4 plugin, 5 training cannot go on, "
    "75 stopped and resumable, 130 interrupted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("train")(train)
app.command("sweep")(sweep)
app.command("validate")(validate)
app.command("evaluate")(evaluate)
app.command("compare")(compare)
app.command("diff")(diff)
app.command("embed")(embed)
app.command("check")(check)
app.command("classify")(classify)
app.command("import")(import_encoder)
app.command("average")(average)
app.command("export")(export_encoder)
app.command("pack")(pack)
app.command("preview")(preview)
app.command("bench")(bench)
app.add_typer(recipes.app, name="recipes")
app.add_typer(tasks.app, name="tasks")
app.command("schema")(schema)
app.command("list-plugins")(list_plugins)
app.command("describe")(describe)
app.command("new-plugin")(new_plugin)
app.command("doctor")(doctor)

# The parser's exception for wrong arguments. Older releases of typer use click, newer ones a copy of it inside typer;
# the class order of BadParameter leads to the base exception of either.
_ParserError: type[Exception] = typer.BadParameter.__mro__[2]


@dataclass
class _Invocation:
    """Options before the subcommand."""

    debug: bool = False


_invocation = _Invocation()


class _StderrHandler(logging.Handler):
    """Writes ``warning: MESSAGE``, and messages of level INFO without a prefix, to the current stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        level = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        typer.echo(level + self.format(record), err=True)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ssl-wb {__version__}")
        raise typer.Exit


@app.callback()
def _global_options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of a failure.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    del version  # handled by its callback
    _invocation.debug = debug


def main() -> NoReturn:
    """Run the command line and exit with a code of :class:`~ssl_wb.errors.ExitCode`."""
    # By default a waiting OpenMP thread spins for long. If another process, such as a data worker, needs its core, a
    # training step takes up to ten times as long; without any spinning a step on an idle machine takes a third longer.
    # This value is in between. OpenMP reads it when torch is imported, which is after this line.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    sys.exit(run())


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        arguments: words after ``ssl-wb``; from the command line unless given.
    """
    _invocation.debug = False
    # Results are never lost for a character that the terminal's encoding lacks; "?" stands for it.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace" if stream is sys.stdout else "backslashreplace")
    logger = logging.getLogger("ssl_wb")
    handler = _StderrHandler()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        words = list(sys.argv[1:] if arguments is None else arguments)
        code = typer.main.get_command(app).main(args=words, prog_name="ssl-wb", standalone_mode=False, obj=words)
        return int(code or ExitCode.DONE)
    except (KeyboardInterrupt, typer.Abort):
        typer.echo("interrupted", err=True)
        return ExitCode.INTERRUPTED
    except Exception as failure:
        if _invocation.debug:
            traceback.print_exception(failure)
        return _report(failure)
    finally:
        logger.removeHandler(handler)


def _report(failure: Exception) -> int:
    """Write what happened and what to do on stderr; return the exit code."""
    from ssl_wb.plugin.fault import described  # not at the top: --help does without pydantic

    failure = described(failure)
    message, hint, code = str(failure), "", int(ExitCode.UNEXPECTED)
    if isinstance(failure, WorkbenchError):
        message, hint, code = failure.message, failure.hint, int(failure.exit_code)
    elif isinstance(failure, _ParserError):
        message = failure.format_message()  # type: ignore[attr-defined]
        context = getattr(failure, "ctx", None)
        hint = f"{context.command_path} --help" if context else ""
        code = int(ExitCode.USAGE)
        if type(failure).__name__ == "NoArgsIsHelpError":  # its message is the help, unless rich has printed it
            if message.strip():
                typer.echo(message)
            return code
    else:
        message = f"{type(failure).__name__}: {' '.join(message.split())}"
        typer.echo(f"unexpected error: {message}; rerun with --debug for the traceback", err=True)
        if isinstance(failure, ImportError):
            typer.echo("hint: `ssl-wb doctor` checks what is installed", err=True)
        return code
    typer.echo(f"error: {message}", err=True)
    if hint:
        typer.echo(f"hint: {hint}", err=True)
    return code
