"""The readable rendering: the same findings with real names and numbers, for people and for large models."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from chaosgym.incident.findings import Alert, EventFinding, Findings, LogFinding
from chaosgym.incident.rows import surprise
from chaosgym.telemetry.signals import EDGE, CallSignals, Change, ComponentSignals, EdgeSignals

__all__ = ["alert_sentence", "render_readable"]

_CHARACTERS_PER_TOKEN = 3.5
_ROUTINE = frozenset(("SuccessfulCreate", "SuccessfulDelete", "ScalingReplicaSet", "Scheduled", "Pulled", "Created", "Started", "Killing"))
"""What an orchestrator reports of every change of a pod: `scale` and `deployment` say the same once."""
_LOG_LINES = 12
_LEGEND = "Every number is before -> during the incident. Quiet components and edges come last or are left out."


def alert_sentence(alert: Alert) -> str:
    """What users see, in one sentence."""
    calls = alert.calls
    how = f", mostly {calls.kinds[0][0]}" if calls.kinds else ""
    speed = f"median {_time(calls.p50)}, p95 {_time(calls.p95)}"
    return f"requests to {alert.entry}: {_share(calls.errors)} fail{how}; {speed}; {_number(calls.rate)} requests/s"


def render_readable(findings: Findings, handles: Mapping[str, str], budget: int = 1400) -> str:
    """Markdown within about `budget` tokens (3.5 characters each): alert, components, edges, events, logs, handles."""
    sections: list[tuple[str, list[str]]] = [
        ("Components", _components(findings)),
        ("Calls", _edges(findings)),
        ("Events", [_event(event) for event in findings.events if event.name not in _ROUTINE][-12:]),
        ("Logs", [_log(log) for log in findings.logs[:_LOG_LINES]]),
    ]
    handle_line = "Handles: " + ", ".join(f"{handle} {name}" for handle, name in sorted(handles.items(), key=lambda item: item[1]))
    head = f"# Alert\n{alert_sentence(findings.alert)}\n\n{_LEGEND}"
    left = int(budget * _CHARACTERS_PER_TOKEN) - len(head) - len(handle_line)
    parts = [head]
    for i, (title, rows) in enumerate(sections):
        text = _section(title, rows, left if i == len(sections) - 1 else int(left * 0.5))
        left -= len(text) + 2
        parts.append(text)
    return "\n\n".join([*parts, handle_line])


def _section(title: str, rows: Sequence[str], room: int) -> str:
    lines = [f"# {title}"]
    used = len(lines[0])
    for i, row in enumerate(rows):
        used += len(row) + 3
        if used > room:
            lines.append(f"- ... {len(rows) - i} more")
            break
        lines.append(f"- {row}")
    return "\n".join(lines if rows else [*lines, "- none"])


def _components(findings: Findings) -> list[str]:
    rows: list[tuple[float, str]] = []
    for component in findings.signals.components.values():
        words = findings.rows[component.name]
        rows.append((surprise(words), f"{component.name} ({component.kind}, {words[0]}): {_facts(component)}"))
    return [row for _, row in sorted(rows, key=lambda item: (-item[0], item[1]))]


def _facts(component: ComponentSignals) -> str:
    served = _flow(component.served) if not math.isnan(component.served.rate.after) else ""
    seen = f"callers see {_flow(component.seen)}" if component.seen.kinds or not served else ""
    columns: tuple[tuple[str, Change, Callable[[Change], str]], ...] = (
        ("cpu", component.cpu, _share),
        ("memory", component.memory, _size),
        ("files", component.files, _number),
        ("of file limit", component.files_share, _share),
        ("connections used", component.slots, _share),
        ("waiting for locks", component.locks, _number),
        ("memory limit used", component.full, _share),
        ("endpoints", component.endpoints, _number),
        ("pods available", component.pods, _number),
    )
    levels = [f"{title} {write(change)}" for title, change, write in columns if not math.isnan(change.after)]
    return "; ".join(part for part in (served, seen, ", ".join(levels)) if part)


def _flow(calls: CallSignals) -> str:
    kinds = "".join(f" {kind} {share:.0%}" for kind, share in calls.kinds[:2])
    return f"{_number(calls.rate)}/s, errors {_share(calls.errors)}{' (' + kinds.strip() + ')' if kinds else ''}, p95 {_time(calls.p95)}"


def _edges(findings: Findings) -> list[str]:
    pairs = sorted((-surprise(words), pair) for pair, words in findings.edge_rows.items() if pair[0] != EDGE)
    return [_edge(findings.signals.edges[pair]) for _, pair in pairs]


def _edge(edge: EdgeSignals) -> str:
    gap = f", of it on the way {_time(edge.calls.gap)}" if edge.calls.gap.growth > 0.005 else ""
    again = f", per request {_number(edge.again)}" if edge.again.ratio(0.05) > 1.3 else ""
    return f"{edge.source} -> {edge.target}: {_flow(edge.calls)}{gap}{again}"


def _event(event: EventFinding) -> str:
    when = f"{event.seconds:+.1f} s"
    return f"{when} {event.component}: {event.name}{' - ' + event.body[:120] if event.body else ''}"


def _log(log: LogFinding) -> str:
    text = " ".join(log.example.split())[:180]
    return f"{log.component} {log.severity} {log.before} -> {log.after} lines: {text}"


def _pair(change: Change, write: Callable[[float], str]) -> str:
    before, after = ("?" if math.isnan(value) else write(value) for value in change)
    return before if before == after else f"{before} -> {after}"


def _share(change: Change) -> str:
    return _pair(change, lambda value: f"{value:.0%}")


def _number(change: Change) -> str:
    return _pair(change, lambda value: f"{value:.3g}")


def _time(change: Change) -> str:
    return _pair(change, lambda value: f"{value * 1000:.0f} ms")


def _size(change: Change) -> str:
    return _pair(change, lambda value: f"{value / 2**20:.0f} MiB")
