"""A PostgreSQL server that is not ours: a superuser's connection that changes nothing which it could not put back.

Faults send the statements that they would send to a server of chaosgym's own. What outlives a session is let through if its
undoing is known, and is in the journal before it is run; any other statement that changes something is refused. What a fault sends
to undo itself is known from the journal.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chaosgym.errors import FaultError, SandboxError
from chaosgym.foreign.journal import Entry, Journal

__all__ = ["ForeignDatabase", "GuardedConnection"]

_TIMEOUT = 5
_NAME = r'("(?:[^"]|"")+"|[a-z_][a-z0-9_$]*)'
_HARMLESS = re.compile(r"(?:select|show|set|begin|commit|rollback|lock|explain)\b", re.IGNORECASE)
_ACTING = re.compile(r"\b(?:setval|nextval|lo_\w+|pg_write\w*|pg_promote|pg_switch_wal|pg_stat_reset\w*|dblink\w*)\s*\(", re.IGNORECASE)
_ROLE = re.compile(rf"create role {_NAME} login password '[^']*'", re.IGNORECASE)
_GRANT = re.compile(rf"grant {_NAME} to {_NAME}", re.IGNORECASE)
_SYSTEM = re.compile(r"alter system set (\w+) = (\w+)", re.IGNORECASE)
_RENAME = re.compile(rf"alter table {_NAME} rename to {_NAME}", re.IGNORECASE)
_FUNCTION = re.compile(r"create function (\w+)\(\) returns trigger language plpgsql as (\$\$).*\2", re.IGNORECASE | re.DOTALL)
_TRIGGER = re.compile(rf"create trigger (\w+) before .* on {_NAME} for each row execute function (\w+)\(\)", re.IGNORECASE)
_OWN_SETTING = "select from pg_file_settings where name = {} and sourcefile like '%postgresql.auto.conf'"
_ROLE_GONE = "drop role if exists {}"


@dataclass(frozen=True)
class _Change:
    """What a statement leaves behind."""

    undo: tuple[str, ...]
    free: str
    """An SQL expression that is true while nothing stands in its way."""
    taken: str


class GuardedConnection:
    """The part of an asyncpg connection that faults use; see the module docstring."""

    def __init__(self, connection: Any, role: str, journal: Journal) -> None:
        self._connection, self._role, self._journal = connection, role, journal

    async def fetch(self, query: str, *values: Any, timeout: float | None = None) -> Any:
        """Rows."""
        self._check_harmless(query)
        return await self._connection.fetch(query, *values, timeout=timeout)

    async def fetchrow(self, query: str, *values: Any, timeout: float | None = None) -> Any:
        """The first row."""
        self._check_harmless(query)
        return await self._connection.fetchrow(query, *values, timeout=timeout)

    async def fetchval(self, query: str, *values: Any, timeout: float | None = None) -> Any:
        """The first value."""
        self._check_harmless(query)
        return await self._connection.fetchval(query, *values, timeout=timeout)

    async def execute(self, query: str, *values: Any) -> str:
        """Run statements, unless they would leave something behind that cannot be put back."""
        for statement in [query] if "$$" in query else [part.strip() for part in query.split(";") if part.strip()]:
            await self._let_through(statement)
        return await self._connection.execute(query, *values)

    def terminate(self) -> None:
        """Close it at once."""
        self._connection.terminate()

    def _check_harmless(self, statement: str) -> None:
        if not _HARMLESS.match(statement.strip()) or _ACTING.search(statement):
            raise _refused(self._role, statement)

    async def _let_through(self, statement: str) -> None:
        known = {_plain(each) for entry in self._journal.entries if entry["kind"] == "sql" for each in entry["statements"]}
        if _plain(statement) in known or self._is_ours(statement):
            return
        change = _change(statement)
        if change is None:
            self._check_harmless(statement)
            return
        if not await self._connection.fetchval(f"select {change.free}"):
            raise FaultError(f"{change.taken}; that is not for chaosgym to replace")
        self._journal.write("sql", self._role, statements=list(change.undo))

    def _is_ours(self, statement: str) -> bool:
        """It gives something to a role that we have made."""
        grant = _GRANT.fullmatch(statement)
        gone = _ROLE_GONE.format(grant[2]) if grant else None
        return any(entry["kind"] == "sql" and gone in entry["statements"] for entry in self._journal.entries)


def _change(statement: str) -> _Change | None:
    """What we know of a statement that leaves something behind; None of any other."""
    if found := _ROLE.fullmatch(statement):
        name = _text(found[1])
        end = f"select pg_terminate_backend(pid, 2000) from pg_stat_activity where usename = {name}"
        free = f"not exists (select from pg_roles where rolname = {name})"
        return _Change((end, _ROLE_GONE.format(found[1])), free, f"there is a role {found[1]} already")
    if found := _SYSTEM.fullmatch(statement):
        free = f"not exists ({_OWN_SETTING.format(_text(found[1]))})"
        undo = (f"alter system reset {found[1]}", "select pg_reload_conf()")
        return _Change(undo, free, f"somebody has set {found[1]} by ALTER SYSTEM")
    if found := _RENAME.fullmatch(statement):
        free = f"to_regclass({_text(found[2])}) is null"
        undo = (f"alter table if exists {found[2]} rename to {found[1]}",)
        return _Change(undo, free, f"there is a table {found[2]} already")
    if found := _FUNCTION.fullmatch(statement):
        free = f"not exists (select from pg_proc where proname = '{found[1]}')"
        return _Change((f"drop function if exists {found[1]}()",), free, f"there is a function {found[1]} already")
    if found := _TRIGGER.fullmatch(statement):
        free = f"not exists (select from pg_trigger where tgname = '{found[1]}')"
        return _Change((f"drop trigger if exists {found[1]} on {found[2]}",), free, f"there is a trigger {found[1]} already")
    return None


def _text(name: str) -> str:
    """An SQL text of an identifier's name."""
    bare = name[1:-1].replace('""', '"') if name.startswith('"') else name
    return "'" + bare.replace("'", "''") + "'"


def _plain(statement: str) -> str:
    return " ".join(statement.lower().replace(" if exists", "").split())


def _refused(role: str, statement: str) -> FaultError:
    what = " ".join(statement.split())
    return FaultError(f"not done to '{role}': the undoing of this statement is not known, so that it might stay: {what:.120}")


class ForeignDatabase:
    """How the server of one component is reached."""

    def __init__(self, role: str, server: Mapping[str, Any], user: str, password: str | None) -> None:
        """`server`: host, port and database as asyncpg takes them."""
        self.role, self.server = role, server
        self._user, self._password = user, password
        self._monitor: Any = None

    async def connect(self) -> Any:
        """A connection of the superuser. Raises SandboxError with the reason."""
        import asyncpg

        try:
            return await asyncpg.connect(
                **self.server, user=self._user, password=self._password, ssl=False, timeout=_TIMEOUT, statement_cache_size=0,
            )  # fmt: skip
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            where = f"{self.server['host']}:{self.server['port']}"
            raise SandboxError(f"'{self.role}' does not let {self._user} in at {where}: {error or type(error).__name__}") from error

    async def look(self) -> tuple[str, str]:
        """(version, why faults cannot act on it, or an empty string)."""
        connection = await self.connect()
        try:
            version = str(await connection.fetchval("show server_version")).split()[0]
            mighty = await connection.fetchval("select rolsuper from pg_roles where rolname = current_user")
        finally:
            connection.terminate()
        return version, "" if mighty else f"{self._user} is no superuser there; faults make roles and end sessions of others"

    async def missing_tables(self, names: Sequence[str]) -> list[str]:
        """Those of `names` that are not there."""
        connection = await self.connect()
        try:
            return [name for name in names if await connection.fetchval("select to_regclass(quote_ident($1))::text", name) is None]
        finally:
            connection.terminate()

    async def sample(self, name: str, now: int) -> list[Any]:
        """Rows of METRICS; none while the server does not answer."""
        from chaosgym.telemetry.postgres import sample_postgres

        if self._monitor is None or self._monitor.is_closed():
            try:
                self._monitor = await self.connect()
            except SandboxError:
                return []
        return await sample_postgres(self._monitor, name, now)

    async def undo(self, entry: Entry) -> None:
        """Run the statements of an entry; what is not there any more needs no undoing."""
        import asyncpg

        connection = await self.connect()
        try:
            await connection.execute("set default_transaction_read_only = off; set lock_timeout = '5s'")
            for statement in entry["statements"]:
                with contextlib.suppress(asyncpg.SyntaxOrAccessError):  # class 42: there is nothing to undo
                    await connection.execute(statement)
        except asyncpg.PostgresError as error:
            raise SandboxError(f"'{self.role}': not undone: {'; '.join(entry['statements'])}: {error}") from error
        finally:
            connection.terminate()

    def close(self) -> None:
        """Give up the monitor's connection."""
        if self._monitor is not None:
            self._monitor.terminate()
