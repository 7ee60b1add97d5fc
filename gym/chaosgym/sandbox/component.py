"""Process 1 of a component's container: what a kubelet and an init system do for one component, steered over TCP.

    python -m chaosgym.sandbox.begin        (environment: PORT, TOKEN, KIND: service, postgres or redis)

It waits for a controller on PORT, whose first line holds the token, and then obeys orders, one JSON object a line
(`chaosgym.sandbox.remote` is the other end). A service is forked from a zygote and supervised as in the local
sandbox; a database is started once and lives as long as the container. A connection may also become a tunnel to the
database's private socket. Without a controller for a while the process ends, and with it the container: nothing
outlives a runner that was killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from chaosgym.errors import ChaosgymError, FaultError, SandboxError
from chaosgym.sandbox.base import Toxic
from chaosgym.sandbox.datastores import POSTGRES_PORT, REDIS_PORT, Postgres, Redis
from chaosgym.sandbox.links import Link
from chaosgym.sandbox.proc import children, read_process
from chaosgym.sandbox.supervisor import Supervisor
from chaosgym.sandbox.zygote import Zygote
from chaosgym.services.config import ServiceConfig
from chaosgym.telemetry.cgroup import sample_cgroup
from chaosgym.telemetry.process import ProcessSampler

__all__ = ["LINK_PORTS", "SERVICE_PORT", "Component", "main"]

SERVICE_PORT = 8080
LINK_PORTS = {SERVICE_PORT: 8081, POSTGRES_PORT: 5433, REDIS_PORT: 6380}
"""Port of what runs here -> port of the link in front of it."""
_STATE = Path("/run/app")
_TEMPLATE = Path("/opt/postgres-template")
_ROLE = "main"
_LIMIT_EVERY = 0.1
_ALONE = 20.0
"""Seconds without a controller after which the container ends itself."""
_LINE = 2**22

Order = Callable[..., Awaitable[Any]]


class Component:
    """What one container does; the public coroutines are the orders, their parameters the fields of an order."""

    def __init__(self, zygote: Zygote | None, token: str) -> None:
        """`zygote`: None in a database's container, where no service is ever started."""
        self._services = None if zygote is None else Supervisor(zygote, self._notice, self._on_down, self._on_up)
        self._token = token
        self._sampler = ProcessSampler()
        self._link: Link | None = None
        self._database: Postgres | Redis | None = None
        self._controllers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._last_seen = time.monotonic()

    @property
    def _supervisor(self) -> Supervisor:
        if self._services is None:
            raise SandboxError("this container runs a database, not a service")
        return self._services

    async def run(self, port: int) -> None:
        """Serve controllers on `port` until SIGTERM, or until there was none for a while."""
        if self._services is not None:
            self._services.attach()
        leave = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, leave.set)
        server = await asyncio.start_server(self._greet, "0.0.0.0", port, limit=_LINE)
        while not leave.is_set():
            if self._services is not None:
                self._services.enforce_memory()
            if self._controllers:
                self._last_seen = time.monotonic()
            elif time.monotonic() - self._last_seen > _ALONE:
                break
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(leave.wait(), _LIMIT_EVERY)
        server.close()
        with contextlib.suppress(ChaosgymError):
            await self.stop()
        if self._database is not None:
            await self._database.stop()

    # ---- the line to the controller

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            hello = json.loads(await asyncio.wait_for(reader.readline(), 5))
            if hello.get("token") != self._token:
                return
            if path := hello.get("tunnel"):
                await _splice(reader, writer, _STATE / path)
            else:
                await self._obey_all(reader, writer)
        except (OSError, ValueError, TimeoutError, AttributeError):
            pass  # a stranger, or a controller that left
        finally:
            writer.close()

    async def _obey_all(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._controllers.add(writer)
        _say(writer, {"ready": True})
        try:
            while line := await reader.readline():
                task = asyncio.create_task(self._obey(json.loads(line), writer))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        finally:
            self._controllers.discard(writer)

    async def _obey(self, order: Mapping[str, Any], writer: asyncio.StreamWriter) -> None:
        answer: dict[str, Any] = {"id": order["id"]}
        try:
            what: Order = getattr(self, order["order"])
            answer["value"] = await what(**order["with"])
        except FaultError as error:
            answer["fault"] = str(error)
        except (ChaosgymError, OSError, TypeError, ValueError, KeyError) as error:
            answer["error"] = str(error) or type(error).__name__
        _say(writer, answer)

    def _notice(self, role: str, name: str, body: str, attributes: Mapping[str, Any]) -> None:
        for writer in self._controllers:
            _say(writer, {"notice": [name, body, dict(attributes), time.time_ns()]})

    def _on_down(self, role: str) -> None:
        if self._link is not None:
            self._link.refuse()

    def _on_up(self, role: str) -> None:
        if self._link is not None:
            self._link.start()

    # ---- orders: services

    async def start(self, config: str, memory: int, files: int, replicas: int, linked: bool) -> None:
        """Start the service of `config` (JSON of a ServiceConfig), with a link in front of it where it is `linked`."""
        if linked:
            self._open_link(SERVICE_PORT)
        await self._supervisor.start(_ROLE, ServiceConfig.from_json(config), memory=memory, files=files, log=None, replicas=replicas)

    async def roll(self, config: str) -> None:
        """Replace it by one with another configuration."""
        await self._supervisor.roll(_ROLE, ServiceConfig.from_json(config))

    async def config(self) -> str:
        """What it runs with."""
        return self._supervisor.config(_ROLE).to_json()

    async def hold(self, down: bool) -> None:
        """See `Sandbox.hold`."""
        self._supervisor.hold(_ROLE, down)

    async def defect(self, defect: Mapping[str, Any] | None) -> None:
        """See `Sandbox.defect`."""
        await self._supervisor.defect(_ROLE, defect)

    async def limit_memory(self, size: int) -> None:
        """See `Sandbox.limit_memory`."""
        self._supervisor.limit_memory(_ROLE, size)

    async def deliver(self) -> None:
        """Let the processes send the telemetry that they hold."""
        await self._supervisor.deliver()

    async def stop(self) -> None:
        """End the services and the link; a database stays."""
        if self._services is not None:
            await self._services.stop()
        if self._link is not None:
            self._link.refuse()
            self._link = None
        self._sampler = ProcessSampler()

    # ---- orders: databases

    async def serve_database(self, kind: str) -> str:
        """Start the database of this container if it does not run; returns its version."""
        if self._database is None:
            database = _make_postgres() if kind == "postgres" else _make_redis()
            self._database = database
            await database.ready()
        return self._database.program.version_text

    async def link_database(self, port: int) -> None:
        """Put a link in front of it for the length of an episode."""
        self._open_link(port)

    # ---- orders: any process

    def _pids(self) -> list[int]:
        if isinstance(self._database, Postgres):
            return [each for pid in self._database.pids for each in (pid, *children(pid))]
        return self._database.pids if self._database is not None else self._supervisor.pids(_ROLE)

    async def processes(self) -> list[int]:
        """See `Sandbox.processes`."""
        return self._pids()

    async def inspect(self) -> list[dict[str, Any]]:
        """See `Sandbox.inspect`."""
        views = (read_process(pid) for pid in self._pids())
        return [view.to_json() for view in views if view is not None]

    async def sample(self, name: str) -> list[Any]:
        """Rows of METRICS of the component's processes, and of the container."""
        now = time.time_ns()
        return [*self._sampler.sample(self._pids(), name, now), *sample_cgroup(name, now)]

    async def signal(self, number: int, pid: int | None) -> None:
        """See `Sandbox.signal`."""
        for each in self._pids():
            if pid in (None, each):
                os.kill(each, number)

    async def limit_files(self, count: int | None) -> None:
        """See `Sandbox.limit_files`."""
        self._supervisor.limit_files(_ROLE, count)

    # ---- orders: the link

    def _open_link(self, port: int) -> None:
        self._link = Link("0.0.0.0", LINK_PORTS[port], ("127.0.0.1", port))
        self._link.start()

    async def toxic(self, toxic: Mapping[str, Any] | None) -> None:
        """See `Sandbox.toxic`."""
        self._linked().set(None if toxic is None else Toxic(**toxic))

    async def link_toxic(self) -> dict[str, Any] | None:
        """See `Sandbox.link_toxic`."""
        toxic = self._linked().toxic
        return None if toxic is None else dataclasses.asdict(toxic)

    def _linked(self) -> Link:
        if self._link is None:
            raise FaultError("the component is not reached through a link")
        return self._link


def _make_postgres() -> Postgres:
    database = Postgres(_STATE, "*", log=None)
    database.launch_copy(_TEMPLATE)
    return database


def _make_redis() -> Redis:
    database = Redis(_STATE, "0.0.0.0", log=None)
    database.launch()
    return database


def _say(writer: asyncio.StreamWriter, message: Mapping[str, Any]) -> None:
    if not writer.is_closing():
        writer.write(json.dumps(message).encode() + b"\n")


async def _splice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: Path) -> None:
    inner_reader, inner_writer = await asyncio.open_unix_connection(str(path))
    await asyncio.gather(copy(reader, inner_writer), copy(inner_reader, writer))


async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    """Pass on what comes until either end closes."""
    with contextlib.suppress(OSError):
        while data := await source.read(1 << 16):
            target.write(data)
            await target.drain()
    target.close()


def main() -> int:
    """The life of the container."""
    port, token, kind = int(os.environ.pop("PORT")), os.environ.pop("TOKEN"), os.environ.pop("KIND")
    zygote = Zygote() if kind == "service" else None  # before any event loop or thread
    import uvloop

    uvloop.run(Component(zygote, token).run(port))
    return 0

