"""Faults of a Redis server that its operators make: limits, rights, a wrong role, commands that block everybody."""

from __future__ import annotations

import random
import re
import secrets
from abc import abstractmethod
from typing import Annotated, Any, ClassVar

from pydantic import Field

from chaosgym.errors import FaultError
from chaosgym.faults.base import Fault, FaultParameters, Symptom
from chaosgym.faults.dependency import pairs
from chaosgym.faults.keeper import Keeper
from chaosgym.faults.undo import unless_dead
from chaosgym.sandbox.base import Capability, Sandbox
from chaosgym.units import Duration

__all__ = ["CacheClients", "CacheEviction", "CacheFlush", "CachePassword", "CachePermission", "CacheReadOnly", "SlowCommands"]

_OVER_TCP = re.compile(r"^id=(\d+) addr=\d+\.\d+\.\d+\.\d+:\d+ ", re.MULTILINE)
_TOO_LITTLE = 8 * 2**10
"""Bytes that the limit of an evicting cache lies below what is in use."""
_SPARE = 4
"""Connections that an operator keeps for himself."""
_BUSY = """local t = redis.call('TIME') local till = t[1] * 1000000 + t[2] + ARGV[1]
repeat t = redis.call('TIME') until t[1] * 1000000 + t[2] > till return 1"""


async def _cut_clients(sandbox: Sandbox, role: str) -> None:
    """End the sessions of all that came over the network."""
    for client in _OVER_TCP.findall(str(await sandbox.redis(role, "CLIENT", "LIST"))):
        await sandbox.redis(role, "CLIENT", "KILL", "ID", client)


class _NoParameters(FaultParameters):
    """None: it is so or it is not."""


class _CacheFault(Fault):
    """One that a few commands make and a few others undo."""

    kinds = frozenset({"redis"})
    needs: ClassVar[frozenset[Capability]] = frozenset({"redis"})
    Parameters: ClassVar[type[FaultParameters]] = _NoParameters

    _begun = False

    @abstractmethod
    async def change(self, sandbox: Sandbox) -> None:
        """Make it so."""

    @abstractmethod
    async def undo(self, sandbox: Sandbox) -> None:
        """Take it back."""

    @abstractmethod
    async def holds(self, sandbox: Sandbox) -> bool:
        """Whether the server says that it is so."""

    async def inject(self, sandbox: Sandbox) -> None:
        self._begun = True
        await self.change(sandbox)

    async def verify(self, sandbox: Sandbox) -> None:
        if not await self.holds(sandbox):
            raise FaultError(f"{self.label}: not in force on {self.target!r}")

    async def heal(self, sandbox: Sandbox) -> None:
        from redis.exceptions import ConnectionError as Disconnected

        if self._begun:
            async with unless_dead(sandbox, self.target, Disconnected):
                await self.undo(sandbox)
            self._begun = False

    async def setting(self, sandbox: Sandbox, key: str) -> str:
        """A setting in force."""
        return pairs(await sandbox.redis(self.target, "CONFIG", "GET", key))[key]


class CacheReadOnly(_CacheFault):
    """The server was made the replica of another that is not there: it serves what it has, and refuses writes.

    The wrong end of a failover: every write is answered with `READONLY You can't write against a read only replica`.
    """

    label = "dependency.cache_read_only"
    documented = "https://redis.io/docs/latest/operate/oss_and_stack/management/replication/"
    symptoms = (
        Symptom("callers", "log", pattern=r"READONLY|read only replica"),
        Symptom("callers", "errors"),
        Symptom("edge", "errors"),
    )

    async def change(self, sandbox: Sandbox) -> None:
        await sandbox.redis(self.target, "REPLICAOF", "127.0.0.1", 6399)

    async def undo(self, sandbox: Sandbox) -> None:
        await sandbox.redis(self.target, "REPLICAOF", "NO", "ONE")

    async def holds(self, sandbox: Sandbox) -> bool:
        return pairs(await sandbox.redis(self.target, "INFO", "replication")).get("role") == "slave"


class CachePassword(_CacheFault):
    """The server asks for a password from now on, and no service has one.

    Sessions are cut and every command of a new one is answered with `NOAUTH Authentication required`.
    """

    label = "dependency.cache_password"
    documented = "https://redis.io/docs/latest/operate/oss_and_stack/management/security/"
    symptoms = (
        Symptom("callers", "log", pattern=r"NOAUTH|Authentication required|AuthenticationError"),
        Symptom("callers", "errors"),
        Symptom("edge", "errors"),
    )

    def __init__(self, target: str, parameters: dict[str, Any] | None = None) -> None:
        super().__init__(target, parameters)
        self._password = secrets.token_urlsafe(12)

    async def change(self, sandbox: Sandbox) -> None:
        await sandbox.redis(self.target, "CONFIG", "SET", "requirepass", self._password)
        await _cut_clients(sandbox, self.target)

    async def undo(self, sandbox: Sandbox) -> None:
        """Whichever connection serves us may be one that had to log in."""
        from redis.exceptions import RedisError

        try:
            await sandbox.redis(self.target, "CONFIG", "SET", "requirepass", "")
        except RedisError:
            await sandbox.redis(self.target, "AUTH", self._password)
            await sandbox.redis(self.target, "CONFIG", "SET", "requirepass", "")

    async def holds(self, sandbox: Sandbox) -> bool:
        return await self.setting(sandbox, "requirepass") == self._password


class CachePermission(_CacheFault):
    """The user of the services has lost a group of commands: an access list was tightened too far.

    Those commands are answered with `NOPERM this user has no permissions to run the ... command`, the others work.
    """

    label = "dependency.cache_permission"
    documented = "https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl/"
    symptoms = (
        Symptom("callers", "log", pattern=r"NOPERM|no permissions to (?:run|access)"),
        Symptom("callers", "errors"),
        Symptom("edge", "errors"),
    )

    class Parameters(FaultParameters):
        group: Annotated[str, Field(pattern=r"^(write|read)$")] = "write"
        """Of commands: write or read."""

    async def change(self, sandbox: Sandbox) -> None:
        await sandbox.redis(self.target, "ACL", "SETUSER", "default", f"-@{self.parameters.group}")

    async def undo(self, sandbox: Sandbox) -> None:
        await sandbox.redis(self.target, "ACL", "SETUSER", "default", "+@all")

    async def holds(self, sandbox: Sandbox) -> bool:
        return f"-@{self.parameters.group}" in str(await sandbox.redis(self.target, "ACL", "LIST"))


class CacheClients(_CacheFault):
    """The limit of clients is far below what the services need: who comes too late is turned away.

    New connections are answered with `max number of clients reached` and closed.
    """

    label = "dependency.cache_clients"
    documented = "https://redis.io/docs/latest/develop/reference/clients/"
    symptoms = (
        Symptom("callers", "log", pattern=r"max number of clients"),
        Symptom("callers", "errors"),
        Symptom("component", "connections"),
        Symptom("edge", "errors"),
    )

    _before = "500"

    async def change(self, sandbox: Sandbox) -> None:
        self._before = await self.setting(sandbox, "maxclients")
        await _cut_clients(sandbox, self.target)
        clients = str(await sandbox.redis(self.target, "CLIENT", "LIST"))
        ours = clients.count("\n") - len(_OVER_TCP.findall(clients))
        await sandbox.redis(self.target, "CONFIG", "SET", "maxclients", ours + _SPARE)
        await _cut_clients(sandbox, self.target)

    async def undo(self, sandbox: Sandbox) -> None:
        await sandbox.redis(self.target, "CONFIG", "SET", "maxclients", self._before)

    async def holds(self, sandbox: Sandbox) -> bool:
        return int(await self.setting(sandbox, "maxclients")) < int(self._before)


class CacheEviction(_CacheFault):
    """The memory limit is too low for the data, and the server evicts: what is stored is gone when it is asked for.

    Every command succeeds, and the hit ratio falls: the database answers what the cache used to. What is kept in
    Redis alone - streams, sessions - is lost.
    """

    label = "dependency.cache_eviction"
    documented = "https://redis.io/docs/latest/develop/reference/eviction/"
    symptoms = (
        Symptom("component", "evictions"),
        Symptom("component", "memory"),
        Symptom("callers", "log", pattern=r"NOGROUP"),
    )

    _before: tuple[str, str] = ("0", "noeviction")

    async def change(self, sandbox: Sandbox) -> None:
        self._before = (await self.setting(sandbox, "maxmemory"), await self.setting(sandbox, "maxmemory-policy"))
        used = int(pairs(await sandbox.redis(self.target, "INFO", "memory"))["used_memory"])
        await sandbox.redis(self.target, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        await sandbox.redis(self.target, "CONFIG", "SET", "maxmemory", used - _TOO_LITTLE)

    async def undo(self, sandbox: Sandbox) -> None:
        await sandbox.redis(self.target, "CONFIG", "SET", "maxmemory", self._before[0])
        await sandbox.redis(self.target, "CONFIG", "SET", "maxmemory-policy", self._before[1])

    async def holds(self, sandbox: Sandbox) -> bool:
        return await self.setting(sandbox, "maxmemory-policy") == "allkeys-lru"


class _Recurring(Fault):
    """One that does something to the server again and again."""

    kinds = frozenset({"redis"})
    needs: ClassVar[frozenset[Capability]] = frozenset({"redis"})

    def __init__(self, target: str, parameters: dict[str, Any] | None = None) -> None:
        super().__init__(target, parameters)
        self._keeper = Keeper()

    @abstractmethod
    async def step(self, sandbox: Sandbox) -> None:
        """Do it once."""

    async def inject(self, sandbox: Sandbox) -> None:
        from redis.exceptions import RedisError

        await self._keeper.start(lambda: self.step(sandbox), self.parameters.every, RedisError)

    async def verify(self, sandbox: Sandbox) -> None:
        if not self._keeper.at_work:
            raise FaultError(f"{self.label}: nobody does it to {self.target!r} any more")

    async def heal(self, sandbox: Sandbox) -> None:
        await self._keeper.stop()


class CacheFlush(_Recurring):
    """A job empties the cache again and again (`FLUSHALL`): nothing that was stored is found.

    The database answers everything, counters begin anew, and with the streams their consumer groups are gone
    (`NOGROUP No such key`).
    """

    label = "dependency.cache_flush"
    documented = "https://redis.io/docs/latest/commands/flushall/"
    symptoms = (
        Symptom("callers", "log", pattern=r"NOGROUP"),
        Symptom("callers", "errors"),
    )

    class Parameters(FaultParameters):
        every: Annotated[Duration, Field(ge=0.01, le=5)] = 0.1
        """Between two of them, `10ms` to `5s`."""

    async def step(self, sandbox: Sandbox) -> None:
        await sandbox.redis(self.target, "FLUSHALL")


class SlowCommands(_Recurring):
    """Somebody runs scripts on the cache that take long, one after the other: one command at a time is all a Redis does.

    Everybody waits for them and times out; the server is at 100 % of a core and in its slow log.
    """

    label = "dependency.cache_slow_commands"
    documented = "https://redis.io/docs/latest/operate/oss_and_stack/management/optimization/latency/"
    symptoms = (
        Symptom("component", "cpu"),
        Symptom("callers", "latency"),
        Symptom("callers", "errors"),
        Symptom("callers", "log", pattern=r"(?i)timed? ?out"),
        Symptom("edge", "latency"),
    )

    class Parameters(FaultParameters):
        duration: Annotated[Duration, Field(ge=0.02, le=2.0)] = 0.25
        """Of each script, `20ms` to `2s`."""
        every: Annotated[Duration, Field(ge=0.001, le=5)] = 0.02
        """Between the end of one and the next, `1ms` to `5s`."""

    async def step(self, sandbox: Sandbox) -> None:
        seconds = self.parameters.duration * random.uniform(0.8, 1.2)
        await sandbox.redis(self.target, "EVAL", _BUSY, 0, int(seconds * 1e6))
