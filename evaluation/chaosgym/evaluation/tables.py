"""Tables: what a result or a comparison says, as cells; written as Markdown here and as HTML by the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from chaosgym.agents.shortcuts import SHORTCUTS
from chaosgym.evaluation.asking import by_budget, mean_of
from chaosgym.evaluation.calibration import calibration_error
from chaosgym.evaluation.ceiling import best_shortcuts
from chaosgym.evaluation.measures import Measure, by_label, latency, measure, summarise
from chaosgym.evaluation.row import Row
from chaosgym.evaluation.statistics import Interval

if TYPE_CHECKING:
    from chaosgym.evaluation.compare import Comparison
    from chaosgym.evaluation.result import EvaluationResult

__all__ = [
    "Table",
    "budget_table",
    "comparison_markdown",
    "comparison_table",
    "detail_table",
    "headline_table",
    "result_markdown",
    "split_table",
    "with_interval",
]

NONE = "-"
_TITLES = {
    "accuracy": "accuracy", "component@1": "component", "fault@1": "fault", "both@1": "both", "both@3": "both@3",
    "false_alarm": "false alarms", "hallucination": "halluc.", "invalid": "invalid", "reward": "reward",
}  # fmt: skip
_INTERVALS = ("accuracy", "component@1", "fault@1", "both@1")
"""Columns of the headline that show Wilson's interval as well."""


class Table(NamedTuple):
    """Cells as text, the first column being names."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    def to_markdown(self) -> str:
        """Aligned, so that it reads on a terminal as well."""
        cells = [[cell.replace("|", "\\|") for cell in row] for row in (self.head, *self.rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        rule = "|" + "|".join("-" * (width + 2) if i == 0 else "-" * (width + 1) + ":" for i, width in enumerate(widths)) + "|"
        lines = ["| " + " | ".join(_pad(row, widths)) + " |" for row in cells]
        body = "\n".join([lines[0], rule, *lines[1:]])
        return f"### {self.title}\n\n{body}" + (f"\n\n{self.note}" if self.note else "")


def _pad(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [cell.ljust(width) if i == 0 else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths, strict=True))]


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:.3f}"


def _span(interval: Interval | None, sign: str = "") -> str:
    return NONE if interval is None else f"[{interval.low:{sign}.2f}, {interval.high:{sign}.2f}]"


def with_interval(found: Measure) -> str:
    """`0.812 [0.76, 0.85]`."""
    return f"{_number(found.value)} {_span(found.interval)}" if found.interval else _number(found.value)


def _seconds(value: float) -> str:
    if value < 1e-4:
        return "<0.1 ms"
    return f"{value * 1e3:.3g} ms" if value < 1 else f"{value:.3g} s"


def headline_table(agents: Mapping[str, Sequence[Row]]) -> Table:
    """One line per agent."""
    head = ("agent", *_TITLES.values(), "p50", "p95")
    rows = tuple((name, *_headline(of), *map(_seconds, latency(of))) for name, of in agents.items())
    note = (
        "accuracy: the right fault at the right component, or healthy where nothing is broken. component, fault, both: broken episodes, "
        "first answer. False alarms: healthy episodes. [ ]: 95 % interval (Wilson). p50, p95: time to answer."
        + "".join(f" {best.sentence[0].upper()}{best.sentence[1:]}." for best in best_shortcuts(agents))
    )
    return Table("Agents", head, rows, note)


def _headline(rows: Sequence[Row]) -> list[str]:
    found = {name: measure(rows, name) for name in _TITLES}
    return [with_interval(m) if name in _INTERVALS else _number(m.value) for name, m in found.items()]


def detail_table(name: str, rows: Sequence[Row]) -> Table:
    """All measures of one agent with both intervals."""
    lines = tuple((title, _number(m.value), _span(m.interval), _span(m.clustered), str(m.n)) for title, m in summarise(rows).items())
    lines += (("calibration error", _number(calibration_error(rows)), NONE, NONE, str(len(rows))),)
    note = "95 %: on these scenarios with other seeds. By scenario: on other scenarios like these; - where they do not differ."
    return Table(f"All measures of {name}", ("measure", "value", "95 %", "95 % by scenario", "episodes"), lines, note)


def split_table(agents: Mapping[str, Sequence[Row]]) -> Table | None:
    """Accuracy per split; None when there is but one."""
    splits = sorted({row.split for rows in agents.values() for row in rows})
    if len(splits) < 2:
        return None
    lines = tuple((name, *(_accuracy([r for r in rows if r.split == split]) for split in splits)) for name, rows in agents.items())
    return Table("Accuracy by split", ("agent", *splits), lines)


def _accuracy(rows: Sequence[Row]) -> str:
    return with_interval(measure(rows, "accuracy"))


def fault_table(agents: Mapping[str, Sequence[Row]]) -> Table:
    """Accuracy per true fault."""
    labelled = {name: by_label(rows) for name, rows in agents.items()}
    first = next(iter(labelled.values()))
    lines = tuple(
        (label, str(len(rows)), *(_number(measure(of[label], "accuracy").value) for of in labelled.values()))
        for label, rows in first.items()
    )
    return Table("Accuracy by fault", ("fault", "episodes", *labelled), lines)


def budget_table(rows: Sequence[Row]) -> Table | None:
    """How much an investigator gets right with how much asking; None for an agent that reads reports."""
    points = by_budget(rows)
    if not points:
        return None
    lines = tuple((f"{point.most}", f"{point.answered:.3f}", f"{point.accuracy:.3f}") for point in points)
    note = f"Calls per episode {mean_of(rows, 'calls'):.1f}, which cost {mean_of(rows, 'spent'):.1f}, on average."
    return Table("Success by budget", ("cost at most", "submitted", "and right"), lines, note)


def comparison_table(found: Comparison) -> Table:
    """All measures of both, with the difference and whether it may be luck."""
    rows = tuple(
        (
            name, _number(p.a), _number(p.b), f"{p.difference:+.3f}", _span(p.interval, "+"), _span(p.clustered, "+"),
            NONE if p.only_a is None else f"{p.only_a} / {p.only_b}", NONE if p.p is None else f"{p.p:.2g}", str(p.n),
        )
        for name, p in found.measures.items()
    )  # fmt: skip
    head = ("measure", f"A: {found.a}", f"B: {found.b}", "B - A", "95 %", "95 % by scenario", "only A / only B", "p", "episodes")
    note = "95 %: paired bootstrap over episodes, or over scenarios. p: McNemar's exact test."
    if found.unpaired:
        note += f" {found.unpaired} answers to episodes that the other did not get are left out."
    return Table("Pair by pair", head, rows, note)


def result_markdown(result: EvaluationResult) -> str:
    """All tables of one result."""
    out = result.excluded
    left = f"{len(result.rows)} of {result.given} episodes scored; {len(out.unscorable)} unscorable, {len(out.invisible)} invisible"
    everyone = result.agents
    few = {name: rows for name, rows in everyone.items() if name == result.agent or name not in SHORTCUTS}
    rows = result.rows
    tables = [headline_table(everyone), detail_table(result.agent, rows), split_table(everyone), fault_table(few), budget_table(rows)]
    return "\n\n".join([f"## Evaluation of {result.agent}\n\n{left}", *(table.to_markdown() for table in tables if table)])


def comparison_markdown(found: Comparison) -> str:
    """The sentence and the table."""
    return f"## {found.a} against {found.b}\n\n{found.sentence}\n\n{comparison_table(found).to_markdown()}"
