"""A Fault: written once against capabilities, undone always.

    async with fault.applied(sandbox):      # inject, then verify by an independent read-back
        ...                                 # the fault is in force
    # healed, also after an exception or a cancellation

A fault module holds one class: typed parameters (pydantic), the component kinds it fits, the
capabilities it needs, `inject`, `verify`, `heal` and the symptoms that must become visible.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from chaosgym.sandbox.base import Capability, Sandbox

__all__ = ["Fault", "FaultParameters", "Symptom"]


class FaultParameters(BaseModel):
    """Base of every fault's parameters: unknown ones are errors, each field has a docstring."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


@dataclass(frozen=True)
class Symptom:
    """Something that must change in the telemetry, from the baseline to the incident window.

    `signal` is one of errors, latency, rate, cpu, memory, files, threads, connections, evictions, down, log or event (then
    `pattern` is a regular expression that log lines, or events of the platform, match in the incident but not in the baseline).
    """

    where: Literal["component", "callers", "edge"]
    signal: Literal["errors", "latency", "rate", "cpu", "memory", "files", "threads", "connections", "evictions", "down", "log", "event"]
    direction: Literal["up", "down"] = "up"
    pattern: str = ""


class Fault(ABC):
    """One fault on one target; see the module docstring."""

    label: ClassVar[str]
    """`family.type`, a key of `chaosgym.taxonomy.FAULT_TYPES`, or a new one for a fault of your own."""
    summary: ClassVar[str] = ""
    """What went wrong, in one sentence; of a fault of your own (the shipped ones have theirs in the taxonomy)."""
    synonyms: ClassVar[tuple[str, ...]] = ()
    """What else people call it; likewise."""
    documented: ClassVar[str] = ""
    """Where what happens in reality is described: the address of a manual, a standard or a paper."""
    kinds: ClassVar[frozenset[str]]
    """Component kinds it fits: gateway, service, worker, postgres, redis."""
    needs: ClassVar[frozenset[Capability]]
    symptoms: ClassVar[tuple[Symptom, ...]]
    """It is visible when at least one of them is seen."""
    differs: ClassVar[Mapping[str, str]] = {}
    """Sandbox -> what is not as on the local one there, and why; only what was measured (`chaosgym sandbox compare`)."""
    Parameters: ClassVar[type[FaultParameters]]

    def __init__(self, target: str, parameters: dict[str, Any] | None = None) -> None:
        self.target = target
        self.parameters: Any = self.Parameters.model_validate(parameters or {})

    @abstractmethod
    async def inject(self, sandbox: Sandbox) -> None:
        """Break it. Returns when the fault is in force."""

    @abstractmethod
    async def verify(self, sandbox: Sandbox) -> None:
        """Read the mechanism back independently of `inject`; raise FaultError when it is not in force."""

    @abstractmethod
    async def heal(self, sandbox: Sandbox) -> None:
        """Undo everything; must work after a failed or partial `inject`, and twice."""

    @asynccontextmanager
    async def applied(self, sandbox: Sandbox) -> AsyncGenerator[None]:
        """Inject and verify; heal on every way out."""
        try:
            await self.inject(sandbox)
            await self.verify(sandbox)
            yield
        finally:
            await self.heal(sandbox)
