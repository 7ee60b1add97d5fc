"""A sandbox as its worker holds it: one that is booted, plays plans one after another, and is closed."""

from __future__ import annotations

from typing import Protocol

from chaosgym.plan import Plan
from chaosgym.sandbox.base import ObservedSandbox
from chaosgym.services.load import LoadGenerator
from chaosgym.telemetry.store import TelemetryBuffer

__all__ = ["LiveSandbox"]


class LiveSandbox(ObservedSandbox, Protocol):
    """What a worker drives: `boot`, then `start` and `stop` for each plan, then `close`."""

    telemetry: TelemetryBuffer
    users: LoadGenerator | None
    """Set by whoever makes the load of an episode."""

    @property
    def name(self) -> str:
        """`local`, `docker` or `kubernetes`."""
        ...

    @property
    def programs(self) -> dict[str, str]:
        """Versions of the databases."""
        ...

    @property
    def entry_address(self) -> tuple[str, int]:
        """Where users connect."""
        ...

    async def boot(self) -> None:
        """Start what lives as long as the worker. Raises SandboxError or PrerequisiteError."""
        ...

    async def start(self, plan: Plan) -> None:
        """Reset the databases and start the application of `plan`; returns when every service listens."""
        ...

    async def collect_logs(self) -> None:
        """Read the log of every component into the telemetry."""
        ...

    async def stop(self) -> None:
        """End the application; safe to call twice. Raises SandboxError when something stays."""
        ...

    async def close(self) -> None:
        """Stop what `boot` started."""
        ...
