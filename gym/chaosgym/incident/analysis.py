"""From an episode to findings: signals, log templates, events, the alert. Reads telemetry and the public topology alone."""

from __future__ import annotations

import math
import re
from typing import Any

import pyarrow as pa

from chaosgym.episode import Episode, EpisodeHeader
from chaosgym.incident.findings import Alert, EventFinding, Findings
from chaosgym.incident.onset import first_anomalies
from chaosgym.incident.rows import component_words, edge_words
from chaosgym.incident.templates import mine_logs
from chaosgym.telemetry.signals import EDGE, Signals, measure

__all__ = ["analyse"]

_KILLED = re.compile(r"sigkill|signal\W{0,3}9\b|\b137\b|-9\b|\bkilled\b|oom", re.IGNORECASE)
_OUT_OF_MEMORY = re.compile(r"oom|out of memory|memory limit", re.IGNORECASE)
_MAX_EVENTS = 200


def analyse(episode: Episode) -> Findings:
    """Everything in the episode that a diagnosis may rest on; the same episode gives the same findings."""
    header, tables = episode.header, episode.tables
    signals = measure(tables, header)
    events, logs = _events(tables["events"], header), mine_logs(tables["logs"], header)
    return Findings(
        signals=signals,
        alert=_alert(signals, header),
        logs=logs,
        events=events,
        rows={
            name: component_words(c, signals, [e for e in events if e.component == name], [x for x in logs if x.component == name])
            for name, c in signals.components.items()
        },
        edge_rows={pair: edge_words(edge) for pair, edge in signals.edges.items()},
        onsets=first_anomalies(tables, header),
    )


def _alert(signals: Signals, header: EpisodeHeader) -> Alert:
    calls = signals.edges[EDGE, header.entry].calls
    entry = signals.components[header.entry].served
    seen = entry if math.isnan(calls.rate.after) else calls
    return Alert(header.entry, seen)


def _events(events: pa.Table, header: EpisodeHeader) -> tuple[EventFinding, ...]:
    components = {c.name for c in header.components}
    found: list[EventFinding] = []
    for row in events.slice(max(events.num_rows - _MAX_EVENTS, 0)).to_pylist():
        if row["time_unix_nano"] >= header.incident.end:
            continue
        component = row["service_name"] if row["service_name"] in components else header.entry
        found.append(_event(component, row, header))
    return tuple(found)


def _event(component: str, row: dict[str, Any], header: EpisodeHeader) -> EventFinding:
    name, body = row["name"] or "", row["body"] or ""
    text = f"{body} {row['attributes'] or ''}" if name == "exit" else ""
    return EventFinding(
        component=component,
        name=name,
        seconds=(row["time_unix_nano"] - header.baseline.end) / 1e9,
        body=body,
        killed=bool(_KILLED.search(text)),
        oom=bool(_OUT_OF_MEMORY.search(text)),
    )
