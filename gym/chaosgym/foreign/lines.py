"""What containers of other people write, line by line, each with the time that the engine heard it.

Nobody told us a format, so every line is tried as each of the known ones; what is none of them is text, in which a word such as
`ERROR` is looked for. The engine's clock counts, not that of the line, whose time zone is anybody's guess.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from chaosgym.telemetry.decode import Json, compact_json
from chaosgym.telemetry.log_styles import STYLES, Head, severity_number
from chaosgym.telemetry.logs import MAX_BODY
from chaosgym.telemetry.store import Row

__all__ = ["parse_lines", "stamped"]

_STYLES = ("json", "logfmt", "postgres", "redis", "plain")
"""From the particular to the general."""
_NGINX = re.compile(r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[(\w+)\] \d+#\d+: (?:\*\d+ )?(.*)")
_ACCESS = re.compile(r'\S+ \S+ \S+ \[[^\]]{10,40}\] ("[^"]*" (\d{3}) .*)')
_WORD = re.compile(r"\b(TRACE|DEBUG|INFO|NOTICE|WARN(?:ING)?|ERR(?:OR)?|CRIT(?:ICAL)?|FATAL|PANIC)\b")
_FATAL = re.compile(r"^(?:panic: |Traceback \(most recent call last\):|Fatal |fatal error: |Unhandled exception)")
_EXCEPTION = re.compile(r"^(?:Caused by: |[\w.]*(?:Error|Exception|Exit|Interrupt)\b)")


def stamped(text: str) -> Iterator[tuple[int, str]]:
    """(Unix nanoseconds, line) of what an engine gives when it is asked for time stamps."""
    for line in text.splitlines():
        stamp, _, rest = line.partition(" ")
        whole, _, fraction = stamp.rstrip("Z").partition(".")
        try:
            seconds = int(datetime.fromisoformat(f"{whole}+00:00").timestamp())
        except ValueError:  # a line that the engine has broken in two
            continue
        yield seconds * 10**9 + int((re.sub(r"\D.*", "", fraction) or "0").ljust(9, "0")[:9]), rest


@dataclass
class _Record:
    time: int
    head: Head
    more: list[str] = field(default_factory=list[str])


def parse_lines(lines: Iterable[tuple[int, str]], service_name: str) -> list[Row]:
    """Rows of LOGS; tracebacks and the like stay with the line that announced them."""
    records: list[_Record] = []
    for time, line in lines:
        line = line.rstrip()
        head = _head(line)
        if records and _goes_on(records[-1], head, line):
            records[-1].more.append(line if head is None else head.body)
        elif line.strip():
            records.append(_Record(time, head or _text(line)))
    return [_row(record, service_name) for record in records]


def _head(line: str) -> Head | None:
    if found := _NGINX.match(line):
        return Head(None, found[1].upper(), found[2])
    if found := _ACCESS.match(line):
        return Head(None, "ERROR" if found[2] >= "500" else "INFO", found[1])
    return next((head for style in _STYLES if (head := STYLES[style](line)) is not None), None)


def _goes_on(record: _Record, head: Head | None, line: str) -> bool:
    if head is not None:
        return head.joins
    return not line or line[0].isspace() or (bool(record.more) and _EXCEPTION.match(line) is not None)


def _text(line: str) -> Head:
    word = _WORD.search(line, 0, 80)
    return Head(None, "ERROR" if _FATAL.match(line) else word[1] if word else "", line)


def _row(record: _Record, service_name: str) -> Row:
    head, body = record.head, "\n".join([record.head.body, *record.more]).rstrip()
    if len(body) > MAX_BODY:
        body = f"{body[: MAX_BODY // 2]}\n...\n{body[-MAX_BODY // 2 :]}"
    attributes: dict[str, Json] = dict(head.attributes)
    texts = (_valid(head.level) or None, _valid(body), head.trace_id, head.span_id)
    return (record.time, service_name, severity_number(head.level), *texts, _valid(compact_json(attributes)))


def _valid(text: str) -> str:
    """Without the lone surrogates that JSON can smuggle in and UTF-8 cannot hold."""
    return text if text.isascii() else text.encode(errors="replace").decode()
