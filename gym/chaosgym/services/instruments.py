"""The OpenTelemetry instrumentation of one service: its tracer, its meters, and what starts and ends them."""

from __future__ import annotations

import math
import os
import uuid
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import Any

from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags, set_span_in_context

from chaosgym.services.delivery import Delivery
from chaosgym.services.exporter import HttpMetricExporter, Post
from chaosgym.services.failure import Failure, error_name

__all__ = ["Instruments", "describe", "read_traceparent", "trace_of", "traceparent"]

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
Gauge = Callable[[], Iterable[tuple[float, Mapping[str, str]]]]
"""Current values, each with its attributes."""


class Instruments:
    """Made after the fork: it starts a thread."""

    def __init__(self, name: str, version: str, endpoint: str) -> None:
        resource = Resource({
            "service.name": name, "service.version": version, "service.instance.id": str(uuid.uuid4()), "process.pid": os.getpid(),
            "telemetry.sdk.language": "python", "telemetry.sdk.name": "opentelemetry",
        })  # fmt: skip
        post = Post(endpoint)
        reader = PeriodicExportingMetricReader(HttpMetricExporter(post), math.inf)  # the delivery's thread collects
        self._delivery = Delivery(post, reader)
        spans = TracerProvider(ALWAYS_ON, resource=resource, shutdown_on_exit=False)
        spans.add_span_processor(self._delivery)
        self._tracer = spans.get_tracer("app")
        meters = MeterProvider([reader], resource, exemplar_filter=AlwaysOffExemplarFilter(), shutdown_on_exit=False)
        self._meter = meters.get_meter("app")
        self._requests = self._meter.create_histogram("http.server.request.duration", "s", explicit_bucket_boundaries_advisory=_BUCKETS)
        self.active = 0
        """Requests being served."""
        self.observe("http.server.active_requests", "{request}", lambda: ((self.active, {}),))
        self._delivery.start()

    def observe(self, name: str, unit: str, gauge: Gauge) -> None:
        """Report `gauge` with every export, as an up-down counter."""

        def read(options: CallbackOptions) -> Iterable[Observation]:
            return [Observation(value, dict(attributes)) for value, attributes in gauge()]

        self._meter.create_observable_up_down_counter(name, [read], unit)

    def served(self, seconds: float, method: str, route: str, status: int) -> None:
        """Count one request."""
        self._requests.record(seconds, {"http.request.method": method, "http.route": route, "http.response.status_code": status})

    def start(self, name: str, kind: SpanKind, parent: Context | None, attributes: Mapping[str, Any]) -> Span:
        """A span; the caller ends it."""
        return self._tracer.start_span(name, parent, kind, attributes)

    @contextmanager
    def client(self, name: str, parent: Context | None, attributes: Mapping[str, Any], kind: SpanKind = SpanKind.CLIENT) -> Generator[Span]:
        """A span around work on a peer; what is raised becomes its error."""
        span = self._tracer.start_span(name, parent, kind, attributes)
        try:
            yield span
        except BaseException as error:
            failed(span, error)
            raise
        finally:
            span.end()

    def deliver(self) -> None:
        """Send what is measured by now; blocks for as long as that takes."""
        self._delivery.deliver()

    def stop(self) -> None:
        """Deliver what is measured and end the thread."""
        self._delivery.stop()


def failed(span: Span, error: BaseException) -> None:
    """Mark a span as failed by `error`."""
    kind = error.kind if isinstance(error, Failure) else error_name(error)
    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR, describe(error)))


def describe(error: BaseException) -> str:
    """One line: the message, or the class name of an exception without one."""
    text = " ".join(str(error).split())
    return text[:300] if text else error_name(error)


def trace_of(span: Span) -> tuple[str, str]:
    """Trace and span id in hex."""
    context = span.get_span_context()
    return f"{context.trace_id:032x}", f"{context.span_id:016x}"


def traceparent(span: Span) -> str:
    """The W3C header that makes `span` the parent of what the receiver does."""
    context = span.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-01"


def read_traceparent(header: str | None) -> Context | None:
    """The remote parent named by a W3C header; None when there is none or it is malformed."""
    parts = (header or "").split("-")
    if len(parts) != 4 or len(parts[1]) != 32 or len(parts[2]) != 16:
        return None
    try:
        remote = SpanContext(int(parts[1], 16), int(parts[2], 16), True, _SAMPLED)
    except ValueError:
        return None
    return set_span_in_context(NonRecordingSpan(remote)) if remote.is_valid else None
