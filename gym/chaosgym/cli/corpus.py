"""`chaosgym corpus`: text to pre-train on."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chaosgym.cli.output import JsonOption, print_json, print_rows, talk

if TYPE_CHECKING:
    from chaosgym.training.corpus.report import Tally

__all__ = ["group"]

group = typer.Typer(help="Gather and clean text to pre-train on.", no_args_is_help=True, rich_markup_mode=None)


@group.callback()
def _group() -> None:
    """Gather and clean text to pre-train on."""


@group.command("build", epilog="Example: chaosgym corpus build --config corpus.yaml")
def build(
    config: Annotated[Path, typer.Option("--config", help="A YAML file; docs/cli.md lists what it may hold.")],
    as_json: JsonOption = False,
) -> None:
    """Read text from episodes, files, StackExchange dumps and the hub; drop what repeats or is of no use; scrub secrets.

    Episodes of any split but `train` are refused. The same command again shows a finished corpus without building it.
    """
    from chaosgym.document import read_document
    from chaosgym.training.corpus.config import CorpusConfig

    settings = read_document(config, CorpusConfig)
    from chaosgym.training.corpus.build import build_corpus

    began = time.monotonic()
    with _bar() as on_document:
        report = build_corpus(settings, on_document)
    if as_json:
        print_json(report)
        return
    rows = [{"source": name, **tally} for name, tally in report["sources"].items()]
    for row in rows:
        row |= {key: [f"{count} {reason}" for reason, count in row[key].items()] for key in ("dropped", "scrubbed")}
    print_rows(rows, ("source", "documents", "kept", "dropped", "scrubbed"))
    talk(f"{settings.out}: {report['bytes'] / 1e6:.1f} MB in {time.monotonic() - began:.1f} s; what was dropped stands in report.md")


@contextmanager
def _bar() -> Generator[Callable[[str, Tally], None]]:
    """A line that moves on a terminal; elsewhere one every ten thousand documents."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        job = bar.add_task("reading", total=None)

        def on_document(name: str, tally: Tally) -> None:
            bar.update(job, description=f"{name}: {tally.kept} of {tally.documents} kept")
            if not console.is_terminal and tally.documents % 10_000 == 0:
                talk(f"{name}: {tally.kept} of {tally.documents} kept")

        yield on_document
