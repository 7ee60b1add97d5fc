"""The tools that need no question: the topology, what users suffer, and what happened to components."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from chaosgym.incident.findings import EventFinding
from chaosgym.incident.inquiry.evidence import Evidence
from chaosgym.incident.inquiry.figures import flow, moment
from chaosgym.incident.inquiry.spans import Span
from chaosgym.incident.readable import alert_sentence
from chaosgym.telemetry.signals import EDGE

__all__ = ["EventQuery", "Query", "Seconds", "event_row", "show_alerts", "show_events", "show_topology"]

Seconds = Annotated[float | None, Field(allow_inf_nan=False)]
"""From the end of the baseline window."""


class Query(BaseModel):
    """Arguments of a tool; this one takes none. What is not named here is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class EventQuery(Query):
    """Arguments of `events`."""

    component: str | None = None
    """Only of this component."""
    since: Seconds = None
    """Not before so many seconds after the end of the baseline window (negative is within it)."""
    until: Seconds = None
    """Not after."""


def show_topology(evidence: Evidence, query: Query) -> list[str]:
    """One line per component with its kind, version and whom it calls; the entry is marked."""
    header = evidence.header
    calls = {name: [edge.target for edge in header.edges if edge.source == name] for name in evidence.names}
    return [
        f"{c.name} ({', '.join(part for part in (c.kind, c.version, 'users enter here' * (c.name == header.entry)) if part)})"
        + (f" calls {', '.join(calls[c.name])}" if calls[c.name] else "")
        for c in header.components
    ]


def show_alerts(evidence: Evidence, query: Query) -> list[str]:
    """What users see: all of their requests together, then route by route, the worst first."""
    alert = evidence.findings.alert
    return [alert_sentence(alert), f"users -> {alert.entry}: {flow(alert.calls)}", *_routes(evidence)]


def _routes(evidence: Evidence) -> list[str]:
    entry = evidence.header.entry
    users = [span for span in evidence.spans if span.component == EDGE and span.kind == "client"]
    served = users or [span for span in evidence.spans if span.component == entry and span.kind == "server"]
    start = (evidence.header.incident.start - evidence.header.baseline.end) / 1e9
    routes: dict[str, tuple[list[Span], list[Span]]] = {}
    for span in served:
        if span.seconds < 0 or span.seconds >= start:
            routes.setdefault(span.name, ([], []))[span.seconds >= 0].append(span)
    rows = sorted(((_growth(*parts), name) for name, parts in routes.items()), key=lambda row: (-row[0], row[1]))
    return [f"{name}: {_route(*routes[name])}" for _, name in rows]


def _growth(before: Sequence[Span], after: Sequence[Span]) -> float:
    return _failing(after) - _failing(before) + 0.01 * (_middle(after) - _middle(before))


def _route(before: Sequence[Span], after: Sequence[Span]) -> str:
    pairs = [(f"{len(part)} requests", f"{_failing(part):.0%}", f"{_middle(part) * 1000:.0f} ms") for part in (before, after)]
    counts, errors, medians = (" -> ".join(pair) for pair in zip(*pairs, strict=True))
    ways = "; ".join(list(dict.fromkeys(span.failure for span in after if span.failure))[:3])
    return f"{counts}, errors {errors}{f' ({ways})' if ways else ''}, p50 {medians}"


def _failing(spans: Sequence[Span]) -> float:
    return sum(bool(span.failure) for span in spans) / len(spans) if spans else 0.0


def _middle(spans: Sequence[Span]) -> float:
    return sorted(span.took for span in spans)[len(spans) // 2] if spans else 0.0


def show_events(evidence: Evidence, query: EventQuery) -> list[str]:
    """Deploys, changes of configuration, restarts and exits, in order of time."""
    low = float("-inf") if query.since is None else query.since
    high = float("inf") if query.until is None else query.until
    return [
        event_row(event)
        for event in evidence.findings.events
        if query.component in (None, event.component) and low <= event.seconds <= high
    ]


def event_row(event: EventFinding) -> str:
    """One event as `show_events` lists it."""
    return f"{moment(event.seconds)} {event.component}: {event.name}{f' - {event.body}' if event.body else ''}"
