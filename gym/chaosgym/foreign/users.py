"""The users of a foreign application: its probes at Poisson arrivals, and whether what came back was what its file expects."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from chaosgym.foreign.app import ForeignSpec, Probe
from chaosgym.plan import Plan
from chaosgym.services.instruments import describe
from chaosgym.services.load import EdgeSample, LoadGenerator

__all__ = ["ForeignUsers", "Outcome", "ask"]


@dataclass(frozen=True)
class Outcome:
    """What came of one request."""

    status: int
    error: str
    """Empty when it was as expected."""
    message: str


class ForeignUsers(LoadGenerator):
    """A LoadGenerator whose requests are the probes of `spec`."""

    def __init__(self, plan: Plan, spec: ForeignSpec, *, seed: int) -> None:
        address = urlsplit(spec.url)
        port = address.port or (443 if address.scheme == "https" else 80)
        super().__init__(plan, address.hostname or "", port, seed=seed)
        self._spec = spec
        self._number = 0

    async def start(self) -> None:
        """Open the session and let users arrive."""
        connector = aiohttp.TCPConnector(limit=256, keepalive_timeout=0.5, happy_eyeballs_delay=None)
        self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        self._arrivals = asyncio.get_running_loop().create_task(self._arrive())

    async def _request(self, endpoint: str, item: int) -> EdgeSample:
        assert self._session is not None
        probe = self._spec.probes[endpoint]
        self._number += 1
        trace_id, span_id = f"{self._draw.getrandbits(128):032x}", f"{self._draw.getrandbits(64):016x}"
        sent, begin = time.time_ns(), time.perf_counter()
        got = await ask(self._session, self._spec.url, probe, self._number, {"traceparent": f"00-{trace_id}-{span_id}-01"})
        took = time.perf_counter() - begin
        path = probe.path.partition("?")[0]
        return EdgeSample(sent, took, probe.method, path, path, got.status, got.error, got.message, trace_id, span_id)


async def ask(session: aiohttp.ClientSession, url: str, probe: Probe, number: int, headers: dict[str, str] | None = None) -> Outcome:
    """Make one request."""
    body = None if probe.body is None else probe.body.replace("{n}", str(number)).encode()
    given = {**(headers or {}), **probe.headers}
    if body is not None and not any(name.lower() == "content-type" for name in given):
        given["Content-Type"] = "application/json"
    address, patience = URL(f"{url}{probe.path}", encoded=True), aiohttp.ClientTimeout(total=probe.timeout)
    try:
        async with session.request(probe.method, address, data=body, headers=given, timeout=patience, allow_redirects=False) as reply:
            return _judge(probe, reply.status, await reply.text(errors="replace"))
    except TimeoutError:
        return Outcome(0, "TimeoutError", f"no response within {probe.timeout:g} s, timed out")
    except (aiohttp.ClientError, OSError) as failure:
        cause = failure.os_error if isinstance(failure, aiohttp.ClientConnectorError) else failure
        return Outcome(0, type(cause).__name__, describe(failure))


def _judge(probe: Probe, status: int, text: str) -> Outcome:
    if status not in probe.expect.status:
        return Outcome(status, str(status), f"{probe.method} {probe.path} returned {status}")
    if probe.expect.body is not None and re.search(probe.expect.body, text) is None:
        return Outcome(status, "UnexpectedBody", f"{probe.method} {probe.path} returned {status} without {probe.expect.body!r}")
    return Outcome(status, "", "")
