"""What an orchestrator's events and counts mean, in closed words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from chaosgym.incident.findings import EventFinding
from chaosgym.telemetry.signals import ComponentSignals

__all__ = ["event_meaning", "platform_words"]

_SAID: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (word, re.compile(pattern, re.IGNORECASE))
    for word, pattern in (
        ("unpulled", r"failed to (?:pull|resolve)|ImagePullBackOff|ErrImagePull"),
        ("unfit", r"readiness probe failed"),
        ("unalive", r"liveness probe"),
        ("overquota", r"exceeded quota"),
        ("nocapacity", r"insufficient (?:cpu|memory)"),
        ("unplaced", r"didn't match (?:node selector|pod's node affinity)"),
        ("noconfig", r"configmap \"[^\"]*\" not found"),
        ("nosecret", r"secret \"[^\"]*\" not found"),
        ("nomount", r"MountVolume|unable to attach or mount"),
        ("noaccount", r"serviceaccount \"[^\"]*\" not found"),
        ("noprogram", r"executable file not found|no such file or directory"),
        ("noroot", r"breaks non-root policy|run as root|violates PodSecurity"),
        ("backoff", r"back-off restarting"),
    )
)
"""The first that matches an event is what it means; a missing config map is told as a failed mount, too."""


def platform_words(component: ComponentSignals, events: Sequence[EventFinding]) -> list[str]:
    """Of one component, its own events: who leads to it, and what keeps its pods from running, since the baseline."""
    meant = [word for event in events if event.seconds >= 0 for word in event_meaning(event)]
    return list(dict.fromkeys([*_counts(component), *meant]))[:4]


def _counts(component: ComponentSignals) -> Iterator[str]:
    if component.pods.before > 0 and component.pods.after == 0:
        yield "unready"
    if component.endpoints.before > 0 and component.endpoints.after == 0:
        yield "noendpoint"


def event_meaning(event: EventFinding) -> list[str]:
    """What one event of an orchestrator means, one word at most."""
    text = f"{event.name}: {event.body}"
    if event.name == "FailedMount":
        return ["nomount"]
    return [word for word, pattern in _SAID if pattern.search(text)][:1]
