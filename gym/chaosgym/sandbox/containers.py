"""A sandbox of containers: each component in one of its own, on any `Engine`.

The containers are warm and know no application: `start` tells each what to be, `stop` makes it forget. What is done
to a component is carried out by the process 1 of its container (`chaosgym.sandbox.component`) exactly as in the local
sandbox, so that a fault is the same fault everywhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import json
import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from chaosgym.errors import SandboxError
from chaosgym.plan import Plan
from chaosgym.sandbox.application import ApplicationSandbox
from chaosgym.sandbox.base import Capability, PlatformChange, PlatformView, ProcessView, Toxic
from chaosgym.sandbox.component import LINK_PORTS, SERVICE_PORT
from chaosgym.sandbox.datastores import DATABASE, POSTGRES_PORT, REDIS_PORT, PostgresClient, RedisClient
from chaosgym.sandbox.engine import CONTROL_PORT, Engine, Place, PlaceKind
from chaosgym.sandbox.events import platform_event, rollout_event
from chaosgym.sandbox.remote import Remote, tunnel
from chaosgym.sandbox.wire import draw_logins, table_definitions
from chaosgym.services.config import ServiceConfig
from chaosgym.services.wiring import Wiring, service_configs
from chaosgym.telemetry.logs import parse_log
from chaosgym.telemetry.otlp import Receiver
from chaosgym.telemetry.postgres import sample_postgres
from chaosgym.telemetry.process import gauge_row
from chaosgym.telemetry.redis import sample_redis

__all__ = ["ContainerSandbox"]

SAMPLE_EVERY = 0.3
_COUNT_EVERY, _FOLLOW_EVERY = 1.0, 0.4
WARM_SERVICES = 8
"""Containers for services that are made at boot; an application of more gets more."""
_PORTS: dict[str, int] = {"postgres": POSTGRES_PORT, "redis": REDIS_PORT}
_SOCKETS = {"postgres": f".s.PGSQL.{POSTGRES_PORT}", "redis": "redis.sock"}
_START_TIMEOUT = 30.0
_BACK_WITHIN = 20.0
"""Seconds that a new pod may take until it takes orders."""


class ContainerSandbox(ApplicationSandbox):
    """Implements `chaosgym.sandbox.base.Sandbox`; lives in the worker process only."""

    def __init__(self, state: Path, engine: Engine) -> None:
        self._state, self._engine = state, engine
        self._postgres, self._redis = PostgresClient(state), RedisClient(state)
        super().__init__(self._postgres, self._redis)
        self._receiver = Receiver(self.telemetry)
        self._places: dict[PlaceKind, list[Place]] = {"service": [], "postgres": [], "redis": []}
        self._remotes: dict[str, Remote] = {}
        """By the handle of the place."""
        self._tunnels: list[asyncio.Server] = []
        self._watchers: list[asyncio.Task[None]] = []
        self._at: dict[str, Place] = {}
        """By role."""
        self._roles: dict[str, str] = {}
        """Role by the handle of its place."""
        self._configs: dict[str, ServiceConfig] = {}
        self.programs: dict[str, str] = {}
        self._wiring: Wiring | None = None
        self._began = 0

    # ---- life

    @property
    def name(self) -> str:
        """Of the engine."""
        return self._engine.name

    async def boot(self) -> None:
        """Make the network and the warm containers. Raises SandboxError or PrerequisiteError; then nothing is left."""
        try:
            await self._engine.open()
            await self._add(("postgres", "redis", *_services(WARM_SERVICES)))
            await self._receiver.start(self._engine.host)
        except BaseException:
            await self.close()
            raise

    async def _add(self, kinds: Sequence[PlaceKind]) -> None:
        places = await self._engine.add(kinds)
        for place in places:
            self._places[place.kind].append(place)
        await asyncio.gather(*(self._join(place) for place in places))

    async def _join(self, place: Place) -> None:
        notice = functools.partial(self._notice, place.handle)
        remote = self._remotes[place.handle] = await Remote.connect(place.address, CONTROL_PORT, place.token, notice)
        if place.kind != "service":
            version = await remote.ask("serve_database", kind=place.kind, timeout=_START_TIMEOUT)
            self.programs["postgresql" if place.kind == "postgres" else "redis"] = version
            name = _SOCKETS[place.kind]
            self._tunnels.append(await tunnel(self._state / name, place.address, CONTROL_PORT, place.token, name))

    async def start(self, plan: Plan) -> None:
        """Reset the databases and start the application of `plan`; returns when every service listens."""
        self._plan = plan
        self.telemetry.clear()
        self._began = time.time_ns()
        await self._assign(plan)
        components = plan.app.spec.components
        client = {role: (self._at[role].entry, self._entry_port(role)) for role in components}
        services = [role for role, component in components.items() if component.kind not in _PORTS]
        logins = draw_logins(plan)
        self._wiring = Wiring(dict.fromkeys(services, ("0.0.0.0", SERVICE_PORT)), client, self._receiver.endpoint, DATABASE, logins)
        await asyncio.gather(self._postgres.reset(table_definitions(plan), list(logins.values())), self._redis.reset())
        self._began = time.time_ns()
        stores = [role for role in components if role not in services and role in plan.proxied]
        await asyncio.gather(*(self._ask(role, "link_database", port=_PORTS[components[role].kind]) for role in stores))
        self._configs = service_configs(plan, self._wiring)
        await asyncio.gather(*(self._start_service(role) for role in services))
        await self._engine.settle(list(self._at.values()))
        self._watchers = [asyncio.create_task(self._sample(role)) for role in components]
        if "platform" not in self._engine.lacks:
            self._watchers += [asyncio.create_task(self._count()), asyncio.create_task(self._follow())]

    async def _assign(self, plan: Plan) -> None:
        components = plan.app.spec.components
        free: dict[PlaceKind, list[Place]] = {kind: list(places) for kind, places in self._places.items()}
        wanted = sum(component.kind not in _PORTS for component in components.values())
        if (missing := wanted - len(free["service"])) > 0:
            await self._add(_services(missing))
            free["service"] = list(self._places["service"])
        random.shuffle(free["service"])  # so that no place of the engine says which component it holds
        self._at = {}
        for role, component in components.items():
            match component.kind:
                case "postgres" | "redis" as kind:
                    self._at[role] = free[kind][0]
                case _:
                    self._at[role] = free["service"].pop()
        self._roles = {place.handle: role for role, place in self._at.items()}

    def _entry_port(self, role: str) -> int:
        listens = _PORTS.get(self._kind(role), SERVICE_PORT)
        return LINK_PORTS[listens] if role in self.plan.proxied else listens

    async def _start_service(self, role: str) -> None:
        component = self.plan.app.spec.components[role]
        await self._ask(
            role, "start", config=self._configs[role].to_json(), memory=component.limits.memory, files=component.limits.files,
            replicas=component.replicas, linked=role in self.plan.proxied, timeout=_START_TIMEOUT,
        )  # fmt: skip

    async def stop(self) -> None:
        """End the services, the links and the sampling; safe to call twice. Raises SandboxError when something stays."""
        if self._watchers:
            await self._whole()
        watchers, self._watchers = self._watchers, []
        for task in watchers:
            task.cancel()
        for ended in await asyncio.gather(*watchers, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended
        await asyncio.gather(*(self._remotes[place.handle].ask("stop") for place in self._at.values()))

    async def _whole(self) -> None:
        """Wait for containers that a fault of the platform has taken away and that are on their way back."""
        deadline = time.monotonic() + _BACK_WITHIN
        while any(not self._remotes[place.handle].alive for place in self._at.values()):
            if "platform" in self._engine.lacks or time.monotonic() > deadline:
                return  # whoever asks it to stop will hear that it is gone, and the sandbox is burned
            await asyncio.sleep(0.1)

    async def close(self) -> None:
        """Stop what `boot` started; the engine removes everything."""
        for task in self._watchers:
            task.cancel()
        for server in self._tunnels:
            server.close()
        self._postgres.disconnect()
        for remote in self._remotes.values():
            await remote.close()
        await self._receiver.stop()
        await self._engine.close()

    # ---- what it is

    @property
    def capabilities(self) -> frozenset[Capability]:
        return frozenset(get_args(Capability)) - self._engine.lacks

    @property
    def entry_address(self) -> tuple[str, int]:
        """Where users connect."""
        assert self._wiring is not None
        return self._wiring.client[self.plan.app.spec.entry]

    async def _ask(self, role: str, order: str, /, **parameters: Any) -> Any:
        return await self._remotes[self._at[role].handle].ask(order, **parameters)

    # ---- telemetry that the sandbox itself gives

    def _notice(self, handle: str, name: str, body: str, attributes: Mapping[str, Any], at: int) -> None:
        if role := self._roles.get(handle):
            self._event(role, name, body, attributes, at)

    def _event(self, role: str, name: str, body: str, attributes: Mapping[str, Any], at: int) -> None:
        self.telemetry.events.append((at, self.plan.components[role].name, name, body, json.dumps(dict(attributes))))

    async def _sample(self, role: str) -> None:
        name, kind = self.plan.components[role].name, self._kind(role)
        while True:
            now = time.time_ns()
            with contextlib.suppress(SandboxError):  # its container is down, which its silence shows
                self.telemetry.metrics.extend(tuple(row) for row in await self._ask(role, "sample", name=name))
            if kind == "postgres":
                self.telemetry.metrics.extend(await sample_postgres(self._postgres.monitor, name, now))
            elif kind == "redis":
                self.telemetry.metrics.extend(await sample_redis(self._redis.client, name, now))
            await asyncio.sleep(SAMPLE_EVERY)

    async def _count(self) -> None:
        while True:
            for handle, gauges in (await self._engine.gauges()).items():
                if role := self._roles.get(handle):
                    now, name = time.time_ns(), self.plan.components[role].name
                    self.telemetry.metrics.extend(gauge_row(now, name, metric, "{item}", value) for metric, value in gauges.items())
            await asyncio.sleep(_COUNT_EVERY)

    async def _follow(self) -> None:
        """When the engine puts another container in the place of one that ended, make it what the other was."""
        taken: dict[str, asyncio.Task[None]] = {}
        try:
            while True:
                await asyncio.sleep(_FOLLOW_EVERY)
                for place in await self._engine.replaced():
                    if place.handle in taken:
                        taken[place.handle].cancel()  # one that ends while it starts would be waited for in vain
                    if role := self._roles.get(place.handle):
                        taken[place.handle] = asyncio.create_task(self._take_over(role, place))
                for task in [each for each in taken.values() if each.done() and not each.cancelled()]:
                    task.result()
        finally:
            for task in taken.values():
                task.cancel()

    async def _take_over(self, role: str, place: Place) -> None:
        await self._remotes[place.handle].close()
        self._at[role] = place
        self._places[place.kind] = [place if each.handle == place.handle else each for each in self._places[place.kind]]
        with contextlib.suppress(SandboxError):  # it ended while starting: another will come
            await self._join(place)
            if place.kind == "service":
                await self._start_service(role)

    async def deliver(self) -> None:
        async def of(role: str) -> None:
            with contextlib.suppress(SandboxError):  # it is down
                await self._ask(role, "deliver")

        await asyncio.gather(*(of(role) for role in self._configs))

    async def collect_logs(self) -> None:
        """Read what every container has written since `start`, and what the engine reported, into the telemetry."""
        for event in await self._engine.events(self._began):
            if role := self._roles.get(event.handle):
                body = event.body.replace(event.handle, self.plan.components[role].name)
                self._event(role, event.name, body, event.attributes, event.at)
        texts = await asyncio.gather(*(self._engine.logs(place, self._began) for place in self._at.values()))
        for role, text in zip(self._at, texts, strict=True):
            component, kind = self.plan.components[role], self._kind(role)
            self.telemetry.logs.extend(parse_log(text, component.name, kind if kind in _PORTS else component.log_style))

    # ---- capabilities

    async def processes(self, role: str) -> Sequence[int]:
        return await self._ask(role, "processes")

    async def inspect(self, role: str) -> Sequence[ProcessView]:
        return [ProcessView.from_json(view) for view in await self._ask(role, "inspect")]

    async def signal(self, role: str, number: int, pid: int | None = None) -> None:
        await self._ask(role, "signal", number=int(number), pid=pid)

    async def hold(self, role: str, down: bool) -> None:
        await self._ask(role, "hold", down=down)

    async def restart(self, role: str, *, version: str | None = None, settings: Mapping[str, Any] | None = None) -> None:
        assert self._wiring is not None
        before = self._configs[role]
        after = service_configs(self.plan, self._wiring)[role].replace(**{"version": version or before.version, **(settings or {})})
        self._configs[role] = after
        await self._ask(role, "roll", config=after.to_json())
        self._event(role, *rollout_event(before, after), time.time_ns())

    async def limit_files(self, role: str, count: int | None) -> None:
        await self._ask(role, "limit_files", count=count)

    async def limit_memory(self, role: str, size: int | None) -> None:
        await self._ask(role, "limit_memory", size=size or self.plan.app.spec.components[role].limits.memory)

    async def defect(self, role: str, defect: Mapping[str, Any] | None) -> None:
        await self._ask(role, "defect", defect=None if defect is None else dict(defect))

    async def toxic(self, role: str, toxic: Toxic | None) -> None:
        await self._ask(role, "toxic", toxic=None if toxic is None else dataclasses.asdict(toxic))

    async def link_toxic(self, role: str) -> Toxic | None:
        found = await self._ask(role, "link_toxic")
        return None if found is None else Toxic(**found)

    async def change_platform(self, role: str, change: PlatformChange | None) -> None:
        await self._engine.change(self._at[role].handle, change)
        if event := platform_event(change):
            self._event(role, *event, time.time_ns())

    async def platform(self, role: str) -> PlatformView:
        return await self._engine.view(self._at[role].handle)


def _services(count: int) -> tuple[PlaceKind, ...]:
    return ("service",) * count
