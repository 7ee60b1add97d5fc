"""A sandbox around an application that runs already: it attaches, plays one plan, and leaves everything as it was.

It resets nothing and starts nothing. What the application's file does not allow is refused a second time here, whoever asks. All
that was changed is in the journal, and `put_back` goes through it whether faults have healed or not.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NoReturn
from urllib.parse import urlsplit

from chaosgym.errors import FaultError, InfrastructureError, SandboxError
from chaosgym.foreign.cache import ForeignCache
from chaosgym.foreign.database import ForeignDatabase, GuardedConnection
from chaosgym.foreign.host import Found, Host, open_journal
from chaosgym.foreign.journal import Entry, Journal
from chaosgym.foreign.lines import parse_lines
from chaosgym.foreign.load import LoadedApp, secret
from chaosgym.foreign.refusal import granted
from chaosgym.plan import Plan
from chaosgym.sandbox.base import Capability, PlatformChange, PlatformView, Pressure, ProcessView, Toxic
from chaosgym.services.load import LoadGenerator
from chaosgym.telemetry.otlp import Receiver
from chaosgym.telemetry.store import TelemetryBuffer

__all__ = ["ForeignSandbox"]

SAMPLE_EVERY = 0.5


class ForeignSandbox:
    """Implements `chaosgym.sandbox.live.LiveSandbox`."""

    def __init__(self, loaded: LoadedApp, host: Host) -> None:
        self._app, self._host = loaded.app, host
        self._heal = f"chaosgym foreign heal {loaded.path}"
        self.telemetry = TelemetryBuffer()
        self.found: dict[str, Found] = {}
        """By role; known after `boot`."""
        self.programs: dict[str, str] = {}
        self.users: LoadGenerator | None = None
        """Set by whoever makes the load of an episode."""
        self.lacks: dict[str, dict[Capability, str]] = {}
        """By role: what the file allows and cannot be done here, each with the reason."""
        self._journal: Journal | None = None
        self._databases: dict[str, ForeignDatabase] = {}
        self._caches: dict[str, ForeignCache] = {}
        self._receiver = Receiver(self.telemetry)
        self._watchers: list[asyncio.Task[None]] = []
        self._plan: Plan | None = None
        self._began = 0

    # ---- life

    @property
    def name(self) -> str:
        """Of the host."""
        return self._host.name

    @property
    def others(self) -> Sequence[str]:
        """What else runs in the project or namespace; it is not touched."""
        return self._host.others()

    @property
    def journal(self) -> Journal:
        """What has been changed."""
        if self._journal is None:
            raise SandboxError("the sandbox is not attached")
        return self._journal

    async def attach(self, *, running: bool = True, wait: bool = False) -> None:
        """Find the application, `running` or as it is, and take its journal, whatever stands in it."""
        self.found = {found.role: found for found in await self._host.find(running=running)}
        self._journal = open_journal(self._host, wait=wait)

    async def boot(self) -> None:
        """Find everything that the file names, log in where it allows it, and see that no earlier run has left anything."""
        await self.attach()
        if self.journal.entries:
            left = ", ".join(sorted({entry["role"] for entry in self.journal.entries}))
            raise SandboxError(f"an earlier run was cut off and has left changes on {left}; undo them with: {self._heal}")
        self.lacks = {role: dict(self._host.lacks(role)) for role in self._app.spec.components}
        await self._log_in()
        if self._app.spec.otlp is not None:
            host, _, port = self._app.spec.otlp.rpartition(":")
            await self._receiver.start(host, int(port))

    async def _log_in(self) -> None:
        for role, component in self._app.spec.components.items():
            port = component.listens
            if component.kind == "postgres" and component.sql is not None and port is not None:
                database = await self._database(role)
                self.programs["postgresql"], why = await database.look()
                if missing := await database.missing_tables(list(component.tables.values())):
                    raise SandboxError(f"'{role}' has no table {', '.join(missing)} in the search path of {component.sql.user}")
                if why and "sql" in component.allow:
                    self.lacks[role]["sql"] = why
            elif component.kind == "redis" and (component.redis is not None or "redis" in component.allow):
                self.programs["redis"], _ = await (await self._cache(role)).look()

    async def _database(self, role: str) -> ForeignDatabase:
        if role not in self._databases:
            component = self._app.spec.components[role]
            if component.sql is None or component.listens is None:
                raise FaultError(f"the file says nothing of how to log in to '{role}'")
            host, port = await self._host.address(role, component.listens)
            server = {"host": host, "port": port, "database": component.sql.database}
            self._databases[role] = ForeignDatabase(role, server, component.sql.user, secret(component.sql.password_env, role))
        return self._databases[role]

    async def _cache(self, role: str) -> ForeignCache:
        if role not in self._caches:
            component = self._app.spec.components[role]
            address = await self._host.address(role, component.listens or 0)
            self._caches[role] = ForeignCache(role, address, secret(component.redis.password_env if component.redis else None, role))
        return self._caches[role]

    async def start(self, plan: Plan) -> None:
        """Begin to watch; the application goes on as it is."""
        self._plan = plan
        self.telemetry.clear()
        self._began = time.time_ns()
        self._watchers = [asyncio.create_task(self._sample(role)) for role in plan.components]

    async def stop(self) -> None:
        """Watch no more; safe to call twice."""
        watchers, self._watchers = self._watchers, []
        for task in watchers:
            task.cancel()
        for ended in await asyncio.gather(*watchers, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended

    async def put_back(self) -> None:
        """Undo what faults have left in the journal, healed or not. Raises SandboxError naming what could not be undone."""
        with contextlib.suppress(InfrastructureError):
            await self.stop()
        await self.undo_all()

    async def close(self) -> None:
        """Let go; what is in the journal stays there."""
        for database in self._databases.values():
            database.close()
        for cache in self._caches.values():
            await cache.close()
        await self._receiver.stop()
        await self._host.close()
        if self._journal is not None:
            self._journal.close()

    async def undo_all(self) -> list[str]:
        """Undo every entry of the journal, the last first; returns what they were. Raises SandboxError naming those that failed."""
        failures: list[str] = []
        for entry in reversed(self.journal.entries):
            try:
                await self._undo(entry)
            except (InfrastructureError, OSError) as error:
                failures.append(str(error))
        if failures:
            raise SandboxError("\n".join([*failures, f"try again, when that is mended, with: {self._heal}"]))
        done = [f"{entry['kind']} on {entry['role']}" for entry in self.journal.entries]
        self.journal.clear()
        return done

    async def _undo(self, entry: Entry) -> None:
        if entry["kind"] == "sql":
            await (await self._database(entry["role"])).undo(entry)
        elif entry["kind"] == "redis":
            await (await self._cache(entry["role"])).undo(entry)
        else:
            await self._host.undo(entry)

    # ---- what it is

    @property
    def plan(self) -> Plan:
        """Of the running episode."""
        if self._plan is None:
            raise SandboxError("no episode is running on this application")
        return self._plan

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What is allowed on any of its components."""
        return frozenset[Capability]().union(*(granted(component) for component in self._app.spec.components.values()))

    @property
    def entry_address(self) -> tuple[str, int]:
        """Where users connect."""
        address = urlsplit(self._app.spec.url)
        return address.hostname or "", address.port or (443 if address.scheme == "https" else 80)

    @property
    def endpoint(self) -> str | None:
        """Where the application may send OpenTelemetry, if its file wants that."""
        return self._receiver.endpoint if self._app.spec.otlp is not None else None

    def _allowed(self, role: str, capability: Capability) -> None:
        if capability not in granted(self._app.spec.components[role]):
            raise FaultError(f"the file does not allow {capability} on '{role}'")
        if why := self.lacks.get(role, {}).get(capability):
            raise FaultError(f"{capability} cannot be done to '{role}' here: {why}")

    # ---- telemetry that the sandbox itself gives

    async def _sample(self, role: str) -> None:
        name = self.plan.components[role].name
        while True:
            now = time.time_ns()
            with contextlib.suppress(SandboxError):  # it is down, which its silence shows
                self.telemetry.metrics.extend(await self._host.sample(role, name))
            for server in (self._databases.get(role), self._caches.get(role)):
                if server is not None:
                    self.telemetry.metrics.extend(await server.sample(name, now))
            await asyncio.sleep(SAMPLE_EVERY)

    async def deliver(self) -> None:
        """What its programs hold back, nobody can ask them for."""

    async def collect_logs(self) -> None:
        """Read what every component has written since `start`, and what the engine reported, into the telemetry."""
        for role, component in self.plan.components.items():
            self.telemetry.logs.extend(parse_lines(await self._host.logs(role, self._began), component.name))
        for event in await self._host.events(self._began):
            name = self.plan.components[event.role].name
            self.telemetry.events.append((event.at, name, event.name, event.body, json.dumps(dict(event.attributes))))

    # ---- capabilities

    async def processes(self, role: str) -> Sequence[int]:
        return await self._host.processes(role)

    async def inspect(self, role: str) -> Sequence[ProcessView]:
        return await self._host.inspect(role)

    async def signal(self, role: str, number: int, pid: int | None = None) -> None:
        self._allowed(role, "signal")
        await self._host.signal(role, int(number), pid, self.journal)

    async def hold(self, role: str, down: bool) -> None:
        self._allowed(role, "hold")
        await self._host.hold(role, down, self.journal)

    async def limit_files(self, role: str, count: int | None) -> None:
        self._allowed(role, "limit")
        await self._host.limit_files(role, count, self.journal)

    async def limit_memory(self, role: str, size: int | None) -> None:
        self._allowed(role, "limit")
        await self._host.limit_memory(role, size, self.journal)

    async def toxic(self, role: str, toxic: Toxic | None) -> None:
        self._allowed(role, "link")
        await self._host.toxic(role, toxic, self.journal)

    async def link_toxic(self, role: str) -> Toxic | None:
        return await self._host.link_toxic(role)

    @asynccontextmanager
    async def sql(self, role: str) -> AsyncGenerator[GuardedConnection, None]:
        self._allowed(role, "sql")
        connection = GuardedConnection(await (await self._database(role)).connect(), role, self.journal)
        try:
            yield connection
        finally:
            connection.terminate()

    def sql_server(self, role: str) -> Mapping[str, Any]:
        self._allowed(role, "sql")
        return self._databases[role].server

    async def redis(self, role: str, *command: str | int) -> Any:
        self._allowed(role, "redis")
        return await (await self._cache(role)).command(self.journal, *command)

    async def press(self, pressure: Pressure | None) -> None:
        self._allowed(self._app.spec.entry, "load")
        if self.users is None:
            raise FaultError("nobody uses this application at present: there is no load to change")
        await self.users.strangers.press(pressure)

    def pressure(self) -> Pressure | None:
        return self.users.strangers.pressure if self.users else None

    async def restart(self, role: str, *, version: str | None = None, settings: Mapping[str, Any] | None = None) -> None:
        _not_ours("a rollout")

    async def defect(self, role: str, defect: Mapping[str, Any] | None) -> None:
        _not_ours("a defect in the program")

    async def change_platform(self, role: str, change: PlatformChange | None) -> None:
        _not_ours("a change of the orchestrator's objects")

    async def platform(self, role: str) -> PlatformView:
        _not_ours("a view of the orchestrator's objects")


def _not_ours(what: str) -> NoReturn:
    raise FaultError(f"{what} takes a program of chaosgym's own; this application is not")


