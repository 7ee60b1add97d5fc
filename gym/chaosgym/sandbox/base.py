"""What a sandbox can do to a component or a link: the capabilities that faults are written against.

Components are addressed by role. A fault names the capabilities it needs, a sandbox those it has; an
impossible pair is refused before anything starts. Every call acts for real and returns when it is in force.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from chaosgym.plan import Plan

__all__ = ["Capability", "ObservedSandbox", "Sandbox", "Toxic"]

Capability = Literal["signal", "hold", "restart", "limit", "defect", "link", "sql", "redis"]


@dataclass(frozen=True)
class Toxic:
    """What happens to the packets that go to a component (seconds; shares 0 to 1)."""

    latency: float = 0.0
    """Added to each direction."""
    jitter: float = 0.0
    """Uniform, plus or minus."""
    drop: float = 0.0
    """Share of packets that vanish, SYNs included; 1 is a partition."""


class Sandbox(Protocol):
    """A running application that can be broken."""

    @property
    def plan(self) -> Plan: ...

    @property
    def capabilities(self) -> frozenset[Capability]: ...

    def processes(self, role: str) -> Sequence[int]:
        """Process ids of the component as the injector sees them (empty when it is down)."""
        ...

    async def signal(self, role: str, number: int) -> None:
        """[signal] Send a signal to every process of the component."""
        ...

    async def hold(self, role: str, down: bool) -> None:
        """[hold] Keep a dead component from being restarted by its supervisor, or let it be again."""
        ...

    async def restart(self, role: str, *, version: str | None = None, settings: Mapping[str, Any] | None = None) -> None:
        """[restart] Roll out the component with another version and changed settings, without downtime.

        `settings` replace fields of its ServiceConfig; None goes back to what the plan says. The
        rollout appears as a `deployment` event as any rollout does (a `config_change` when the version stays).
        """
        ...

    def files_limit(self, role: str) -> tuple[int, int]:
        """[limit] (open file descriptors, soft limit) of the component's first process, read from /proc."""
        ...

    async def limit_files(self, role: str, count: int | None) -> None:
        """[limit] Set the soft limit of open files of the running processes; None restores the plan's."""
        ...

    async def defect(self, role: str, defect: Mapping[str, Any] | None) -> None:
        """[defect] Turn a real defect in the running program on (`{"kind": "leak", ...}`), or all of them off."""
        ...

    async def toxic(self, role: str, toxic: Toxic | None) -> None:
        """[link] What happens to traffic towards the component; None is a clean link. Needs `role in plan.proxied`."""
        ...

    def link_toxic(self, role: str) -> Toxic | None:
        """[link] The toxic in force, read back from the proxy."""
        ...

    def sql(self, role: str) -> AbstractAsyncContextManager[Any]:
        """[sql] A superuser's asyncpg connection to the postgres component."""
        ...

    async def redis(self, role: str, *command: str | int) -> Any:
        """[redis] Run a command on the redis component and return the reply."""
        ...


class ObservedSandbox(Sandbox, Protocol):
    """One whose telemetry is kept: what a timeline is played on."""

    async def deliver(self) -> None:
        """Wait until what the components have measured so far is in the telemetry, except for those that do not respond."""
        ...
