"""One component or one edge in closed words, in one fixed order of columns; levels of 0 ("as usual") are left out.

The order for a component: state, its own requests, its calls as others saw them, calls it repeats, saturation,
what its log complains of, events.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from chaosgym.incident.findings import Alert, EventFinding, LogFinding
from chaosgym.incident.platform import platform_words
from chaosgym.incident.vocabulary import BOUNDS, KINDS, PLATFORM_WORDS, level
from chaosgym.telemetry.signals import CallSignals, Change, ComponentSignals, EdgeSignals, Signals

__all__ = ["alert_words", "component_words", "edge_words", "event_words", "kind_word", "state_word", "surprise"]

_LATENCY_FLOOR = 0.008
"""Seconds: below this, twice as slow means nothing."""
_FEW_FAILURES, _FEW_CAUSES, _FEW_PER_SECOND = 4.0, 1.0, 3.0
"""Requests without incident that are added before a share or a ratio is taken, so that few of them say little."""
_MEMORY_FLOOR = 16 * 2**20
_DOWN_AFTER = 0.7
"""Seconds without a sample of the process after which it counts as ended (it is sampled about four times a second)."""
_SILENT_AFTER = 0.8

_OWN_SIGNS = frozenset((
    "toofiles", "toomany", "badauth", "oomcmd", "nomemory", "lockwait", "canceled", "exception", "terminated", "nopool", "denied",
    "readonly", "schema", "nodatabase", "violation", "exhausted", "recovery", "limited", "toolarge", "notready", "unreadable",
))
_EVENTS = {"deployment": "deploy", "config_change": "config", "exit": "exit", "restart": "restart", "traffic": "traffic", "scale": "scale"}
_WEIGHTS = {
    "err": 2.0, "lat": 1.0, "fail": 2.0, "wait": 1.0, "gap": 2.0, "again": 2.0, "cpu": 2.0, "mem": 2.0, "files": 2.0, "slots": 2.0,
    "locks": 2.0, "full": 1.5, "flow": 0.5, "ebb": 0.5,
    **dict.fromkeys(PLATFORM_WORDS, 3.0), "noendpoint": 5.0,
    "down": 8.0, "silent": 6.0, "back": 6.0, "oomkill": 4.0, "killed": 4.0, "exit": 3.0, "restart": 1.0, "deploy": 2.0, "config": 1.5,
}


def kind_word(kind: str) -> str:
    """The component kind as a closed word."""
    return kind if kind in KINDS else "external"


def alert_words(alert: Alert) -> list[str]:
    """What users see: failed requests, slowness, traffic, how it fails."""
    return [*_levels(_seen(alert.calls)), *_levels(_traffic(alert.calls.rate)), *_kinds(alert.calls)]


def component_words(
    component: ComponentSignals, signals: Signals, events: Sequence[EventFinding], logs: Sequence[LogFinding]
) -> tuple[str, ...]:
    """Everything notable about a component, without its handle and kind; `events` and `logs` are its own."""
    served, seen = component.served, component.seen
    rate = seen.rate if math.isnan(served.rate.after) else served.rate
    return (
        state_word(component, events),
        *_levels([("err", _failures(served))]),
        *(kind for kind in _kinds(served) if kind != "server"),
        *_levels([("lat", served.p50.ratio(_LATENCY_FLOOR)), *_traffic(rate)]),
        *_levels(_seen(seen)),
        *_kinds(seen),
        *_levels([("again", _most_again(component.name, signals))]),
        *_levels(_saturation(component)),
        *_said(logs),
        *platform_words(component, events),
        *event_words(events),
    )


def edge_words(edge: EdgeSignals) -> tuple[str, ...]:
    """Everything notable about the calls of one edge, without its ends."""
    return (*_levels(_seen(edge.calls)), *_kinds(edge.calls), *_levels([("again", _again(edge))]))


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
    return [("fail", _failures(calls)), ("wait", calls.p50.ratio(_LATENCY_FLOOR)), ("gap", calls.gap.growth)]


def _failures(calls: CallSignals) -> float:
    """Growth of the share of failures, drawn towards none where there were few requests."""
    after = calls.errors.after * calls.count.after / (calls.count.after + _FEW_FAILURES)
    return after - (0.0 if math.isnan(calls.errors.before) else calls.errors.before)


def _traffic(rate: Change) -> list[tuple[str, float]]:
    ratio = (rate.after + _FEW_PER_SECOND) / (rate.before + _FEW_PER_SECOND)
    return [("flow", ratio), ("ebb", 1 / ratio)]


def _kinds(calls: CallSignals) -> list[str]:
    return [calls.kinds[0][0]] if calls.kinds and _failures(calls) >= BOUNDS["fail"][0] else []


def _again(edge: EdgeSignals) -> float:
    """Calls per request that makes any, times as many as before; few requests count for little."""
    count, causes = edge.calls.count, edge.calls.causes
    after, before = ((count[i] + _FEW_CAUSES) / (causes[i] + _FEW_CAUSES) for i in (1, 0))
    return after / before


def _most_again(name: str, signals: Signals) -> float:
    ratios = (_again(edge) for (source, _), edge in signals.edges.items() if source == name)
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


def _said(logs: Sequence[LogFinding]) -> list[str]:
    """What it complains of itself, beyond a call that went wrong: at most two signs, the most surprising first."""
    return list(dict.fromkeys(log.sign for log in logs if log.sign in _OWN_SIGNS and log.severity in ("warn", "error", "fatal")))[:2]


def event_words(events: Sequence[EventFinding]) -> list[str]:
    """What happened to a component, in order of time."""
    words: list[str] = []
    for event in events:
        word = "oomkill" if event.oom else "killed" if event.killed else _EVENTS.get(event.name)
        if word is not None:
            words += [word, "earlier"] if event.seconds < 0 else [word]
    return words[:6]
