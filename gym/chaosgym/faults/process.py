"""Faults of a process as a whole: it is killed, or it is stopped and looks alive."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

from pydantic import Field

from chaosgym.errors import FaultError
from chaosgym.faults.application import DefectRollout
from chaosgym.faults.base import Fault, FaultParameters, Symptom
from chaosgym.faults.readback import in_force
from chaosgym.faults.undo import unless_dead
from chaosgym.sandbox.base import Capability, Sandbox
from chaosgym.units import Duration

__all__ = ["Crash", "CrashLoop", "Hang", "SlowStart"]


async def _assert_running(sandbox: Sandbox, role: str, label: str) -> None:
    if not await sandbox.processes(role):
        raise FaultError(f"{label}: component {role!r} has no process; it must run before it can be broken")


class Crash(Fault):
    """The process dies by SIGKILL and is not started again while the fault lasts.

    What an operator sees after a segfault, an abort or a kill without a restart policy that helps:
    an exit with code 137, connections reset and then refused, and silence from the component.
    """

    label = "process.crash"
    documented = "https://man7.org/linux/man-pages/man7/signal.7.html"
    kinds = frozenset({"gateway", "service", "worker"})
    needs: ClassVar[frozenset[Capability]] = frozenset({"signal", "hold"})
    symptoms = (
        Symptom("component", "down"),
        Symptom("callers", "errors"),
        Symptom("callers", "log", pattern=r"(?i)refused|cannot connect|connect call failed|disconnected|reset by peer"),
        Symptom("edge", "errors"),
    )

    class Parameters(FaultParameters):
        """None: dead is dead."""

    async def inject(self, sandbox: Sandbox) -> None:
        await _assert_running(sandbox, self.target, self.label)
        await sandbox.hold(self.target, True)  # first, or its supervisor may be quicker than we are
        await sandbox.signal(self.target, signal.SIGKILL)

    async def verify(self, sandbox: Sandbox) -> None:
        """Its supervisor has none of it left, and the kernel neither."""
        left: Sequence[int] = ()

        async def dead() -> bool:
            nonlocal left
            left = await sandbox.processes(self.target) or [view.pid for view in await sandbox.inspect(self.target)]
            return not left

        await in_force(dead, lambda: f"{self.label}: {self.target!r} still runs after SIGKILL (processes {list(left)})")

    async def heal(self, sandbox: Sandbox) -> None:
        await sandbox.hold(self.target, False)


class Hang(Fault):
    """The process is stopped by SIGSTOP: the kernel still accepts connections for it, nothing answers.

    What a deadlock, an endless collection of garbage or a lost wake-up look like from outside: the
    port is open, callers run into their timeouts, the logs stop and the process uses no CPU.
    """

    label = "process.hang"
    documented = "https://man7.org/linux/man-pages/man7/signal.7.html"
    kinds = frozenset({"gateway", "service", "worker", "redis"})
    needs: ClassVar[frozenset[Capability]] = frozenset({"signal"})
    symptoms = (
        Symptom("component", "rate", "down"),
        Symptom("callers", "errors"),
        Symptom("callers", "latency"),
        Symptom("callers", "log", pattern=r"(?i)timed? ?out"),
        Symptom("edge", "errors"),
    )

    class Parameters(FaultParameters):
        """None: it stands still, or it does not."""

    async def inject(self, sandbox: Sandbox) -> None:
        await _assert_running(sandbox, self.target, self.label)
        await sandbox.signal(self.target, signal.SIGSTOP)

    async def verify(self, sandbox: Sandbox) -> None:
        states: dict[int, str] = {}

        async def stopped() -> bool:
            nonlocal states
            states = {view.pid: view.state for view in await sandbox.inspect(self.target)}
            return set(states.values()) == {"T"}

        await in_force(stopped, lambda: f"{self.label}: {self.target!r} is not stopped; states are {states}")

    async def heal(self, sandbox: Sandbox) -> None:
        if await sandbox.processes(self.target):
            async with unless_dead(sandbox, self.target):
                await sandbox.signal(self.target, signal.SIGCONT)


class CrashLoop(DefectRollout):
    """The next version ends with status 1 shortly after each start, and is started again with longer and longer pauses.

    Between its ends it listens and serves a few requests: a sawtooth of exits, restarts and refused connections.
    """

    label = "process.crash_loop"
    documented = "https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/"
    kinds = frozenset({"gateway", "service", "worker"})
    needs: ClassVar[frozenset[Capability]] = frozenset({"restart"})
    symptoms = (
        Symptom("component", "log", pattern=r"(?i)fatal: cannot continue|bootstrap failed|giving up \(exit"),
        Symptom("component", "down"),
        Symptom("callers", "errors"),
        Symptom("edge", "errors"),
    )

    class Parameters(FaultParameters):
        seconds: Annotated[Duration, Field(ge=0.01, le=5.0)] = 0.08
        """From a start to the end, `10ms` to `5s`."""

    _before: frozenset[int] = frozenset()

    def defect(self, sandbox: Sandbox) -> dict[str, Any]:
        return {"kind": "exit", "seconds": self.parameters.seconds}

    async def inject(self, sandbox: Sandbox) -> None:
        self._before = frozenset(await sandbox.processes(self.target))
        await super().inject(sandbox)

    async def verify(self, sandbox: Sandbox) -> None:
        """No process of before is left, or none at all."""

        async def replaced() -> bool:
            return not self._before & frozenset(await sandbox.processes(self.target))

        await in_force(replaced, lambda: f"{self.label}: {self.target!r} was not rolled out: a process of before still runs", 2.0)


class SlowStart(DefectRollout):
    """The next version needs long until it is ready, and takes traffic before that: it answers 503 until its caches are warm.

    A readiness check that asks too little: the process listens, says that it is not ready, and turns everybody away.
    """

    label = "process.slow_start"
    documented = "https://kubernetes.io/docs/concepts/configuration/liveness-readiness-startup-probes/"
    kinds = frozenset({"gateway", "service"})
    needs: ClassVar[frozenset[Capability]] = frozenset({"restart"})
    symptoms = (
        Symptom("component", "log", pattern=r"(?i)not ready yet|still starting|readiness check failed"),
        Symptom("component", "errors"),
        Symptom("callers", "errors"),
        Symptom("edge", "errors"),
    )

    class Parameters(FaultParameters):
        seconds: Annotated[Duration, Field(ge=0.5, le=60.0)] = 30.0
        """Until it is ready, `500ms` to `60s`."""

    def defect(self, sandbox: Sandbox) -> dict[str, Any]:
        return {"kind": "warm_up", "seconds": self.parameters.seconds}
