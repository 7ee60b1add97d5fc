"""A Suspect: one component with all that the findings hold about it, which is what signatures look at."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

from chaosgym.incident.findings import EventFinding, Findings, LogFinding
from chaosgym.telemetry.signals import ComponentSignals, EdgeSignals

__all__ = ["Suspect", "loud", "matcher", "suspects"]


@dataclass(frozen=True)
class Suspect:
    """One component with all that was found about it."""

    signals: ComponentSignals
    incoming: tuple[EdgeSignals, ...]
    outgoing: tuple[EdgeSignals, ...]
    logs: tuple[LogFinding, ...]
    """Its own new or surging templates."""
    told: tuple[LogFinding, ...]
    """What others logged about it."""
    near: tuple[LogFinding, ...]
    """What those who call it logged, about it or about nobody by name."""
    everyone: Mapping[str, ComponentSignals]
    """All components by name."""
    answers: Mapping[str, tuple[LogFinding, ...]]
    """By component that it calls: what that one logged."""
    events: tuple[EventFinding, ...]
    """Its own, since the end of the baseline."""
    deployed: frozenset[str]
    """Everybody who got a new version since then."""

    def says(self, sign: str) -> float:
        """0 to 1: how loudly its own log gives this sign."""
        return loud(self.logs, sign)

    def hears(self, sign: str) -> float:
        """0 to 1: how loudly others log this sign about it."""
        return loud(self.told, sign)

    def shows(self, logs: tuple[LogFinding, ...], pattern: str) -> float:
        """0 to 1: how many more lines match than before; three are as loud as it gets."""
        match = matcher(pattern)
        more = (_more(log) for log in logs if _more(log) > 0 and match(f"{log.template} {log.example}"))
        return min(1.0, sum(more) / 3)

    def reported(self, pattern: str) -> float:
        """1 when the platform reported something of it that matches, in the incident window."""
        match = matcher(pattern)
        return float(any(match(f"{event.name}: {event.body}") for event in self.events))

    def happened(self, *names: str) -> bool:
        """Whether one of these events happened to it in the incident window."""
        return any(event.name in names for event in self.events)

    def failing(self, *kinds: str) -> float:
        """Largest share of calls from one caller that fail in one of these ways."""
        return max((sum(share for kind, share in edge.calls.kinds if kind in kinds) for edge in self.incoming), default=0.0)


def suspects(findings: Findings) -> list[Suspect]:
    """All components of the application, in their order."""
    edges = findings.signals.edges.values()
    return [
        Suspect(
            signals=signals,
            incoming=tuple(edge for edge in edges if edge.target == name),
            outgoing=tuple(edge for edge in edges if edge.source == name),
            logs=tuple(log for log in findings.logs if log.component == name),
            told=tuple(log for log in findings.logs if log.peer == name),
            near=tuple(
                log for log in findings.logs if log.peer in ("", name) and (log.component, name) in findings.signals.edges
            ),
            everyone=findings.signals.components,
            answers={e.target: tuple(log for log in findings.logs if log.component == e.target) for e in edges if e.source == name},
            events=tuple(event for event in findings.events if event.component == name and event.seconds >= 0),
            deployed=frozenset(event.component for event in findings.events if event.name == "deployment" and event.seconds >= 0),
        )
        for name, signals in findings.signals.components.items()
    ]


def _more(log: LogFinding) -> int:
    """Lines beyond what the baseline lets expect; the incident window is up to twice as long."""
    return log.after - 2 * log.before


@cache
def matcher(pattern: str) -> Callable[[str], object]:
    """Searches for a regular expression, whatever the case of letters."""
    return re.compile(pattern, re.IGNORECASE).search


def loud(logs: tuple[LogFinding, ...], sign: str) -> float:
    """0 to 1: how many more lines give this sign than before; three are as loud as it gets."""
    return min(1.0, sum(log.after - log.before for log in logs if log.sign == sign and log.after > log.before) / 3)
