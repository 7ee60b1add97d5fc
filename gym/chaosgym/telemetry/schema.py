"""One telemetry schema for live, recorded and foreign data: OpenTelemetry's names and units in Arrow.

Times are Unix nanoseconds (int64). `attributes` is a JSON object as text; the columns beside it are
those that every reader needs. Metric values: `value` is the gauge or the sum (for a histogram the sum
of the observations), with `count`, `bounds` and `buckets` for histograms; sums and histograms are
cumulative since `start_time_unix_nano`, as OTLP exports them by default.
"""

from __future__ import annotations

import pyarrow as pa

__all__ = ["EVENTS", "LOGS", "METRICS", "SIGNALS", "SPANS"]

LOGS = pa.schema([
    ("time_unix_nano", pa.int64()),
    ("service_name", pa.string()),
    ("severity_number", pa.int8()),
    ("severity_text", pa.string()),
    ("body", pa.string()),
    ("trace_id", pa.string()),
    ("span_id", pa.string()),
    ("attributes", pa.string()),
])
SPANS = pa.schema([
    ("start_time_unix_nano", pa.int64()),
    ("end_time_unix_nano", pa.int64()),
    ("service_name", pa.string()),
    ("trace_id", pa.string()),
    ("span_id", pa.string()),
    ("parent_span_id", pa.string()),
    ("name", pa.string()),
    ("kind", pa.string()),  # internal, server, client, producer, consumer
    ("status_code", pa.string()),  # unset, ok, error
    ("status_message", pa.string()),
    ("server_address", pa.string()),  # of client spans: the peer's host
    ("http_status_code", pa.int16()),
    ("error_type", pa.string()),
    ("attributes", pa.string()),
])
METRICS = pa.schema([
    ("time_unix_nano", pa.int64()),
    ("start_time_unix_nano", pa.int64()),
    ("service_name", pa.string()),
    ("name", pa.string()),
    ("unit", pa.string()),
    ("type", pa.string()),  # gauge, sum, histogram
    ("value", pa.float64()),
    ("count", pa.int64()),
    ("bounds", pa.list_(pa.float64())),
    ("buckets", pa.list_(pa.int64())),
    ("attributes", pa.string()),
])
EVENTS = pa.schema([
    ("time_unix_nano", pa.int64()),
    ("service_name", pa.string()),
    ("name", pa.string()),  # deployment, config_change, restart, exit, traffic
    ("body", pa.string()),
    ("attributes", pa.string()),
])
SIGNALS: dict[str, pa.Schema] = {"logs": LOGS, "spans": SPANS, "metrics": METRICS, "events": EVENTS}
