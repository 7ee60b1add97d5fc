"""What comes to the edge besides the usual users: crawlers, scanners, slow and greedy clients. Their requests are real.

Nobody asks them how it went, so they leave no sample; the entry serves them, logs them and measures them as any others.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Coroutine

from chaosgym.plan import Plan
from chaosgym.sandbox.base import Pressure
from chaosgym.services.config import Address
from chaosgym.services.peers import path_for

__all__ = ["Strangers"]

_AGENTS = ("python-requests/2.31.0", "Go-http-client/1.1", "Scrapy/2.11 (+https://scrapy.org)", "curl/8.5.0", "okhttp/4.12.0")
_PATHS = (
    "/wp-login.php", "/.env", "/admin", "/phpmyadmin/index.php", "/.git/config", "/cgi-bin/status", "/actuator/env", "/server-status",
    "/backup.zip", "/config.json", "/api/v1/users?limit=1000", "/owa/auth.js", "/vendor/phpunit/src/Util/PHP/eval-stdin.php",
)  # fmt: skip
_PATIENCE = 1.0
"""Seconds to wait for an answer."""
_DRIP = 0.2
"""Seconds between two bytes of a slow client."""


class Strangers:
    """Runs in the loop that starts it; connects to the plan's entry at `address`."""

    def __init__(self, plan: Plan, address: Address, *, seed: int) -> None:
        spec = plan.app.spec
        self._entry, self._address = plan.components[spec.entry], address
        self._endpoints = spec.components[spec.entry].endpoints
        self._draw = random.Random(f"strangers:{seed}")
        self._agent = self._draw.choice(_AGENTS)
        self._tasks: set[asyncio.Task[None]] = set()
        self.pressure: Pressure | None = None
        """What is made at present; a surge is not of strangers, but of more users."""

    async def press(self, pressure: Pressure | None) -> None:
        """Begin, change or end it."""
        await self.stop()
        self.pressure = pressure
        if pressure is None or pressure.kind == "surge":
            return
        if pressure.kind == "slow_clients":
            for _ in range(pressure.connections):
                self._spawn(self._linger())
            return
        kinds = {"scraper": self._crawl(), "probing": self._probe, "large_requests": lambda: self._overload(pressure.size)}
        self._spawn(self._arrive(pressure.rate, kinds[pressure.kind]))

    async def stop(self) -> None:
        """Nobody comes any more; what is under way is broken off."""
        self.pressure = None
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _arrive(self, rate: float, ask: Callable[[], str]) -> None:
        """Poisson arrivals on an absolute clock."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            due += self._draw.expovariate(rate)
            await asyncio.sleep(due - loop.time())
            self._spawn(self._request(ask()))

    async def _request(self, text: str) -> None:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                reader, writer = await asyncio.open_connection(*self._address)
                try:
                    writer.write(text.encode())
                    await reader.read()
                finally:
                    writer.transport.abort()

    def _text(self, method: str, path: str, body: str = "") -> str:
        head = f"{method} {path} HTTP/1.1\r\nhost: {self._entry.host}\r\nuser-agent: {self._agent}\r\nconnection: close\r\n"
        return f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}" if body else f"{head}\r\n"

    def _crawl(self) -> Callable[[], str]:
        """One page after another of one kind."""
        reads = [name for name, endpoint in self._endpoints.items() if endpoint.method == "GET"] or list(self._endpoints)
        name = self._draw.choice(reads)
        items = iter(range(1, 1_000_000))
        return lambda: self._text(self._endpoints[name].method, path_for(self._entry.routes[name], next(items) % 300 + 1))

    def _probe(self) -> str:
        return self._text("GET", self._draw.choice(_PATHS))

    def _overload(self, size: int) -> str:
        writes = [name for name, endpoint in self._endpoints.items() if endpoint.method != "GET"] or list(self._endpoints)
        name = self._draw.choice(writes)
        return self._text("POST", path_for(self._entry.routes[name], 1), '{"id": 1, "note": "' + "x" * size + '"}')

    async def _linger(self) -> None:
        """A client that takes its time over the head of its request."""
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(*self._address)
                try:
                    writer.write(f"POST / HTTP/1.1\r\nhost: {self._entry.host}\r\nx-padding: ".encode())
                    while not writer.is_closing():
                        writer.write(b"a")
                        await asyncio.sleep(_DRIP)
                finally:
                    writer.transport.abort()
            await asyncio.sleep(_DRIP)
