"""Confusion: what an agent takes each fault for, as lines that stay readable with thirty kinds of faults."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from chaosgym.evaluation.measures import by_label
from chaosgym.evaluation.row import Row
from chaosgym.evaluation.tables import Table

__all__ = ["confusion_counts", "confusion_table"]


def confusion_counts(rows: Sequence[Row]) -> dict[str, dict[str, int]]:
    """True label -> label named first -> how often, the most frequent first; whatever the component."""
    return {label: dict(Counter(row.said_label for row in of).most_common()) for label, of in by_label(rows).items()}


def confusion_table(agent: str, rows: Sequence[Row]) -> Table:
    """A line for each true label: how often it was named, at the right component too, and what it was taken for."""
    counts, right = confusion_counts(rows), {label: sum(row.both1 for row in of) for label, of in by_label(rows).items()}
    lines = tuple(
        (label, str(sum(said.values())), str(said.get(label, 0)), str(right[label]), _others(label, said)) for label, said in counts.items()
    )
    head = ("what it was", "episodes", "fault right", "component too", "taken for")
    return Table(f"What `{agent}` takes for what", head, lines)


def _others(label: str, said: dict[str, int]) -> str:
    return ", ".join(f"{other} {count}" for other, count in said.items() if other != label) or "-"
