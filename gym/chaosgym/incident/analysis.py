"""From an episode to findings: signals, log templates, events, the alert. Reads telemetry and the public topology alone."""

from __future__ import annotations

import json
import re
from typing import Any

import pyarrow as pa

from chaosgym.episode import Episode, EpisodeHeader
from chaosgym.incident.findings import Alert, EventFinding, Findings
from chaosgym.incident.templates import mine_logs
from chaosgym.telemetry.signals import EDGE, Signals, measure

__all__ = ["analyse"]

_KILLED = re.compile(r"sigkill|signal\W{0,3}9\b|\b137\b|\bkilled\b|oom", re.IGNORECASE)
_MAX_EVENTS = 200


def analyse(episode: Episode) -> Findings:
    """Everything in the episode that a diagnosis may rest on; the same episode gives the same findings."""
    header, tables = episode.header, episode.tables
    signals = measure(tables, header)
    return Findings(signals, _alert(signals, header), mine_logs(tables["logs"], header), _events(tables["events"], header))


def _alert(signals: Signals, header: EpisodeHeader) -> Alert:
    calls = signals.edges[EDGE, header.entry].calls
    entry = signals.components[header.entry].served
    seen = entry if calls.rate.before == 0 and calls.rate.after == 0 else calls
    return Alert(header.entry, seen.errors, seen.p95, seen.rate, seen.kinds[0][0] if seen.kinds else "")


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
    return EventFinding(
        component=component,
        name=name,
        seconds=(row["time_unix_nano"] - header.incident.start) / 1e9,
        body=body,
        killed=name == "exit" and _was_killed(body, row["attributes"] or ""),
    )


def _was_killed(body: str, attributes: str) -> bool:
    """Ended by SIGKILL: exit code -9 or 137, or a text that says so."""
    try:
        known = json.loads(attributes) if attributes else {}
    except ValueError:
        known = {}
    codes = [value for key, value in known.items() if "code" in key or "signal" in key] if isinstance(known, dict) else []
    return any(code in (9, -9, 137, "9", "-9", "137", "SIGKILL") for code in codes) or bool(_KILLED.search(body))
