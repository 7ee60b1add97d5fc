"""A login of an everyday database job - a report, an export, a migration - that faults act through.

What the job does shows in the server's statistics and logs as any job's work does, so its names are
such as an operator meets; they are drawn per episode and removed with everything else afterwards.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chaosgym.errors import FaultError
from chaosgym.faults.undo import unless_dead
from chaosgym.sandbox.base import Sandbox

if TYPE_CHECKING:
    import asyncpg

    Connection = asyncpg.Connection

__all__ = ["Job", "Login", "draw_job", "end", "quoted"]

_CONNECT_TIMEOUT = 2
_REPORT_USERS = ("reporting", "bi_reader", "analytics", "etl", "export_job", "dwh_sync", "finance_ro", "insights", "batch", "cdc_reader")
_REPORT_PROGRAMS = ("metabase", "nightly-export", "report-builder", "superset", "airbyte", "etl-runner", "dbt", "cube-api", "exporter")
_SCHEMA_USERS = ("migrator", "schema_owner", "ddl", "deployer", "dba", "maintenance", "release", "admin_ops", "db_admin", "housekeeping")
_SCHEMA_PROGRAMS = ("alembic", "flyway", "liquibase", "psql", "backfill", "pg_repack", "sqitch", "dbmate", "archiver", "schema-sync")


@dataclass(frozen=True)
class Job:
    """The names that the server knows a job by."""

    user: str
    program: str


def draw_job(rng: random.Random, *, schema: bool = False) -> Job:
    """A reporting job, or one that works on the schema."""
    users, programs = (_SCHEMA_USERS, _SCHEMA_PROGRAMS) if schema else (_REPORT_USERS, _REPORT_PROGRAMS)
    return Job(rng.choice(users), rng.choice(programs))


def quoted(name: str) -> str:
    """An SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


class Login:
    """A role made for one job: `create`, `connect` as often as needed, `drop`."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.user: str | None = None
        """The role while it exists; the job's name, with a number when the application has that already."""
        self._password = secrets.token_urlsafe(15)
        self._server: Mapping[str, Any] = {}

    async def create(self, sandbox: Sandbox, role: str, member_of: Sequence[str] = ()) -> None:
        """Make the role on the server of component `role`, with what the roles in `member_of` may do."""
        self._server = sandbox.sql_server(role)
        async with sandbox.sql(role) as admin:
            taken = {row["rolname"] for row in await admin.fetch("select rolname from pg_roles")}
            user = next(name for n in range(1, 10_000) if (name := self.job.user + (f"_{n}" if n > 1 else "")) not in taken)
            self.user = user  # before it exists, so that a failure in between is undone as well
            await admin.execute(f"create role {quoted(user)} login password '{self._password}'")
            for group in member_of:
                await admin.execute(f"grant {quoted(group)} to {quoted(user)}")

    async def connect(self) -> Connection:
        """Connect to the server as the job. Raises asyncpg's errors and OSError."""
        import asyncpg

        if self.user is None:
            raise FaultError(f"the login {self.job.user!r} does not exist; create it first")
        return await asyncpg.connect(
            **self._server, user=self.user, password=self._password, ssl=False, timeout=_CONNECT_TIMEOUT,
            statement_cache_size=0, server_settings={"application_name": self.job.program},
        )

    async def drop(self, sandbox: Sandbox, role: str) -> None:
        """End the job's sessions, whoever holds them, and remove the role; no-op when there is none."""
        import asyncpg

        if self.user is None:
            return
        async with unless_dead(sandbox, role, asyncpg.PostgresError, asyncpg.InterfaceError), sandbox.sql(role) as admin:
            await admin.execute("select pg_terminate_backend(pid, 2000) from pg_stat_activity where usename = $1", self.user)
            await admin.execute(f"drop role if exists {quoted(self.user)}")
        self.user = None


async def end(session: Connection) -> None:
    """Close a session as its program would, or cut it off when the server does not answer."""
    import asyncpg

    try:
        await session.close(timeout=1)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        session.terminate()
