"""A Sandbox that acts on nothing: it writes down what it is asked, what is still undone, and can fail on demand.

For trying a fault class without an application. Its components stand for this very process, so that
what a fault reads back of them is real; its postgres is down.
"""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, get_args

from chaosgym.app import App
from chaosgym.errors import SandboxError
from chaosgym.plan import ComponentPlan, Plan
from chaosgym.sandbox.base import Capability, PlatformChange, PlatformView, Pressure, ProcessView, Toxic
from chaosgym.sandbox.proc import read_process
from chaosgym.scenario import Scenario

__all__ = ["RecordingSandbox", "small_plan"]

_API = "chaosgym.dev/v1"
_REDIS_SETTINGS = {"maxmemory": "67108864", "maxmemory-policy": "allkeys-lru", "maxclients": "500", "requirepass": "", "role": "master",
                   "permissions": "+@all"}  # fmt: skip
_KINDS = {"web": "gateway", "orders": "service", "payments": "service", "mailer": "worker", "database": "postgres", "cache": "redis"}
_VOCABULARY = {"web": "gateway", "mailer": "notifications"}
_ENDPOINTS: dict[str, Any] = {
    "web": {"buy": {"method": "POST", "steps": [{"call": "orders", "endpoint": "create"}]}},
    "orders": {"create": {"method": "POST", "steps": [
        {"query": "database", "table": "orders", "operation": "insert"},
        {"cache": "cache", "operation": "set", "key": "order"},
        {"call": "payments", "endpoint": "charge"},
        {"publish": "cache", "stream": "mails"},
    ]}},
    "payments": {"charge": {"steps": [{"query": "database", "table": "payments", "operation": "insert"}]}},
}


def small_plan(seed: int = 0) -> Plan:
    """One component of each kind (two services), every one behind a link."""
    components: dict[str, Any] = {
        role: {"kind": kind, "vocabulary": _VOCABULARY.get(role, role), "endpoints": _ENDPOINTS.get(role, {})}
        for role, kind in _KINDS.items()
    }
    components["mailer"]["consumes"] = {"redis": "cache", "stream": "mails", "steps": [{"query": "database", "table": "orders"}]}
    components["database"]["tables"] = {"orders": {}, "payments": {}}
    spec = {"entry": "web", "components": components, "journeys": {"buy": {"weight": 1, "requests": ["buy"]}}}
    app = App.model_validate({"apiVersion": _API, "kind": "App", "metadata": {"name": "small"}, "spec": spec})
    scenario = Scenario.model_validate({"apiVersion": _API, "kind": "Scenario", "metadata": {"name": "small"}, "spec": {"app": "small"}})
    drawn = {
        role: ComponentPlan(role, f"{role}-api", f"{role}.internal", 8080, "2.7.1", "json", tables={n: n for n in c.tables})
        for role, c in app.spec.components.items()
    }
    return Plan(app, scenario, seed, drawn, {}, (), (), 0.1, proxied=tuple(app.spec.components))


class RecordingSandbox:
    """Implements `chaosgym.sandbox.base.Sandbox`; `fail_at` names the call (from 0) that raises SandboxError."""

    def __init__(self, plan: Plan | None = None, *, fail_at: int | None = None, takes_effect: bool = False) -> None:
        self._plan = plan or small_plan()
        self._fail_at, self._takes_effect = fail_at, takes_effect
        self.calls: list[tuple[str, str, Any]] = []
        """(capability, role, what was asked) of everything that changes something."""
        self._undone: dict[tuple[str, str], Any] = {}
        self._redis = dict(_REDIS_SETTINGS)

    capabilities: frozenset[Capability] = frozenset(get_args(Capability))

    @property
    def plan(self) -> Plan:
        """The small plan, or the one given."""
        return self._plan

    @property
    def residue(self) -> dict[tuple[str, str], Any]:
        """What is not as it was in the beginning: (what, role) -> value."""
        changed = {("redis", key): value for key, value in self._redis.items() if value != _REDIS_SETTINGS[key]}
        return self._undone | changed

    def _act(self, capability: Capability, role: str, asked: Any, key: str, undone: Any) -> None:
        number = len(self.calls)
        self.calls.append((capability, role, asked))
        fails = number == self._fail_at
        if not fails or self._takes_effect:
            if undone is None:
                self._undone.pop((key, role), None)
            else:
                self._undone[key, role] = undone
        if fails:
            raise SandboxError(f"call {number} ({capability} on {role!r}) fails, as asked for")

    async def processes(self, role: str) -> Sequence[int]:
        """This process; none for what was killed, and for postgres."""
        dead = ("killed", role) in self._undone or self._plan.app.spec.components[role].kind == "postgres"
        return [] if dead else [os.getpid()]

    async def inspect(self, role: str) -> Sequence[ProcessView]:
        """The kernel's view of them, on which nothing that was noted shows."""
        return [view for pid in await self.processes(role) if (view := read_process(pid))]

    async def signal(self, role: str, number: int, pid: int | None = None) -> None:
        """Note it: SIGKILL leaves it killed, SIGSTOP stopped until SIGCONT."""
        if number == signal.SIGKILL:
            self._act("signal", role, number, "killed", True)
        else:
            self._act("signal", role, number, "stopped", number == signal.SIGSTOP or None)

    async def hold(self, role: str, down: bool) -> None:
        """Note it; what is let go rises from the dead."""
        self._act("hold", role, down, "held", down or None)
        if not down:
            self._undone.pop(("killed", role), None)

    async def restart(self, role: str, *, version: str | None = None, settings: Mapping[str, Any] | None = None) -> None:
        """Note it."""
        self._act("restart", role, (version, settings), "rolled out", None if version is None and settings is None else (version, settings))

    async def limit_files(self, role: str, count: int | None) -> None:
        """Note it."""
        self._act("limit", role, count, "files", count)

    async def limit_memory(self, role: str, size: int | None) -> None:
        """Note it."""
        self._act("limit", role, size, "memory", size)

    async def press(self, pressure: Pressure | None) -> None:
        """Note it."""
        self._act("load", self._plan.app.spec.entry, pressure, "pressure", pressure)

    def pressure(self) -> Pressure | None:
        """What `press` noted."""
        return self._undone.get(("pressure", self._plan.app.spec.entry))

    async def defect(self, role: str, defect: Mapping[str, Any] | None) -> None:
        """Note it."""
        self._act("defect", role, defect, "defect", defect)

    async def toxic(self, role: str, toxic: Toxic | None) -> None:
        """Note it."""
        self._act("link", role, toxic, "toxic", toxic)

    async def link_toxic(self, role: str) -> Toxic | None:
        """What `toxic` noted."""
        return self._undone.get(("toxic", role))

    @asynccontextmanager
    async def sql(self, role: str) -> AsyncGenerator[Any]:
        """The server is down."""
        self.calls.append(("sql", role, None))
        raise ConnectionRefusedError(f"the double has no server behind {role!r}")
        yield

    def sql_server(self, role: str) -> Mapping[str, Any]:
        """Nowhere."""
        return {}

    async def change_platform(self, role: str, change: PlatformChange | None) -> None:
        """Note it."""
        self._act("platform", role, change, "platform", change)

    async def platform(self, role: str) -> PlatformView:
        """One pod, and what was noted does not show on it."""
        return PlatformView(1, 1, 1, frozenset())

    async def redis(self, role: str, *command: str | int) -> Any:
        """What our faults ask of a cache, noted or answered with little; anything else is refused."""
        match [str(word) for word in command]:
            case ["INFO", *_]:
                return f"# Memory\r\nused_memory:1000000\r\nrole:{self._redis['role']}\r\n"
            case ["REPLICAOF", host, _]:
                return self._set(role, command, "role", "master" if host == "NO" else "slave")
            case ["ACL", "SETUSER", _, permissions]:
                return self._set(role, command, "permissions", permissions)
            case ["CLIENT", "LIST"]:
                return "id=1 addr=/run/redis.sock:0 fd=8\n"
            case ["KEYS", *_]:
                return []
            case ["XADD" | "EVAL" | "FLUSHALL" | "AUTH", *_]:
                self.calls.append(("redis", role, command))
                return "OK"
            case ["CONFIG", "GET", key]:
                return [key, self._redis[key]]
            case ["CONFIG", "SET", key, value]:
                return self._set(role, command, key, value)
            case _:
                raise SandboxError(f"the double knows no Redis command {command!r}")

    def _set(self, role: str, command: tuple[str | int, ...], key: str, value: str) -> str:
        self._act("redis", role, command, f"setting {key}", None)
        self._redis[key] = value
        return "OK"
