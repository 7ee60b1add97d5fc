"""One-line heuristics that on-call folklore suggests: how far they get says how much a scenario asks for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from chaosgym.agents.answers import ALL_WELL, blame

if TYPE_CHECKING:
    from chaosgym.incident.findings import Incident

__all__ = ["LatestDeployAgent", "MostErrorsAgent"]

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
