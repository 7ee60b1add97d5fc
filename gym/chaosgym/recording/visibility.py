"""Did the fault show? Compares the symptoms that a fault declares with the golden signals of the two windows.

An episode whose fault left no trace at the edge or in the component teaches a guess, so it is marked
`invisible`. The thresholds are absolute and generous: they ask whether something moved at all, not how
an agent would find it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

import pyarrow as pa

from chaosgym.episode import EpisodeHeader, Window
from chaosgym.faults.base import Fault, Symptom
from chaosgym.telemetry.calls import EDGE
from chaosgym.telemetry.signals import CallSignals, Change, ComponentSignals, Signals, measure

__all__ = ["symptoms_seen"]

_MORE_ERRORS = 0.04
_SLOWER, _SLOWER_FLOOR = 1.6, 0.010
_BUSIER = 1.5
_HOTTER = 0.25
"""Cores."""
_BIGGER = 24 * 2**20
_SILENT = 0.8
"""Seconds."""


def symptoms_seen(
    faults: Mapping[str, Fault], tables: Mapping[str, pa.Table], header: EpisodeHeader
) -> tuple[str, ...]:
    """Which declared symptoms of `faults` (public component name -> fault) are in the telemetry, as `where/signal/direction`."""
    signals = measure(tables, header)
    return tuple(
        dict.fromkeys(
            f"{s.where}/{s.signal}/{s.direction}"
            for name, fault in faults.items()
            for s in fault.symptoms
            if _seen(s, name, signals, tables, header)
        )
    )


def _seen(symptom: Symptom, name: str, signals: Signals, tables: Mapping[str, pa.Table], header: EpisodeHeader) -> bool:
    if symptom.signal == "log":
        return _log_seen(symptom, name, tables, header, signals)
    if symptom.signal == "event":
        return _event_seen(symptom, name, tables, header)
    if symptom.where == "component":
        return _moved(symptom, signals.components[name], signals.components[name].served)
    edges = [e for (source, target), e in signals.edges.items() if (target == name if symptom.where == "callers" else source == EDGE)]
    return any(_moved(symptom, None, edge.calls) for edge in edges)


def _moved(symptom: Symptom, component: ComponentSignals | None, calls: CallSignals) -> bool:
    up = symptom.direction == "up"
    match symptom.signal:
        case "errors":
            return _by(calls.errors, _MORE_ERRORS, up)
        case "latency":
            return _times(calls.p95, _SLOWER, _SLOWER_FLOOR, up)
        case "rate":
            return _times(calls.rate, _BUSIER, 1.0, up)
        case _:
            return component is not None and _component_moved(symptom, component, up)


def _component_moved(symptom: Symptom, c: ComponentSignals, up: bool) -> bool:
    match symptom.signal:
        case "cpu":
            return _by(c.cpu, _HOTTER, up)
        case "memory":
            return _by(c.memory, _BIGGER, up) or _by(c.full, 0.2, up)
        case "files":
            return _by(c.files_share, 0.2, up) or _by(c.files, 20, up)
        case "connections":
            return _by(c.slots, 0.2, up) or _by(c.locks, 0.5, up)
        case "threads":
            return _by(c.threads, 10, up)
        case "evictions":
            return _by(c.evicted, 3, up)
        case _:  # down
            return c.quiet > _SILENT or c.process_quiet > _SILENT


def _by(change: Change, least: float, up: bool) -> bool:
    return change.growth >= least if up else change.growth <= -least


def _times(change: Change, factor: float, floor: float, up: bool) -> bool:
    ratio = change.ratio(floor)
    if math.isnan(ratio):
        return False
    return ratio >= factor if up else ratio <= 1 / factor


def _log_seen(symptom: Symptom, name: str, tables: Mapping[str, pa.Table], header: EpisodeHeader, signals: Signals) -> bool:
    if symptom.where == "component":
        names = {name}
    elif symptom.where == "callers":
        names = {source for source, target in signals.edges if target == name}
    else:
        names = {header.entry}
    logs = tables["logs"]
    rows = zip(logs["time_unix_nano"].to_pylist(), logs["service_name"].to_pylist(), logs["body"].to_pylist(), strict=True)
    return _new_match(re.compile(symptom.pattern, re.IGNORECASE), ((t, b) for t, n, b in rows if n in names), header)


def _event_seen(symptom: Symptom, name: str, tables: Mapping[str, pa.Table], header: EpisodeHeader) -> bool:
    rows = (row for row in tables["events"].to_pylist() if row["service_name"] == name)
    said = ((row["time_unix_nano"], f"{row['name']}: {row['body']}") for row in rows)
    return _new_match(re.compile(symptom.pattern, re.IGNORECASE), said, header)


def _new_match(pattern: re.Pattern[str], lines: Iterable[tuple[int, str]], header: EpisodeHeader) -> bool:
    before = after = 0
    for time, body in lines:
        if pattern.search(body or ""):
            before += _inside(time, header.baseline)
            after += header.baseline.end <= time < header.incident.end
    return after > 0 and after > 2 * before


def _inside(time: int, window: Window) -> bool:
    return window.start <= time < window.end
