"""HTTP calls to other services: a connection pool, timeouts, retries with backoff, a circuit breaker per peer."""

from __future__ import annotations

import asyncio
import json
import random
import socket
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from opentelemetry.trace import Span
from yarl import URL

from chaosgym.services.breaker import Breaker
from chaosgym.services.config import Address, Call, Peer, ServiceConfig
from chaosgym.services.failure import Failure
from chaosgym.services.instruments import Instruments, describe, traceparent
from chaosgym.services.journal import Journal
from chaosgym.services.work import Work

__all__ = ["RESULT", "Peers", "TableResolver", "path_for"]

_IDLE = 0.5
"""Seconds that an unused connection is kept."""
RESULT = "result"
"""The field of an answer that callers read."""


class TableResolver(AbstractResolver):
    """Host names from a table, so that errors and telemetry show names as in any cluster."""

    def __init__(self, table: Mapping[str, Address]) -> None:
        self._table = table

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:
        """Raises OSError for a name that is not in the table."""
        if host not in self._table:
            raise OSError(socket.EAI_NONAME, "Name or service not known")
        address, real_port = self._table[host]
        return [ResolveResult(hostname=host, host=address, port=real_port, family=socket.AF_INET, proto=0, flags=socket.AI_NUMERICHOST)]

    async def close(self) -> None:
        """Nothing is held."""


def path_for(route: str, item: int) -> str:
    """The path of `route` for an item: in the place in braces, or as a query."""
    before, brace, rest = route.partition("{")
    return f"{before}{item}{rest.partition('}')[2]}" if brace else f"{route}?id={item}"


class Peers:
    """All HTTP peers of a service; made inside the running loop."""

    def __init__(self, config: ServiceConfig, peers: Sequence[Peer], instruments: Instruments, journal: Journal) -> None:
        self._config, self._instruments, self._journal = config, instruments, journal
        self._peers = {peer.host: peer for peer in peers if peer.kind in ("gateway", "service")}
        self._breakers = {host: Breaker() for host in self._peers}
        table = {host: peer.address for host, peer in self._peers.items()}
        connector = aiohttp.TCPConnector(
            resolver=TableResolver(table),
            limit=64,
            keepalive_timeout=_IDLE,
            use_dns_cache=False,
            family=socket.AF_INET,
            happy_eyeballs_delay=None,
        )
        self._session = aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False, skip_auto_headers=("Accept-Encoding",),
            headers={"User-Agent": f"{config.name}/{config.version}"},
        )  # fmt: skip

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def call(self, step: Call, work: Work) -> Any:
        """The decoded answer, or None when an optional call failed. Raises Failure."""
        try:
            return await self._persist(step, work)
        except Failure as failure:
            event, level = ("degraded", "WARN") if step.optional else ("call_failed", "ERROR")
            self._journal.log(level, event, work.trace, method=step.method, target=step.host, error=failure.text)
            if step.optional:
                return None
            raise

    async def _persist(self, step: Call, work: Work) -> Any:
        """Attempt until it works, cannot work or the attempts are used up."""
        config = self._config
        attempts = 1 + (step.retries if config.retries is None else config.retries)
        for attempt in range(1, attempts + 1):
            try:
                return await self._guarded(step, work, attempt)
            except Failure as failure:
                if attempt == attempts or not failure.retry:
                    raise
                self._journal.log(
                    "WARN",
                    "retry",
                    work.trace,
                    method=step.method,
                    target=step.host,
                    attempt=attempt,
                    attempts=attempts,
                    error=failure.text,
                )
                await asyncio.sleep(config.backoff * 2 ** (attempt - 1) * random.uniform(0.5, 1.5))
        raise AssertionError("a loop over at least one attempt returns or raises")

    async def _guarded(self, step: Call, work: Work, attempt: int) -> Any:
        """One attempt, unless the circuit is open."""
        breaker = self._breakers[step.host]
        if self._config.breaker and not breaker.allow():
            failure = Failure(503, "CircuitBreakerOpen", f"circuit breaker for {step.host} is open", peer=step.host, retry=False)
            with self._instruments.client(step.method, work.parent, self._attributes(step, attempt)):
                raise failure
        try:
            answer = await self._attempt(step, work, attempt)
        except Failure as failure:
            if failure.retry and breaker.failed() and self._config.breaker:
                self._journal.log("WARN", "breaker_open", work.trace, target=step.host)
            elif not failure.retry:
                breaker.abandoned()
            raise
        except BaseException:
            breaker.abandoned()
            raise
        if breaker.succeeded() and self._config.breaker:
            self._journal.log("INFO", "breaker_closed", work.trace, target=step.host)
        return answer

    def _attributes(self, step: Call, attempt: int) -> dict[str, Any]:
        peer = self._peers[step.host]
        attributes: dict[str, Any] = {
            "http.request.method": step.method, "url.template": step.route, "server.address": peer.host, "server.port": peer.port,
        }  # fmt: skip
        if attempt > 1:
            attributes["http.request.resend_count"] = attempt - 1
        return attributes

    async def _attempt(self, step: Call, work: Work, attempt: int) -> Any:
        timeout = self._config.timeout or step.timeout
        limits = aiohttp.ClientTimeout(total=timeout, sock_connect=0.6 * timeout)
        host, prefix = self._config.hosts.get(step.host, step.host), self._config.prefixes.get(step.host, "")
        url = URL(f"http://{host}:{self._peers[step.host].port}{prefix}{path_for(step.route, work.item)}", encoded=True)
        body = None if step.method in ("GET", "DELETE") else {"id": work.item, "quantity": work.item % 3 + 1}
        with self._instruments.client(step.method, work.parent, self._attributes(step, attempt)) as span:
            try:
                async with self._session.request(
                    step.method, url, json=body, timeout=limits, headers={"traceparent": traceparent(span)}
                ) as reply:
                    text = await reply.read()
                    return _answer(reply.status, text, step, span)
            except (aiohttp.ClientError, OSError) as error:
                raise _failure(error, host, timeout) from error


def _answer(status: int, text: bytes, step: Call, span: Span) -> Any:
    span.set_attribute("http.response.status_code", status)
    if status >= 500:
        ours = status if status in (503, 504) else 502
        raise Failure(ours, str(status), f"{step.method} {step.route} on {step.host} returned {status}", peer=step.host)
    if status >= 400:
        raise Failure(502, str(status), f"{step.method} {step.route} on {step.host} returned {status}", peer=step.host, retry=False)
    return json.loads(text)[RESULT]


def _failure(error: Exception, host: str, timeout: float) -> Failure:
    """What went wrong on the wire, worded by the library where it has words."""
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return Failure(504, "ConnectionTimeoutError", f"connection timeout to {host} after {600 * timeout:.0f} ms", peer=host)
    if isinstance(error, TimeoutError):
        return Failure(504, "TimeoutError", f"no response from {host} within {timeout * 1000:.0f} ms, timed out", peer=host)
    if isinstance(error, aiohttp.ClientConnectorError):
        cause = error.os_error
        return Failure(
            503, type(cause).__name__, f"Cannot connect to host {host}:{error.port}: [Errno {cause.errno}] {cause.strerror}", peer=host
        )
    return Failure(502, type(error).__name__, describe(error), peer=host)
