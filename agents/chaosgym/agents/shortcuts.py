"""One-line heuristics that on-call folklore suggests: how far they get says how much a scenario asks for."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from chaosgym.agents.answers import ALL_WELL, blame

if TYPE_CHECKING:
    from chaosgym.agents.agent import Agent
    from chaosgym.incident.findings import Incident

__all__ = ["SHORTCUTS", "FirstAnomalyAgent", "GrepAgent", "LatestDeployAgent", "MostErrorsAgent", "MostNotableAgent"]

_NOTICEABLE = 0.02


class MostErrorsAgent:
    """Blames the component whose share of failed requests grew most, with a crash; nothing noticeable is healthy."""

    name = "most-errors"

    def diagnose(self, incidents: Sequence[Incident]) -> list[str]:
        """One answer per incident."""
        return [self._answer(incident) for incident in incidents]

    def _answer(self, incident: Incident) -> str:
        growth = {
            signals.name: max((g for g in (signals.served.errors.growth, signals.seen.errors.growth) if not math.isnan(g)), default=0.0)
            for signals in incident.findings.signals.components.values()
        }
        worst = max(growth, key=lambda name: growth[name], default="")
        return ALL_WELL if growth.get(worst, 0.0) < _NOTICEABLE else blame((worst, "process.crash", 0.1))


class LatestDeployAgent:
    """Blames the last component that was deployed or reconfigured, with a bad deploy; no such event is healthy."""

    name = "latest-deploy"

    def diagnose(self, incidents: Sequence[Incident]) -> list[str]:
        """One answer per incident."""
        return [self._answer(incident) for incident in incidents]

    def _answer(self, incident: Incident) -> str:
        changed = [e.component for e in incident.findings.events if e.name in ("deployment", "config_change")]
        return blame((changed[-1], "application.bad_deploy", 0.2)) if changed else ALL_WELL


class MostNotableAgent:
    """Blames the component about which the report says most: with latency when it answers late, else with a crash."""

    name = "most-notable"

    def diagnose(self, incidents: Sequence[Incident]) -> list[str]:
        """One answer per incident."""
        return [self._answer(incident) for incident in incidents]

    def _answer(self, incident: Incident) -> str:
        signals = incident.findings.signals.components
        rows = {name: words for name, words in incident.findings.rows.items() if name in signals and words}
        top = max(rows, key=lambda name: (len(rows[name]), name), default="")
        if not top:
            return ALL_WELL
        slow = signals[top].seen.p95.ratio(0.01) > 2
        return blame((top, "network.latency" if slow else "process.crash", 0.2))


class FirstAnomalyAgent:
    """Blames the component whose telemetry was the first to leave what its baseline had shown, with a bad deploy.

    Not with a crash: who is dead says nothing, so that its callers are always first.
    """

    name = "first-anomaly"

    def diagnose(self, incidents: Sequence[Incident]) -> list[str]:
        """One answer per incident."""
        return [self._answer(incident) for incident in incidents]

    def _answer(self, incident: Incident) -> str:
        onsets = incident.findings.onsets
        first = min(onsets, key=lambda name: (onsets[name], name), default="")
        return blame((first, "application.bad_deploy", 0.1)) if first else ALL_WELL


class GrepAgent:
    """Blames the component with most new lines of level error, with a bad deploy: `grep -i error | sort | uniq -c`."""

    name = "grep"

    def diagnose(self, incidents: Sequence[Incident]) -> list[str]:
        """One answer per incident."""
        return [self._answer(incident) for incident in incidents]

    def _answer(self, incident: Incident) -> str:
        lines = Counter[str]()
        for found in incident.findings.logs:
            if found.severity in ("error", "fatal"):
                lines[found.component] += max(found.after - found.before, 0)
        return blame((max(lines, key=lambda name: (lines[name], name)), "application.bad_deploy", 0.2)) if +lines else ALL_WELL


SHORTCUTS: Mapping[str, Callable[[], Agent]] = {
    agent.name: agent for agent in (LatestDeployAgent, MostErrorsAgent, FirstAnomalyAgent, GrepAgent, MostNotableAgent)
}
"""By name; published beside every result, because a benchmark that one of these solves asks for little."""
