"""What an init system or a kubelet does for the services of an episode: start, watch, kill for memory, restart.

A component runs as one process or as several replicas that share its address. One that ends unexpectedly is
started again after a backoff, unless its component is held down, while the others go on. One whose resident
memory passes its limit is killed with SIGKILL, as the kernel's OOM killer does to a cgroup.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chaosgym.errors import SandboxError
from chaosgym.sandbox.zygote import Zygote
from chaosgym.services.config import ServiceConfig

__all__ = ["Instance", "Notice", "Supervisor", "ask"]

READY_TIMEOUT = 8.0
_BACKOFF = (0.15, 0.3, 0.6, 1.2)
_DRAIN = 0.6
_DELIVER = 0.25
"""Seconds that services get to send their telemetry when asked; a healthy one needs a few milliseconds, ..."""
_DELIVER_EACH = 0.01
"""... and all are asked at once, so there is this much more for each of them."""
_FORKS = 8
"""Processes being forked at once: the zygote forks one after another, and its socket holds only so many orders."""
_PAGE = os.sysconf("SC_PAGESIZE")

Notice = Callable[[str, str, str, Mapping[str, Any]], None]
"""(role, event name, body, attributes): something that an operator's event stream would show."""


@dataclass
class Instance:
    """One running process of a component."""

    pid: int
    control: socket.socket
    leaving: bool = False
    """It was told to go: its end is no event."""
    over_memory: bool = False
    asked: int = 0
    """Orders given so far; the last one's id."""


@dataclass
class _Component:
    config: ServiceConfig
    memory: int
    files: int
    log: Path | None
    replicas: int
    instances: list[Instance] = field(default_factory=list["Instance"])
    forking: int = 0
    held: bool = False
    ends: int = 0
    defect: Mapping[str, Any] | None = None

    @property
    def missing(self) -> int:
        """Processes that it has too few of; those on their way out do not count."""
        return self.replicas - self.forking - sum(not instance.leaving for instance in self.instances)

    @property
    def backoff(self) -> float:
        """Seconds until the next start, by how often each of its replicas has ended."""
        rounds = -(-self.ends // self.replicas)
        return _BACKOFF[min(rounds, len(_BACKOFF)) - 1]


class Supervisor:
    """Owns the service processes of one episode; roles in, processes out."""

    def __init__(self, zygote: Zygote, notice: Notice, on_down: Callable[[str], None], on_up: Callable[[str], None]) -> None:
        self._zygote, self._notice, self._on_down, self._on_up = zygote, notice, on_down, on_up
        self._components: dict[str, _Component] = {}
        self._forks = asyncio.Semaphore(_FORKS)
        self._tasks: set[asyncio.Task[None]] = set()

    def attach(self) -> None:
        """Hear of the ends of processes, in the running loop."""
        self._zygote.attach(self._ended)

    async def start(self, role: str, config: ServiceConfig, *, memory: int, files: int, log: Path | None, replicas: int = 1) -> None:
        """Start a component and wait until all of its replicas listen; without a `log` they write to our own output.

        Raises SandboxError when one does not.
        """
        component = self._components[role] = _Component(config, memory, files, log, replicas)
        await self._launch_all(role, component)

    async def _launch_all(self, role: str, component: _Component) -> None:
        await asyncio.gather(*(self._launch(role, component) for _ in range(component.replicas)))

    async def _launch(self, role: str, component: _Component) -> None:
        instance = await self._fork(component)
        if not await _is_ready(instance.control):
            raise SandboxError(f"component {role!r} did not start: {_last_words(component.log)}")
        if component.defect is not None:
            await _change(instance, component.defect)
        self._on_up(role)

    async def _fork(self, component: _Component) -> Instance:
        component.forking += 1
        try:
            async with self._forks:
                pid, control = await self._zygote.fork(component.config, component.log, component.files)
        finally:
            component.forking -= 1
        control.setblocking(False)
        instance = Instance(pid, control)
        component.instances.append(instance)
        return instance

    def _ended(self, pid: int, code: int) -> None:
        for role, component in self._components.items():
            for instance in component.instances:
                if instance.pid == pid:
                    component.instances.remove(instance)
                    instance.control.close()
                    if not instance.leaving:
                        self._unexpected(role, component, instance, code)
                    return

    def _unexpected(self, role: str, component: _Component, instance: Instance, code: int) -> None:
        status = 128 - code if code < 0 else code
        reason = "OOMKilled" if instance.over_memory else "Completed" if status == 0 else "Error"
        self._notice(role, "exit", f"exited with code {status} ({reason})", {"exit_code": status, "reason": reason})
        if not component.instances:
            self._on_down(role)
        component.ends += 1
        if not component.held:
            self._spawn(self._restart_later(role, component))

    async def _restart_later(self, role: str, component: _Component) -> None:
        await asyncio.sleep(component.backoff)
        if component.held or component.missing < 1:
            return
        with contextlib.suppress(SandboxError):  # it ended while starting: its exit has been handled
            await self._launch(role, component)
            self._notice(role, "restart", f"restarted, attempt {component.ends}", {"restart_count": component.ends})

    async def roll(self, role: str, config: ServiceConfig) -> None:
        """Replace the running processes by ones with `config`: the new ones listen before the old ones drain."""
        component = self._components[role]
        old = list(component.instances)
        component.config = config
        await self._launch_all(role, component)
        for instance in old:
            instance.leaving = True
            _kill(instance.pid, signal.SIGTERM)
        self._spawn(self._insist(component, old))

    async def _insist(self, component: _Component, old: list[Instance]) -> None:
        await asyncio.sleep(_DRAIN)
        for instance in old:
            if instance in component.instances:
                _kill(instance.pid, signal.SIGKILL)

    def hold(self, role: str, down: bool) -> None:
        """Stop restarting it, or start again what of it is down."""
        component = self._components[role]
        component.held = down
        for _ in range(0 if down else component.missing):
            self._spawn(self._restart_later(role, component))

    async def defect(self, role: str, defect: Mapping[str, Any] | None) -> None:
        """Switch a defect of the program, in every running instance and in those started later."""
        component = self._components[role]
        component.defect = defect
        for instance in list(component.instances):
            with contextlib.suppress(SandboxError):  # it may be dying of the defect
                await _change(instance, defect)

    async def deliver(self) -> None:
        """Let every running service send the telemetry it holds, and those on their way out end; one that hangs is left behind."""
        instances = [i for c in self._components.values() for i in c.instances]
        timeout = _DELIVER + _DELIVER_EACH * len(instances)
        await asyncio.gather(*(ask(i, {"deliver": True}, timeout) for i in instances if not i.leaving))
        deadline = time.monotonic() + _DRAIN
        while time.monotonic() < deadline:
            if not any(i.leaving for c in self._components.values() for i in c.instances):
                return
            await asyncio.sleep(0.01)

    def config(self, role: str) -> ServiceConfig:
        """What the component runs with at present."""
        return self._components[role].config

    def pids(self, role: str) -> list[int]:
        """Processes of the component, oldest first; none when it was never started."""
        component = self._components.get(role)
        return [i.pid for i in component.instances] if component else []

    def files(self, role: str) -> int:
        """The plan's soft limit of open files."""
        return self._components[role].files

    def limit_files(self, role: str, count: int | None) -> None:
        """Set the soft limit of open files of the running processes; None is the plan's again."""
        for pid in self.pids(role):
            _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (min(count or self.files(role), hard), hard))

    def limit_memory(self, role: str, size: int) -> None:
        """Set the resident bytes above which a process of the component is killed."""
        self._components[role].memory = size

    def enforce_memory(self) -> None:
        """Kill what is over its limit; call it every 50 to 100 ms."""
        for component in self._components.values():
            for instance in component.instances:
                if _resident(instance.pid) > component.memory and not instance.over_memory:
                    instance.over_memory = True
                    _kill(instance.pid, signal.SIGKILL)

    async def stop(self) -> None:
        """Kill everything and wait until the zygote has seen it end. Raises SandboxError after 5 s."""
        for task in list(self._tasks):
            task.cancel()
        for component in self._components.values():
            component.held = True
        deadline = time.monotonic() + 5
        while (left := [i for c in self._components.values() for i in c.instances]) or any(c.forking for c in self._components.values()):
            if time.monotonic() > deadline:
                raise SandboxError(f"{len(left)} services did not end after SIGKILL")
            for instance in left:  # each time: a start under way may have added one, whatever became of its task
                instance.leaving = True
                _kill(instance.pid, signal.SIGKILL)
            await asyncio.sleep(0.002)
        self._components.clear()

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _change(instance: Instance, defect: Mapping[str, Any] | None) -> None:
    if not await ask(instance, {"defect": defect}, 2.0):
        raise SandboxError(f"process {instance.pid} did not take the change")


async def ask(instance: Instance, order: Mapping[str, Any], timeout: float) -> bool:
    """Whether the process obeyed in time; the late answer to an earlier order is passed over."""
    instance.asked += 1
    try:
        async with asyncio.timeout(timeout):
            await asyncio.get_running_loop().sock_sendall(instance.control, json.dumps({**order, "id": instance.asked}).encode() + b"\n")
            while True:
                for reply in await _read(instance.control):
                    if reply.get("id") == instance.asked:
                        return bool(reply["ok"])
    except (OSError, EOFError, ValueError):  # a TimeoutError is an OSError
        return False


async def _read(control: socket.socket) -> list[dict[str, Any]]:
    """What a service says next. Raises EOFError when it has ended."""
    data = await asyncio.get_running_loop().sock_recv(control, 4096)
    if not data:
        raise EOFError
    return [json.loads(line) for line in data.splitlines()]


async def _is_ready(control: socket.socket) -> bool:
    try:
        async with asyncio.timeout(READY_TIMEOUT):
            return bool((await _read(control))[0].get("ready"))
    except (OSError, EOFError, ValueError):
        return False


def _kill(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _resident(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm", "rb", buffering=0) as file:
            return int(file.read().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


def _last_words(log: Path | None) -> str:
    if log is None:
        return "its log says why"
    try:
        lines = log.read_text(errors="replace").strip().splitlines()
    except OSError:
        return "no log"
    return lines[-1] if lines else "no log"
