"""The program itself: every noun put together, and the one place where errors become exit codes."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from chaosgym.cli import (
    apps,
    clean,
    corpus,
    doctor,
    episodes,
    evaluate,
    faults,
    fleet,
    foreign,
    image,
    investigate,
    record,
    rescore,
    run,
    sandboxes,
    scenario,
    train,
)
from chaosgym.cli.output import talk
from chaosgym.errors import ChaosgymError
from chaosgym.extras import install_line

__all__ = ["main", "make_program"]

_START = "Start with: chaosgym doctor, then: chaosgym run process-crash"
_ALIASES = {"fault": "faults"}
"""Nouns that people write instead of ours; help does not list them."""


class _Program(TyperGroup):
    """The top of the command line."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        return super().resolve_command(ctx, [_ALIASES.get(args[0], args[0]), *args[1:]])


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"chaosgym {version('chaosgym')}")
        raise typer.Exit


def _global_options(
    show: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")] = False,
    faults: Annotated[
        list[Path] | None, typer.Option(metavar="FILE.py", help="A fault of your own, for this command; may be repeated.")
    ] = None,
) -> None:
    """Break real services, record what happens, and train language models to say why."""
    if faults:
        from chaosgym.faults.own import load_file

        for path in faults:
            load_file(path)


def make_program() -> typer.Typer:
    """All commands, in the order of a first visit."""
    program = typer.Typer(
        cls=_Program, no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, epilog=_START,
    )
    program.callback()(_global_options)
    program.command("doctor", epilog=doctor.EXAMPLE)(doctor.doctor)
    program.command("quickstart", epilog=train.QUICKSTART_EXAMPLE)(train.quickstart)
    program.add_typer(faults.group, name="faults")
    program.add_typer(apps.group, name="apps")
    program.add_typer(scenario.group, name="scenario")
    program.command("run", epilog=run.EXAMPLE)(run.run)
    program.command("record", epilog=record.EXAMPLE)(record.record)
    program.add_typer(episodes.group, name="episodes")
    program.command("investigate", epilog=investigate.EXAMPLE)(investigate.investigate)
    program.add_typer(sandboxes.group, name="sandbox")
    program.add_typer(foreign.group, name="foreign")
    program.add_typer(fleet.group, name="fleet")
    program.add_typer(image.group, name="image")
    program.command("clean", epilog=clean.EXAMPLE)(clean.clean)
    program.add_typer(corpus.group, name="corpus")
    program.add_typer(train.group, name="train")
    program.command("rescore", epilog=rescore.EXAMPLE)(rescore.rescore)
    program.command("eval", epilog=evaluate.EVAL_EXAMPLE)(evaluate.evaluate)
    program.command("compare", epilog=evaluate.COMPARE_EXAMPLE)(evaluate.compare)
    return program


def main() -> None:
    """Run the command line and exit with its code; a bug keeps its traceback, a user's mistake has none."""
    try:
        make_program()(prog_name="chaosgym")
    except ChaosgymError as error:
        talk(f"error: {error}")
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        line = install_line(error.name or "")
        if line is None:
            raise
        talk(f"error: this command needs the package {(error.name or '').split('.')[0]!r}, which is not installed; run: {line}")
        sys.exit(3)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the interpreter's last flush complains
        sys.exit(1)
