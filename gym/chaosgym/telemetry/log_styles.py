"""How one line of a log starts a record, for each style of log that is read.

A reader gets one line and returns a Head, or None when the line does not start a record: then it belongs to the one
before. No reader raises, whatever the line holds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from chaosgym.telemetry.decode import Json

__all__ = ["STYLES", "Head", "severity_number"]

_INT64 = 2**63 - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SEVERITIES = {
    "TRACE": 1, "VERBOSE": 5, "DEBUG": 5, "DEBUG1": 5, "DEBUG2": 4, "DEBUG3": 3, "DEBUG4": 2, "DEBUG5": 1,
    "INFO": 9, "INFORMATION": 9, "LOG": 9, "NOTICE": 10, "WARN": 13, "WARNING": 13,
    "ERR": 17, "ERROR": 17, "EXCEPTION": 17, "CRIT": 21, "CRITICAL": 21, "FATAL": 21, "ALERT": 22, "PANIC": 24, "EMERG": 24,
}  # fmt: skip
_TIME_KEYS = ("timestamp", "time", "ts", "@timestamp", "t", "date")
_LEVEL_KEYS = ("level", "severity", "lvl", "levelname", "log.level", "severity_text")
_MESSAGE_KEYS = ("message", "msg", "event", "body")
_STACK_KEYS = ("exception", "exc_info", "stack", "stack_trace", "stacktrace", "traceback", "error.stack_trace", "exception.stacktrace")
_TRACE_KEYS = ("trace_id", "traceId", "trace.id", "traceid", "trace")
_SPAN_KEYS = ("span_id", "spanId", "span.id", "spanid", "span")


@dataclass
class Head:
    """The first line of a record; `time` in Unix ns, None when the line carries none."""

    time: int | None
    level: str
    body: str
    attributes: dict[str, Json] = field(default_factory=dict[str, Json])
    trace_id: str | None = None
    span_id: str | None = None
    joins: bool = False
    """It goes with the record before although it has a time of its own (PostgreSQL's DETAIL)."""


def severity_number(level: str) -> int:
    """OpenTelemetry's number of a level (INFO 9, WARN 13, ERROR 17, FATAL 21); 0 when unknown."""
    return _SEVERITIES.get(level.upper(), 0)


def _iso_time(text: str) -> int | None:
    """Unix ns of an ISO 8601 time; UTC unless it says otherwise."""
    try:
        moment = datetime.fromisoformat(text)
        passed = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH
    except (ValueError, OverflowError):
        return None
    return _in_range((passed.days * 86_400 + passed.seconds) * 10**9 + passed.microseconds * 1000)


def _time_of(value: Any) -> int | None:
    """A time as text, or as seconds, milli-, micro- or nanoseconds since 1970, told apart by size."""
    if isinstance(value, str):
        return _iso_time(value)
    if not isinstance(value, int | float) or not 0 < value < 1e19:
        return None
    scale = next(factor for limit, factor in ((1e11, 10**9), (1e14, 10**6), (1e17, 10**3), (1e19, 1)) if value < limit)
    exact = isinstance(value, int) or scale == 1
    return _in_range(int(value * scale) if exact else round(value * (scale // 1000)) * 1000)  # a float has no more than us


def _in_range(time: int) -> int | None:
    return time if 0 <= time <= _INT64 else None


def _take(fields: dict[str, Any], keys: tuple[str, ...]) -> Any:
    return next((fields.pop(key) for key in keys if key in fields), None)


def _structured(fields: dict[str, Any], line: str) -> Head:
    """A record from named fields; what has no column stays an attribute."""
    rest = dict(fields)
    time, level, message = _time_of(_take(rest, _TIME_KEYS)), _take(rest, _LEVEL_KEYS), _take(rest, _MESSAGE_KEYS)
    trace_id, span_id, stack = _take(rest, _TRACE_KEYS), _take(rest, _SPAN_KEYS), _take(rest, _STACK_KEYS)
    body = line if message is None else message if isinstance(message, str) else json.dumps(message)
    if isinstance(stack, str) and stack.strip():
        body = f"{body}\n{stack}"
    elif stack is not None:
        rest["exception"] = stack
    return Head(time, str(level or ""), body, rest, _id(trace_id), _id(span_id))


def _id(value: Any) -> str | None:
    return value if isinstance(value, str) and value and value.strip("0") else None


_decode = json.JSONDecoder(parse_constant=str).decode  # NaN is no JSON: it stays text


def _read_json(line: str) -> Head | None:
    if not line.startswith("{"):
        return None
    try:
        fields = _decode(line)
    except (ValueError, RecursionError):
        return None
    return _structured(fields, line) if isinstance(fields, dict) else None


_PAIR = re.compile(r'([A-Za-z_@][\w.@/-]*)=(?:"((?:[^"\\]|\\.)*)"|([^\s"]*))(?=\s|$)')
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


def _read_logfmt(line: str) -> Head | None:
    if not _PAIR.match(line):
        return None
    fields = {key: _unescape(quoted) if quoted else bare for key, quoted, bare in _PAIR.findall(line)}
    started = any(key in fields for key in _TIME_KEYS) and any(key in fields for key in _LEVEL_KEYS + _MESSAGE_KEYS)
    return _structured(fields, line) if started else None


def _unescape(text: str) -> str:
    return _ESCAPE.sub(lambda match: _ESCAPES.get(match[1], match[1]), text)


_PLAIN = re.compile(r"\[?(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?)(Z|[+-]\d\d:?\d\d| UTC)?\]?\s+")
_LEVEL = re.compile(rf"[\[(<|]?\s*({'|'.join(sorted(_SEVERITIES, key=len, reverse=True))})\b\s*[\])>|:]*\s*[-:|]?\s*", re.IGNORECASE)
_LATER_LEVEL = re.compile(r"\b(TRACE|DEBUG|INFO|NOTICE|WARN(?:ING)?|ERROR|CRITICAL|FATAL)\b")
_PROCESS = re.compile(r"\[(\d{1,9})\]\s*")
_TRACE = re.compile(r"\btrace(?:_?id)?[=:]\s*([0-9a-f]{32})\b")


def _read_plain(line: str) -> Head | None:
    start = _PLAIN.match(line)
    if start is None:
        return None
    zone = (start[2] or "").strip().replace("UTC", "Z")
    time, rest = _iso_time(start[1].replace(",", ".") + zone), line[start.end() :]
    trace = _TRACE.search(rest)
    trace_id, rest = (trace[1], rest[: trace.start()].rstrip() + rest[trace.end() :]) if trace else (None, rest)
    attributes: dict[str, Json] = {}
    if process := _PROCESS.match(rest):
        attributes["process.pid"], rest = int(process[1]), rest[process.end() :]
    if level := _LEVEL.match(rest):
        return Head(time, level[1], rest[level.end() :], attributes, trace_id)
    later = _LATER_LEVEL.search(rest, 0, 80)  # after a logger's or thread's name
    return Head(time, later[1] if later else "", rest, attributes, trace_id)


_POSTGRES = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}) (\S+) \[(\d+)\] (?:(\S+) )??([A-Z]+\d?):  (.*)", re.DOTALL)
_POSTGRES_MORE = frozenset(("DETAIL", "HINT", "QUERY", "CONTEXT", "STATEMENT", "LOCATION", "BACKTRACE"))


def _read_postgres(line: str) -> Head | None:
    """log_line_prefix '%m [%p] ' (a user or application after it is let pass), log_timezone UTC."""
    start = _POSTGRES.match(line)
    if start is None:
        return None
    word, attributes = start[5], {"process.pid": int(start[3]) if len(start[3]) < 10 else start[3]}
    if word in _POSTGRES_MORE:
        return Head(_iso_time(start[1]), "", f"{word}:  {start[6]}", attributes, joins=True)
    return Head(_iso_time(start[1]), word, start[6], attributes)


_REDIS = re.compile(r"(\d+):([A-Z]) (\d\d) ([A-Z][a-z]{2}) (\d{4}) (\d\d:\d\d:\d\d\.\d{3}) ([.\-*#]) (.*)", re.DOTALL)
_REDIS_LEVELS = {".": "DEBUG", "-": "VERBOSE", "*": "NOTICE", "#": "WARNING"}
_MONTHS = {month: n for n, month in enumerate(("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), 1)}


def _read_redis(line: str) -> Head | None:
    """The format of redis-server, its clock in UTC."""
    start = _REDIS.match(line)
    if start is None or start[4] not in _MONTHS:
        return None
    time = _iso_time(f"{start[5]}-{_MONTHS[start[4]]:02d}-{start[3]}T{start[6]}")
    attributes: dict[str, Json] = {"process.pid": int(start[1]) if len(start[1]) < 10 else start[1]}
    return Head(time, _REDIS_LEVELS[start[7]], start[8], attributes)


STYLES: Mapping[str, Callable[[str], Head | None]] = {
    "json": _read_json,
    "logfmt": _read_logfmt,
    "plain": _read_plain,
    "postgres": _read_postgres,
    "redis": _read_redis,
}
"""Reader by the name of the style."""
