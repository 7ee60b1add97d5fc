"""An OTLP/HTTP receiver: instrumented programs post here, rows land in a TelemetryBuffer.

    receiver = Receiver(TelemetryBuffer())
    await receiver.start(port=4318)         # then run your program with OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318
    ...
    await receiver.stop()
    tables = receiver.buffer.tables()

It speaks POST /v1/traces, /v1/metrics and /v1/logs in protobuf and JSON, plain or gzipped, as the OTLP 1
specification says: ids are hex in JSON, an error's body is a google.rpc.Status.
"""

from __future__ import annotations

import base64
import binascii
import errno
import json
import zlib
from collections.abc import Callable
from typing import Any, TypeVar

from aiohttp import web
from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from chaosgym.errors import InfrastructureError, InputError
from chaosgym.telemetry.decode import log_rows, span_rows
from chaosgym.telemetry.decode_metrics import MetricDecoder
from chaosgym.telemetry.store import TelemetryBuffer

__all__ = ["MAX_BODY", "Receiver", "parse_body"]

MAX_BODY = 16 * 2**20
"""Bytes of a request after decompression."""

_PROTOBUF, _JSON = "application/x-protobuf", "application/json"
_ID_KEYS = frozenset(("traceId", "spanId", "parentSpanId", "trace_id", "span_id", "parent_span_id"))


M = TypeVar("M", bound=Message)


def parse_body(body: bytes, content_type: str, message: type[M]) -> M:
    """Parse a request body (`application/x-protobuf` or `application/json`); InputError says what is malformed."""
    if content_type == _JSON:
        return _parse_json(body, message)
    try:
        return message.FromString(body)
    except DecodeError as error:
        raise InputError(f"the body ({len(body)} bytes) is not a protobuf {message.DESCRIPTOR.name}: {error}") from error


def _parse_json(body: bytes, message: type[M]) -> M:
    try:
        document = json.loads(body)
        if not isinstance(document, dict):
            raise InputError(f"the body is a JSON {type(document).__name__}, not a {message.DESCRIPTOR.name} object")
        return json_format.ParseDict(_with_base64_ids(document), message(), ignore_unknown_fields=True)
    except (ValueError, RecursionError, json_format.ParseError) as error:
        raise InputError(f"the body ({len(body)} bytes) is not a {message.DESCRIPTOR.name} in OTLP JSON: {error}") from error


def _with_base64_ids(value: Any) -> Any:
    """OTLP writes ids as hex where protobuf's JSON mapping expects base64; no other key of OTLP has these names."""
    if isinstance(value, list):
        return [_with_base64_ids(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {key: _hex_to_base64(key, item) if key in _ID_KEYS else _with_base64_ids(item) for key, item in value.items()}


def _hex_to_base64(key: str, text: Any) -> str:
    try:
        return base64.b64encode(binascii.unhexlify(text)).decode()
    except (TypeError, ValueError) as error:
        raise InputError(f"{key} is {text!r}, not a string of hex digits") from error


class Receiver:
    """See the module docstring. `buffer` may be replaced between episodes."""

    def __init__(self, buffer: TelemetryBuffer) -> None:
        self.buffer = buffer
        self._metrics = MetricDecoder()
        self._runner: web.AppRunner | None = None
        self._endpoint = ""

    @property
    def endpoint(self) -> str:
        """Base URL for OTEL_EXPORTER_OTLP_ENDPOINT; InfrastructureError before `start`."""
        if not self._endpoint:
            raise InfrastructureError("the OTLP receiver is not running: await start() first")
        return self._endpoint

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen; port 0 takes a free one. InfrastructureError when the address cannot be had."""
        app = web.Application(client_max_size=MAX_BODY)
        app.router.add_post("/v1/traces", self._traces)
        app.router.add_post("/v1/metrics", self._metric_points)
        app.router.add_post("/v1/logs", self._logs)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2, auto_decompress=False)
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            await runner.cleanup()
            raise _bind_failure(host, port, error) from error
        self._runner, self._endpoint = runner, f"http://{host}:{runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Stop listening and close what is open; does nothing when not running."""
        runner, self._runner, self._endpoint = self._runner, None, ""
        if runner is not None:
            await runner.cleanup()

    async def _traces(self, request: web.Request) -> web.Response:
        return await _receive(request, ExportTraceServiceRequest, lambda message: self.buffer.spans.extend(span_rows(message)))

    async def _metric_points(self, request: web.Request) -> web.Response:
        return await _receive(request, ExportMetricsServiceRequest, lambda message: self.buffer.metrics.extend(self._metrics.rows(message)))

    async def _logs(self, request: web.Request) -> web.Response:
        return await _receive(request, ExportLogsServiceRequest, lambda message: self.buffer.logs.extend(log_rows(message)))


async def _receive(request: web.Request, message: type[M], keep: Callable[[M], None]) -> web.Response:
    """Parse, keep, and answer with the empty success response in the sender's encoding."""
    kind = request.content_type
    if kind not in (_PROTOBUF, _JSON):
        return _refusal(415, f"content type {kind!r} is not spoken here; send {_PROTOBUF} or {_JSON}", _PROTOBUF)
    try:
        body = _decompressed(await request.read(), request.headers.get("Content-Encoding", "identity"))
        keep(parse_body(body, kind, message))
    except web.HTTPRequestEntityTooLarge:
        return _refusal(413, f"the body is larger than {MAX_BODY} bytes; send smaller batches", kind)
    except InputError as error:
        return _refusal(400, str(error), kind)
    return web.Response(body=b"{}" if kind == _JSON else b"", content_type=kind)


def _decompressed(body: bytes, encoding: str) -> bytes:
    """The body in clear. Ours, not aiohttp's, which drops the connection on a damaged body instead of answering."""
    if encoding.lower() == "identity":
        return body
    if encoding.lower() not in ("gzip", "deflate"):
        raise InputError(f"content encoding {encoding!r} is not spoken here; send gzip or nothing")
    stream = zlib.decompressobj(zlib.MAX_WBITS | 32)  # 32: either header, gzip's or zlib's
    try:
        clear = stream.decompress(body, MAX_BODY + 1)
    except zlib.error as error:
        raise InputError(f"the body ({len(body)} bytes) is not {encoding}: {error}") from error
    if len(clear) > MAX_BODY:
        raise web.HTTPRequestEntityTooLarge(max_size=MAX_BODY, actual_size=len(clear))
    if not stream.eof:
        raise InputError(f"the body ({len(body)} bytes) is truncated {encoding}")
    return clear


def _refusal(status: int, text: str, kind: str) -> web.Response:
    """google.rpc.Status with code 3 (INVALID_ARGUMENT); its protobuf form is short enough to write by hand."""
    text = text[:1000]
    if kind == _JSON:
        return web.json_response({"code": 3, "message": text}, status=status)
    encoded = text.encode()
    return web.Response(status=status, body=b"\x08\x03\x12" + _varint(len(encoded)) + encoded, content_type=_PROTOBUF)


def _varint(number: int) -> bytes:
    """Base 128, least significant group first, as protobuf encodes lengths."""
    groups = bytearray()
    while number > 127:
        groups.append(number & 127 | 128)
        number >>= 7
    return bytes(groups) + bytes([number])


def _bind_failure(host: str, port: int, error: OSError) -> InfrastructureError:
    in_use = error.errno == errno.EADDRINUSE
    reason = "the port is in use; stop its owner or take another (0: any)" if in_use else f"{error.strerror}; take one of this machine"
    return InfrastructureError(f"the OTLP receiver cannot listen on {host}:{port}: {reason}")
