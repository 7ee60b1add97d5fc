"""Faults of a PostgreSQL server that its operators make: limits, rights, settings, jobs that get in the way."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import signal
import time
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, cast

from pydantic import Field

from chaosgym.errors import FaultError, SandboxError
from chaosgym.faults.base import Fault, FaultParameters, Symptom
from chaosgym.faults.keeper import Keeper
from chaosgym.faults.login import Login, draw_job, quoted
from chaosgym.faults.readback import in_force
from chaosgym.faults.statements import SqlFault, application_roles, on_sequence, real_table
from chaosgym.sandbox.base import Capability, Sandbox
from chaosgym.units import Count, Duration, Name

if TYPE_CHECKING:
    from chaosgym.faults.login import Connection

__all__ = [
    "DatabaseCrash", "ExpensiveReport", "PasswordRotation", "Privilege", "ReadOnly", "RoleConnections", "SequenceExhausted", "SlowWrites",
]  # fmt: skip

_PASSWORDS = "select rolname, rolpassword from pg_authid where rolcanlogin and not rolsuper and rolpassword is not null"
_JOIN = "select count(*) from generate_series(1, 100000) a, generate_series(1, 100000) b where md5((a + b)::text) like 'ffff%'"
_END_IDLE = """select pg_terminate_backend(pid) from pg_stat_activity
    where state = 'idle' and usename in (select rolname from pg_roles where rolcanlogin and not rolsuper)"""
_BACK_WITHIN = 4.0
"""Seconds that crash recovery may take; 0.2 are usual."""


class RoleConnections(SqlFault):
    """The logins of the application get a limit of connections that is far too low (`ALTER ROLE ... CONNECTION LIMIT`).

    The server has slots left, and gives them to others: who comes beyond the limit hears `too many connections for role`.
    """

    label = "dependency.role_connections"
    documented = "https://www.postgresql.org/docs/current/sql-alterrole.html"
    symptoms = (
        Symptom("component", "log", pattern=r"too many connections for role"),
        Symptom("callers", "log", pattern=r"too many connections for role"),
        Symptom("callers", "errors"),
        Symptom("edge", "errors"),
    )

    class Parameters(FaultParameters):
        limit: Annotated[Count, Field(ge=0, le=10)] = 0
        """Connections of each login, 0 to 10."""

    async def break_in(self, admin: Connection, sandbox: Sandbox) -> None:
        for role in await application_roles(admin):
            limited = f"alter role {quoted(role)} connection limit"
            await self.change(admin, f"{limited} {self.parameters.limit}", f"{limited} -1")

    def check(self, sandbox: Sandbox) -> str:
        return f"bool_and(rolconnlimit = {self.parameters.limit}) from pg_roles where rolcanlogin and not rolsuper"


class ReadOnly(SqlFault):
    """The server takes no writes any more: `default_transaction_read_only`, as after a failover to the wrong side.

    Reads are as fast as ever; every write ends in `cannot execute INSERT in a read-only transaction` (SQLSTATE 25006).
    """

    label = "dependency.read_only"
    documented = "https://www.postgresql.org/docs/current/runtime-config-client.html"
    symptoms = (
        Symptom("component", "log", pattern=r"read-only transaction"),
        Symptom("callers", "log", pattern=r"read-only transaction|ReadOnlySQLTransaction"),
        Symptom("callers", "errors"),
        Symptom("edge", "errors"),
    )

    class Parameters(FaultParameters):
        """None: it writes or it does not."""

    async def break_in(self, admin: Connection, sandbox: Sandbox) -> None:
        self._undo.append("select pg_reload_conf()")
        await self.change(admin, "alter system set default_transaction_read_only = on", "alter system reset default_transaction_read_only")
        await admin.execute("select pg_reload_conf()")
        await asyncio.sleep(0.03)  # until the server's processes have heard of it

    def check(self, sandbox: Sandbox) -> str:
        return "current_setting('default_transaction_read_only') = 'on'"


class SequenceExhausted(SqlFault):
    """The sequence that numbers the rows of a table has reached its end: no row can be added.

    An `integer` key after years, or a limit that a migration set: reads and updates go on, every insert ends in
    `nextval: reached maximum value of sequence` (SQLSTATE 2200H).
    """

    label = "dependency.sequence_exhausted"
    documented = "https://www.postgresql.org/docs/current/sql-createsequence.html"
    symptoms = (
        Symptom("component", "log", pattern=r"reached maximum value of sequence"),
        Symptom("callers", "log", pattern=r"reached maximum value of sequence"),
        Symptom("callers", "errors"),
        Symptom("edge", "errors"),
    )

    class Parameters(FaultParameters):
        table: Name
        """The table, as the application's file names it; one that is inserted into."""

    async def break_in(self, admin: Connection, sandbox: Sandbox) -> None:
        import asyncpg

        table = real_table(sandbox, self.target, self.parameters.table, self.label)
        last = cast(int, await admin.fetchval("select nextval(pg_get_serial_sequence($1, 'id'))", quoted(table)))
        await self.change(admin, on_sequence(table, f"maxvalue {last + 1}"), on_sequence(table, "no maxvalue"))
        with contextlib.suppress(asyncpg.PostgresError):  # the last number that is left may have been taken meanwhile
            await admin.fetchval("select nextval(pg_get_serial_sequence($1, 'id'))", quoted(table))

    def check(self, sandbox: Sandbox) -> str:
        table = real_table(sandbox, self.target, self.parameters.table, self.label)
        owned = f"pg_get_serial_sequence('{quoted(table)}', 'id')"
        name = "quote_ident(schemaname) || '.' || quote_ident(sequencename)"
        return f"max_value - coalesce(last_value, 0) < 2 from pg_sequences where ({name})::regclass = {owned}::regclass"


class Privilege(SqlFault):
    """A migration has taken the rights of the application away: it may read its tables, but not write them, or neither.

    Logins work; statements end in `permission denied for table` (SQLSTATE 42501).
    """

    label = "dependency.privilege"
    documented = "https://www.postgresql.org/docs/current/ddl-priv.html"
    symptoms = (
        Symptom("component", "log", pattern=r"permission denied for"),
        Symptom("callers", "log", pattern=r"permission denied for|InsufficientPrivilege"),
        Symptom("callers", "errors"),
        Symptom("edge", "errors"),
    )

    class Parameters(FaultParameters):
        right: Literal["read", "write"] = "write"
        """Which right is gone: read or write."""

    async def break_in(self, admin: Connection, sandbox: Sandbox) -> None:
        for role in await application_roles(admin):
            group = f"pg_{self.parameters.right}_all_data"
            await self.change(admin, f"revoke {group} from {quoted(role)}", f"grant {group} to {quoted(role)}")

    def check(self, sandbox: Sandbox) -> str:
        group = f"pg_{self.parameters.right}_all_data"
        return f"not bool_or(pg_has_role(rolname, '{group}', 'member')) from pg_roles where rolcanlogin and not rolsuper"


class PasswordRotation(SqlFault):
    """The passwords of the application's logins are changed on the server, and nobody told the services.

    Sessions at work go on; every new one ends in `password authentication failed`, in one service after the
    other, and none of them was deployed.
    """

    label = "dependency.password_rotation"
    documented = "https://www.postgresql.org/docs/current/auth-password.html"
    symptoms = (
        Symptom("component", "log", pattern=r"password authentication failed"),
        Symptom("callers", "log", pattern=r"password authentication failed|InvalidPassword"),
        Symptom("callers", "errors"),
        Symptom("edge", "errors"),
    )

    class Parameters(FaultParameters):
        """None: they all change."""

    def __init__(self, target: str, parameters: dict[str, Any] | None = None) -> None:
        super().__init__(target, parameters)
        self._changed: dict[str, str] = {}

    async def break_in(self, admin: Connection, sandbox: Sandbox) -> None:
        for row in await admin.fetch(_PASSWORDS):
            changed = f"alter role {quoted(row['rolname'])} password"
            await self.change(admin, f"{changed} '{secrets.token_urlsafe(12)}'", f"{changed} '{row['rolpassword']}'")
            self._changed[row["rolname"]] = row["rolpassword"]
        await admin.execute(_END_IDLE)

    def check(self, sandbox: Sandbox) -> str:
        same = " or ".join(f"(rolname = '{role}' and rolpassword = '{before}')" for role, before in self._changed.items())
        return f"not bool_or({same or 'true'}) from pg_authid where rolcanlogin and not rolsuper"


class SlowWrites(SqlFault):
    """A trigger that somebody added recomputes a digest of the whole history with each write to a table.

    Inserts and updates of that table take a hundred times as long and burn the database's CPU; reads do not.
    """

    label = "dependency.slow_writes"
    documented = "https://www.postgresql.org/docs/current/triggers.html"
    symptoms = (
        Symptom("component", "log", pattern=r"duration: \d+\.\d+ ms"),
        Symptom("component", "cpu"),
        Symptom("callers", "latency"),
        Symptom("callers", "errors"),
        Symptom("edge", "latency"),
    )

    class Parameters(FaultParameters):
        table: Name
        """The table, as the application's file names it; one that is written to."""
        rows: Annotated[Count, Field(ge=10_000, le=5_000_000)] = 300_000
        """How many digests each write computes, 10000 to 5000000; a thousand take about a millisecond."""

    _FUNCTIONS: ClassVar[tuple[str, ...]] = ("audit_row", "refresh_rollup", "touch_history", "sync_search", "update_ledger_digest")

    def _name(self, sandbox: Sandbox) -> str:
        return self.draw(sandbox).choice(self._FUNCTIONS)

    async def break_in(self, admin: Connection, sandbox: Sandbox) -> None:
        table, name = real_table(sandbox, self.target, self.parameters.table, self.label), self._name(sandbox)
        body = f"begin perform count(md5(n::text)) from generate_series(1, {self.parameters.rows}) n; return new; end"
        await self.change(
            admin, f"create function {name}() returns trigger language plpgsql as $$ {body} $$", f"drop function if exists {name}()"
        )
        await self.change(
            admin, f"create trigger {name} before insert or update on {quoted(table)} for each row execute function {name}()",
            f"drop trigger if exists {name} on {quoted(table)}",
        )  # fmt: skip

    def check(self, sandbox: Sandbox) -> str:
        return f"count(*) = 1 from pg_trigger where tgname = '{self._name(sandbox)}' and tgenabled = 'O'"


class ExpensiveReport(Fault):
    """A report joins what should never be joined, and keeps the database's CPUs busy as long as it runs.

    A session of a reporting job is active all the time; the statements of the application are few, and slower than usual.
    """

    label = "dependency.expensive_report"
    documented = "https://www.postgresql.org/docs/current/using-explain.html"
    kinds = frozenset({"postgres"})
    needs: ClassVar[frozenset[Capability]] = frozenset({"sql"})
    symptoms = (Symptom("component", "cpu"), Symptom("callers", "latency"))

    class Parameters(FaultParameters):
        sessions: Annotated[Count, Field(ge=1, le=8)] = 1
        """How many run side by side, 1 to 8."""

    def __init__(self, target: str, parameters: dict[str, Any] | None = None) -> None:
        super().__init__(target, parameters)
        self._login: Login | None = None
        self._running: list[tuple[Connection, asyncio.Task[Any]]] = []

    async def inject(self, sandbox: Sandbox) -> None:
        self._login = Login(draw_job(random.Random(f"{sandbox.plan.seed}/{self.label}")))
        await self._login.create(sandbox, self.target)
        for _ in range(self.parameters.sessions):
            session = await self._login.connect()
            self._running.append((session, asyncio.create_task(session.fetchval(_JOIN))))

    async def verify(self, sandbox: Sandbox) -> None:
        user = self._login.user if self._login else None
        await asyncio.sleep(0.05)
        async with sandbox.sql(self.target) as admin:
            active = await admin.fetchval("select count(*) from pg_stat_activity where usename = $1 and state = 'active'", user)
        if active != self.parameters.sessions:
            raise FaultError(f"{self.label}: {active} of {self.parameters.sessions} reports run on {self.target!r}")

    async def heal(self, sandbox: Sandbox) -> None:
        for session, task in self._running:
            session.terminate()
            task.cancel()
        await asyncio.gather(*(task for _, task in self._running), return_exceptions=True)
        self._running.clear()
        if self._login is not None:
            await self._login.drop(sandbox, self.target)


class DatabaseCrash(Fault):
    """A process of the database server is killed, and the server ends all others and recovers, again and again.

    Sessions are cut (`terminating connection because of crash of another server process`), new ones are turned away
    while `the database system is in recovery mode`; a moment later it serves, until the next time.
    """

    label = "dependency.database_crash"
    documented = "https://www.postgresql.org/docs/current/server-shutdown.html"
    kinds = frozenset({"postgres"})
    needs: ClassVar[frozenset[Capability]] = frozenset({"signal", "sql"})
    symptoms = (
        Symptom("component", "log", pattern=r"terminated by signal|all server processes terminated|automatic recovery|in recovery mode"),
        Symptom("callers", "log", pattern=r"(?i)crash of another server|recovery mode|connection (?:was|is) closed|starting up"),
        Symptom("callers", "errors"),
        Symptom("edge", "errors"),
    )

    class Parameters(FaultParameters):
        every: Annotated[Duration, Field(ge=0.2, le=10)] = 0.5
        """Between two kills, `200ms` to `10s`."""

    def __init__(self, target: str, parameters: dict[str, Any] | None = None) -> None:
        super().__init__(target, parameters)
        self._keeper = Keeper()
        self._killed: list[int] = []

    async def inject(self, sandbox: Sandbox) -> None:
        rng = random.Random(f"{sandbox.plan.seed}/{self.label}")
        await self._keeper.start(lambda: self._kill(sandbox, rng), self.parameters.every)

    async def _kill(self, sandbox: Sandbox, rng: random.Random) -> None:
        children = list(await sandbox.processes(self.target))[1:]
        if not children:
            raise SandboxError(f"{self.label}: {self.target!r} has no session that could be killed")
        self._killed.append(rng.choice(children))
        await sandbox.signal(self.target, signal.SIGKILL, self._killed[-1])

    async def verify(self, sandbox: Sandbox) -> None:
        first = self._killed[0]

        async def gone() -> bool:
            return first not in {view.pid for view in await sandbox.inspect(self.target)}

        await in_force(gone, lambda: f"{self.label}: process {first} of {self.target!r} runs on after SIGKILL")

    async def heal(self, sandbox: Sandbox) -> None:
        """No more kills, and wait until the server lets a session in."""
        import asyncpg

        await self._keeper.stop()
        deadline = time.monotonic() + _BACK_WITHIN
        while self._killed:
            try:
                async with sandbox.sql(self.target) as admin:
                    await admin.execute("select 1")
                self._killed.clear()
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.05)
