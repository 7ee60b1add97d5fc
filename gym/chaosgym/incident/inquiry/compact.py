"""Answers for small models: closed words in fixed columns, components by handle, as in the compact report.

    {"tool": "metrics", "arguments": {"component": "c8"}}
    c8 gateway up err3 fail3 server c8
    c8 > c23 fail4 refused
    = 0.2

A page of 600 tokens with names made of many tokens each leaves a model of a few million parameters no room for a second
one. These take about 30, and say what the readable ones say in buckets; the last row is the share
of the budget that is gone, in tenths. Times are not told, so `since` and `until` do nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from chaosgym.incident.compact import estimate_tokens, log_rows
from chaosgym.incident.inquiry.evidence import Evidence
from chaosgym.incident.inquiry.lines import SEVERITIES
from chaosgym.incident.inquiry.logs import LogQuery
from chaosgym.incident.inquiry.metrics import MetricQuery
from chaosgym.incident.inquiry.public import EventQuery, Query
from chaosgym.incident.inquiry.spans import Span
from chaosgym.incident.inquiry.traces import TraceQuery, chosen_requests
from chaosgym.incident.platform import event_meaning
from chaosgym.incident.rows import alert_words, component_words, edge_words, event_words, kind_word
from chaosgym.telemetry.signals import EDGE

__all__ = ["alert_row", "compact_page"]

_USERS = "user"
_MOST_CALLS = 12
"""Rows of one request."""
Named = Mapping[str, str]
"""Component name -> handle."""


def alert_row(evidence: Evidence, handles: Mapping[str, str]) -> str:
    """What users see, and where they come in."""
    alert, named = evidence.findings.alert, _named(handles)
    return " ".join(["alert", *alert_words(alert), *([named[alert.entry]] if alert.entry in named else [])])


def compact_page(evidence: Evidence, handles: Mapping[str, str], tool: str, query: Any, tokens: int) -> str:
    """The answer of `tool` to `query`, which goes by real names, in at most about `tokens` tokens; `more` ends one that was cut."""
    kept: list[str] = []
    left = tokens
    for row in _TELL[tool](evidence, _named(handles), query):
        left -= estimate_tokens(row) + 1
        if left < 0:
            return "\n".join([*kept, "more"])
        kept.append(row)
    return "\n".join(kept or ["none"])


def _named(handles: Mapping[str, str]) -> dict[str, str]:
    return {name: handle for handle, name in handles.items()}


def _topology(evidence: Evidence, named: Named, query: Query) -> Iterator[str]:
    header = evidence.header
    if header.entry in named:
        yield f"{_USERS} > {named[header.entry]}"
    for component in header.components:
        if component.name in named:
            targets = [named[edge.target] for edge in header.edges if edge.source == component.name and edge.target in named]
            yield " ".join([named[component.name], kind_word(component.kind), *([">", *targets] if targets else [])])


def _alerts(evidence: Evidence, named: Named, query: Query) -> Iterator[str]:
    alert = evidence.findings.alert
    if alert.entry in named:
        yield " ".join([_USERS, ">", named[alert.entry], *alert_words(alert)])


def _events(evidence: Evidence, named: Named, query: EventQuery) -> Iterator[str]:
    for event in evidence.findings.events:
        words = [*event_words([event]), *event_meaning(event)]
        if words and event.component in named and query.component in (None, event.component):
            yield " ".join([named[event.component], *words])


def _metrics(evidence: Evidence, named: Named, query: MetricQuery) -> Iterator[str]:
    signals = evidence.findings.signals
    chosen = [name for name in named if query.component in (None, name)]
    for name in chosen:
        component = signals.components[name]
        words = [word for word in component_words(component, signals, (), ()) if word.startswith(query.metric or "")]
        if words:
            yield " ".join([named[name], kind_word(component.kind), *words, named[name]])
    for (source, target), edge in signals.edges.items():
        words = [word for word in edge_words(edge) if word.startswith(query.metric or "")]
        if words and source in named and target in named and (source in chosen or target in chosen):
            yield " ".join([named[source], ">", named[target], *words])


def _logs(evidence: Evidence, named: Named, query: LogQuery) -> Iterator[str]:
    grave = SEVERITIES if query.severity is None else SEVERITIES[SEVERITIES.index(query.severity):]
    part = (query.contains or "").casefold()
    found = tuple(
        log for log in evidence.findings.logs
        if query.component in (None, log.component) and log.severity in grave and part in log.example.casefold()
    )
    order = random.Random(f"logs {evidence.header.id} {query}")
    yield from log_rows(replace(evidence.findings, logs=found), named, order)[: query.limit]


def _traces(evidence: Evidence, named: Named, query: TraceQuery) -> Iterator[str]:
    """The calls of each request, outermost first: how one failed, and `slow` where it took half of the request or more."""
    for request in chosen_requests(evidence, query)[1]:
        calls = (span for span in request.spans if span.kind in ("client", "producer"))
        rows = dict.fromkeys(row for span in calls if (row := _call(span, request.root, named)))
        yield from list(rows)[:_MOST_CALLS]


def _call(span: Span, root: Span, named: Named) -> str:
    source = _USERS if span.component == EDGE else named.get(span.component, "")
    if not source or span.peer not in named:
        return ""
    slow = ["slow"] if 2 * span.took >= root.took else []
    return " ".join([source, ">", named[span.peer], *span.failure.split(" ")[:1 if span.failure else 0], *slow])


_TELL: Mapping[str, Callable[[Evidence, Named, Any], Iterable[str]]] = {
    "topology": _topology, "alerts": _alerts, "events": _events, "metrics": _metrics, "logs": _logs, "traces": _traces,
}
