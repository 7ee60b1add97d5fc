"""A rollout: the next version, or other settings, of a component - the way in of most outages."""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from chaosgym.errors import FaultError
from chaosgym.faults.base import Fault
from chaosgym.faults.readback import in_force
from chaosgym.faults.undo import unless_dead
from chaosgym.graph import edges
from chaosgym.naming import next_version
from chaosgym.plan import ComponentPlan
from chaosgym.sandbox.base import Capability, Sandbox

__all__ = ["Rollout", "RolloutFault"]


class Rollout:
    """Rolls a component out once, and back."""

    def __init__(self, label: str, role: str) -> None:
        self._label, self._role = label, role
        self._before: frozenset[int] = frozenset()
        self._begun = False

    async def out(self, sandbox: Sandbox, settings: Mapping[str, Any], *, new_version: bool) -> None:
        """Replace the running processes by ones with `settings`, under the next version or the same."""
        self._before = frozenset(await sandbox.processes(self._role))
        version = None
        if new_version:
            now = sandbox.plan.components[self._role].version
            version = next_version(now, random.Random(f"{sandbox.plan.seed}/{self._role}"))
        self._begun = True
        await sandbox.restart(self._role, version=version, settings=settings)

    async def verify(self, sandbox: Sandbox) -> None:
        """Raise FaultError unless a process serves that was not there before."""

        async def replaced() -> bool:
            return bool(set(await sandbox.processes(self._role)) - self._before)

        still = sorted(self._before)
        await in_force(replaced, lambda: f"{self._label}: {self._role!r} was not rolled out: its processes are still {still}")

    async def back(self, sandbox: Sandbox) -> None:
        """Roll back to what the plan says; no-op when nothing was rolled out."""
        if not self._begun:
            return
        async with unless_dead(sandbox, self._role):
            await sandbox.restart(self._role)
        self._begun = False


class RolloutFault(Fault):
    """A fault that goes out with a rollout: `settings` says what is wrong with it."""

    kinds = frozenset({"gateway", "service", "worker"})
    needs: ClassVar[frozenset[Capability]] = frozenset({"restart"})
    new_version: ClassVar[bool]
    """Whether a version goes out, or a configuration of the present one."""

    def __init__(self, target: str, parameters: dict[str, Any] | None = None) -> None:
        super().__init__(target, parameters)
        self._rollout = Rollout(self.label, target)

    @abstractmethod
    def settings(self, sandbox: Sandbox) -> dict[str, Any]:
        """Fields of the ServiceConfig that go out with it. Raises FaultError when the target has nothing of the kind."""

    async def inject(self, sandbox: Sandbox) -> None:
        await self._rollout.out(sandbox, self.settings(sandbox), new_version=self.new_version)

    async def verify(self, sandbox: Sandbox) -> None:
        await self._rollout.verify(sandbox)

    async def heal(self, sandbox: Sandbox) -> None:
        await self._rollout.back(sandbox)

    def draw(self, sandbox: Sandbox) -> random.Random:
        """Random numbers of this fault in this episode."""
        return random.Random(f"{sandbox.plan.seed}/{self.label}")

    def peer(self, sandbox: Sandbox, protocol: str, wanted: str | None) -> ComponentPlan:
        """The component that the target calls over `protocol`: the one named, or the first by name. FaultError when there is none."""
        called = sorted(e.target for e in edges(sandbox.plan.app.spec) if e.source == self.target and e.protocol == protocol)
        if not called or (wanted is not None and wanted not in called):
            known = ", ".join(called) or "nothing"
            raise FaultError(f"{self.label}: {self.target!r} does not call {wanted or 'anything'} over {protocol}; it calls {known}")
        return sandbox.plan.components[wanted or called[0]]
