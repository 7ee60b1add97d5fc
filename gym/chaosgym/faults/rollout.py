"""A rollout: the next version, or other settings, of a component - the way in of most outages."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from chaosgym.faults.readback import in_force
from chaosgym.faults.undo import unless_dead
from chaosgym.naming import next_version
from chaosgym.sandbox.base import Sandbox

__all__ = ["Rollout"]


class Rollout:
    """Rolls a component out once, and back."""

    def __init__(self, label: str, role: str) -> None:
        self._label, self._role = label, role
        self._before: frozenset[int] = frozenset()
        self._begun = False

    async def out(self, sandbox: Sandbox, settings: Mapping[str, Any], *, new_version: bool) -> None:
        """Replace the running processes by ones with `settings`, under the next version or the same."""
        self._before = frozenset(sandbox.processes(self._role))
        version = None
        if new_version:
            now = sandbox.plan.components[self._role].version
            version = next_version(now, random.Random(f"{sandbox.plan.seed}/{self._role}"))
        self._begun = True
        await sandbox.restart(self._role, version=version, settings=settings)

    async def verify(self, sandbox: Sandbox) -> None:
        """Raise FaultError unless a process serves that was not there before."""
        await in_force(
            lambda: bool(set(sandbox.processes(self._role)) - self._before),
            lambda: f"{self._label}: {self._role!r} was not rolled out: its processes are still {sorted(self._before)}",
        )

    async def back(self, sandbox: Sandbox) -> None:
        """Roll back to what the plan says; no-op when nothing was rolled out."""
        if not self._begun:
            return
        with unless_dead(sandbox, self._role):
            await sandbox.restart(self._role)
        self._begun = False
