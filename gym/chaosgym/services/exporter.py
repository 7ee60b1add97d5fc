"""OTLP/HTTP for the OpenTelemetry SDK over one plain connection.

The SDK's own exporters need `requests`, cost several times the CPU and retry for seconds; a service must neither
slow down nor talk about it when nobody takes its telemetry, so a batch that cannot be delivered at once is dropped.
"""

from __future__ import annotations

import http.client
from typing import Any
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData

__all__ = ["HttpMetricExporter", "Post"]

_TIMEOUT = 0.5
_HEADERS = {"Content-Type": "application/x-protobuf"}


class Post:
    """An endpoint and a kept connection to it."""

    def __init__(self, endpoint: str) -> None:
        url = urlsplit(endpoint)
        self._path = url.path.rstrip("/")
        self._connection = http.client.HTTPConnection(url.hostname or "127.0.0.1", url.port or 4318, timeout=_TIMEOUT)

    def send(self, signal: str, body: bytes) -> bool:
        """Whether `<endpoint>/v1/<signal>` took it."""
        try:
            self._connection.request("POST", f"{self._path}/v1/{signal}", body, _HEADERS)
            reply = self._connection.getresponse()
            reply.read()
            return reply.status < 300
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return False

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class HttpMetricExporter(MetricExporter):
    """Metrics, cumulative."""

    def __init__(self, post: Post) -> None:
        super().__init__()
        self._post = post

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> MetricExportResult:
        taken = self._post.send("metrics", encode_metrics(metrics_data).SerializeToString())
        return MetricExportResult.SUCCESS if taken else MetricExportResult.FAILURE

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """The connection is the delivery's to close."""
