"""The honest heuristic: how well does each fault's signature fit each component, and is the best fit good enough?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from chaosgym.agents.answers import ALL_WELL, blame
from chaosgym.agents.signatures import SIGNATURES
from chaosgym.agents.suspect import suspects
from chaosgym.diagnosis import MAX_CAUSES

if TYPE_CHECKING:
    from chaosgym.incident.findings import Findings, Incident

__all__ = ["RulesAgent"]

_ENOUGH = 0.35
"""A fit below this is taken for noise, unless users suffer."""
_SUFFERING = 0.1
"""Share of requests at the edge that fail beyond what is usual."""
_WORTH_A_MENTION = 0.5
"""A second suspect is named when it fits at least this share of the first."""


class RulesAgent:
    """Names the best fitting pair of component and fault; the probability is its share of all fits."""

    name = "rules"

    def diagnose(self, incidents: Sequence[Incident]) -> list[str]:
        """One answer per incident, up to three causes, the component of the first as evidence."""
        return [_answer(incident.findings) for incident in incidents]


def _fits(findings: Findings) -> list[tuple[float, str, str]]:
    """(fit, component, fault), the best first; equal ones in the order of `SIGNATURES`."""
    everyone = suspects(findings)
    found = [(sign(x), x.signals.name, label) for label, sign in SIGNATURES.items() for x in everyone]
    return sorted((item for item in found if item[0] > 0), key=lambda item: -item[0])


def _answer(findings: Findings) -> str:
    fits = _fits(findings)
    if not fits or (fits[0][0] < _ENOUGH and not findings.alert.calls.errors.growth > _SUFFERING):
        return ALL_WELL
    whole = sum(fit**4 for fit, _, _ in fits)
    named = [item for item in fits[:MAX_CAUSES] if item[0] >= _WORTH_A_MENTION * fits[0][0]]
    return blame(*((name, label, fit**4 / whole) for fit, name, label in named), evidence=(fits[0][1],))
