"""OTLP messages -> rows of our schema: spans and log records (metrics: `decode_metrics`).

Any message that protobuf parses gives rows: numbers out of range are clamped, what is absent becomes None. Of a
resource only `service.name` (a column) and what tells instances and versions apart is kept; span events and links
are kept under the attribute keys `events` and `links`. Units and meanings are OpenTelemetry's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from chaosgym.telemetry.store import Row

__all__ = ["Json", "attributes_of", "clamp", "compact_json", "log_rows", "resource_of", "span_rows"]

Json = dict[str, "Json"] | list["Json"] | str | int | float | bool | None

_INT64 = 2**63 - 1
_KINDS = ("internal", "internal", "server", "client", "producer", "consumer")
_PEER_KINDS = frozenset(("client", "producer", "consumer"))
_STATUS = ("unset", "ok", "error")
_KEPT_OF_RESOURCE = ("service.version", "service.instance.id", "service.namespace")
_PEER_KEYS = ("server.address", "net.peer.name", "peer.service")  # today's name first, then older conventions
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def compact_json(attributes: dict[str, Json]) -> str:
    """The text kept in the `attributes` columns."""
    return _encode(attributes) if attributes else "{}"


def clamp(value: int, high: int = _INT64) -> int:
    """An unsigned number as far as its column can hold it."""
    return value if 0 <= value <= high else (0 if value < 0 else high)


def attributes_of(pairs: Iterable[KeyValue]) -> dict[str, Json]:
    """Attributes as plain JSON values; of a repeated key the last counts."""
    return {pair.key: _plain(pair.value) for pair in pairs}


def _plain(value: AnyValue) -> Json:
    kind = value.WhichOneof("value")
    if kind == "string_value":
        return value.string_value
    if kind == "int_value":
        return value.int_value
    if kind == "double_value":
        number = value.double_value
        return number if math.isfinite(number) else str(number)  # JSON has no NaN
    if kind == "bool_value":
        return value.bool_value
    if kind == "array_value":
        return [_plain(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return attributes_of(value.kvlist_value.values)
    return value.bytes_value.hex() if kind == "bytes_value" else None


def resource_of(resource: Resource) -> tuple[str, dict[str, Json]]:
    """(`service.name`, the attributes kept on every row); OpenTelemetry's `unknown_service` when it has no name."""
    attributes = attributes_of(resource.attributes)
    name = attributes.get("service.name")
    return str(name) if name else "unknown_service", {key: attributes[key] for key in _KEPT_OF_RESOURCE if key in attributes}


def span_rows(request: ExportTraceServiceRequest) -> Iterator[Row]:
    """Rows of SPANS."""
    for group in request.resource_spans:
        service, kept = resource_of(group.resource)
        for scope in group.scope_spans:
            for span in scope.spans:
                yield _span_row(span, service, kept)


def _span_row(span: Span, service: str, kept: dict[str, Json]) -> Row:
    attributes = kept | attributes_of(span.attributes)
    kind = _KINDS[span.kind] if 0 <= span.kind < len(_KINDS) else "internal"
    code = span.status.code
    if span.events:
        attributes["events"] = [{"name": e.name, "time_unix_nano": e.time_unix_nano, **attributes_of(e.attributes)} for e in span.events]
    if span.links:
        attributes["links"] = [{"trace_id": link.trace_id.hex(), "span_id": link.span_id.hex()} for link in span.links]
    return (
        clamp(span.start_time_unix_nano),
        clamp(span.end_time_unix_nano),
        service,
        span.trace_id.hex() or None,
        span.span_id.hex() or None,
        span.parent_span_id.hex() or None,
        span.name,
        kind,
        _STATUS[code] if 0 <= code < len(_STATUS) else "unset",
        span.status.message or None,
        _peer(attributes) if kind in _PEER_KINDS else None,
        _http_status(attributes),
        _error_type(attributes),
        compact_json(attributes),
    )


def _peer(attributes: dict[str, Json]) -> str | None:
    return next((str(attributes[key]) for key in _PEER_KEYS if key in attributes), None)


def _http_status(attributes: dict[str, Json]) -> int | None:
    status = attributes.get("http.response.status_code", attributes.get("http.status_code"))
    return status if isinstance(status, int) and 100 <= status <= 999 else None


def _error_type(attributes: dict[str, Json]) -> str | None:
    """`error.type`, or the type of the last recorded exception."""
    named = attributes.get("error.type")
    if named is None and isinstance(events := attributes.get("events"), list):
        named = next((e["exception.type"] for e in reversed(events) if isinstance(e, dict) and "exception.type" in e), None)
    return None if named is None else str(named)


def log_rows(request: ExportLogsServiceRequest) -> Iterator[Row]:
    """Rows of LOGS."""
    for group in request.resource_logs:
        service, kept = resource_of(group.resource)
        for scope in group.scope_logs:
            for record in scope.log_records:
                yield _log_row(record, service, kept)


def _log_row(record: LogRecord, service: str, kept: dict[str, Json]) -> Row:
    body = _plain(record.body)
    return (
        clamp(record.time_unix_nano or record.observed_time_unix_nano),
        service,
        clamp(record.severity_number, 24),
        record.severity_text or None,
        body if isinstance(body, str) else "" if body is None else _encode(body),
        record.trace_id.hex() or None,
        record.span_id.hex() or None,
        compact_json(kept | attributes_of(record.attributes)),
    )
