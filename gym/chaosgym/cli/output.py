"""How results leave: JSON for programs, a Rich table on a terminal, aligned plain lines anywhere else."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["JsonOption", "print_json", "print_rows", "talk", "write_new"]

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout instead of a table.")]
"""The same on every command that reports."""


def print_json(value: Any) -> None:
    """One JSON document on stdout; NaN is not JSON and raises ValueError."""
    print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def talk(text: str) -> None:
    """A line for people, on stderr."""
    print(text, file=sys.stderr, flush=True)


def write_new(path: Path, text: str) -> None:
    """Write a file that is not there yet. InputError when it is, or when it cannot be written."""
    from chaosgym.errors import InputError

    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise InputError(f"{path}: exists already; give another name or remove it first") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); check the folder and its permissions") from error


def print_rows(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """A table of `columns` on stdout; a missing value is empty, a sequence is joined by commas."""
    cells = [[_cell(row.get(column)) for column in columns] for row in rows]
    if sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
        _print_table(cells, columns)
    else:
        _print_plain([[c.upper() for c in columns], *cells])


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _print_table(cells: Sequence[Sequence[str]], columns: Sequence[str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=None, header_style="bold", pad_edge=False)
    for row in cells:
        table.add_row(*map(Text, row))  # Text: a bracket in data is no markup
    Console().print(table)


def _print_plain(cells: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
