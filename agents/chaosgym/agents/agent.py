"""An Agent reads incidents and says what is broken: text in, text out, nothing else.

    incidents ──> diagnose ──> one JSON text each, with the real names of components

Whatever an agent is made of, it gets `Incident`s alone. What it answers is read leniently and scored strictly
(`chaosgym.diagnosis`, `chaosgym.rewards`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from chaosgym.incident.findings import Incident

__all__ = ["Agent"]


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
