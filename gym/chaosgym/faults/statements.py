"""Faults that are a few SQL statements: each remembers how it is undone before it acts."""

from __future__ import annotations

import contextlib
import random
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, cast

from chaosgym.errors import FaultError
from chaosgym.faults.base import Fault
from chaosgym.faults.login import quoted
from chaosgym.faults.undo import unless_dead
from chaosgym.sandbox.base import Capability, Sandbox

if TYPE_CHECKING:
    from chaosgym.faults.login import Connection

__all__ = ["SqlFault", "application_roles", "real_table"]

_APPLICATION_ROLES = "select rolname from pg_roles where rolcanlogin and not rolsuper order by 1"


def real_table(sandbox: Sandbox, role: str, table: str, label: str) -> str:
    """The name under which the server of component `role` knows a table of the application's file. FaultError when it has none such."""
    tables = sandbox.plan.components[role].tables
    if table not in tables:
        raise FaultError(f"{label}: {role!r} has no table {table!r}; it has {', '.join(tables) or 'none'}")
    return tables[table]


async def application_roles(admin: Connection) -> list[str]:
    """Who the services log in as."""
    return [cast(str, row["rolname"]) for row in await admin.fetch(_APPLICATION_ROLES)]


class SqlFault(Fault):
    """`break_in` does the harm through `change`, `check` is an SQL expression that is true while it is in force."""

    kinds = frozenset({"postgres"})
    needs: ClassVar[frozenset[Capability]] = frozenset({"sql"})

    def __init__(self, target: str, parameters: dict[str, Any] | None = None) -> None:
        super().__init__(target, parameters)
        self._undo: list[str] = []

    @abstractmethod
    async def break_in(self, admin: Connection, sandbox: Sandbox) -> None:
        """Make the changes."""

    @abstractmethod
    def check(self, sandbox: Sandbox) -> str:
        """An SQL expression over the server's catalogues."""

    async def change(self, admin: Connection, statement: str, undo: str) -> None:
        """Run a statement that `undo` takes back; the undoing may find that nothing was done."""
        self._undo.append(undo)
        await admin.execute(statement)

    def draw(self, sandbox: Sandbox) -> random.Random:
        """Random numbers of this fault in this episode."""
        return random.Random(f"{sandbox.plan.seed}/{self.label}")

    async def inject(self, sandbox: Sandbox) -> None:
        import asyncpg

        async with sandbox.sql(self.target) as admin:
            await admin.execute("set lock_timeout = '2s'")  # never wait for ever behind a statement of the application
            try:
                await self.break_in(admin, sandbox)
            except asyncpg.PostgresError as error:
                raise FaultError(f"{self.label}: {self.target!r} refused: {error}") from error

    async def verify(self, sandbox: Sandbox) -> None:
        check = self.check(sandbox)
        async with sandbox.sql(self.target) as admin:
            if not await admin.fetchval(f"select {check}"):
                raise FaultError(f"{self.label}: not in force on {self.target!r}: {check} is false")

    async def heal(self, sandbox: Sandbox) -> None:
        import asyncpg

        if not self._undo:
            return
        lost = (asyncpg.PostgresError, asyncpg.InterfaceError)
        async with unless_dead(sandbox, self.target, *lost), sandbox.sql(self.target) as admin:
            await admin.execute("set default_transaction_read_only = off; set lock_timeout = '2s'")
            while self._undo:
                with contextlib.suppress(asyncpg.SyntaxOrAccessError):  # class 42: there is nothing to undo
                    await admin.execute(self._undo[-1])
                self._undo.pop()


def on_sequence(table: str, options: str) -> str:
    """An ALTER SEQUENCE on what makes the ids of `table`."""
    return f"do $$ begin execute 'alter sequence ' || pg_get_serial_sequence('{quoted(table)}', 'id') || ' {options}'; end $$"
