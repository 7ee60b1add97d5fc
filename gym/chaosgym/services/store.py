"""Redis as a cache, as a store of small things and as a queue."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import redis.asyncio as redis_client
from opentelemetry.trace import SpanKind
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from chaosgym.services.config import Cache, Peer, Publish
from chaosgym.services.failure import Failure, error_name
from chaosgym.services.instruments import Instruments, describe, traceparent
from chaosgym.services.journal import Journal
from chaosgym.services.work import Work

__all__ = ["Store"]

_CONNECT = 0.15
_LONGEST_STREAM = 1000
_COMMANDS = {"get": "GET", "set": "SET", "increment": "INCR", "delete": "DEL"}


class Store:
    """One redis peer."""

    def __init__(self, peer: Peer, instruments: Instruments, journal: Journal) -> None:
        self._peer, self._instruments, self._journal = peer, instruments, journal
        address, port = peer.address
        self.client: redis_client.Redis = redis_client.Redis(
            host=address, port=port, socket_connect_timeout=_CONNECT, socket_timeout=None, retry=Retry(NoBackoff(), 0), max_connections=48,
            protocol=2, decode_responses=True, driver_info=None,  # which costs two commands a connection and 5 ms a process
        )  # fmt: skip
        self._attributes = {"db.system.name": "redis", "server.address": peer.host, "server.port": peer.port}

    async def close(self) -> None:
        """Close the connections."""
        await self.client.aclose()

    async def get(self, step: Cache, work: Work) -> Any:
        """The stored value, None on a miss. Raises Failure."""
        text = await self._command(step, work, "GET", self._key(step, work))
        return None if text is None else json.loads(text)

    async def put(self, step: Cache, work: Work, value: Any) -> None:
        """Store a value for `step.ttl`. Raises Failure."""
        text = json.dumps(value)
        await self._command(step, work, "SET", self._key(step, work), text, "PX", int(step.ttl * 1000))

    async def change(self, step: Cache, work: Work) -> Any:
        """Run `increment` (the new count) or `delete`. Raises Failure."""
        return await self._command(step, work, _COMMANDS[step.operation], self._key(step, work))

    async def publish(self, step: Publish, work: Work) -> None:
        """Append the item to the stream, with the trace context. Raises Failure."""
        attributes = {"messaging.system": "redis", "messaging.operation.name": "publish", "messaging.destination.name": step.stream,
                      "server.address": self._peer.host, "server.port": self._peer.port}  # fmt: skip
        with self._instruments.client(f"publish {step.stream}", work.parent, attributes, SpanKind.PRODUCER) as span:
            try:
                async with asyncio.timeout(step.timeout):
                    await self.client.execute_command(
                        "XADD", step.stream, "MAXLEN", "~", _LONGEST_STREAM, "*", "id", work.item, "traceparent", traceparent(span)
                    )
            except (RedisError, OSError) as error:
                failure = self._failure(error, "XADD", step.timeout)
                self._journal.log("ERROR", "publish_failed", work.trace, stream=step.stream, error=failure.text)
                raise failure from error

    def _key(self, step: Cache, work: Work) -> str:
        return f"{step.prefix}:{work.item}"

    async def _command(self, step: Cache, work: Work, name: str, *arguments: Any) -> Any:
        with self._instruments.client(name, work.parent, {**self._attributes, "db.operation.name": name}):
            try:
                async with asyncio.timeout(step.timeout):
                    return await self.client.execute_command(name, *arguments)
            except (RedisError, OSError) as error:
                raise self._failure(error, name, step.timeout) from error

    def _failure(self, error: Exception, name: str, timeout: float) -> Failure:
        host = self._peer.host
        if isinstance(error, TimeoutError):
            return Failure(504, "TimeoutError", f"{host}: {name} timed out after {timeout * 1000:.0f} ms", peer=host)
        return Failure(503, error_name(error), f"{host}: {describe(error)}", peer=host)
