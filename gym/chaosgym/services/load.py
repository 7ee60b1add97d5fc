"""The users of an application: journeys through the edge at Poisson arrivals, and what the users saw.

load = LoadGenerator(plan, address, port, seed=7)
await load.start()      ...  load.rate_factor = 1.4  ...      await load.stop()
load.samples, load.rows()
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import time
from dataclasses import dataclass
from typing import Any

import aiohttp
from yarl import URL

from chaosgym.plan import Plan
from chaosgym.services.instruments import describe
from chaosgym.services.peers import TableResolver, path_for
from chaosgym.services.strangers import Strangers

__all__ = ["EDGE", "EdgeSample", "LoadGenerator"]

EDGE = "edge"
"""`service_name` of the users' spans."""
TIMEOUT = 1.0
ITEMS = 200
"""How many items users ask for; low numbers are asked for more often."""
_POPULARITY = 1.6
_THINK = (0.01, 0.04)
"""Seconds between two requests of one journey."""
_PATIENCE = 0.6
"""Share of users who go on with their journey after a failed request."""


@dataclass(frozen=True)
class EdgeSample:
    """One request as its user saw it."""

    time_unix_nano: int
    """When it was sent."""
    duration: float
    """Seconds."""
    method: str
    route: str
    path: str
    status: int
    """HTTP status, 0 without an answer."""
    error: str
    """Class of what went wrong, or the status of a 5xx; empty when all is well."""
    message: str
    trace_id: str
    span_id: str

    @property
    def ok(self) -> bool:
        """Answered, and not with 5xx."""
        return not self.error


class LoadGenerator:
    """Runs in the loop that starts it; requests go to the plan's entry at `address:port`."""

    def __init__(self, plan: Plan, address: str, port: int, *, seed: int) -> None:
        spec = plan.app.spec
        self._entry = plan.components[spec.entry]
        self._endpoints = spec.components[spec.entry].endpoints
        self._journeys = list(spec.journeys.values())
        self._weights = [journey.weight for journey in self._journeys]
        per_journey = sum(j.weight * len(j.requests) for j in self._journeys) / sum(self._weights)
        self._journeys_per_second = plan.scenario.spec.workload.rate / per_journey
        self._table = {self._entry.host: (address, port)}
        self._draw = random.Random(f"load:{seed}")
        self._session: aiohttp.ClientSession | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._arrivals: asyncio.Task[None] | None = None
        self.rate_factor = 1.0
        """Multiplies the rate of new journeys from now on."""
        self.strangers = Strangers(plan, (address, port), seed=seed)
        """Who presses on the edge when a fault wants it."""
        self.background = Strangers(plan, (address, port), seed=seed + 1)
        """Who has been there all along."""
        self.samples: list[EdgeSample] = []
        """Finished requests, in the order in which they finished."""

    async def start(self) -> None:
        """Open the session and let users arrive."""
        connector = aiohttp.TCPConnector(
            resolver=TableResolver(self._table),
            limit=256,
            keepalive_timeout=0.5,
            use_dns_cache=False,
            family=socket.AF_INET,
            happy_eyeballs_delay=None,
        )
        self._session = aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False, timeout=aiohttp.ClientTimeout(total=TIMEOUT)
        )
        self._arrivals = asyncio.get_running_loop().create_task(self._arrive())

    async def stop(self) -> None:
        """No more arrivals; journeys under way are broken off and leave no sample."""
        await asyncio.gather(self.strangers.stop(), self.background.stop())
        tasks = [*self._tasks, *([self._arrivals] if self._arrivals else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._arrivals = None
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _arrive(self) -> None:
        """Poisson arrivals on an absolute clock, so that a late wake-up does not lower the rate."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            pressure = self.strangers.pressure
            factor = self.rate_factor * (pressure.factor if pressure else 1.0)
            due += self._draw.expovariate(self._journeys_per_second * max(factor, 1e-3))
            await asyncio.sleep(due - loop.time())
            journey = self._draw.choices(self._journeys, self._weights)[0]
            item = int(ITEMS * self._draw.random() ** _POPULARITY) + 1
            task = loop.create_task(self._walk(journey.requests, item))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _walk(self, requests: tuple[str, ...], item: int) -> None:
        """One user: request after request; after a failure some give up and some go on."""
        for index, endpoint in enumerate(requests):
            if index:
                await asyncio.sleep(self._draw.uniform(*_THINK))
            sample = await self._request(endpoint, item)
            self.samples.append(sample)
            if not sample.ok and self._draw.random() > _PATIENCE:
                return

    async def _request(self, endpoint: str, item: int) -> EdgeSample:
        assert self._session is not None
        method, route = self._endpoints[endpoint].method, self._entry.routes[endpoint]
        path = path_for(route, item)
        url = URL(f"http://{self._entry.host}:{self._entry.port}{path}", encoded=True)
        trace_id, span_id = f"{self._draw.getrandbits(128):032x}", f"{self._draw.getrandbits(64):016x}"
        body = None if method in ("GET", "DELETE") else {"id": item, "quantity": item % 3 + 1}
        status, error, message = 0, "", ""
        sent, begin = time.time_ns(), time.perf_counter()
        try:
            async with self._session.request(method, url, json=body, headers={"traceparent": f"00-{trace_id}-{span_id}-01"}) as reply:
                await reply.read()
                status = reply.status
            if status >= 500:
                error, message = str(status), f"{method} {route} returned {status}"
        except TimeoutError:
            error, message = "TimeoutError", f"no response within {TIMEOUT:g} s, timed out"
        except (aiohttp.ClientError, OSError) as failure:
            error, message = _kind(failure), describe(failure)
        return EdgeSample(sent, time.perf_counter() - begin, method, route, path, status, error, message, trace_id, span_id)

    def rows(self) -> list[tuple[Any, ...]]:
        """The samples as rows of SPANS (`chaosgym.telemetry.schema`): client spans of the component `edge`."""
        return [self._row(sample) for sample in self.samples]

    def _row(self, sample: EdgeSample) -> tuple[Any, ...]:
        attributes = {
            "http.request.method": sample.method,
            "url.path": sample.path,
            "url.template": sample.route,
            "server.port": self._entry.port,
        }
        return (
            sample.time_unix_nano, sample.time_unix_nano + int(sample.duration * 1e9), EDGE, sample.trace_id, sample.span_id, None,
            sample.method, "client", "unset" if sample.ok else "error", sample.message, self._entry.host, sample.status or None,
            sample.error or None, json.dumps(attributes),
        )  # fmt: skip


def _kind(failure: Exception) -> str:
    cause = failure.os_error if isinstance(failure, aiohttp.ClientConnectorError) else failure
    return type(cause).__name__
