"""Faults of resources: a process uses up its CPU, its memory or its file descriptors."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Annotated, Any, ClassVar

from pydantic import Field

from chaosgym.errors import FaultError
from chaosgym.faults.base import Fault, FaultParameters, Symptom
from chaosgym.faults.keeper import Keeper
from chaosgym.faults.readback import in_force
from chaosgym.faults.undo import unless_dead
from chaosgym.sandbox.base import Capability, Sandbox
from chaosgym.units import Count, Duration, Number, Size

__all__ = ["Cpu", "CpuThrottle", "FileDescriptors", "FileLeak", "MemoryLeak", "ThreadLeak", "nth_free"]

_PROGRAMS = frozenset({"gateway", "service", "worker"})


class Cpu(Fault):
    """A job inside the program spins: one thread keeps the interpreter to itself for `duty` of the time.

    Requests still get through, but wait for their turn; the process burns a core while its callers
    see latency first and timeouts next.
    """

    label = "resource.cpu"
    documented = "https://sre.google/sre-book/addressing-cascading-failures/"
    kinds = _PROGRAMS
    needs: ClassVar[frozenset[Capability]] = frozenset({"defect"})
    symptoms = (
        Symptom("component", "cpu"),
        Symptom("component", "latency"),
        Symptom("callers", "latency"),
        Symptom("edge", "latency"),
    )

    class Parameters(FaultParameters):
        duty: Annotated[Number, Field(ge=0.1, le=1.0)] = 0.8
        """Share of the time that the job computes, 0.1 to 1."""

    _since = 0.0
    _before: Mapping[int, float] = {}

    async def _used(self, sandbox: Sandbox) -> dict[int, float]:
        """CPU seconds of every thread but the main ones, which serve the requests."""
        views = await sandbox.inspect(self.target)
        return {tid: seconds for view in views for tid, seconds in view.threads.items() if tid != view.pid}

    async def inject(self, sandbox: Sandbox) -> None:
        self._before, self._since = await self._used(sandbox), time.monotonic()
        await sandbox.defect(self.target, {"kind": "spin", "duty": self.parameters.duty})

    async def verify(self, sandbox: Sandbox) -> None:
        """One thread takes a fifth of what it asks for at least: on a crowded machine it gets no more."""

        async def spins() -> bool:
            elapsed, used = time.monotonic() - self._since, await self._used(sandbox)
            most = max((s - self._before.get(t, 0.0) for t, s in used.items()), default=0.0)
            return most >= max(0.03, 0.2 * self.parameters.duty * elapsed)

        asked = f"{self.parameters.duty:.0%} of a core"
        await in_force(spins, lambda: f"{self.label}: no thread of {self.target!r} computes ({asked} were asked for)", 2.0)

    async def heal(self, sandbox: Sandbox) -> None:
        async with unless_dead(sandbox, self.target):
            await sandbox.defect(self.target, None)


class MemoryLeak(Fault):
    """The program keeps what it should let go: resident memory grows by `rate` bytes a second.

    When it passes the limit of the component it is killed for it (exit code 137, OOMKilled) and
    restarted, and the new process leaks as the old one did.
    """

    label = "resource.memory_leak"
    documented = "https://kubernetes.io/docs/tasks/configure-pod-container/assign-memory-resource/"
    kinds = _PROGRAMS
    needs: ClassVar[frozenset[Capability]] = frozenset({"defect"})
    symptoms = (
        Symptom("component", "memory"),
        Symptom("component", "down"),
        Symptom("callers", "errors"),
    )

    class Parameters(FaultParameters):
        rate: Annotated[Size, Field(ge=2**20, le=2**30)] = 128 * 2**20
        """Bytes a second, `1MiB` to `1GiB`."""

    _before: Mapping[int, int] = {}

    async def _resident(self, sandbox: Sandbox) -> dict[int, int]:
        return {view.pid: view.resident for view in await sandbox.inspect(self.target)}

    async def inject(self, sandbox: Sandbox) -> None:
        self._before = await self._resident(sandbox)
        await sandbox.defect(self.target, {"kind": "leak", "bytes_per_second": self.parameters.rate})

    async def verify(self, sandbox: Sandbox) -> None:
        """A process of the component has grown, or the leak has killed it by now."""
        enough = min(self.parameters.rate // 20, 4 * 2**20)

        async def grew() -> bool:
            resident = await self._resident(sandbox)
            return any(not (now := resident.get(pid)) or now - then >= enough for pid, then in self._before.items())

        await in_force(grew, lambda: f"{self.label}: {self.target!r} did not grow by {enough} bytes in 2 s", 2.0)

    async def heal(self, sandbox: Sandbox) -> None:
        async with unless_dead(sandbox, self.target):
            await sandbox.defect(self.target, None)


class FileDescriptors(Fault):
    """The soft limit of open files falls to what the program cannot do without, and `spare` more.

    The end of a descriptor leak: connections that are open go on, and when they are gone none takes
    their place. A new one - accepted or made - ends in `[Errno 24] Too many open files`, so callers
    hang in the accept queue and the component cannot reach what it calls.
    """

    label = "resource.file_descriptors"
    documented = "https://man7.org/linux/man-pages/man2/getrlimit.2.html"
    kinds = _PROGRAMS
    needs: ClassVar[frozenset[Capability]] = frozenset({"limit"})
    symptoms = (
        Symptom("component", "files"),
        Symptom("component", "log", pattern=r"(?i)too many open files|EMFILE|Errno 24"),
        Symptom("component", "errors"),
        Symptom("callers", "errors"),
        Symptom("edge", "errors"),
    )

    class Parameters(FaultParameters):
        spare: Annotated[Count, Field(ge=0, le=64)] = 0
        """Connections that may be open at the same time all the same, 0 to 64."""

    _limit = 0

    async def inject(self, sandbox: Sandbox) -> None:
        self._limit = await _limit_with_spare(sandbox, self.target, self.parameters.spare)
        await sandbox.limit_files(self.target, self._limit)

    async def verify(self, sandbox: Sandbox) -> None:
        limits: dict[int, int | None] = {}

        async def limited() -> bool:
            nonlocal limits
            limits = {view.pid: view.files_limit for view in await sandbox.inspect(self.target)}
            return set(limits.values()) == {self._limit}

        await in_force(limited, lambda: f"{self.label}: the soft limit of {self.target!r} is not {self._limit}: {limits}")

    async def heal(self, sandbox: Sandbox) -> None:
        async with unless_dead(sandbox, self.target):
            await sandbox.limit_files(self.target, None)


class CpuThrottle(Fault):
    """The process may run for a small share of the time alone: it is stopped and let go, ten times a second.

    What a CPU quota does to a container: the process uses little CPU, and its requests wait for the next period.
    """

    label = "resource.cpu_throttle"
    documented = "https://docs.kernel.org/scheduler/sched-bwc.html"
    kinds = frozenset({"gateway", "service", "worker", "redis"})
    needs: ClassVar[frozenset[Capability]] = frozenset({"signal"})
    symptoms = (
        Symptom("component", "latency"),
        Symptom("callers", "latency"),
        Symptom("callers", "errors"),
        Symptom("edge", "latency"),
    )

    class Parameters(FaultParameters):
        share: Annotated[Number, Field(ge=0.01, le=0.9)] = 0.1
        """Of the time that it may run, 0.01 to 0.9."""
        period: Annotated[Duration, Field(ge=0.02, le=1.0)] = 0.2
        """In which it stops and runs once, `20ms` to `1s`."""

    def __init__(self, target: str, parameters: dict[str, Any] | None = None) -> None:
        super().__init__(target, parameters)
        self._keeper = Keeper()

    async def inject(self, sandbox: Sandbox) -> None:
        if not await sandbox.processes(self.target):
            raise FaultError(f"{self.label}: component {self.target!r} has no process; it must run before it can be throttled")
        await self._keeper.start(lambda: self._turn(sandbox), 0.0)

    async def _turn(self, sandbox: Sandbox) -> None:
        await sandbox.signal(self.target, signal.SIGSTOP)
        await asyncio.sleep((1 - self.parameters.share) * self.parameters.period)
        await sandbox.signal(self.target, signal.SIGCONT)
        await asyncio.sleep(self.parameters.share * self.parameters.period)

    async def verify(self, sandbox: Sandbox) -> None:
        """The kernel says that its process stands still, some of the time."""

        async def stands_still() -> bool:
            return any(view.state == "T" for view in await sandbox.inspect(self.target))

        await in_force(stands_still, lambda: f"{self.label}: {self.target!r} never stands still", 2 * self.parameters.period + 0.2)

    async def heal(self, sandbox: Sandbox) -> None:
        await self._keeper.stop()
        if await sandbox.processes(self.target):
            async with unless_dead(sandbox, self.target):
                await sandbox.signal(self.target, signal.SIGCONT)


class FileLeak(Fault):
    """The program opens files for each request and closes none of them, until it has no descriptor left.

    The number of open files climbs in step with the traffic; at the limit requests end in `Too many open files`.
    """

    label = "resource.file_leak"
    documented = "https://man7.org/linux/man-pages/man2/getrlimit.2.html"
    kinds = _PROGRAMS
    needs: ClassVar[frozenset[Capability]] = frozenset({"defect"})
    symptoms = (
        Symptom("component", "files"),
        Symptom("component", "log", pattern=r"(?i)too many open files|EMFILE|Errno 24"),
        Symptom("component", "errors"),
        Symptom("callers", "errors"),
    )

    class Parameters(FaultParameters):
        count: Annotated[Count, Field(ge=1, le=200)] = 30
        """Files that each request leaves open, 1 to 200."""

    _before: Mapping[int, int] = {}

    async def _open(self, sandbox: Sandbox) -> dict[int, int]:
        return {view.pid: len(view.files) for view in await sandbox.inspect(self.target)}

    async def inject(self, sandbox: Sandbox) -> None:
        self._before = await self._open(sandbox)
        await sandbox.defect(self.target, {"kind": "files", "count": self.parameters.count})

    async def verify(self, sandbox: Sandbox) -> None:
        async def grew() -> bool:
            now = await self._open(sandbox)
            return any(now.get(pid, 0) - then >= self.parameters.count for pid, then in self._before.items())

        await in_force(grew, lambda: f"{self.label}: no request has left {self.parameters.count} files open in {self.target!r}", 3.0)

    async def heal(self, sandbox: Sandbox) -> None:
        async with unless_dead(sandbox, self.target):
            await sandbox.defect(self.target, None)


class ThreadLeak(Fault):
    """The program starts threads for each request, and they never end.

    The number of threads climbs in step with the traffic, and memory with it; nothing else is wrong until the
    limit of the machine is reached.
    """

    label = "resource.thread_leak"
    documented = "https://man7.org/linux/man-pages/man3/pthread_create.3.html"
    kinds = _PROGRAMS
    needs: ClassVar[frozenset[Capability]] = frozenset({"defect"})
    symptoms = (Symptom("component", "threads"),)

    class Parameters(FaultParameters):
        count: Annotated[Count, Field(ge=1, le=20)] = 4
        """Threads that each request leaves behind, 1 to 20."""

    _before: Mapping[int, int] = {}

    async def _threads(self, sandbox: Sandbox) -> dict[int, int]:
        return {view.pid: len(view.threads) for view in await sandbox.inspect(self.target)}

    async def inject(self, sandbox: Sandbox) -> None:
        self._before = await self._threads(sandbox)
        await sandbox.defect(self.target, {"kind": "threads", "count": self.parameters.count})

    async def verify(self, sandbox: Sandbox) -> None:
        async def grew() -> bool:
            now = await self._threads(sandbox)
            return any(now.get(pid, 0) - then >= self.parameters.count for pid, then in self._before.items())

        await in_force(grew, lambda: f"{self.label}: no request has left {self.parameters.count} threads behind in {self.target!r}", 3.0)

    async def heal(self, sandbox: Sandbox) -> None:
        async with unless_dead(sandbox, self.target):
            await sandbox.defect(self.target, None)


async def _limit_with_spare(sandbox: Sandbox, role: str, spare: int) -> int:
    """The soft limit under which `spare` connections fit, once those of today are gone.

    The kernel compares the *number* of a new descriptor with the limit and hands out the lowest free
    one, so holes count: with 0-9 and 20-29 open, a limit of 20 leaves ten, not none.
    """
    views = await sandbox.inspect(role)
    if not views:
        raise FaultError(f"resource.file_descriptors: component {role!r} has no process; it must run before it can be limited")
    return min(nth_free(view.files - view.connections, spare) for view in views)


def nth_free(numbers: AbstractSet[int], skip: int) -> int:
    """The lowest number that is not in `numbers`, after `skip` others."""
    number = 0
    while True:
        if number not in numbers:
            if skip == 0:
                return number
            skip -= 1
        number += 1
