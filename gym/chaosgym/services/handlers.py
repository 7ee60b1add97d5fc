"""The HTTP side of a service: routes, spans, access log, and how failures become answers."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

from aiohttp import web
from opentelemetry.trace import Span, SpanKind, set_span_in_context

from chaosgym.services.config import EndpointConfig, ServiceConfig
from chaosgym.services.defects import Defects
from chaosgym.services.failure import Failure
from chaosgym.services.instruments import Instruments, describe, failed, read_traceparent, trace_of
from chaosgym.services.journal import Journal
from chaosgym.services.peers import RESULT
from chaosgym.services.rules import Rule
from chaosgym.services.steps import Steps
from chaosgym.services.work import Work

__all__ = ["Handlers", "Limiter"]

_REQUESTS = 40
"""Served on one connection on average before the client is told to open another, as nginx's keepalive_requests."""
_HEALTH = "/healthz"
_DIGITS = 18


class Limiter:
    """A token bucket that holds what is served in a second, or one."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate, self._clock = rate, clock
        self._left, self._last = rate, clock()

    def admits(self) -> bool:
        """Whether one more request may be served now."""
        now = self._clock()
        self._left, self._last = min(max(1.0, self.rate), self._left + (now - self._last) * self.rate), now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Handlers:
    """Called by the server for every request."""

    def __init__(
        self,
        config: ServiceConfig,
        steps: Steps,
        instruments: Instruments,
        journal: Journal,
        defects: Defects,
        rules: Callable[[], Sequence[Rule]],
    ) -> None:
        self._routes = [(e, _split(e.route)) for e in config.endpoints]
        self._steps, self._instruments, self._journal, self._defects, self._rules = steps, instruments, journal, defects, rules
        self._largest = config.body_limit
        self._limiter = None if config.rate_limit is None else Limiter(config.rate_limit)
        self.draining = False
        """Connections are closed after the answer."""

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; never raises."""
        begin = time.perf_counter()
        path = request.rel_url.raw_path
        if path == _HEALTH:
            return self._reply(200, {"status": "ok"})
        endpoint, item = self._find(request.method, path)
        if (refused := self._refusal(request, path, known=endpoint is not None)) is not None or endpoint is None:
            return refused or self._refuse(request, path, 404, "not found")
        item = await _item(request) if item is None else item
        if item is None:
            return self._refuse(request, path, 400, "the id has to be a number")
        attributes = {"http.request.method": request.method, "url.path": path, "http.route": endpoint.route}
        parent = read_traceparent(request.headers.get("traceparent"))
        span = self._instruments.start(f"{request.method} {endpoint.route}", SpanKind.SERVER, parent, attributes)
        self._instruments.active += 1
        status, body = await self._answer(endpoint, path, item, span)
        self._instruments.active -= 1
        span.set_attribute("http.response.status_code", status)
        span.end()
        seconds = time.perf_counter() - begin
        self._instruments.served(seconds, request.method, endpoint.route, status)
        self._journal.access(request.method, path, status, seconds, trace_of(span))
        return self._reply(status, body)

    def _refusal(self, request: web.BaseRequest, path: str, *, known: bool) -> web.Response | None:
        """The answer to a request that is not looked at any further."""
        size = request.content_length or 0
        if size > self._largest:
            self._journal.log("WARN", "too_large", size=size, limit=self._largest)
            return self._refuse(request, path, 413, "request body too large")
        if known and self._limiter is not None and not self._limiter.admits():
            self._journal.log("WARN", "rate_limited", limit=f"{self._limiter.rate:g}", method=request.method, path=path)
            return self._refuse(request, path, 429, "too many requests")
        return None

    def _refuse(self, request: web.BaseRequest, path: str, status: int, error: str) -> web.Response:
        self._journal.access(request.method, path, status, 0.0, ("", ""))
        response = self._reply(status, {"error": error})
        if request.can_read_body:
            response.force_close()  # rather than read what nobody wants
        return response

    def _find(self, method: str, path: str) -> tuple[EndpointConfig | None, int | None]:
        for endpoint, (before, brace, after) in self._routes:
            if endpoint.method != method:
                continue
            if not brace and path == before:
                return endpoint, None
            number = path[len(before) : len(path) - len(after)]
            if brace and path == f"{before}{number}{after}" and _is_number(number):
                return endpoint, int(number)
        return None, None

    async def _answer(self, endpoint: EndpointConfig, path: str, item: int, span: Span) -> tuple[int, Any]:
        work = Work(item, set_span_in_context(span), trace_of(span))
        try:
            await self._defects.before()
            result = await self._steps.run(endpoint.steps, work)
            for rule in self._rules():
                rule.apply(rule.record(item))
            return 200, {"id": item, "data" if self._defects.is_on("reshape") else RESULT: result}
        except Failure as failure:
            failed(span, failure)
            return failure.status, {"error": failure.text}  # whoever raised it has logged it
        except Exception as error:  # noqa: BLE001 - the boundary of a request: whatever bug it hits becomes a 500
            failed(span, error)
            self._journal.log("ERROR", "unhandled", work.trace, raised=error, method=endpoint.method, path=path)
            return 500, {"error": describe(error)}

    def _reply(self, status: int, body: Any) -> web.Response:
        response = web.Response(status=status, body=json.dumps(body).encode(), content_type="application/json")
        if self.draining or random.random() * _REQUESTS < 1:
            response.force_close()
        return response


def _split(route: str) -> tuple[str, str, str]:
    """(before, brace, after) the item's place; the last two empty where it has none."""
    before, brace, rest = route.partition("{")
    return before, brace, rest.partition("}")[2]


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _DIGITS


async def _item(request: web.BaseRequest) -> int | None:
    """From the query or the body; 1 where neither names one, None where it is no number."""
    text = request.query.get("id", "")
    if not text and request.can_read_body:
        try:
            body = json.loads(await request.read())
        except ValueError:
            return None
        text = str(body.get("id", "")) if isinstance(body, dict) else ""
    return int(text or 1) if not text or _is_number(text) else None
