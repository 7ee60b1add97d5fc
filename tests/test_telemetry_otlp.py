"""The OTLP receiver against a real exporter, plain HTTP and random bodies."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
from collections.abc import AsyncIterator
from typing import Any, TypeVar

import aiohttp
import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import SpanKind

from chaosgym.errors import InfrastructureError, InputError
from chaosgym.telemetry.decode import log_rows, span_rows
from chaosgym.telemetry.decode_metrics import MetricDecoder
from chaosgym.telemetry.otlp import MAX_BODY, Receiver, parse_body
from chaosgym.telemetry.store import TelemetryBuffer

T0 = 1_795_000_000_000_000_000
PROTOBUF = {"Content-Type": "application/x-protobuf"}
JSON_SPAN: dict[str, Any] = {
    "resourceSpans": [{
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "cart"}}]},
        "scopeSpans": [{"spans": [{
            "traceId": "5B8EFFF798038103D269B633813FC60C", "spanId": "eee19b7ec3c1b174", "name": "GET /", "kind": 3,
            "startTimeUnixNano": str(T0), "endTimeUnixNano": str(T0 + 5), "status": {"code": 2, "message": "refused"}, "unheardOf": 1,
            "attributes": [
                {"key": "http.response.status_code", "value": {"intValue": "502"}},
                {"key": "server.address", "value": {"stringValue": "db.local"}},
            ],
        }]}],
    }]
}  # fmt: skip


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    running = Receiver(TelemetryBuffer())
    await running.start()
    yield running
    await running.stop()


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def trace_request() -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    group.resource.attributes.add(key="service.name").value.string_value = "cart"
    group.resource.attributes.add(key="service.version").value.string_value = "1.2.3"
    span = group.scope_spans.add().spans.add(trace_id=b"\x01" * 16, span_id=b"\x02" * 8, name="work", kind=Span.SPAN_KIND_SERVER)
    span.start_time_unix_nano, span.end_time_unix_nano = T0, T0 + 7
    span.status.CopyFrom(Status(code=Status.STATUS_CODE_ERROR))
    event = span.events.add(name="exception", time_unix_nano=T0 + 1)
    event.attributes.add(key="exception.type").value.string_value = "KeyError"
    span.links.add(trace_id=b"\x03" * 16, span_id=b"\x04" * 8)
    return request


async def test_spans_of_the_real_exporter_arrive(receiver: Receiver) -> None:
    provider = TracerProvider(resource=Resource.create({"service.name": "orders", "service.version": "2.0.1"}))
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(receiver.endpoint + "/v1/traces")))
    tracer = provider.get_tracer("test")

    def work() -> None:
        with tracer.start_as_current_span("outer", kind=SpanKind.SERVER), tracer.start_as_current_span("inner"):
            pass
        provider.shutdown()

    await asyncio.to_thread(work)
    inner, outer = receiver.buffer.spans
    assert (inner[2], inner[6], inner[7], outer[7], outer[5]) == ("orders", "inner", "internal", "server", None)
    assert (inner[3], inner[5]) == (outer[3], outer[4])
    assert json.loads(inner[13])["service.version"] == "2.0.1"


async def test_protobuf_and_gzip(receiver: Receiver, client: aiohttp.ClientSession) -> None:
    body = trace_request().SerializeToString()
    for data, headers in ((body, PROTOBUF), (gzip.compress(body), PROTOBUF | {"Content-Encoding": "gzip"})):
        async with client.post(receiver.endpoint + "/v1/traces", data=data, headers=headers) as response:
            assert (response.status, await response.read(), response.content_type) == (200, b"", "application/x-protobuf")
    first, second = receiver.buffer.spans
    assert first == second
    assert first[:13] == (T0, T0 + 7, "cart", "01" * 16, "02" * 8, None, "work", "server", "error", None, None, None, "KeyError")
    attributes = json.loads(first[13])
    assert attributes["events"] == [{"name": "exception", "time_unix_nano": T0 + 1, "exception.type": "KeyError"}]
    assert attributes["links"] == [{"trace_id": "03" * 16, "span_id": "04" * 8}]


async def test_json_has_hex_ids(receiver: Receiver, client: aiohttp.ClientSession) -> None:
    async with client.post(receiver.endpoint + "/v1/traces", json=JSON_SPAN) as response:
        assert (response.status, await response.json()) == (200, {})
    row = receiver.buffer.spans[0]
    assert row[3:5] == ("5b8efff798038103d269b633813fc60c", "eee19b7ec3c1b174")
    assert row[7:12] == ("client", "error", "refused", "db.local", 502)


async def test_logs_and_metrics_have_their_paths(receiver: Receiver, client: aiohttp.ClientSession) -> None:
    record = {"timeUnixNano": str(T0), "severityNumber": 17, "severityText": "ERROR", "body": {"stringValue": "no"}, "traceId": "0a" * 16}
    logs = {"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}
    point = {"timeUnixNano": str(T0), "asDouble": 2.5}
    metrics = {"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"name": "g", "unit": "By", "gauge": {"dataPoints": [point]}}]}]}]}
    for path, body in (("/v1/logs", logs), ("/v1/metrics", metrics)):
        async with client.post(receiver.endpoint + path, json=body) as response:
            assert response.status == 200
    assert receiver.buffer.logs == [(T0, "unknown_service", 17, "ERROR", "no", "0a" * 16, None, "{}")]
    assert receiver.buffer.metrics == [(T0, 0, "unknown_service", "g", "By", "gauge", 2.5, None, None, None, "{}")]
    assert receiver.buffer.tables()["metrics"].num_rows == 1


@pytest.mark.parametrize(
    ("body", "headers", "status", "words"),
    [
        (b"\xff\xff\xff", PROTOBUF, 400, b"not a protobuf ExportTraceServiceRequest"),
        (b"{", {"Content-Type": "application/json"}, 400, b"OTLP JSON"),
        (b"[]", {"Content-Type": "application/json"}, 400, b"JSON list"),
        (b'{"resourceSpans": 7}', {"Content-Type": "application/json"}, 400, b"OTLP JSON"),
        (b'{"traceId": "xyz"}', {"Content-Type": "application/json"}, 400, b"not a string of hex digits"),
        (b"[" * 100_000, {"Content-Type": "application/json"}, 400, b"OTLP JSON"),
        (b"hello", {"Content-Type": "text/plain"}, 415, b"text/plain"),
        (b"not gzip", PROTOBUF | {"Content-Encoding": "gzip"}, 400, b"is not gzip"),
        (gzip.compress(b"cut short")[:-9], PROTOBUF | {"Content-Encoding": "gzip"}, 400, b"truncated gzip"),
        (b"", PROTOBUF | {"Content-Encoding": "br"}, 400, b"'br' is not spoken"),
        (gzip.compress(b"\0" * (MAX_BODY + 1)), PROTOBUF | {"Content-Encoding": "gzip"}, 413, b"larger than"),
    ],
)  # fmt: skip
async def test_bad_bodies_are_refused_and_the_receiver_goes_on(
    receiver: Receiver, client: aiohttp.ClientSession, body: bytes, headers: dict[str, str], status: int, words: bytes
) -> None:
    async with client.post(receiver.endpoint + "/v1/traces", data=body, headers=headers) as response:
        assert response.status == status
        assert words in await response.read()
    async with client.post(receiver.endpoint + "/v1/traces", data=trace_request().SerializeToString(), headers=PROTOBUF) as response:
        assert response.status == 200
    assert len(receiver.buffer.spans) == 1


async def test_other_paths_and_methods(receiver: Receiver, client: aiohttp.ClientSession) -> None:
    async with client.get(receiver.endpoint + "/v1/traces") as response:
        assert response.status == 405
    async with client.post(receiver.endpoint + "/v2/traces", data=b"") as response:
        assert response.status == 404


async def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InfrastructureError, match=f"127.0.0.1:{port}: the port is in use"):
            await Receiver(TelemetryBuffer()).start(port=port)


async def test_stop_frees_the_port_and_may_be_repeated(receiver: Receiver) -> None:
    port = int(receiver.endpoint.rsplit(":", 1)[1])
    await receiver.stop()
    await receiver.stop()
    with pytest.raises(InfrastructureError, match="not running"):
        _ = receiver.endpoint
    await receiver.start(port=port)
    assert receiver.endpoint.endswith(f":{port}")


def metric_request(shape: str, points: list[dict[str, Any]], **data: Any) -> ExportMetricsServiceRequest:
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="m", unit="s")
    getattr(metric, shape).SetInParent()
    for key, value in data.items():
        setattr(getattr(metric, shape), key, value)
    for point in points:
        getattr(metric, shape).data_points.add(time_unix_nano=T0, **point)
    return request


def measured(request: ExportMetricsServiceRequest, decoder: MetricDecoder | None = None) -> list[tuple[Any, ...]]:
    return [row[5:10] for row in (decoder or MetricDecoder()).rows(request)]


def test_metric_types_have_one_meaning() -> None:
    cumulative = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
    counter = metric_request("sum", [{"as_int": 3}], is_monotonic=True, aggregation_temporality=cumulative)
    level = metric_request("sum", [{"as_int": -3}], is_monotonic=False, aggregation_temporality=cumulative)
    histogram = metric_request("histogram", [{"sum": 1.5, "count": 3, "explicit_bounds": [1.0], "bucket_counts": [2, 1]}])
    assert measured(counter) == [("sum", 3.0, None, None, None)]
    assert measured(level) == [("gauge", -3.0, None, None, None)]
    assert measured(histogram) == [("histogram", 1.5, 3, [1.0], [2, 1])]
    assert measured(metric_request("summary", [{"sum": 4.0, "count": 2}])) == [("histogram", 4.0, 2, None, None)]


def test_deltas_add_up() -> None:
    delta = AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA
    decoder = MetricDecoder()
    counter = metric_request("sum", [{"as_int": 3}], is_monotonic=True, aggregation_temporality=delta)
    assert [measured(counter, decoder)[0][1] for _ in range(3)] == [3.0, 6.0, 9.0]
    histogram = metric_request(
        "histogram", [{"sum": 1.5, "count": 3, "explicit_bounds": [1.0], "bucket_counts": [2, 1]}], aggregation_temporality=delta
    )
    decoder = MetricDecoder()
    measured(histogram, decoder)
    assert measured(histogram, decoder) == [("histogram", 3.0, 6, [1.0], [4, 2])]


def test_exponential_buckets_become_bounds() -> None:
    request = metric_request("exponential_histogram", [{"sum": 9.0, "count": 4, "scale": 0, "zero_count": 1}])
    point = request.resource_metrics[0].scope_metrics[0].metrics[0].exponential_histogram.data_points[0]
    point.positive.offset = 1
    point.positive.bucket_counts.extend([2, 1])
    assert measured(request) == [("histogram", 9.0, 4, [2.0, 4.0, 8.0], [1, 2, 1, 0])]  # (2,4] and (4,8] at scale 0


ATTRIBUTES = st.dictionaries(
    st.sampled_from(["service.name", "error.type", "http.response.status_code", "server.address", "x"]),
    st.one_of(st.text(max_size=5), st.integers(-(2**63), 2**63 - 1), st.floats(), st.booleans(), st.binary(max_size=4), st.none()),
)
UINT64, INT32 = st.integers(0, 2**64 - 1), st.integers(-(2**31), 2**31 - 1)


def put_attributes(owner: Any, attributes: dict[str, Any]) -> None:
    fields = {str: "string_value", bool: "bool_value", int: "int_value", float: "double_value", bytes: "bytes_value"}
    for key, value in attributes.items():
        pair = owner.attributes.add(key=key)
        if value is not None:
            setattr(pair.value, fields[type(value)], value)


@given(attributes=ATTRIBUTES, time=UINT64, number=INT32, ids=st.binary(max_size=20))
def test_any_span_and_log_becomes_a_row_of_the_schema(attributes: dict[str, Any], time: int, number: int, ids: bytes) -> None:
    traces, logs = ExportTraceServiceRequest(), ExportLogsServiceRequest()
    group = traces.resource_spans.add()
    put_attributes(group.resource, attributes)
    span = group.scope_spans.add().spans.add(trace_id=ids, start_time_unix_nano=time, end_time_unix_nano=time)
    span.kind = number  # pyright: ignore[reportAttributeAccessIssue] - open enumeration
    span.status.code = number  # pyright: ignore[reportAttributeAccessIssue]
    put_attributes(span, attributes)
    put_attributes(span.events.add(time_unix_nano=time), attributes)
    record = logs.resource_logs.add().scope_logs.add().log_records.add(time_unix_nano=time, trace_id=ids)
    record.severity_number = number  # pyright: ignore[reportAttributeAccessIssue]
    put_attributes(record, attributes)
    tables = TelemetryBuffer(spans=list(span_rows(traces)), logs=list(log_rows(logs))).tables()
    assert (tables["spans"].num_rows, tables["logs"].num_rows) == (1, 1)
    json.loads(tables["spans"].column("attributes")[0].as_py(), parse_constant=pytest.fail)


@given(
    scale=INT32,
    offset=INT32,
    counts=st.lists(UINT64, max_size=5),
    total=UINT64,
    value=st.floats(),
    bounds=st.lists(st.floats(), max_size=4),
)
def test_any_metric_becomes_rows_of_the_schema(
    scale: int, offset: int, counts: list[int], total: int, value: float, bounds: list[float]
) -> None:
    delta = AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA
    summed = {"count": total, "scale": scale, "zero_count": total}
    exponential = metric_request("exponential_histogram", [summed], aggregation_temporality=delta)
    point = exponential.resource_metrics[0].scope_metrics[0].metrics[0].exponential_histogram.data_points[0]
    point.positive.offset = offset
    point.positive.bucket_counts.extend(counts)
    explicit = metric_request(
        "histogram", [{"sum": value, "count": total, "explicit_bounds": bounds, "bucket_counts": counts}] * 2, aggregation_temporality=delta
    )
    decoder = MetricDecoder()
    rows = [row for request in (exponential, explicit, metric_request("sum", [{"as_double": value}])) for row in decoder.rows(request)]
    assert TelemetryBuffer(metrics=rows).tables()["metrics"].num_rows == 4


def json_values() -> st.SearchStrategy[Any]:
    keys = st.sampled_from(["resourceSpans", "scopeSpans", "spans", "traceId", "attributes", "key", "value", "stringValue", "kind"])
    leaves = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=6))
    return st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4), max_leaves=12)


M = TypeVar("M", bound=Message)


def accepted(body: bytes, content_type: str, message: type[M]) -> M:
    """The message, an empty one where the body is refused; any other exception fails the test."""
    try:
        return parse_body(body, content_type, message)
    except InputError:
        return message()


@given(st.one_of(json_values().map(lambda value: json.dumps(value).encode()), st.binary(max_size=60), st.text().map(str.encode)))
def test_any_json_body_is_read_or_refused(body: bytes) -> None:
    message = accepted(body, "application/json", ExportTraceServiceRequest)
    spans = sum(len(scope.spans) for group in message.resource_spans for scope in group.scope_spans)
    assert TelemetryBuffer(spans=list(span_rows(message))).tables()["spans"].num_rows == spans


@given(st.binary(max_size=200))
def test_any_protobuf_body_is_read_or_refused(body: bytes) -> None:
    message = accepted(body, "application/x-protobuf", ExportLogsServiceRequest)
    records = sum(len(scope.log_records) for group in message.resource_logs for scope in group.scope_logs)
    assert TelemetryBuffer(logs=list(log_rows(message))).tables()["logs"].num_rows == records


@given(position=st.integers(0, 400), byte=st.integers(0, 255))
def test_a_damaged_protobuf_body_is_read_or_refused(position: int, byte: int) -> None:
    body = bytearray(trace_request().SerializeToString())
    body[position % len(body)] = byte
    message = accepted(bytes(body), "application/x-protobuf", ExportTraceServiceRequest)
    assert TelemetryBuffer(spans=list(span_rows(message))).tables()["spans"].num_rows <= 1


def test_a_body_of_json_surrogates_is_refused() -> None:
    body = b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"\\ud800"}]}]}]}'
    message = accepted(body, "application/json", ExportTraceServiceRequest)
    assert TelemetryBuffer(spans=list(span_rows(message))).tables()["spans"].num_rows <= 1
