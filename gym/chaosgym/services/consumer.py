"""A worker's loop: take messages of a Redis stream, run the steps for each, acknowledge."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from opentelemetry.trace import SpanKind, set_span_in_context
from redis.exceptions import RedisError, ResponseError

from chaosgym.services.config import Peer, StreamConfig
from chaosgym.services.defects import Defects
from chaosgym.services.failure import Failure
from chaosgym.services.instruments import Instruments, describe, failed, read_traceparent, trace_of
from chaosgym.services.journal import Journal
from chaosgym.services.rules import Rule
from chaosgym.services.steps import Steps
from chaosgym.services.work import Work

__all__ = ["Consumer"]

_BATCH = 8
_BLOCK_MS = 200
_TIMEOUT = 0.5
"""Seconds to wait for a read that should have come back after `_BLOCK_MS`."""
_PAUSE = 0.2
"""Seconds before the next try after a failure."""


class Consumer:
    """Reads `config.stream` until cancelled."""

    def __init__(self, config: StreamConfig, peer: Peer, name: str, steps: Steps, instruments: Instruments, journal: Journal,
                 defects: Defects, rules: Callable[[], Sequence[Rule]]) -> None:  # fmt: skip
        self._config, self._peer, self._name = config, peer, name
        self._steps, self._instruments, self._journal, self._defects, self._rules = steps, instruments, journal, defects, rules
        self._client = steps.stores[config.host].client

    async def run(self) -> None:
        """Poll, handle, and try again after failures; ends by cancellation."""
        joined = False
        while True:
            try:
                async with asyncio.timeout(_TIMEOUT):
                    joined = joined or await self._join()
                    messages = await self._read()
            except (RedisError, OSError) as error:
                joined = joined and not isinstance(error, ResponseError)
                self._journal.log("ERROR", "consume_failed", stream=self._config.stream, error=f"{self._peer.host}: {describe(error)}")
                await asyncio.sleep(_PAUSE)
                continue
            for message, fields in messages:
                await self._handle(message, fields)

    async def _join(self) -> bool:
        with contextlib.suppress(ResponseError):  # BUSYGROUP: the group exists
            await self._client.execute_command("XGROUP", "CREATE", self._config.stream, self._config.group, "0", "MKSTREAM")
        self._journal.log("INFO", "subscribed", stream=self._config.stream, group=self._config.group)
        return True

    async def _read(self) -> list[tuple[str, Mapping[str, str]]]:
        reply: Any = await self._client.xreadgroup(
            self._config.group, self._name, {self._config.stream: ">"}, count=_BATCH, block=_BLOCK_MS
        )
        return [(str(message), fields) for _, entries in reply or () for message, fields in entries]

    async def _handle(self, message: str, fields: Mapping[str, str]) -> None:
        begin = time.perf_counter()
        stream = self._config.stream
        attributes = {"messaging.system": "redis", "messaging.operation.name": "process", "messaging.destination.name": stream,
                      "messaging.message.id": message, "messaging.consumer.group.name": self._config.group}  # fmt: skip
        span = self._instruments.start(f"process {stream}", SpanKind.CONSUMER, read_traceparent(fields.get("traceparent")), attributes)
        trace = trace_of(span)
        try:
            work = Work(int(fields.get("id", "1")), set_span_in_context(span), trace)
            await self._defects.before()
            await self._steps.run(self._config.steps, work)
            for rule in self._rules():
                rule.apply(rule.record(work.item))
            async with asyncio.timeout(_TIMEOUT):
                await self._client.execute_command("XACK", stream, self._config.group, message)
            ms = f"{(time.perf_counter() - begin) * 1000:.1f}"
            self._journal.log("INFO", "handled", trace, message=message, stream=stream, ms=ms)
        except (Failure, RedisError, OSError) as error:
            failed(span, error)
            self._journal.log("ERROR", "message_failed", trace, message=message, stream=stream, error=describe(error))
        except Exception as error:  # noqa: BLE001 - the boundary of a message: a bug costs the message, not the worker
            failed(span, error)
            self._journal.log("ERROR", "message_failed", trace, raised=error, message=message, stream=stream, error=describe(error))
        finally:
            span.end()
