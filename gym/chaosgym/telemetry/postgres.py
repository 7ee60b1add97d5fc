"""PostgreSQL's own statistics, under the names of the OpenTelemetry Collector's postgresql receiver.

One query a sample, on a connection that was opened before trouble began (a monitor holds one; a superuser's gets
in when others do not). Its own backend is not counted. Ours, as the receiver has no such name:
`postgresql.database.locks.waiting`, requests for a lock that somebody else holds.
"""

from __future__ import annotations

import json
from typing import Any

import asyncpg

from chaosgym.telemetry.decode import compact_json
from chaosgym.telemetry.process import gauge_row, sum_row
from chaosgym.telemetry.store import Row

__all__ = ["sample_postgres"]

_QUERY = """
select
  (select count(*) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()) as backends,
  current_setting('max_connections')::int as maximum,
  (select count(*) from pg_locks where not granted) as waiting,
  (select json_agg(l) from (
     select coalesce(c.relname, '') as relation, mode, locktype as lock_type, granted, count(*) as n
     from pg_locks k left join pg_class c on c.oid = k.relation
     where k.pid <> pg_backend_pid() and k.locktype in ('relation', 'tuple', 'transactionid', 'advisory')
       and coalesce(c.relkind, 'r') = 'r' and c.relnamespace is distinct from 'pg_catalog'::regnamespace
       and (not granted or mode in ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock'))
       and (not granted or locktype in ('relation', 'advisory'))
     group by 1, 2, 3, 4 limit 20) l) as locks,
  sum(xact_commit)::float8 as commits, sum(xact_rollback)::float8 as rollbacks, sum(deadlocks)::float8 as deadlocks,
  sum(blks_read)::float8 as blocks_read, sum(blks_hit)::float8 as blocks_hit, sum(temp_bytes)::float8 as temporary
from pg_stat_database
"""
_SUMS = (
    ("postgresql.commits", "1", "commits"),
    ("postgresql.rollbacks", "1", "rollbacks"),
    ("postgresql.deadlocks", "{deadlock}", "deadlocks"),
    ("postgresql.blks_read", "{blks_read}", "blocks_read"),
    ("postgresql.blks_hit", "{blks_hit}", "blocks_hit"),
    ("postgresql.temp.io", "By", "temporary"),
)
_GAUGES = (
    ("postgresql.backends", "1", "backends"),
    ("postgresql.connection.max", "{connections}", "maximum"),
    ("postgresql.database.locks.waiting", "{lock}", "waiting"),
)


async def sample_postgres(connection: Any, service_name: str, now_ns: int, timeout: float = 0.25) -> list[Row]:
    """Rows of METRICS from an asyncpg connection; none when the server does not answer within `timeout` seconds.

    `postgresql.database.locks` has a row for each kind of strong or awaited lock, with relation, mode, lock_type and
    granted as attributes; everyday locks that readers and writers share are left out.
    """
    try:
        found = await connection.fetchrow(_QUERY, timeout=timeout)
    except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return []  # a gap in the statistics is what a monitor would see too
    rows = [gauge_row(now_ns, service_name, name, unit, found[column]) for name, unit, column in _GAUGES]
    rows += [sum_row(now_ns, 0, service_name, name, unit, found[column] or 0.0) for name, unit, column in _SUMS]
    for lock in json.loads(found["locks"] or "[]"):
        count = lock.pop("n")
        rows.append(gauge_row(now_ns, service_name, "postgresql.database.locks", "{lock}", count, compact_json(lock)))
    return rows
