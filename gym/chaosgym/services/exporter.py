"""OTLP/HTTP exporters for the OpenTelemetry SDK over one plain connection each.

The SDK's own need `requests`, cost several times the CPU and retry for seconds; a service must neither slow
down nor talk about it when nobody takes its telemetry, so a batch that cannot be delivered at once is dropped.
"""

from __future__ import annotations

import http.client
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from chaosgym.services.wire_format import encode_spans

__all__ = ["HttpMetricExporter", "HttpSpanExporter"]

_TIMEOUT = 0.5
_HEADERS = {"Content-Type": "application/x-protobuf"}


class _Post:
    """One endpoint, one kept connection."""

    def __init__(self, endpoint: str, signal: str) -> None:
        url = urlsplit(endpoint)
        self._path = f"{url.path.rstrip('/')}/v1/{signal}"
        self._connection = http.client.HTTPConnection(url.hostname or "127.0.0.1", url.port or 4318, timeout=_TIMEOUT)

    def send(self, body: bytes) -> bool:
        """Whether it was taken."""
        try:
            self._connection.request("POST", self._path, body, _HEADERS)
            reply = self._connection.getresponse()
            reply.read()
            return reply.status < 300
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return False

    def close(self) -> None:
        self._connection.close()


class HttpSpanExporter(SpanExporter):
    """Spans to `<endpoint>/v1/traces`."""

    def __init__(self, endpoint: str) -> None:
        self._post = _Post(endpoint, "traces")

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        taken = self._post.send(encode_spans(spans))
        return SpanExportResult.SUCCESS if taken else SpanExportResult.FAILURE

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True

    def shutdown(self) -> None:
        self._post.close()


class HttpMetricExporter(MetricExporter):
    """Metrics to `<endpoint>/v1/metrics`, cumulative."""

    def __init__(self, endpoint: str) -> None:
        super().__init__()
        self._post = _Post(endpoint, "metrics")

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> MetricExportResult:
        taken = self._post.send(encode_metrics(metrics_data).SerializeToString())
        return MetricExportResult.SUCCESS if taken else MetricExportResult.FAILURE

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        self._post.close()
