"""SQL over an asyncpg pool whose connections are renewed often, as behind a transaction pooler."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import asyncpg

from chaosgym.services.config import Peer, Query, ServiceConfig
from chaosgym.services.defects import Defects
from chaosgym.services.failure import Failure, error_name
from chaosgym.services.instruments import Instruments, describe
from chaosgym.services.journal import Journal
from chaosgym.services.work import Work

__all__ = ["Database", "statement"]

_QUERIES = 30
"""Statements before a connection is replaced."""
_IDLE = 0.8
"""Seconds before an unused one is closed."""
_CONNECT = 0.25
_LIST = 10
_VERBS = {"get": "SELECT", "list": "SELECT", "search": "SELECT", "insert": "INSERT", "update": "UPDATE"}


def statement(step: Query) -> str:
    """The SQL of a step; `$1` is the key, a pattern or a label."""
    label, amount, count, state, changed = (f'"{column}"' for column in step.columns)
    table = f'"{step.table}"'
    return {
        "get": f"select id, {label}, {amount}, {count}, {state} from {table} where id = $1",
        "list": f"select id, {label}, {amount} from {table} where id > $1 order by id limit {_LIST}",
        "search": f"select id, {label}, {amount} from {table} where {label} like $1 order by id limit {_LIST}",
        "insert": f"insert into {table} ({label}, {amount}, {count}, {state}) values ($1, 12.50, 1, 'pending') returning id",
        "update": f"update {table} set {count} = greatest({count} - 1, 0), {changed} = now() where id = $1 returning {count}",
    }[step.operation]


def _argument(step: Query, item: int) -> int | str:
    key = (item - 1) % step.rows + 1
    match step.operation:
        case "search":
            return f"%-{key % 10}%"
        case "insert":
            return f"item-{item}"
        case "list":
            return max(0, min(key, step.rows - _LIST))
        case _:
            return key


class _Connection(asyncpg.Connection):
    """Nothing is set per session, so nothing has to be reset when it returns to the pool."""

    def get_reset_query(self) -> str:
        return ""


class Database:
    """One postgres peer; the pool is made at the first query."""

    def __init__(self, peer: Peer, config: ServiceConfig, instruments: Instruments, journal: Journal, defects: Defects) -> None:
        self._peer, self._config, self._instruments, self._journal, self._defects = peer, config, instruments, journal, defects
        self._pool: asyncpg.Pool | None = None
        self._waiting = 0
        self._attributes = {
            "db.system.name": "postgresql",
            "db.namespace": config.database,
            "server.address": peer.host,
            "server.port": peer.port,
        }
        instruments.observe("db.client.connection.count", "{connection}", self._connections)
        instruments.observe(
            "db.client.connection.pending_requests", "{request}", lambda: ((self._waiting, {"db.client.connection.pool.name": peer.host}),)
        )

    def _connections(self) -> Iterable[tuple[float, Mapping[str, str]]]:
        size, idle = (self._pool.get_size(), self._pool.get_idle_size()) if self._pool else (0, 0)
        for state, number in (("idle", idle), ("used", size - idle)):
            yield number, {"db.client.connection.state": state, "db.client.connection.pool.name": self._peer.host}

    async def close(self) -> None:
        """Close the connections at once."""
        if self._pool is not None:
            self._pool.terminate()

    async def _made_pool(self) -> asyncpg.Pool:
        if self._pool is None:
            config, (address, port) = self._config, self._peer.address
            self._pool = asyncpg.create_pool(
                host=address, port=port, user=config.database_user, password=config.database_password, database=config.database, ssl=False,
                min_size=0, max_size=config.pool, max_queries=_QUERIES, max_inactive_connection_lifetime=_IDLE, timeout=_CONNECT,
                connection_class=_Connection, server_settings={"application_name": config.name, "jit": "off"},
            )  # fmt: skip
            await self._pool  # opens nothing yet, so it is ready before anybody else asks
        return self._pool

    async def run(self, step: Query, work: Work) -> Any:
        """Rows as dicts (one dict for get, insert, update). Raises Failure."""
        verb = _VERBS[step.operation]
        attributes = {**self._attributes, "db.operation.name": verb, "db.collection.name": step.table}
        with self._instruments.client(f"{verb} {step.table}", work.parent, attributes):
            try:
                async with asyncio.timeout(step.timeout):
                    found = await self._execute(step, work.item)
                if self._defects.is_on("queries"):
                    await self._again(step, work)
                return found
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
                failure = _failure(error, self._peer.host, step.timeout, self._full())
                self._journal.log(
                    "ERROR",
                    "query_failed",
                    work.trace,
                    raised=error if failure.status == 500 else None,
                    table=step.table,
                    operation=verb,
                    error=failure.text,
                )
                raise failure from error

    async def _execute(self, step: Query, item: int) -> Any:
        pool = await self._made_pool()
        self._waiting += 1
        try:
            connection = await pool.acquire()
        finally:
            self._waiting -= 1
        try:
            if step.operation in ("insert", "update"):
                async with connection.transaction():
                    row = await connection.fetchrow(statement(step), _argument(step, item))
                return dict(row) if row else {}
            rows = await connection.fetch(statement(step), _argument(step, item))
            return _plain(rows, step.operation)
        finally:
            if not self._defects.is_on("connections"):
                await pool.release(connection)

    async def _again(self, step: Query, work: Work) -> None:
        """A query for each of what should have been asked for at once."""
        assert self._defects.on is not None
        single = dataclasses.replace(step, operation="get")
        for number in range(self._defects.on.count):
            with self._instruments.client(f"SELECT {step.table}", work.parent, {**self._attributes, "db.operation.name": "SELECT"}):
                async with asyncio.timeout(step.timeout):
                    await self._execute(single, work.item + number)

    def _full(self) -> str:
        """How full the pool is, when there is nothing left in it."""
        pool = self._pool
        full = pool is not None and pool.get_size() >= self._config.pool and not pool.get_idle_size()
        return f"{self._config.pool} of {self._config.pool}" if full else ""


def _plain(rows: list[asyncpg.Record], operation: str) -> Any:
    made = [{key: value if isinstance(value, int | str) else float(value) for key, value in row.items()} for row in rows]
    if operation != "get":
        return made
    return made[0] if made else {}


def _failure(error: Exception, host: str, timeout: float, full: str) -> Failure:
    """504 for what took too long, 503 for what did not let us in, 500 for what the server refused to do."""
    if isinstance(error, TimeoutError) and full:
        text = f"{host}: timed out after {timeout * 1000:.0f} ms, connections in use: {full}"
        return Failure(504, "TimeoutError", text, peer=host)
    if isinstance(error, TimeoutError):
        return Failure(504, "TimeoutError", f"{host}: statement timed out after {timeout * 1000:.0f} ms", peer=host)
    text = f"{host}: {describe(error)}"
    closed = isinstance(error, OSError | asyncpg.TooManyConnectionsError | asyncpg.CannotConnectNowError | asyncpg.InterfaceError)
    return Failure(503 if closed else 500, error_name(error), text, peer=host)
