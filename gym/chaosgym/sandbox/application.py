"""What every sandbox of one of our applications offers, wherever its components run: its plan, its users, its databases."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from chaosgym.errors import FaultError, SandboxError
from chaosgym.plan import Plan
from chaosgym.sandbox.base import Pressure
from chaosgym.sandbox.datastores import PostgresClient, RedisClient
from chaosgym.services.load import LoadGenerator
from chaosgym.telemetry.store import TelemetryBuffer

__all__ = ["ApplicationSandbox"]


class ApplicationSandbox:
    """The part of `chaosgym.sandbox.base.Sandbox` that does not depend on where processes live."""

    def __init__(self, postgres: PostgresClient, redis: RedisClient) -> None:
        """The administrator's ways into the one PostgreSQL and the one Redis of the sandbox."""
        self._sql_client, self._redis_client = postgres, redis
        self.telemetry = TelemetryBuffer()
        self.users: LoadGenerator | None = None
        """Set by whoever makes the load of an episode."""
        self._plan: Plan | None = None

    @property
    def plan(self) -> Plan:
        """Of the running episode."""
        if self._plan is None:
            raise SandboxError("no application is running in this sandbox")
        return self._plan

    def _kind(self, role: str) -> str:
        return self.plan.app.spec.components[role].kind

    async def press(self, pressure: Pressure | None) -> None:
        if self.users is None:
            raise FaultError("nobody uses this application: there is no load to change")
        await self.users.strangers.press(pressure)

    def pressure(self) -> Pressure | None:
        return self.users.strangers.pressure if self.users else None

    @asynccontextmanager
    async def sql(self, role: str) -> AsyncGenerator[asyncpg.Connection, None]:
        if self._kind(role) != "postgres":
            raise FaultError(f"component {role!r} is a {self._kind(role)}, not a postgres")
        connection = await self._sql_client.connect()
        try:
            yield connection
        finally:
            connection.terminate()

    def sql_server(self, role: str) -> Mapping[str, Any]:
        return self._sql_client.server

    async def redis(self, role: str, *command: str | int) -> Any:
        if self._kind(role) != "redis":
            raise FaultError(f"component {role!r} is a {self._kind(role)}, not a redis")
        return await self._redis_client.client.execute_command(*command)
