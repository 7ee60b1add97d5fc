"""Spans as rows: who did what for whom, how long it took, and how it failed."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pyarrow as pa

from chaosgym.episode import EpisodeHeader
from chaosgym.telemetry.failures import failure_kind

__all__ = ["Span", "read_spans"]

_COLUMNS: tuple[str, ...] = (
    "start_time_unix_nano", "end_time_unix_nano", "service_name", "trace_id", "span_id", "parent_span_id", "name", "kind", "status_code",
    "status_message", "server_address", "http_status_code", "error_type", "attributes",
)
_ROUTES = ("http.route", "url.template", "url.path", "messaging.destination.name")
"""Attributes that tell what was asked for, the most general first."""


class Span(NamedTuple):
    """One span."""

    seconds: float
    """When it ended, from the end of the baseline window."""
    took: float
    """Seconds."""
    component: str
    """Who made it; `edge` for users."""
    trace: str
    id: str
    parent: str
    """Id of the span above, or an empty string."""
    name: str
    """With the route, where the span knows one."""
    kind: str
    peer: str
    """Whom it calls, for client and producer spans: the component's name, else the address as it stands."""
    failure: str
    """How it failed: a word of `FAILURE_KINDS` with HTTP status and error type, or an empty string."""


def read_spans(spans: pa.Table, header: EpisodeHeader) -> tuple[Span, ...]:
    """All rows of `spans` (schema SPANS), in its order."""
    names = {component.host: component.name for component in header.components if component.host}
    columns = spans.select(list(_COLUMNS)).to_pydict()
    rows = (dict(zip(_COLUMNS, row, strict=True)) for row in zip(*columns.values(), strict=True))
    return tuple(_span(number, row, header.baseline.end, names) for number, row in enumerate(rows))


def _span(number: int, row: dict[str, Any], zero: int, names: dict[str, str]) -> Span:
    start, end, address = row["start_time_unix_nano"] or 0, row["end_time_unix_nano"] or 0, row["server_address"] or ""
    calls = row["kind"] in ("client", "producer")
    return Span(
        seconds=(end - zero) / 1e9,
        took=max(end - start, 0) / 1e9,
        component=row["service_name"] or "?",
        trace=row["trace_id"] or "",
        id=row["span_id"] or f"row {number}",
        parent=row["parent_span_id"] or "",
        name=_name(row["name"] or "?", row["attributes"] or ""),
        kind=row["kind"] or "",
        peer=names.get(address, address) if calls else "",
        failure=_failure(row),
    )


def _name(name: str, attributes: str) -> str:
    """A client span is often named by its method alone; its route stands among the attributes."""
    if "/" in name or not any(route in attributes for route in _ROUTES):
        return name
    try:
        known = json.loads(attributes)
    except ValueError:
        return name
    route = next((str(known[key]) for key in _ROUTES if key in known), "") if isinstance(known, dict) else ""
    return f"{name} {route}".strip()


def _failure(row: dict[str, Any]) -> str:
    status, error = row["http_status_code"], row["error_type"] or ""
    if row["status_code"] != "error" and (status or 0) < 500:
        return ""
    kind = failure_kind(" ".join(str(part) for part in (error, row["status_message"], status) if part is not None))
    details = dict.fromkeys(str(part) for part in (status, error) if part)
    return " ".join([kind, *details])
