"""Faults of what everybody depends on: a database without slots, a locked table, a cache that is full."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, cast

from chaosgym.errors import FaultError
from chaosgym.faults.base import Fault, FaultParameters, Symptom
from chaosgym.faults.login import Login, draw_job, end, quoted
from chaosgym.faults.statements import real_table
from chaosgym.faults.undo import unless_dead
from chaosgym.sandbox.base import Capability, Sandbox
from chaosgym.units import Name

if TYPE_CHECKING:
    from chaosgym.faults.login import Connection

__all__ = ["CacheMemory", "Connections", "Lock", "RowLock", "pairs"]

_LOOK_EVERY = 0.01
_FILL_TIMEOUT = 5.0
_FREE_SLOTS = """select current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
    - coalesce(current_setting('reserved_connections', true)::int, 0) - (select sum(numbackends) from pg_stat_database)::int"""
_OWNER = "select tableowner from pg_tables where schemaname = any(current_schemas(false)) and tablename = $1"
_LOCKS_HELD = "select count(*) from pg_locks where relation = to_regclass($1) and mode = 'AccessExclusiveLock' and granted"


def _rng(sandbox: Sandbox, label: str) -> random.Random:
    return random.Random(f"{sandbox.plan.seed}/{label}")


class Connections(Fault):
    """A reporting job opens session after session, until the server has no slot left for anybody else.

    Sessions that services have open go on working; whoever needs a new one is refused with `sorry,
    too many clients already`, and the job takes every slot that comes free.
    """

    label = "dependency.connections"
    documented = "https://www.postgresql.org/docs/current/runtime-config-connection.html"
    kinds = frozenset({"postgres"})
    needs: ClassVar[frozenset[Capability]] = frozenset({"sql"})
    symptoms = (
        Symptom("component", "connections"),
        Symptom("component", "log", pattern=r"too many clients|connection slots are reserved"),
        Symptom("callers", "log", pattern=r"too many clients|connection slots are reserved|TooManyConnections"),
        Symptom("callers", "errors"),
        Symptom("edge", "errors"),
    )

    class Parameters(FaultParameters):
        """None: full is full."""

    def __init__(self, target: str, parameters: dict[str, Any] | None = None) -> None:
        super().__init__(target, parameters)
        self._login: Login | None = None
        self._held: list[Connection] = []
        self._keeper: asyncio.Task[None] | None = None

    async def inject(self, sandbox: Sandbox) -> None:
        self._login = Login(draw_job(_rng(sandbox, self.label)))
        await self._login.create(sandbox, self.target)
        try:
            async with asyncio.timeout(_FILL_TIMEOUT):
                while await self._take(self._login):
                    pass
        except TimeoutError as error:
            held = f"{len(self._held)} sessions in {_FILL_TIMEOUT:g} s"
            raise FaultError(f"{self.label}: {self.target!r} still has free slots after {held}") from error
        self._keeper = asyncio.create_task(self._keep(self._login))

    async def _take(self, login: Login) -> int:
        """Open as many sessions as there are free slots; return how many that were."""
        free = cast(int, await self._held[0].fetchval(_FREE_SLOTS)) if self._held else 1
        before = len(self._held)
        await asyncio.gather(*(self._open(login) for _ in range(free)))
        return len(self._held) - before

    async def _open(self, login: Login) -> bool:
        """One more session; False when the server has no slot."""
        import asyncpg

        try:
            self._held.append(await login.connect())
        except asyncpg.TooManyConnectionsError:
            return False
        return True

    async def _keep(self, login: Login) -> None:
        """Take the slots that others give back, for as long as the server is there."""
        import asyncpg

        with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            while True:
                await asyncio.sleep(_LOOK_EVERY)
                await self._take(login)

    async def verify(self, sandbox: Sandbox) -> None:
        """An ordinary login is refused, and the server counts the sessions that we think we hold."""
        login = self._login
        if login is None or login.user is None:
            raise FaultError(f"{self.label}: nothing was injected")
        for _ in range(20):
            if not await self._open(login):
                break
            await asyncio.sleep(_LOOK_EVERY)
        else:
            raise FaultError(f"{self.label}: {self.target!r} still accepts logins with {len(self._held)} sessions held")
        async with sandbox.sql(self.target) as admin:
            counted = await admin.fetchval("select count(*) from pg_stat_activity where usename = $1", login.user)
        if not counted:
            raise FaultError(f"{self.label}: {self.target!r} is full, but none of its sessions is ours")

    async def heal(self, sandbox: Sandbox) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._keeper = None
        await asyncio.gather(*(end(session) for session in self._held))
        self._held.clear()
        if self._login is not None:
            await self._login.drop(sandbox, self.target)


class OpenTransaction(Fault):
    """A job has begun a transaction that takes a lock, and does not end it."""

    kinds = frozenset({"postgres"})
    needs: ClassVar[frozenset[Capability]] = frozenset({"sql"})
    statement: ClassVar[str]
    """What takes the lock, with the table in braces."""

    class Parameters(FaultParameters):
        table: Name
        """The table that is locked, as the application's file names it."""

    def __init__(self, target: str, parameters: dict[str, Any] | None = None) -> None:
        super().__init__(target, parameters)
        self._login: Login | None = None
        self._session: Connection | None = None

    def _table(self, sandbox: Sandbox) -> str:
        return real_table(sandbox, self.target, self.parameters.table, self.label)

    async def inject(self, sandbox: Sandbox) -> None:
        import asyncpg

        table = self._table(sandbox)
        self._login = Login(draw_job(_rng(sandbox, self.label), schema=True))
        await self._login.create(sandbox, self.target, member_of=[await self._owner(sandbox, table)])
        self._session = await self._login.connect()
        await self._session.execute("set lock_timeout = '2s'")  # never wait forever behind somebody else
        await self._session.execute("begin")
        try:
            await self._session.execute(self.statement.format(quoted(table)))
        except asyncpg.LockNotAvailableError as error:
            raise FaultError(f"{self.label}: no lock on {table!r} within 2 s: somebody else holds it") from error

    async def _owner(self, sandbox: Sandbox, table: str) -> str:
        async with sandbox.sql(self.target) as admin:
            owner = await admin.fetchval(_OWNER, table)
        if owner is None:
            raise FaultError(f"{self.label}: the database of {self.target!r} has no table {table!r} in its search path")
        return cast(str, owner)

    async def heal(self, sandbox: Sandbox) -> None:
        if self._session is not None:
            await end(self._session)
            self._session = None
        if self._login is not None:
            await self._login.drop(sandbox, self.target)


class Lock(OpenTransaction):
    """A migration holds an ACCESS EXCLUSIVE lock on a table, and does not come to its end.

    Every statement on that table waits behind it until its caller gives up; other tables are as fast
    as ever, and the server is idle.
    """

    label = "dependency.lock"
    documented = "https://www.postgresql.org/docs/current/explicit-locking.html"
    statement = "lock table {} in access exclusive mode"
    symptoms = (
        Symptom("component", "log", pattern=r"still waiting for|canceling statement"),
        Symptom("callers", "latency"),
        Symptom("callers", "errors"),
        Symptom("callers", "log", pattern=r"(?i)timed? ?out"),
        Symptom("edge", "errors"),
    )

    async def verify(self, sandbox: Sandbox) -> None:
        table = self._table(sandbox)
        async with sandbox.sql(self.target) as admin:
            granted = await admin.fetchval(_LOCKS_HELD, quoted(table))
        if not granted:
            raise FaultError(f"{self.label}: nobody holds an ACCESS EXCLUSIVE lock on {table!r} in {self.target!r}")


class RowLock(OpenTransaction):
    """A job has updated the rows of a table and sits there, idle in its transaction.

    Reads pass; whoever wants to change one of those rows waits for the job's transaction (`waiting for ShareLock on
    transaction`) until it gives up.
    """

    label = "dependency.row_lock"
    documented = "https://www.postgresql.org/docs/current/explicit-locking.html"
    statement = "select count(*) from (select 1 from {} for update) as locked"
    symptoms = (
        Symptom("component", "log", pattern=r"(?:ShareLock on transaction|ExclusiveLock on tuple)"),
        Symptom("callers", "latency"),
        Symptom("callers", "errors"),
        Symptom("callers", "log", pattern=r"(?i)timed? ?out"),
        Symptom("edge", "errors"),
    )

    async def verify(self, sandbox: Sandbox) -> None:
        user = self._login.user if self._login else None
        async with sandbox.sql(self.target) as admin:
            idle = await admin.fetchval("select count(*) from pg_stat_activity where usename = $1 and state = 'idle in transaction'", user)
        if not idle:
            raise FaultError(f"{self.label}: no transaction of ours is open on {self.target!r}")


class CacheMemory(Fault):
    """The cache has reached its memory limit and may evict nothing: it serves reads and refuses writes.

    A limit set too low, or data without an expiry under `noeviction`: every write is answered with `OOM
    command not allowed when used memory > 'maxmemory'`.
    """

    label = "dependency.cache_memory"
    documented = "https://redis.io/docs/latest/develop/reference/eviction/"
    kinds = frozenset({"redis"})
    needs: ClassVar[frozenset[Capability]] = frozenset({"redis"})
    symptoms = (
        Symptom("callers", "log", pattern=r"OOM|used memory > 'maxmemory'|OutOfMemory"),
        Symptom("callers", "errors"),
        Symptom("component", "memory"),
        Symptom("edge", "errors"),
    )

    class Parameters(FaultParameters):
        """None: the limit follows what is in use."""

    _BELOW: ClassVar[float] = 0.9
    """Of the memory in use: sessions that come and go must not leave room for a write."""

    def __init__(self, target: str, parameters: dict[str, Any] | None = None) -> None:
        super().__init__(target, parameters)
        self._before: dict[str, str] = {}

    async def inject(self, sandbox: Sandbox) -> None:
        before = {key: (await self._setting(sandbox, key)) for key in ("maxmemory", "maxmemory-policy")}
        self._before = self._before or before
        used = int(pairs(await sandbox.redis(self.target, "INFO", "memory"))["used_memory"])
        await sandbox.redis(self.target, "CONFIG", "SET", "maxmemory-policy", "noeviction")
        await sandbox.redis(self.target, "CONFIG", "SET", "maxmemory", int(used * self._BELOW))

    async def _setting(self, sandbox: Sandbox, key: str) -> str:
        return pairs(await sandbox.redis(self.target, "CONFIG", "GET", key))[key]

    async def verify(self, sandbox: Sandbox) -> None:
        policy = await self._setting(sandbox, "maxmemory-policy")
        limit = int(await self._setting(sandbox, "maxmemory"))
        used = int(pairs(await sandbox.redis(self.target, "INFO", "memory"))["used_memory"])
        if policy != "noeviction" or not 0 < limit < used:
            raise FaultError(f"{self.label}: {self.target!r} uses {used} of {limit} bytes ({policy}); the limit should be below the use")
        await self._assert_refused(sandbox)

    async def _assert_refused(self, sandbox: Sandbox) -> None:
        from redis.exceptions import ResponseError

        key = f"lease:{secrets.token_hex(6)}"
        try:
            await sandbox.redis(self.target, "SET", key, 1, "PX", 100)
        except ResponseError as error:
            if "maxmemory" in str(error):
                return
            raise FaultError(f"{self.label}: {self.target!r} refuses a write for another reason: {error}") from error
        await sandbox.redis(self.target, "DEL", key)
        raise FaultError(f"{self.label}: {self.target!r} still takes writes")

    async def heal(self, sandbox: Sandbox) -> None:
        from redis.exceptions import ConnectionError as Disconnected

        async with unless_dead(sandbox, self.target, Disconnected):
            for key, value in self._before.items():
                await sandbox.redis(self.target, "CONFIG", "SET", key, value)


def pairs(reply: Any) -> dict[str, str]:
    """What `INFO` and `CONFIG GET` answer, in each of the shapes that clients give it: mapping, flat list or text."""
    if isinstance(reply, Mapping):
        items = cast("Mapping[Any, Any]", reply).items()
        return {_text(key): _text(value) for key, value in items}
    if isinstance(reply, list | tuple):
        flat = [_text(item) for item in cast("list[Any]", reply)]
        return dict(zip(flat[::2], flat[1::2], strict=False))
    return dict(line.split(":", 1) for line in _text(reply).splitlines() if ":" in line)


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
