"""Writes docs/cli.md from the commands themselves: `python -m chaosgym.cli.reference [FILE]`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from typer.testing import CliRunner

from chaosgym.cli.program import make_program
from chaosgym.training.config import GrpoConfig, PpoConfig, PretrainConfig, SftConfig
from chaosgym.training.corpus.config import CorpusConfig

__all__ = ["main", "render"]

_CONFIGS: dict[tuple[str, ...], type[BaseModel]] = {
    ("corpus", "build"): CorpusConfig,
    ("train", "pretrain"): PretrainConfig,
    ("train", "sft"): SftConfig,
    ("train", "grpo"): GrpoConfig,
    ("train", "ppo"): PpoConfig,
}

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
        if path in _CONFIGS:
            parts.append(_keys(_CONFIGS[path]))
    return "".join(parts)


def _keys(config: type[BaseModel]) -> str:
    """The table of what a configuration file may hold."""
    rows = [f"| `{name}` | {_default(field)} | {_described(config, name)} |\n" for name, field in config.model_fields.items()]
    return f"\nThe file given as `--config`. {config.__doc__}\n\n| key | default | |\n|---|---|---|\n{''.join(rows)}"


def _described(config: type[BaseModel], name: str) -> str:
    """A field's description, or that of the class it was taken over from with another default."""
    classes = [kind for kind in config.__mro__ if issubclass(kind, BaseModel) and name in kind.model_fields]
    return next((" ".join(text.split()) for kind in classes if (text := kind.model_fields[name].description)), "")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default
    if isinstance(value, BaseModel):
        return f"`{{{', '.join(f'{key}: {inner}' for key, inner in value)}}}`"
    return "" if value in (None, ()) else f"`{value}`"


def main(arguments: list[str]) -> None:
    """Write the page to the file named, docs/cli.md by default."""
    target = Path(arguments[0] if arguments else "docs/cli.md")
    target.write_text(render(), encoding="utf-8")
    print(target)


if __name__ == "__main__":
    main(sys.argv[1:])
