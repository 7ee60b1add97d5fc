"""Heat maps as HTML tables: which fault is found by whom, and what is taken for what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape

from chaosgym.evaluation.measures import by_label
from chaosgym.evaluation.row import INVALID, OTHER, Row

__all__ = ["confusion_heat", "fault_heat"]


def fault_heat(agents: Mapping[str, Sequence[Row]]) -> str:
    """Accuracy per true fault (a line each) and agent."""
    labelled = {name: by_label(rows) for name, rows in agents.items()}
    counts = {label: len(rows) for label, rows in next(iter(labelled.values())).items()}
    lines = [
        f'<tr><th>{escape(label)}</th><td class="count">{n}</td>'
        + "".join(_cell(sum(row.both1 for row in of[label]) / n, right=True) for of in labelled.values())
        + "</tr>"
        for label, n in counts.items()
    ]
    return _table(("fault", "episodes"), list(agents), lines)


def confusion_heat(rows: Sequence[Row]) -> str:
    """Which fault (a line each) is called what, as shares of the line; the diagonal is right, whatever the component."""
    labelled = by_label(rows)
    said = {row.said_label for row in rows}
    columns = [*labelled, *sorted(said - labelled.keys() - {OTHER, INVALID}), *(label for label in (OTHER, INVALID) if label in said)]
    lines = [
        f'<tr><th>{escape(label)}</th><td class="count">{len(of)}</td>{_shares(label, of, columns)}</tr>'
        for label, of in labelled.items()
    ]
    return _table(("true fault", "episodes"), columns, lines)


def _shares(label: str, rows: Sequence[Row], columns: Sequence[str]) -> str:
    counts = Counter(row.said_label for row in rows)
    return "".join(_cell(counts[column] / len(rows), right=column == label, quiet=True) for column in columns)


def _cell(share: float, right: bool, quiet: bool = False) -> str:
    kind = ' class="right"' if right else ""
    text = "" if quiet and share == 0 else f"{share:.2f}"
    return f'<td{kind} style="--heat:{share:.3f}">{text}</td>'


def _table(names: Sequence[str], columns: Sequence[str], lines: Sequence[str]) -> str:
    tilted = "".join(f'<th class="tilt"><span>{escape(column)}</span></th>' for column in columns)
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    return f'<div class="scroll"><table class="heat"><thead><tr>{head}{tilted}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'
