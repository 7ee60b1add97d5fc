"""The tool `metrics`: figures before and during the incident, per component and metric.

What is measured from spans and samples (requests, calls, processor, memory, connections) comes first, then every other metric
as it was exported: a gauge by its mean, a sum by its growth a second.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Annotated

from pydantic import Field, model_validator

from chaosgym.incident.inquiry.evidence import Evidence
from chaosgym.incident.inquiry.figures import flow, number, share, size, way
from chaosgym.incident.inquiry.public import Query
from chaosgym.telemetry.signals import EDGE, Change, ComponentSignals

__all__ = ["MetricQuery", "call_title", "own_figures", "show_metrics"]

_MEASURED = frozenset((
    "process.cpu.time", "process.cpu.utilization", "process.memory.usage", "process.unix.file_descriptor.count", "process.thread.count",
    "process.unix.file_descriptor.limit", "process.socket.count", "process.uptime", "http.server.active_requests",
    "postgresql.backends", "postgresql.connection.max", "postgresql.database.locks.waiting", "redis.maxmemory", "redis.clients.max",
    "redis.connections.rejected", "redis.keys.evicted",
))
"""Already among the measured figures."""


class MetricQuery(Query):
    """Arguments of `metrics`: a component, a metric, or both."""

    component: str | None = None
    """All figures of this component."""
    metric: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    """Only figures whose name contains this, such as `cpu` or `calls to`; without a component, of all of them."""

    @model_validator(mode="after")
    def _asked(self) -> MetricQuery:
        if self.component is None and self.metric is None:
            raise ValueError('name a component, a metric or both, as in {"component": "NAME"} or {"metric": "cpu"}')
        return self


def show_metrics(evidence: Evidence, query: MetricQuery) -> list[str]:
    """One line per figure, named by its component where several were asked for."""
    part = (query.metric or "").casefold()
    chosen = evidence.names if query.component is None else (query.component,)
    prefix = "{} " if query.component is None else ""
    return [
        f"{prefix.format(name)}{title}: {text}"
        for name in chosen
        for title, text in _figures(evidence, name)
        if part in title.casefold()
    ]


def _figures(evidence: Evidence, name: str) -> Iterator[tuple[str, str]]:
    yield from own_figures(evidence.findings.signals.components[name])
    for pair, edge in evidence.findings.signals.edges.items():
        if name in pair and not math.isnan(edge.calls.rate.after):
            yield call_title(pair, name), way(edge)
    yield from _exported(evidence, name)


def own_figures(component: ComponentSignals) -> Iterator[tuple[str, str]]:
    """Title and text of what was measured of the component itself."""
    yield from _signs_of_life(component)
    if not math.isnan(component.served.rate.before) or not math.isnan(component.served.rate.after):
        yield "requests served", flow(component.served)
    yield from _levels(component)


def call_title(pair: tuple[str, str], name: str) -> str:
    """How the calls of `pair` (caller, callee) are titled among the figures of `name`, which is one of the two."""
    source, target = pair
    return f"calls to {target}" if source == name else f"calls from {'users' if source == EDGE else source}"


def _signs_of_life(component: ComponentSignals) -> Iterator[tuple[str, str]]:
    """When it was last heard of: a process that ended is not sampled, one that hangs says nothing."""
    heard = (("last sample of the process", component.process_quiet), ("last span, metric or log line of its own", component.quiet))
    for title, seconds in heard:
        yield title, "none" if math.isnan(seconds) else f"{max(seconds, 0.0):.2f} s before the end"


def _levels(component: ComponentSignals) -> Iterator[tuple[str, str]]:
    columns: tuple[tuple[str, Change, Callable[[Change], str]], ...] = (
        ("cpu, cores", component.cpu, number),
        ("memory", component.memory, size),
        ("open files", component.files, number),
        ("open files of limit", component.files_share, share),
        ("threads", component.threads, number),
        ("sockets", component.sockets, number),
        ("requests at once", component.active, number),
        ("connections of limit", component.slots, share),
        ("sessions waiting for a lock", component.locks, number),
        ("memory of limit", component.full, share),
        ("connections rejected a second", component.refused, number),
        ("keys evicted a second", component.evicted, number),
    )
    return ((title, write(change)) for title, change, write in columns if not math.isnan(change.after) or not math.isnan(change.before))


def _exported(evidence: Evidence, name: str) -> Iterator[tuple[str, str]]:
    for owner, metric in evidence.gauges.series:
        if owner != name or metric in _MEASURED:
            continue
        kind, unit = evidence.units.get(metric, ("", ""))
        change = evidence.gauges.rate(name, metric) if kind == "sum" else evidence.gauges.mean(name, metric)
        if not math.isnan(change.before) or not math.isnan(change.after):
            yield metric, f"{number(change)}{f' {unit}' if unit not in ('', '1') else ''}{' a second' if kind == 'sum' else ''}"
