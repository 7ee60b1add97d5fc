"""A page of bounded length: what a tool answers is cut at its budget, and says so."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["CHARACTERS_PER_TOKEN", "cut", "shorten"]

CHARACTERS_PER_TOKEN = 3.5
_MAX_LINE = 240
_MARKER = 80
"""Room kept for the line that says what was left out."""


def cut(lines: Sequence[str], characters: int, hint: str) -> str:
    """The first `lines` that fit into `characters`, each at most 240 long; `hint` tells how to ask for less."""
    kept: list[str] = []
    room = characters - _MARKER - len(hint)
    for i, line in enumerate(lines):
        line = shorten(line)
        room -= len(line) + 1
        if room < 0:
            kept.append(f"[cut here: {len(lines) - i} of {len(lines)} lines left out; {hint}]")
            break
        kept.append(line)
    return "\n".join(kept)[:characters]


def shorten(line: str) -> str:
    """A line as a page shows it: on one row, at most 240 characters long."""
    line = line.replace("\n", " ")
    return line if len(line) <= _MAX_LINE else f"{line[: _MAX_LINE - 2]} …"
