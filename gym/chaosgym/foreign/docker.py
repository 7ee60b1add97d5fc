"""A Docker Compose project as a host: its containers, found by the labels that Compose sets.

What the engine offers is used as it is: kill, pause (for SIGSTOP: all processes of a container stand still), update, start. Where
the engine runs on this machine its processes are visible too, and single ones can be signalled and measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

from chaosgym.errors import FaultError, InputError, SandboxError, did_you_mean
from chaosgym.foreign import firewall
from chaosgym.foreign.app import ForeignApp
from chaosgym.foreign.containers import began, event_of, found_as, is_well, pause, pids_of, shared_network, stat_rows, undo_files
from chaosgym.foreign.host import Found, HostEvent
from chaosgym.foreign.journal import Entry, Journal
from chaosgym.foreign.lines import stamped
from chaosgym.sandbox.base import Capability, ProcessView, Toxic
from chaosgym.sandbox.docker import connect
from chaosgym.sandbox.proc import read_process
from chaosgym.telemetry.process import ProcessSampler
from chaosgym.telemetry.store import Row

__all__ = ["DockerHost"]

_PROJECT, _SERVICE = "com.docker.compose.project", "com.docker.compose.service"
_BACK_WITHIN = 60.0

P = ParamSpec("P")
T = TypeVar("T")


class DockerHost:
    """Implements `chaosgym.foreign.host.Host`."""

    name = "docker"

    def __init__(self, app: ForeignApp) -> None:
        assert app.spec.compose is not None
        self.place = app.spec.compose.project
        self._components = app.spec.components
        self._client = connect()
        self._containers: dict[str, list[Any]] = {}
        """By role."""
        self._others: list[str] = []
        self._sampler = ProcessSampler()
        self.identity = ""

    async def find(self, *, running: bool = True) -> Sequence[Found]:
        return await self._do(self._find, running)

    def _find(self, running: bool) -> list[Found]:
        self.identity = self._client.info()["ID"]
        services: dict[str, list[Any]] = {}
        for container in self._client.containers.list(all=True, filters={"label": f"{_PROJECT}={self.place}"}, ignore_removed=True):
            services.setdefault(container.labels.get(_SERVICE, ""), []).append(container)
        if not services:
            raise InputError(f"no container of a Compose project '{self.place}' is here; `docker compose ls` lists the projects")
        problems: list[str] = []
        for role, component in self._components.items():
            name = component.container or ""
            self._containers[role] = services.get(name, [])
            if not self._containers[role]:
                known = ", ".join(sorted(services))
                problems.append(f"'{role}': project '{self.place}' has no service '{name}'; it has {known}{did_you_mean(name, services)}")
            down = [c for c in self._containers[role] if running and c.status != "running"]
            problems += [f"'{role}': container {c.name} is {c.status}, not running" for c in down]
        if problems:
            raise InputError("\n".join(problems))
        named = {component.container for component in self._components.values()}
        self._others = sorted(c.name for name, group in services.items() if name not in named for c in group)
        return [found_as(role, group) for role, group in self._containers.items()]

    def others(self) -> Sequence[str]:
        return self._others

    def lacks(self, role: str) -> Mapping[Capability, str]:
        found: dict[Capability, str] = {}
        removed = [c.name for c in self._containers[role] if c.attrs["HostConfig"].get("AutoRemove")]
        if removed:
            found["hold"] = f"{removed[0]} was started with --rm: it would be gone with its data as soon as it ended"
            found["signal"] = found["hold"]
        away = "" if all(pids_of(c) for c in self._containers[role]) else "the engine's processes are not visible on this machine"
        if why := away or shared_network(self._containers[role]) or firewall.lacking():
            found["link"] = found["packets"] = why
        if why := away or ("" if os.geteuid() == 0 else "it needs root on the machine of the engine"):
            found["limit"] = why
        return found

    async def address(self, role: str, port: int) -> tuple[str, int]:
        return await self._do(self._address, role, port)

    def _address(self, role: str, port: int) -> tuple[str, int]:
        container = self._containers[role][0]
        container.reload()
        network = container.attrs["NetworkSettings"]
        for published in network["Ports"].get(f"{port}/tcp") or ():
            host = published["HostIp"]
            return ("127.0.0.1" if host in ("", "0.0.0.0", "::") else host), int(published["HostPort"])
        address = next((net["IPAddress"] for net in network["Networks"].values() if net["IPAddress"]), None)
        if address is None:
            raise SandboxError(f"container {container.name} has no address that is reached from here; publish port {port}")
        return address, port

    # ---- what is done to it

    def _each(self, role: str) -> Iterator[Any]:
        """Its containers, as they are now."""
        for container in self._containers[role]:
            container.reload()
            yield container

    def _processes(self, role: str) -> list[tuple[Any, int]]:
        found: list[tuple[Any, int]] = []
        for container in self._each(role):
            if container.attrs["State"]["Running"]:
                pids = pids_of(container) or [int(row[0]) for row in container.top(ps_args="-eo pid")["Processes"]]
                found += [(container, pid) for pid in pids]
        return found

    async def processes(self, role: str) -> Sequence[int]:
        return [pid for _, pid in await self._do(self._processes, role)]

    async def inspect(self, role: str) -> Sequence[ProcessView]:
        return await self._do(self._inspect, role)

    def _inspect(self, role: str) -> list[ProcessView]:
        found: list[ProcessView] = []
        for container, pid in self._processes(role):
            view = read_process(pid) if pids_of(container) else ProcessView(pid, "S", 0, None, frozenset(), frozenset(), {})
            if view is not None:
                state = "T" if container.attrs["State"]["Paused"] else view.state  # a freezer's own letter differs by kernel
                found.append(ProcessView(view.pid, state, view.resident, view.files_limit, view.files, view.connections, view.threads))
        return found

    async def signal(self, role: str, number: int, pid: int | None, journal: Journal) -> None:
        await self._do(self._signal, role, number, pid, journal)

    def _signal(self, role: str, number: int, pid: int | None, journal: Journal) -> None:
        if pid is not None:
            self._signal_one(role, number, pid)
            return
        for container in self._each(role):
            state = container.attrs["State"]
            if number == signal.SIGSTOP:
                journal.write("unpause", role, container=container.id)
                if state["Running"] and not state["Paused"]:
                    pause(container)
            elif number == signal.SIGCONT:
                if state["Paused"]:
                    container.unpause()
            elif state["Running"]:
                self._note_start(role, container, journal)
                container.kill(signal=number)

    def _signal_one(self, role: str, number: int, pid: int) -> None:
        if pid not in {each for container in self._each(role) for each in pids_of(container)}:
            raise FaultError(f"process {pid} of '{role}' is not visible on this machine; only its whole container can be signalled")
        os.kill(pid, number)

    def _note_start(self, role: str, container: Any, journal: Journal) -> None:
        policy = container.attrs["HostConfig"]["RestartPolicy"]
        known = [entry for entry in journal.entries if entry["kind"] == "start" and entry["container"] == container.id]
        if not known:
            journal.write("start", role, container=container.id, policy=policy)

    async def hold(self, role: str, down: bool, journal: Journal) -> None:
        await self._do(self._hold, role, down, journal)

    def _hold(self, role: str, down: bool, journal: Journal) -> None:
        if down:
            for container in self._each(role):
                self._note_start(role, container, journal)
                container.update(restart_policy={"Name": "no"})
            return
        for entry in journal.entries:
            if entry["kind"] == "start" and entry["role"] == role:
                self._undo_start(entry)

    def _undo_start(self, entry: Entry) -> None:
        container = self._client.containers.get(entry["container"])
        if container.attrs["HostConfig"]["RestartPolicy"] != entry["policy"]:
            container.update(restart_policy=entry["policy"])
        if container.attrs["State"]["Running"]:
            return
        container.start()
        deadline = time.monotonic() + _BACK_WITHIN
        while not is_well(container):
            if time.monotonic() > deadline:
                raise SandboxError(f"container {container.name} was started again, and is not well after {_BACK_WITHIN:g} s")
            time.sleep(0.1)
            container.reload()

    async def limit_files(self, role: str, count: int | None, journal: Journal) -> None:
        await self._do(self._limit_files, role, count, journal)

    def _limit_files(self, role: str, count: int | None, journal: Journal) -> None:
        if count is None:
            for entry in [each for each in journal.entries if each["kind"] == "files" and each["role"] == role]:
                undo_files(entry)
            return
        pids = [pid for container in self._each(role) for pid in pids_of(container)]
        for pid in pids:
            soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
            journal.write("files", role, pid=pid, began=began(pid), soft=soft)
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (count, hard))

    async def limit_memory(self, role: str, size: int | None, journal: Journal) -> None:
        await self._do(self._limit_memory, role, size, journal)

    def _limit_memory(self, role: str, size: int | None, journal: Journal) -> None:
        if size is None:
            for entry in [each for each in journal.entries if each["kind"] == "memory" and each["role"] == role]:
                self._undo_memory(entry)
            return
        for container in self._each(role):
            config = container.attrs["HostConfig"]
            journal.write("memory", role, container=container.id, memory=config["Memory"], swap=config["MemorySwap"], set=size)
            container.update(mem_limit=size, memswap_limit=size)

    def _undo_memory(self, entry: Entry) -> None:
        container = self._client.containers.get(entry["container"])
        if container.attrs["HostConfig"]["Memory"] == entry["set"]:  # else somebody has changed it since
            container.update(mem_limit=entry["memory"] or -1, memswap_limit=entry["swap"] or -1)

    async def toxic(self, role: str, toxic: Toxic | None, journal: Journal) -> None:
        await self._do(self._toxic, role, toxic, journal)

    def _toxic(self, role: str, toxic: Toxic | None, journal: Journal) -> None:
        port = self._components[role].listens
        assert port is not None, "a file that allows link names the port"
        for container in self._each(role):
            journal.write("firewall", role, container=container.id)
            for pid in pids_of(container)[:1]:
                firewall.remove_rules(pid)
                if toxic is not None:
                    firewall.put_rules(pid, port, toxic)

    async def link_toxic(self, role: str) -> Toxic | None:
        return await self._do(self._link_toxic, role)

    def _link_toxic(self, role: str) -> Toxic | None:
        found = {firewall.present_toxic(pid) for container in self._each(role) for pid in pids_of(container)[:1]}
        return found.pop() if len(found) == 1 else None

    async def undo(self, entry: Entry) -> None:
        from docker.errors import NotFound

        with contextlib.suppress(NotFound):  # somebody has removed it meanwhile, and what was done to it
            await asyncio.to_thread(self._undo, entry)

    def _undo(self, entry: Entry) -> None:
        match entry["kind"]:
            case "start":
                self._undo_start(entry)
            case "unpause":
                container = self._client.containers.get(entry["container"])
                if container.attrs["State"]["Paused"]:
                    container.unpause()
            case "memory":
                self._undo_memory(entry)
            case "files":
                undo_files(entry)
            case "firewall":
                for pid in pids_of(self._client.containers.get(entry["container"]))[:1]:
                    firewall.remove_rules(pid)
            case kind:
                raise SandboxError(f"the journal says '{kind}', which this version cannot undo; use the chaosgym that wrote it")

    # ---- what it says

    async def sample(self, role: str, name: str) -> Sequence[Row]:
        return await self._do(self._sample, role, name)

    def _sample(self, role: str, name: str) -> list[Row]:
        running = [container for container in self._each(role) if container.attrs["State"]["Running"]]
        pids = [pid for container in running for pid in pids_of(container)]
        if pids or not running:
            return self._sampler.sample(pids, name, time.time_ns())
        stats = [container.stats(stream=False, one_shot=True) for container in running]
        return stat_rows(stats, name)

    async def logs(self, role: str, since: int) -> Sequence[tuple[int, str]]:
        return await self._do(self._logs, role, since)

    def _logs(self, role: str, since: int) -> list[tuple[int, str]]:
        found: list[tuple[int, str]] = []
        for container in self._containers[role]:
            text = container.logs(since=since / 1e9, timestamps=True).decode(errors="replace")
            found += [(at, line) for at, line in stamped(text) if at >= since]
        return found

    async def events(self, since: int) -> Sequence[HostEvent]:
        return await self._do(self._read_events, since)

    def _read_events(self, since: int) -> list[HostEvent]:
        roles = {container.id: role for role, group in self._containers.items() for container in group}
        asked = {"type": "container", "container": list(roles)}
        found: list[HostEvent] = []
        with contextlib.closing(self._client.events(since=since / 1e9, until=time.time(), filters=asked, decode=True)) as stream:
            for each in stream:
                event = event_of(each, roles)
                if event is not None and event.at >= since:
                    found.append(event)
        return found

    async def close(self) -> None:
        await asyncio.to_thread(self._client.close)

    async def _do(self, work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Run it in a thread; what the engine refuses becomes a SandboxError."""
        from docker.errors import DockerException
        from requests.exceptions import RequestException

        try:
            return await asyncio.to_thread(work, *arguments, **named)
        except (DockerException, RequestException) as error:
            raise SandboxError(f"the Docker engine refused or died: {getattr(error, 'explanation', None) or error}") from error

