"""One component or one edge in closed words, in one fixed order of columns; levels of 0 ("as usual") are left out.

The order for a component: state, its own requests, its calls as others saw them, calls it repeats, saturation, events.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from chaosgym.incident.findings import Alert, EventFinding
from chaosgym.incident.vocabulary import KINDS, level
from chaosgym.telemetry.signals import CallSignals, Change, ComponentSignals, EdgeSignals, Signals

__all__ = ["alert_words", "component_words", "edge_words", "kind_word", "state_word", "surprise"]

_LATENCY_FLOOR = 0.010
"""Seconds: below this, twice as slow means nothing."""
_RATE_FLOOR = 0.5
_MEMORY_FLOOR = 16 * 2**20
_KIND_SHARE = 0.02
_DOWN_AFTER = 0.7
"""Seconds without a sample of the process after which it counts as ended (it is sampled about four times a second)."""
_SILENT_AFTER = 0.8

_EVENTS = {"deployment": "deploy", "config_change": "config", "exit": "exit", "restart": "restart", "traffic": "traffic", "scale": "scale"}
_WEIGHTS = {
    "err": 2.0, "lat": 1.0, "fail": 2.0, "wait": 1.0, "gap": 2.0, "again": 2.0, "cpu": 2.0, "mem": 2.0, "files": 2.0, "slots": 2.0,
    "locks": 2.0, "full": 1.5, "flow": 0.5, "ebb": 0.5,
    "down": 8.0, "silent": 6.0, "back": 6.0, "oomkill": 4.0, "killed": 4.0, "exit": 3.0, "restart": 1.0, "deploy": 2.0, "config": 1.5,
}


def kind_word(kind: str) -> str:
    """The component kind as a closed word."""
    return kind if kind in KINDS else "external"


def alert_words(alert: Alert) -> list[str]:
    """What users see: failed requests, slowness, traffic, how it fails."""
    flow = CallSignals(rate=alert.rate, errors=alert.errors, p95=alert.p95)
    how = [alert.kind] if alert.kind and alert.errors.growth >= _KIND_SHARE else []
    return [*_levels(_seen(flow)), *_levels(_traffic(alert.rate)), *how]


def component_words(component: ComponentSignals, signals: Signals, events: Sequence[EventFinding]) -> tuple[str, ...]:
    """Everything notable about a component, without its handle and kind; `events` are its own."""
    served, seen = component.served, component.seen
    rate = seen.rate if math.isnan(served.rate.after) else served.rate
    return (
        state_word(component, events),
        *_levels([("err", served.errors.growth)]),
        *(kind for kind in _kinds(served) if kind != "server"),
        *_levels([("lat", served.p95.ratio(_LATENCY_FLOOR)), *_traffic(rate)]),
        *_levels(_seen(seen)),
        *_kinds(seen),
        *_levels([("again", _again(component.name, signals))]),
        *_levels(_saturation(component)),
        *_event_words(events),
    )


def edge_words(edge: EdgeSignals) -> tuple[str, ...]:
    """Everything notable about the calls of one edge, without its ends."""
    return (*_levels(_seen(edge.calls)), *_kinds(edge.calls), *_levels([("again", edge.again.ratio(0.05))]))


def state_word(component: ComponentSignals, events: Sequence[EventFinding]) -> str:
    """`down`, `back`, `silent` or `up`, told from the process samples, what else came from it, and exits."""
    exits = [e.seconds for e in events if e.name == "exit"]
    starts = [e.seconds for e in events if e.name in ("restart", "start")]
    gone = bool(exits) and exits[-1] > max(starts, default=-math.inf)
    if component.process_quiet > _DOWN_AFTER or gone:
        return "down"
    if any(seconds >= 0 for seconds in exits):
        return "back"
    return "silent" if component.quiet > _SILENT_AFTER else "up"


def surprise(words: Iterable[str]) -> float:
    """How far from usual a row is: its words weighed, levels by their digit."""
    total = 0.0
    for word in words:
        column = word.rstrip("0123456789")
        total += _WEIGHTS.get(column, 0.0) * (float(word[len(column):]) if column != word else 1.0)
    return total


def _levels(columns: Iterable[tuple[str, float]]) -> list[str]:
    words = (level(column, value) for column, value in columns)
    return [word for word in words if not word.endswith("0")]


def _seen(calls: CallSignals) -> list[tuple[str, float]]:
    return [("fail", calls.errors.growth), ("wait", calls.p95.ratio(_LATENCY_FLOOR)), ("gap", calls.gap.growth)]


def _traffic(rate: Change) -> list[tuple[str, float]]:
    ratio = rate.ratio(_RATE_FLOOR)
    return [("flow", ratio), ("ebb", 1 / ratio if ratio > 0 else math.nan)]


def _kinds(calls: CallSignals) -> list[str]:
    return [calls.kinds[0][0]] if calls.kinds and calls.kinds[0][1] >= _KIND_SHARE and calls.errors.growth >= _KIND_SHARE else []


def _again(name: str, signals: Signals) -> float:
    ratios = [edge.again.ratio(0.05) for (source, _), edge in signals.edges.items() if source == name]
    return max((ratio for ratio in ratios if not math.isnan(ratio)), default=math.nan)


def _saturation(component: ComponentSignals) -> list[tuple[str, float]]:
    return [
        ("cpu", component.cpu.growth),
        ("mem", component.memory.ratio(_MEMORY_FLOOR)),
        ("files", component.files_share.after),
        ("slots", component.slots.after),
        ("locks", component.locks.growth),
        ("full", component.full.after),
    ]


def _event_words(events: Sequence[EventFinding]) -> list[str]:
    words: list[str] = []
    for event in events:
        word = "oomkill" if event.oom else "killed" if event.killed else _EVENTS.get(event.name)
        if word is not None:
            words += [word, "earlier"] if event.seconds < 0 else [word]
    return words[:6]
