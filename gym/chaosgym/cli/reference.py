"""Writes docs/cli.md from the commands themselves: `python -m chaosgym.cli.reference [FILE]`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import typer
from typer.testing import CliRunner

from chaosgym.cli.program import make_program

__all__ = ["main", "render"]

_HEAD = """# Command line

Written by `python -m chaosgym.cli.reference` from the commands under `gym/chaosgym/cli/`.

Data goes to stdout, talk to stderr. Everything that lists or reports takes `--json`; a list is an array of objects with
at least `name`. Without a terminal, or with `TERM=dumb`, tables are plain aligned lines; `NO_COLOR` is respected.

| exit code | means |
|---|---|
| 0 | done |
| 1 | a check failed, or a bug (then with a traceback) |
| 2 | wrong usage or input: the message says what, what is allowed and what to do |
| 3 | something is missing on this machine, or the machinery failed; every episode was unscorable |
| 130 | interrupted |
"""


def _commands(program: typer.Typer, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for command in program.registered_commands:
        yield (*path, command.name or "")
    for group in program.registered_groups:
        if group.typer_instance is not None:
            yield from _commands(group.typer_instance, (*path, group.name or ""))


def render() -> str:
    """The page: the help of every command as it is printed 80 columns wide."""
    program, runner = make_program(), CliRunner()
    parts = [_HEAD]
    for path in _commands(program):
        shown = runner.invoke(program, [*path, "--help"], prog_name="chaosgym", env={"COLUMNS": "80", "TERM": "dumb", "NO_COLOR": "1"})
        title = " ".join(("chaosgym", *path))
        parts.append(f"\n## {title}\n\n```text\n{shown.output.strip()}\n```\n")
    return "".join(parts)


def main(arguments: list[str]) -> None:
    """Write the page to the file named, docs/cli.md by default."""
    target = Path(arguments[0] if arguments else "docs/cli.md")
    target.write_text(render(), encoding="utf-8")
    print(target)


if __name__ == "__main__":
    main(sys.argv[1:])
