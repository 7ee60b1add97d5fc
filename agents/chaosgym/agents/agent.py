"""An Agent reads incidents and says what is broken: text in, text out, nothing else.

    incidents ──> diagnose ──> one JSON text each, with the real names of components

Whatever an agent is made of, it gets `Incident`s alone. One that asks instead of reading, an `Investigator`, gets the telemetry
behind its tools. What it answers is read leniently and scored strictly
(`chaosgym.diagnosis`, `chaosgym.rewards`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from chaosgym.incident.findings import Incident
    from chaosgym.incident.inquiry import Evidence

__all__ = ["Agent", "Investigation", "Investigator"]


@runtime_checkable
class Agent(Protocol):
    """What diagnoses."""

    @property
    def name(self) -> str:
        """How tables call it."""
        ...

    def diagnose(self, incidents: Sequence[Incident]) -> list[str]:
        """One answer per incident, in their order: JSON of a diagnosis that names components as the application does."""
        ...


@dataclass(frozen=True)
class Investigation:
    """What came of asking."""

    answer: str
    """JSON of a diagnosis with real names; empty when nothing was submitted within the budget."""
    calls: int
    """Before `submit`."""
    spent: int
    """What they cost."""


@runtime_checkable
class Investigator(Agent, Protocol):
    """What asks before it diagnoses."""

    def investigate(self, evidence: Sequence[Evidence]) -> list[Investigation]:
        """One investigation per incident, in their order."""
        ...
