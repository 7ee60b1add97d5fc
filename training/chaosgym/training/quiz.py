"""What a nano model reads before it ever diagnoses: reports, and exercises in finding again what stands in them.

    <report>
    = c7 service err0 lat1 cpu5          a row from its first word
    = fail4 c23                          whose row has this rare word
    = c5 < c8 c12                        who calls it

A model that answers such questions has learnt that handles are names, that a row belongs to its first word and that
arrows are followed: the circuits that a diagnosis needs. Nothing here knows what was broken.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from chaosgym.incident.vocabulary import HANDLES, SECTIONS

__all__ = ["ask", "exercises"]

_HANDLES = frozenset(HANDLES)
_SECTIONS = frozenset(SECTIONS)
_LONGEST = 8

Row = tuple[str, list[str]]
"""Section and words."""


def exercises(report: str, count: int, seed: int) -> str:
    """`report` followed by `count` questions with their answers, one per line."""
    rng = random.Random(f"quiz {seed}")
    rows = _rows(report)
    asked = dict.fromkeys(line for _ in range(3 * count) if (line := ask(rows, rng)))
    return "\n".join([report, *list(asked)[:count]])


def ask(rows: Sequence[Row], rng: random.Random) -> str:
    """One question and its answer; an empty string where this kind of question has none in this report."""
    kinds: tuple[Callable[[Sequence[Row], random.Random], str], ...] = (_recite, _recite, _whose, _whose, _callers, _callees, _among)
    return rng.choice(kinds)(rows, rng)


def _rows(report: str) -> list[Row]:
    section, rows = "", list[Row]()
    for line in report.split("\n"):
        words = line.split(" ")
        if len(words) == 1 and words[0] in _SECTIONS:
            section = words[0]
        elif len(words) > 1 and words[0] in _HANDLES:
            rows.append((section, words))
    return rows


def _recite(rows: Sequence[Row], rng: random.Random) -> str:
    """A component's row, from its handle."""
    own = [words for section, words in rows if section == "components"]
    return "= " + " ".join(rng.choice(own)[:_LONGEST]) if own else ""


def _whose(rows: Sequence[Row], rng: random.Random) -> str:
    """The handle in front of a word that stands in one row alone."""
    owners: dict[str, set[str]] = {}
    for section, words in rows:
        if section == "components":
            for word in words[1:]:
                owners.setdefault(word, set()).add(words[0])
    single = sorted(word for word, who in owners.items() if len(who) == 1)
    if not single:
        return ""
    word = rng.choice(single)
    return f"= {word} {next(iter(owners[word]))}"


def _arrows(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Caller and callee of every edge."""
    edges = [words for section, words in rows if section == "edges" and len(words) > 2 and words[1] == ">"]
    return [(words[0], word) for words in edges for word in words[2:] if word in _HANDLES]


def _callers(rows: Sequence[Row], rng: random.Random) -> str:
    """A component that calls another, from the one that is called."""
    arrows = _arrows(rows)
    if not arrows:
        return ""
    _, callee = rng.choice(arrows)
    callers = [a for a, b in arrows if b == callee]
    return f"= {callee} edges {' '.join(callers[:_LONGEST])}"


def _callees(rows: Sequence[Row], rng: random.Random) -> str:
    """What a component calls."""
    arrows = _arrows(rows)
    if not arrows:
        return ""
    caller, _ = rng.choice(arrows)
    return f"= {caller} > {' '.join([b for a, b in arrows if a == caller][:_LONGEST])}"


def _among(rows: Sequence[Row], rng: random.Random) -> str:
    """The log lines' speaker, from the words of a line."""
    logs = [words for section, words in rows if section == "logs" and len(words) > 4]
    if not logs:
        return ""
    words = rng.choice(logs)
    return f"= logs {' '.join(words[4:_LONGEST])} {words[0]}"
