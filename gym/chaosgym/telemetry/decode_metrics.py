"""OTLP metrics -> rows of METRICS, with one meaning for every reader.

- A sum that is not monotonic (active requests, open connections) is a level: its type becomes `gauge`.
- Delta sums and histograms are added up, so that `sum` and `histogram` are always cumulative.
- An exponential histogram gets explicit bounds (base 2^(2^-scale), OpenTelemetry data model, "ExponentialHistogram");
  its negative observations are counted with the zeros.
- A summary becomes a histogram without buckets: count and sum.
"""

from __future__ import annotations

from collections.abc import Iterator

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AggregationTemporality,
    ExponentialHistogramDataPoint,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    SummaryDataPoint,
)

from chaosgym.telemetry.decode import Json, attributes_of, clamp, compact_json, resource_of
from chaosgym.telemetry.store import Row

__all__ = ["MetricDecoder"]

_DELTA = AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA
_MAX_SCALE, _MIN_SCALE = 20, -10  # what SDKs use; beyond it every double is in one bucket, or in one of its own


class MetricDecoder:
    """Keeps the running totals of delta series; one per receiver."""

    def __init__(self) -> None:
        self._totals: dict[tuple[str, str, str], Row] = {}

    def rows(self, request: ExportMetricsServiceRequest) -> Iterator[Row]:
        """Rows of METRICS."""
        for group in request.resource_metrics:
            service, kept = resource_of(group.resource)
            for scope in group.scope_metrics:
                for metric in scope.metrics:
                    yield from self._metric(metric, service, kept)

    def _metric(self, metric: Metric, service: str, kept: dict[str, Json]) -> Iterator[Row]:
        shape = metric.WhichOneof("data")
        if shape is None:
            return
        data = getattr(metric, shape)
        delta = shape not in ("gauge", "summary") and data.aggregation_temporality == _DELTA
        kind = "gauge" if shape == "gauge" or (shape == "sum" and not data.is_monotonic) else "sum" if shape == "sum" else "histogram"
        for point in data.data_points:
            start, attributes = clamp(point.start_time_unix_nano), compact_json(kept | attributes_of(point.attributes))
            row = (clamp(point.time_unix_nano), start, service, metric.name, metric.unit, kind, *_measured(point), attributes)
            yield self._added(row) if delta else row

    def _added(self, row: Row) -> Row:
        """The row with all earlier deltas of its series added; a histogram whose bounds changed starts anew."""
        key = (row[2], row[3], row[10])
        before = self._totals.get(key)
        if before is not None and before[8] == row[8]:
            count = None if row[7] is None else clamp(before[7] + row[7])
            buckets = None if row[9] is None else [clamp(a + b) for a, b in zip(before[9], row[9], strict=False)]
            row = (row[0], before[1], *row[2:6], before[6] + row[6], count, row[8], buckets, row[10])
        self._totals[key] = row
        return row


def _measured(
    point: NumberDataPoint | HistogramDataPoint | ExponentialHistogramDataPoint | SummaryDataPoint,
) -> tuple[float, int | None, list[float] | None, list[int] | None]:
    """(value, count, bounds, buckets)"""
    if isinstance(point, NumberDataPoint):
        return (float(point.as_int) if point.WhichOneof("value") == "as_int" else point.as_double), None, None, None
    if isinstance(point, HistogramDataPoint):
        return point.sum, clamp(point.count), list(point.explicit_bounds), [clamp(n) for n in point.bucket_counts]
    if isinstance(point, ExponentialHistogramDataPoint):
        return point.sum, clamp(point.count), *_explicit(point)
    return point.sum, clamp(point.count), None, None


def _explicit(point: ExponentialHistogramDataPoint) -> tuple[list[float], list[int]]:
    """Bucket i counts (base^(offset+i), base^(offset+i+1)]; the first of ours what is not positive, the last nothing."""
    step = 2.0 ** -max(_MIN_SCALE, min(_MAX_SCALE, point.scale))
    counts = [clamp(n) for n in point.positive.bucket_counts]
    exponents = ((point.positive.offset + i) * step for i in range(len(counts) + 1))
    bounds = [2.0 ** max(-1074.0, min(1023.0, exponent)) for exponent in exponents]
    return bounds, [clamp(point.zero_count + sum(point.negative.bucket_counts)), *counts, 0]
