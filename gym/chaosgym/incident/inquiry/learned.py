"""What an investigation has learned: the findings of an episode, narrowed to what the answers to its questions say.

An agent that reasons over findings (rules, signatures) sees here no more than one that reads the answers: of each component and
of each flow of calls whether its figures stand there, of each finding in a log whether a row does, and events that are listed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from chaosgym.incident.findings import Findings
from chaosgym.incident.inquiry.evidence import Evidence
from chaosgym.incident.inquiry.logs import LogQuery, is_told
from chaosgym.incident.inquiry.metrics import MetricQuery, call_title, own_figures
from chaosgym.incident.inquiry.page import shorten
from chaosgym.incident.inquiry.public import EventQuery, event_row
from chaosgym.incident.inquiry.tools import Call
from chaosgym.telemetry.signals import ComponentSignals, EdgeSignals, Signals

__all__ = ["learned"]


def learned(evidence: Evidence, answered: Sequence[tuple[Call, str]]) -> Findings:
    """The part of `evidence.findings` that the texts of `answered` contain; the alert is known from the start.

    Of metrics only those of a component count, not a single figure of many.
    """
    whole = evidence.findings
    figures: dict[str, list[str]] = {}
    logs: list[str] = []
    events: set[str] = set()
    for call, text in answered:
        if isinstance(call.query, MetricQuery) and call.query.component is not None:
            figures.setdefault(call.query.component, []).extend(text.splitlines())
        elif isinstance(call.query, LogQuery):
            logs.append(text)
        elif isinstance(call.query, EventQuery):
            events.update(text.splitlines())
    return Findings(
        signals=Signals(_components(whole.signals, figures), _edges(whole.signals, figures)),
        alert=whole.alert,
        logs=tuple(log for log in whole.logs if any(is_told(log.component, log.severity, log.example, text) for text in logs)),
        events=tuple(event for event in whole.events if shorten(event_row(event)) in events),
        rows={},
        edge_rows={},
    )


def _components(whole: Signals, figures: Mapping[str, Sequence[str]]) -> dict[str, ComponentSignals]:
    """Those whose own figures stand in an answer down to the last."""
    last = {name: [title for title, _ in own_figures(whole.components[name])][-1] for name in figures}
    return {name: whole.components[name] for name, lines in figures.items() if _has(lines, last[name])}


def _edges(whole: Signals, figures: Mapping[str, Sequence[str]]) -> dict[tuple[str, str], EdgeSignals]:
    return {
        pair: edge
        for pair, edge in whole.edges.items()
        if any(name in pair and _has(lines, call_title(pair, name)) for name, lines in figures.items())
    }


def _has(lines: Sequence[str], title: str) -> bool:
    return any(line.startswith(f"{title}: ") for line in lines)
