"""Faults of data: the servers are well, what is in them is not what the programs expect."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, cast

from pydantic import Field

from chaosgym.errors import FaultError
from chaosgym.faults.base import Fault, FaultParameters, Symptom
from chaosgym.faults.keeper import Keeper
from chaosgym.faults.login import quoted
from chaosgym.faults.statements import SqlFault, on_sequence, real_table
from chaosgym.sandbox.base import Capability, Sandbox
from chaosgym.services.tables import table_columns
from chaosgym.units import Duration, Name

if TYPE_CHECKING:
    from chaosgym.faults.login import Connection

__all__ = ["CacheCorruption", "CacheType", "Constraint", "MissingColumn", "MissingTable", "NotNull", "PoisonMessage", "SequenceReset"]

_EVERY = 0.05
"""Seconds between two looks at the keys of a cache, for kinds that were not there before."""
_ITEMS = 250
_FOR_ALL = """local v = redis.pcall('GET', KEYS[1]) if type(v) ~= 'string' then v = '' end
for n = 1, tonumber(ARGV[2]) do local k = ARGV[1] .. ':' .. n {} end return 1"""
_COLUMNS = {"label": 0, "amount": 1, "count": 2, "state": 3, "changed": 4}
_WRONG = ("n/a", "null", "undefined", "None", "-", "abc", "12,5", "")


class _TableFault(SqlFault):
    """One on a table that its parameters name."""

    def table(self, sandbox: Sandbox) -> str:
        """Its name on the server."""
        return real_table(sandbox, self.target, self.parameters.table, self.label)

    def column(self, sandbox: Sandbox, meaning: str) -> str:
        """The name of a column of that table on the server."""
        return table_columns(sandbox.plan.seed, self.table(sandbox))[_COLUMNS[meaning]]


class MissingColumn(_TableFault):
    """A migration has renamed a column before the programs that use it were changed.

    Every statement with the old name ends in `column ... does not exist` (SQLSTATE 42703); others on the table pass.
    """

    label = "data.missing_column"
    documented = "https://www.postgresql.org/docs/current/errcodes-appendix.html"
    symptoms = (
        Symptom("component", "log", pattern=r"column \S+ .*does not exist"),
        Symptom("callers", "log", pattern=r"column \S+ .*does not exist|UndefinedColumn"),
        Symptom("callers", "errors"),
        Symptom("edge", "errors"),
    )

    class Parameters(FaultParameters):
        table: Name
        """The table, as the application's file names it."""
        column: Literal["label", "amount", "count", "state", "changed"] = "amount"
        """What the column stands for: label, amount, count, state or changed."""

    async def break_in(self, admin: Connection, sandbox: Sandbox) -> None:
        old = self.column(sandbox, self.parameters.column)
        new = f"{old}_{self.draw(sandbox).choice(('v2', 'new', 'cents', 'migrated', 'ref'))}"
        rename = f"alter table {quoted(self.table(sandbox))} rename column"
        await self.change(admin, f"{rename} {quoted(old)} to {quoted(new)}", f"{rename} {quoted(new)} to {quoted(old)}")

    def check(self, sandbox: Sandbox) -> str:
        table, column = self.table(sandbox), self.column(sandbox, self.parameters.column)
        return f"count(*) = 0 from information_schema.columns where table_name = '{table}' and column_name = '{column}'"


class MissingTable(_TableFault):
    """A migration has moved a table away: half of it ran.

    Every statement on it ends in `relation ... does not exist` (SQLSTATE 42P01).
    """

    label = "data.missing_table"
    documented = "https://www.postgresql.org/docs/current/errcodes-appendix.html"
    symptoms = (
        Symptom("component", "log", pattern=r"relation \S+ does not exist"),
        Symptom("callers", "log", pattern=r"relation \S+ does not exist|UndefinedTable"),
        Symptom("callers", "errors"),
        Symptom("edge", "errors"),
    )

    class Parameters(FaultParameters):
        table: Name
        """The table, as the application's file names it."""

    async def break_in(self, admin: Connection, sandbox: Sandbox) -> None:
        old = self.table(sandbox)
        new = f"{old}_{self.draw(sandbox).choice(('old', 'archive', 'bak', 'tmp', '20261101'))}"
        await self.change(
            admin, f"alter table {quoted(old)} rename to {quoted(new)}", f"alter table {quoted(new)} rename to {quoted(old)}"
        )

    def check(self, sandbox: Sandbox) -> str:
        return f"to_regclass('{quoted(self.table(sandbox))}') is null"


class SequenceReset(_TableFault):
    """A restore has set the sequence of a table back: new rows get numbers that are taken.

    Reads and updates are well; inserts end in `duplicate key value violates unique constraint` (SQLSTATE 23505).
    """

    label = "data.sequence_reset"
    documented = "https://www.postgresql.org/docs/current/errcodes-appendix.html"
    symptoms = (
        Symptom("component", "log", pattern=r"duplicate key value"),
        Symptom("callers", "log", pattern=r"duplicate key value|UniqueViolation"),
        Symptom("callers", "errors"),
        Symptom("edge", "errors"),
    )

    class Parameters(FaultParameters):
        table: Name
        """The table, as the application's file names it; one that is inserted into."""

    async def break_in(self, admin: Connection, sandbox: Sandbox) -> None:
        table = self.table(sandbox)
        behind = f"select setval(pg_get_serial_sequence('{quoted(table)}', 'id'), (select max(id) from {quoted(table)}))"
        await self.change(admin, on_sequence(table, "restart with 1"), behind)

    def check(self, sandbox: Sandbox) -> str:
        table = quoted(self.table(sandbox))
        return f"(select max(id) from {table}) > coalesce(pg_sequence_last_value(pg_get_serial_sequence('{table}', 'id')::regclass), 0)"


class Constraint(_TableFault):
    """A migration has added a rule that the application's new rows break.

    What is there is left alone (`NOT VALID`); what is written ends in `violates check constraint` (SQLSTATE 23514).
    """

    label = "data.constraint"
    documented = "https://www.postgresql.org/docs/current/ddl-constraints.html"
    symptoms = (
        Symptom("component", "log", pattern=r"violates check constraint"),
        Symptom("callers", "log", pattern=r"violates check constraint|CheckViolation"),
        Symptom("callers", "errors"),
        Symptom("edge", "errors"),
    )

    class Parameters(FaultParameters):
        table: Name
        """The table, as the application's file names it; one that is inserted into."""

    def _name(self, sandbox: Sandbox) -> str:
        return f"{self.table(sandbox)}_{self.column(sandbox, 'state')}_check"

    async def break_in(self, admin: Connection, sandbox: Sandbox) -> None:
        table, column, name = quoted(self.table(sandbox)), quoted(self.column(sandbox, "state")), quoted(self._name(sandbox))
        rule = f"check ({column} in ('new', 'active', 'closed'))"
        await self.change(
            admin, f"alter table {table} add constraint {name} {rule} not valid", f"alter table {table} drop constraint if exists {name}"
        )

    def check(self, sandbox: Sandbox) -> str:
        return f"count(*) = 1 from pg_constraint where conname = '{self._name(sandbox)}'"


class NotNull(_TableFault):
    """A migration has added a column without a default that must not be null, and no program fills it.

    Inserts end in `null value in column ... violates not-null constraint` (SQLSTATE 23502).
    """

    label = "data.not_null"
    documented = "https://www.postgresql.org/docs/current/ddl-constraints.html"
    symptoms = (
        Symptom("component", "log", pattern=r"violates not-null constraint"),
        Symptom("callers", "log", pattern=r"violates not-null constraint|NotNullViolation"),
        Symptom("callers", "errors"),
        Symptom("edge", "errors"),
    )

    class Parameters(FaultParameters):
        table: Name
        """The table, as the application's file names it; one that is inserted into."""

    def _name(self, sandbox: Sandbox) -> str:
        return self.draw(sandbox).choice(("tenant", "region", "channel", "currency", "origin"))

    async def break_in(self, admin: Connection, sandbox: Sandbox) -> None:
        table, column = quoted(self.table(sandbox)), quoted(self._name(sandbox))
        added = f"alter table {table} add column {column} text not null default 'main'"
        await self.change(admin, added, f"alter table {table} drop column if exists {column}")
        await admin.execute(f"alter table {table} alter column {column} drop default")

    def check(self, sandbox: Sandbox) -> str:
        table, column = self.table(sandbox), self._name(sandbox)
        return f"bool_and(is_nullable = 'NO') from information_schema.columns where table_name = '{table}' and column_name = '{column}'"


class _CacheContent(Fault):
    """A job fills a cache with what the application keeps there, in another form than the application's."""

    kinds = frozenset({"redis"})
    needs: ClassVar[frozenset[Capability]] = frozenset({"redis"})
    store: ClassVar[str]
    """Lua that writes the key `k`, given the value `v` that the application wrote under another."""

    class Parameters(FaultParameters):
        """None: every key, as long as it lasts."""

    def __init__(self, target: str, parameters: dict[str, Any] | None = None) -> None:
        super().__init__(target, parameters)
        self._keeper = Keeper()
        self._spoiled: set[str] = set()

    async def inject(self, sandbox: Sandbox) -> None:
        from redis.exceptions import RedisError

        await self._keeper.start(lambda: self._spoil(sandbox), _EVERY, RedisError)

    async def _spoil(self, sandbox: Sandbox) -> None:
        """Each kind of key once, as soon as the application has written one of it."""
        for kind, key in (await self._kinds(sandbox)).items():
            self._spoiled.add(kind)
            await sandbox.redis(self.target, "EVAL", _FOR_ALL.format(self.store), 1, key, kind, _ITEMS)

    async def _kinds(self, sandbox: Sandbox) -> dict[str, str]:
        """What stands before the item -> a key of that kind; of values that are JSON, and not spoiled yet."""
        found: dict[str, str] = {}
        for key in cast("list[str]", await sandbox.redis(self.target, "KEYS", "*:*")):
            kind = key.rpartition(":")[0]
            if kind not in self._spoiled and kind not in found and str(await sandbox.redis(self.target, "TYPE", key)) == "string":
                value = str(await sandbox.redis(self.target, "GET", key))
                found |= {kind: key} if value[:1] in ("[", "{") else {}
        return found

    async def verify(self, sandbox: Sandbox) -> None:
        if not self._keeper.at_work:
            raise FaultError(f"{self.label}: nobody fills {self.target!r} any more")

    async def heal(self, sandbox: Sandbox) -> None:
        await self._keeper.stop()
        for kind in list(self._spoiled):
            await sandbox.redis(self.target, "EVAL", _FOR_ALL.format("redis.call('DEL', k)"), 1, f"{kind}:1", kind, _ITEMS)
            self._spoiled.discard(kind)


class CacheCorruption(_CacheContent):
    """Values in the cache are cut off in their middle: a job that warms it has another serialiser, or a bug.

    Reading them ends in `JSONDecodeError` in the services; the cache itself answers every command.
    """

    label = "data.cache_corruption"
    documented = "https://docs.python.org/3/library/json.html"
    store = "redis.call('SET', k, string.sub(v, 1, math.max(1, math.floor(#v / 2))), 'PX', 60000)"
    symptoms = (
        Symptom("callers", "log", pattern=r"JSONDecodeError|Unterminated string|Expecting (?:value|property|',')"),
        Symptom("callers", "errors"),
        Symptom("edge", "errors"),
    )


class CacheType(_CacheContent):
    """Keys of the cache hold another type: two programs use the same names for different things.

    Commands on them end in `WRONGTYPE Operation against a key holding the wrong kind of value`.
    """

    label = "data.cache_type"
    documented = "https://redis.io/docs/latest/develop/data-types/"
    store = "redis.call('DEL', k) redis.call('HSET', k, 'value', v)"
    symptoms = (
        Symptom("callers", "log", pattern=r"WRONGTYPE"),
        Symptom("callers", "errors"),
        Symptom("edge", "errors"),
    )


class PoisonMessage(Fault):
    """A producer sends messages that the worker cannot read, again and again, among the good ones.

    Each ends in `ValueError` with a traceback in the worker and stays unacknowledged; the good ones pass.
    """

    label = "data.poison_message"
    documented = "https://redis.io/docs/latest/develop/data-types/streams/"
    kinds = frozenset({"worker"})
    needs: ClassVar[frozenset[Capability]] = frozenset({"redis"})
    symptoms = (
        Symptom("component", "log", pattern=r"ValueError|invalid literal for int"),
        Symptom("component", "errors"),
    )

    class Parameters(FaultParameters):
        every: Annotated[Duration, Field(ge=0.01, le=5)] = 0.1
        """Between two of them, `10ms` to `5s`."""

    def __init__(self, target: str, parameters: dict[str, Any] | None = None) -> None:
        super().__init__(target, parameters)
        self._keeper = Keeper()

    async def inject(self, sandbox: Sandbox) -> None:
        from redis.exceptions import RedisError

        consumer = sandbox.plan.app.spec.components[self.target].consumes
        if consumer is None:
            raise FaultError(f"{self.label}: {self.target!r} consumes no stream")
        stream = sandbox.plan.components[consumer.redis].streams.get(consumer.stream, consumer.stream)
        rng = random.Random(f"{sandbox.plan.seed}/{self.label}")
        await self._keeper.start(
            lambda: sandbox.redis(consumer.redis, "XADD", stream, "MAXLEN", "~", 1000, "*", "id", rng.choice(_WRONG)),
            self.parameters.every, RedisError,
        )  # fmt: skip

    async def verify(self, sandbox: Sandbox) -> None:
        if not self._keeper.at_work:
            raise FaultError(f"{self.label}: nothing is sent to {self.target!r}")

    async def heal(self, sandbox: Sandbox) -> None:
        await self._keeper.stop()
