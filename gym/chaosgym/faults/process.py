"""Faults of a process as a whole: it is killed, or it is stopped and looks alive."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import ClassVar

from chaosgym.errors import FaultError
from chaosgym.faults.base import Fault, FaultParameters, Symptom
from chaosgym.faults.readback import in_force, state
from chaosgym.faults.undo import unless_dead
from chaosgym.sandbox.base import Capability, Sandbox

__all__ = ["Crash", "Hang"]


def _running(sandbox: Sandbox, role: str, label: str) -> Sequence[int]:
    pids = tuple(sandbox.processes(role))
    if not pids:
        raise FaultError(f"{label}: component {role!r} has no process; it must run before it can be broken")
    return pids


class Crash(Fault):
    """The process dies by SIGKILL and is not started again while the fault lasts.

    What an operator sees after a segfault, an abort or a kill without a restart policy that helps:
    an exit with code 137, connections reset and then refused, and silence from the component.
    """

    label = "process.crash"
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

    _killed: Sequence[int] = ()

    async def inject(self, sandbox: Sandbox) -> None:
        self._killed = _running(sandbox, self.target, self.label)
        await sandbox.hold(self.target, True)  # first, or its supervisor may be quicker than we are
        await sandbox.signal(self.target, signal.SIGKILL)

    async def verify(self, sandbox: Sandbox) -> None:
        await in_force(
            lambda: not sandbox.processes(self.target) and all(state(pid) in (None, "Z", "X") for pid in self._killed),
            lambda: f"{self.label}: {self.target!r} still runs after SIGKILL (processes {list(sandbox.processes(self.target))})",
        )

    async def heal(self, sandbox: Sandbox) -> None:
        await sandbox.hold(self.target, False)


class Hang(Fault):
    """The process is stopped by SIGSTOP: the kernel still accepts connections for it, nothing answers.

    What a deadlock, an endless collection of garbage or a lost wake-up look like from outside: the
    port is open, callers run into their timeouts, the logs stop and the process uses no CPU.
    """

    label = "process.hang"
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
        _running(sandbox, self.target, self.label)
        await sandbox.signal(self.target, signal.SIGSTOP)

    async def verify(self, sandbox: Sandbox) -> None:
        def stopped() -> bool:
            pids = sandbox.processes(self.target)
            return bool(pids) and all(state(pid) == "T" for pid in pids)

        await in_force(stopped, lambda: f"{self.label}: {self.target!r} is not stopped; states are {self._states(sandbox)}")

    def _states(self, sandbox: Sandbox) -> dict[int, str | None]:
        return {pid: state(pid) for pid in sandbox.processes(self.target)}

    async def heal(self, sandbox: Sandbox) -> None:
        if sandbox.processes(self.target):
            with unless_dead(sandbox, self.target):
                await sandbox.signal(self.target, signal.SIGCONT)
