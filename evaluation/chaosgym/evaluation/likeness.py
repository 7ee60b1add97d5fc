"""How alike are two runs of one plan? What a report says of them is compared cell by cell, what was seen symptom by symptom.

A cell is a column of a component's row in the report: its state, a level such as `err`, the kinds of its trouble, its
events. Names are the same for the same seed, because the plan is a function of the seed, so cells need no mapping. Two
runs of one plan on one sandbox are not the same either; how far those are apart is what any other distance is held
against.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from chaosgym.incident.vocabulary import BOUNDS, EVENT_WORDS, PLATFORM_WORDS, STATES

__all__ = ["COLUMNS", "Agreement", "Cells", "agreements", "distance", "one_sided", "overlap", "report_cells"]

COLUMNS: tuple[str, ...] = ("state", *(column for column in BOUNDS if column != "n"), "trouble", "platform", "events")
"""Of a component's row. `trouble` are the ways in which requests fail and what the log complains of, `platform` is what an
orchestrator says."""
_USUAL = "up"

Cells = Mapping[tuple[str, str], frozenset[str]]
"""By (component, column): the words there. A cell that says "as usual" is left out."""


def report_cells(rows: Mapping[str, Sequence[str]]) -> dict[tuple[str, str], frozenset[str]]:
    """The notable cells of a report's component rows (`Findings.rows`)."""
    found: dict[tuple[str, str], set[str]] = {}
    for component, words in rows.items():
        for word in words:
            if word != _USUAL:
                found.setdefault((component, _column(word)), set()).add(word)
    return {cell: frozenset(words) for cell, words in found.items()}


def _column(word: str) -> str:
    if word in STATES:
        return "state"
    if word in EVENT_WORDS:
        return "events"
    if word in PLATFORM_WORDS:
        return "platform"
    column = word.rstrip("0123456789")
    return column if column != word and column in BOUNDS else "trouble"


def distance(a: Cells, b: Cells) -> float:
    """Share of the cells in which at least one report says something, and they do not say the same; 0 where both are silent."""
    said = a.keys() | b.keys()
    return sum(a.get(cell) != b.get(cell) for cell in said) / len(said) if said else 0.0


def overlap(a: Collection[str], b: Collection[str]) -> float:
    """Jaccard's index of two sets; 1 where both are empty."""
    union = set(a) | set(b)
    return len(set(a) & set(b)) / len(union) if union else 1.0


class Agreement(NamedTuple):
    """One column over many pairs of reports."""

    rows: int
    """Pairs of rows of one component."""
    alike: int
    """In which both say the same, "as usual" included."""
    notable: int
    """In which at least one says something."""
    notable_alike: int

    @property
    def share(self) -> float:
        """Of all rows."""
        return self.alike / self.rows if self.rows else 1.0

    @property
    def notable_share(self) -> float | None:
        """Of those in which something is said; None where nothing is."""
        return self.notable_alike / self.notable if self.notable else None


@dataclass(frozen=True)
class _Pair:
    a: Cells
    b: Cells
    components: int


def agreements(pairs: Iterable[tuple[Cells, Cells, int]]) -> dict[str, Agreement]:
    """By column: how often rows agree, over pairs of (cells, cells, number of components)."""
    every = [_Pair(*pair) for pair in pairs]
    rows = sum(pair.components for pair in every)
    found: dict[str, Agreement] = {}
    for column in COLUMNS:
        notable = same = 0
        for pair in every:
            said = {cell for cell in pair.a.keys() | pair.b.keys() if cell[1] == column}
            notable += len(said)
            same += sum(pair.a.get(cell) == pair.b.get(cell) for cell in said)
        found[column] = Agreement(rows, rows - notable + same, notable, same)
    return found


def one_sided(a: Sequence[Collection[str]], b: Sequence[Collection[str]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What every one of `a` shows and none of `b`, and the other way round; empty with fewer than two of either, which say too little."""

    def always(these: Sequence[Collection[str]], those: Sequence[Collection[str]]) -> tuple[str, ...]:
        if min(len(these), len(those)) < 2:
            return ()
        shared = set(these[0]).intersection(*these[1:])
        return tuple(sorted(word for word in shared if not any(word in other for other in those)))

    return always(a, b), always(b, a)
