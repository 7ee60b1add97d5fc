"""The local sandbox: an application of real processes, inside the namespaces of one worker.

The datastores, the telemetry receiver and the zygote live as long as the worker; `start` resets them,
forks the services of a plan and waits until they listen, `stop` kills the services. Each component has
a loopback address of its own; one in `plan.proxied` is reached through a link that can go bad.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from chaosgym.errors import FaultError
from chaosgym.plan import Plan
from chaosgym.sandbox.application import ApplicationSandbox
from chaosgym.sandbox.base import Capability, PlatformChange, PlatformView, ProcessView, Toxic
from chaosgym.sandbox.datastores import Postgres, Redis
from chaosgym.sandbox.events import rollout_event
from chaosgym.sandbox.links import Link
from chaosgym.sandbox.proc import read_process
from chaosgym.sandbox.supervisor import Supervisor
from chaosgym.sandbox.watch import Watch
from chaosgym.sandbox.wire import Network, draw_address, make_network
from chaosgym.sandbox.zygote import Zygote
from chaosgym.services.wiring import service_configs
from chaosgym.telemetry.logs import parse_log
from chaosgym.telemetry.otlp import Receiver

__all__ = ["LocalSandbox"]

_OTLP_PORT = 4318
_CAPABILITIES: frozenset[Capability] = frozenset(get_args(Capability)) - {"platform"}


class LocalSandbox(ApplicationSandbox):
    """Implements `chaosgym.sandbox.base.Sandbox`; lives in the worker process only."""

    name = "local"

    def __init__(self, state: Path, cache: Path, zygote: Zygote) -> None:
        self._state, self._cache = state, cache
        self._store_logs = {"postgres": state / "postgres.log", "redis": state / "redis.log"}
        self._postgres = Postgres(state, draw_address(), self._store_logs["postgres"])
        self._redis = Redis(state, draw_address(), self._store_logs["redis"])
        super().__init__(self._postgres, self._redis)
        self._receiver = Receiver(self.telemetry)
        self._supervisor = Supervisor(zygote, self._event, self._on_down, self._on_up)
        self._watch = Watch(self.telemetry, self._supervisor, self._postgres, self._redis)
        self._links: dict[str, Link] = {}
        self._logs: dict[str, Path] = {}
        self._network: Network | None = None

    # ---- life

    async def boot(self) -> None:
        """Start what lives as long as the worker. Raises SandboxError or PrerequisiteError."""
        self._supervisor.attach()
        self._redis.launch()
        self._postgres.launch(self._cache)
        await asyncio.gather(self._redis.ready(), self._postgres.ready(), self._receiver.start(draw_address(), _OTLP_PORT))

    async def start(self, plan: Plan) -> None:
        """Reset the datastores and start the application of `plan`; returns when every service listens."""
        self._plan = plan
        self.telemetry.clear()
        for log in self._logs.values():  # of a run that failed before they were read
            log.unlink(missing_ok=True)
        self._logs.clear()
        network = self._network = make_network(plan, self._postgres.address, self._redis.address, self._receiver.endpoint)
        await asyncio.gather(self._postgres.reset(network.tables, list(network.wiring.logins.values())), self._redis.reset())
        for role in plan.proxied:
            self._links[role] = Link(*network.wiring.client[role], network.direct[role])
            self._links[role].start()
        configs = service_configs(plan, network.wiring)
        await asyncio.gather(*(self._start_service(role, config) for role, config in configs.items()))
        self._watch.start(plan)

    async def _start_service(self, role: str, config: Any) -> None:
        component = self.plan.app.spec.components[role]
        limits = component.limits
        log = self._logs[role] = self._state / f"{random.getrandbits(48):012x}.log"
        await self._supervisor.start(role, config, memory=limits.memory, files=limits.files, log=log, replicas=component.replicas)

    async def stop(self) -> None:
        """End the services, the links and the sampling; safe to call twice. Raises SandboxError when something stays."""
        await self._watch.stop()
        await self._supervisor.stop()
        for link in self._links.values():
            link.refuse()
        self._links.clear()

    async def close(self) -> None:
        """Stop what `boot` started."""
        await self.stop()
        await asyncio.gather(self._receiver.stop(), self._postgres.stop(), self._redis.stop())

    # ---- what it is

    @property
    def capabilities(self) -> frozenset[Capability]:
        return _CAPABILITIES

    @property
    def programs(self) -> dict[str, str]:
        """Versions of the datastores."""
        return {"postgresql": self._postgres.program.version_text, "redis": self._redis.program.version_text}

    @property
    def entry_address(self) -> tuple[str, int]:
        """Where users connect."""
        assert self._network is not None
        return self._network.wiring.client[self.plan.app.spec.entry]

    # ---- telemetry that the sandbox itself gives

    def _event(self, role: str, name: str, body: str, attributes: Mapping[str, Any]) -> None:
        public = self.plan.components[role].name
        self.telemetry.events.append((time.time_ns(), public, name, body, json.dumps(dict(attributes))))

    async def deliver(self) -> None:
        await self._supervisor.deliver()

    async def collect_logs(self) -> None:
        """Read every component's log into the telemetry; the episode's log files are removed."""
        for role, log in self._logs.items():
            component = self.plan.components[role]
            text = log.read_text(errors="replace") if log.exists() else ""
            self.telemetry.logs.extend(parse_log(text, component.name, component.log_style))
            log.unlink(missing_ok=True)
        self._logs.clear()
        for role, component in self.plan.components.items():
            if store_log := self._store_logs.get(self._kind(role)):
                self.telemetry.logs.extend(parse_log(store_log.read_text(errors="replace"), component.name, self._kind(role)))

    def _on_down(self, role: str) -> None:
        if role in self._links:
            self._links[role].refuse()

    def _on_up(self, role: str) -> None:
        if role in self._links:
            self._links[role].start()

    # ---- capabilities

    async def processes(self, role: str) -> Sequence[int]:
        return self._watch.pids(role)

    async def inspect(self, role: str) -> Sequence[ProcessView]:
        return [view for pid in self._watch.pids(role) if (view := read_process(pid))]

    async def signal(self, role: str, number: int, pid: int | None = None) -> None:
        for each in self._watch.pids(role):
            if pid in (None, each):
                os.kill(each, number)

    async def hold(self, role: str, down: bool) -> None:
        self._supervisor.hold(role, down)

    async def restart(self, role: str, *, version: str | None = None, settings: Mapping[str, Any] | None = None) -> None:
        assert self._network is not None
        before = self._supervisor.config(role)
        planned = service_configs(self.plan, self._network.wiring)[role]
        after = planned.replace(**{"version": version or before.version, **(settings or {})})
        await self._supervisor.roll(role, after)
        self._event(role, *rollout_event(before, after))

    async def limit_files(self, role: str, count: int | None) -> None:
        self._supervisor.limit_files(role, count)

    async def limit_memory(self, role: str, size: int | None) -> None:
        self._supervisor.limit_memory(role, size or self.plan.app.spec.components[role].limits.memory)

    async def defect(self, role: str, defect: Mapping[str, Any] | None) -> None:
        await self._supervisor.defect(role, defect)

    async def toxic(self, role: str, toxic: Toxic | None) -> None:
        self._link(role).set(toxic)

    async def link_toxic(self, role: str) -> Toxic | None:
        return self._link(role).toxic

    def _link(self, role: str) -> Link:
        if role not in self._links:
            raise FaultError(f"component {role!r} is not reached through a link; links: {', '.join(self._links) or 'none'}")
        return self._links[role]

    async def change_platform(self, role: str, change: PlatformChange | None) -> None:
        raise FaultError("no orchestrator runs the components of a local sandbox")

    async def platform(self, role: str) -> PlatformView:
        raise FaultError("no orchestrator runs the components of a local sandbox")
