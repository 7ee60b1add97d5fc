"""What the telemetry of an episode says, before anyone writes it down, and what an agent is handed.

`Findings` are structured (names and numbers, for rules and for both renderings), an `Incident` is text. Neither
holds anything that is not in the telemetry or the public topology.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from chaosgym.telemetry.signals import CallSignals, Signals

__all__ = ["Alert", "EventFinding", "Findings", "Incident", "LogFinding"]


@dataclass(frozen=True)
class Alert:
    """The symptom at the edge, as users of the application see it."""

    entry: str
    """The component that users reach."""
    calls: CallSignals
    """Their requests, as they see them; as the entry sees them where users are not traced."""


@dataclass(frozen=True)
class LogFinding:
    """A log template that is new or came much more often in the incident window."""

    component: str
    template: str
    """The text with its variable parts replaced by `<*>`, component names left in."""
    severity: str
    """`debug`, `info`, `warn`, `error` or `fatal`."""
    before: int
    """Lines in the baseline window."""
    after: int
    """Lines from the end of the baseline to the end of the incident window."""
    sign: str
    """What the text is known to mean, a word of `LOG_SIGNS` or `ERROR_KINDS`, or an empty string."""
    peer: str
    """Another component that the text names, or an empty string."""
    example: str
    """One whole line, cut to 300 characters."""
    surprise: float


@dataclass(frozen=True)
class EventFinding:
    """A deploy, a restart, an exit or the like."""

    component: str
    name: str
    """As in the events table: deployment, config_change, restart, exit, traffic, ..."""
    seconds: float
    """From the end of the baseline window; negative is within it. Trouble begins somewhere between the windows."""
    body: str
    killed: bool = False
    """An exit by SIGKILL."""
    oom: bool = False
    """An exit for using too much memory, as whoever watches the process says."""


@dataclass(frozen=True)
class Findings:
    """All of an episode that matters for a diagnosis."""

    signals: Signals
    alert: Alert
    logs: tuple[LogFinding, ...]
    """The most surprising first."""
    events: tuple[EventFinding, ...]
    """In order of time."""
    rows: Mapping[str, tuple[str, ...]]
    """By component: what is notable about it in closed words, see `chaosgym.incident.rows`."""
    edge_rows: Mapping[tuple[str, str], tuple[str, ...]]
    """By (caller, callee), likewise."""
    onsets: Mapping[str, float] = field(default_factory=dict[str, float])
    """By component: seconds from the end of the baseline window to its first anomaly, see `chaosgym.incident.onset`."""


@dataclass(frozen=True)
class Incident:
    """What an agent starts from."""

    compact: str
    """For small models: closed words, components by handle."""
    readable: str
    """For people and large models: real names and numbers."""
    handles: Mapping[str, str]
    """Handle -> component name, of all components in the report."""
    components: tuple[str, ...]
    """Names of all components of the application."""
    alert: str
    """One sentence: what users see."""
    findings: Findings
