"""A Redis server that is not ours: commands that read, and the few whose effect can be put back. No data is ever lost by them."""

from __future__ import annotations

import re
from typing import Any

from chaosgym.errors import FaultError, SandboxError
from chaosgym.foreign.journal import Entry, Journal

__all__ = ["ForeignCache"]

_TIMEOUT = 5.0
_READING = frozenset({"PING", "INFO", "DBSIZE", "TIME", "ROLE", "EXISTS", "TTL", "TYPE", "GET"})
_READING_OF = frozenset({("CONFIG", "GET"), ("CLIENT", "LIST"), ("ACL", "LIST"), ("ACL", "GETUSER"), ("SLOWLOG", "GET")})
_SETTINGS = frozenset({"maxmemory", "maxmemory-policy"})
_CALLS = re.compile(r"redis\.p?call\s*\(\s*'(\w+)'")
_LONGEST = 1000
"""Milliseconds that a key of ours may live."""


class ForeignCache:
    """How the server of one component is reached, and what may be asked of it."""

    def __init__(self, role: str, address: tuple[str, int], password: str | None) -> None:
        from redis.asyncio import Redis

        self.role = role
        self._ours: set[str] = set()
        self._client: Any = Redis(
            host=address[0], port=address[1], password=password, socket_timeout=_TIMEOUT, socket_connect_timeout=_TIMEOUT
        )

    async def look(self) -> tuple[str, str]:
        """(version, an empty string). Raises SandboxError when it does not answer."""
        from redis.exceptions import RedisError

        try:
            return str((await self._client.info("server"))["redis_version"]), ""
        except (RedisError, OSError) as error:
            raise SandboxError(f"'{self.role}' does not answer to INFO: {error}") from error

    async def command(self, journal: Journal, *command: str | int) -> Any:
        """Run it, unless its effect could not be put back: then FaultError."""
        words = [str(word) for word in command]
        verb = words[0].upper()
        if verb == "CONFIG" and words[1].upper() == "SET":
            await self._note_setting(journal, words[2], words[3])
        elif verb == "SET" and len(words) == 5 and words[3].upper() == "PX" and int(words[4]) <= _LONGEST:
            if await self._client.exists(words[1]):
                raise FaultError(f"not done to '{self.role}': there is a key {words[1]} already")
            self._ours.add(words[1])
        elif not (verb in _READING or (verb, words[1].upper() if words[1:] else "") in _READING_OF or self._is_harmless(verb, words)):
            what = " ".join(words)
            raise FaultError(f"not done to '{self.role}': data or settings of yours would be lost by: {what:.80}")
        return await self._client.execute_command(*command)

    def _is_harmless(self, verb: str, words: list[str]) -> bool:
        """A key of our own goes, or a script that only looks at the clock runs."""
        if verb == "DEL":
            return set(words[1:]) <= self._ours
        return verb == "EVAL" and words[2] == "0" and {called.upper() for called in _CALLS.findall(words[1])} <= {"TIME"}

    async def _note_setting(self, journal: Journal, name: str, value: str) -> None:
        undoing = any(e["kind"] == "redis" and e["name"] == name and e["was"] == value for e in journal.entries)
        if undoing:
            return
        if name not in _SETTINGS or (name == "maxmemory-policy" and value != "noeviction"):
            raise FaultError(f"not done to '{self.role}': CONFIG SET {name} {value} could lose data or lock the application out")
        journal.write("redis", self.role, name=name, set=value, was=await self._setting(name))

    async def _setting(self, name: str) -> str:
        return str(dict(await self._client.config_get(name))[name])

    async def sample(self, name: str, now: int) -> list[Any]:
        """Rows of METRICS; none while the server does not answer."""
        from chaosgym.telemetry.redis import sample_redis

        return await sample_redis(self._client, name, now)

    async def undo(self, entry: Entry) -> None:
        """Put a setting back, unless somebody has changed it since."""
        from redis.exceptions import RedisError

        try:
            if await self._setting(entry["name"]) == entry["set"]:
                await self._client.config_set(entry["name"], entry["was"])
        except (RedisError, OSError) as error:
            raise SandboxError(f"'{self.role}': CONFIG SET {entry['name']} {entry['was']} failed: {error}") from error

    async def close(self) -> None:
        """Give up the connections."""
        await self._client.aclose()
