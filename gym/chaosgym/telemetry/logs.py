"""Log files -> rows of LOGS.

A record is the line that starts it and all lines up to the next start, so a traceback stays with the message that
announced it; its exception is also given as `exception.type` and `exception.message`. A traceback that nobody
announced (an uncaught exception on stderr) is an ERROR record of its own. Any bytes are read without an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from chaosgym.errors import InputError, did_you_mean
from chaosgym.telemetry.decode import compact_json
from chaosgym.telemetry.log_styles import STYLES, Head, severity_number
from chaosgym.telemetry.store import Row

__all__ = ["MAX_BODY", "parse_log"]

MAX_BODY = 8192
"""Characters kept of a record: its first and its last half, where a traceback says what happened."""

_ERROR = 17
_UNANNOUNCED = ("Traceback (most recent call last):", "Fatal Python error:")
_EXCEPTION = re.compile(r"^([A-Za-z_][\w.]*)(?:: (.*))?$", re.MULTILINE)


def parse_log(text: str | bytes, service_name: str, style: str, fallback_ns: int = 0) -> list[Row]:
    """Rows of LOGS from the text of a log in one of the STYLES, in the order of the file.

    A record without a time gets that of the one before it (the first: of the one after; where no record has one:
    `fallback_ns`). Raises InputError on an unknown style, and on nothing else.
    """
    if style not in STYLES:
        raise InputError(f"unknown log style {style!r}{did_you_mean(style, STYLES)}; known: {', '.join(STYLES)}")
    clean = text.decode(errors="replace") if isinstance(text, bytes) else _valid(text)
    heads = list(_records(clean.split("\n"), style))
    time = next((head.time for head in heads if head.time is not None), fallback_ns)
    rows: list[Row] = []
    for head in heads:
        time = time if head.time is None else head.time
        rows.append(_row(head, time, service_name))
    return rows


def _records(lines: Iterable[str], style: str) -> Iterator[Head]:
    """Lines joined to records."""
    read, current, more = STYLES[style], None, list[str]()
    for line in lines:
        line = line.rstrip("\r")
        head = read(line)
        if head is None and line.startswith(_UNANNOUNCED) and _harmless(current):
            head = Head(None, "ERROR", line)
        if head is None or (head.joins and current is not None):
            more.append(line if head is None else head.body)
            continue
        yield from _joined(current, more)
        current, more = head, []
    yield from _joined(current, more)


def _harmless(head: Head | None) -> bool:
    return head is None or severity_number(head.level) < _ERROR


def _joined(head: Head | None, more: list[str]) -> Iterator[Head]:
    """The record with its further lines; lines before any record are one of their own, blank ones nothing."""
    text = "\n".join(more).rstrip()
    if head is not None:
        yield replace(head, body=f"{head.body}\n{text}") if text else head
    elif text:
        yield Head(None, "", text)


def _row(head: Head, time: int, service_name: str) -> Row:
    body, attributes = head.body.removeprefix(f"[{service_name}] ").removeprefix(f"{service_name}: "), dict(head.attributes)
    if "\n" in body and "exception.type" not in attributes:
        attributes |= _exception(body)
    if len(body) > MAX_BODY:
        body = f"{body[: MAX_BODY // 2]}\n...\n{body[-MAX_BODY // 2 :]}"
    number = severity_number(head.level)
    texts = (head.level or None, body, head.trace_id, head.span_id, compact_json(attributes))
    return (time, service_name, number, *(text and _valid(text) for text in texts))


def _valid(text: str) -> str:
    """Without the lone surrogates that JSON can smuggle in and UTF-8 cannot hold."""
    return text if text.isascii() else text.encode(errors="replace").decode()


def _exception(body: str) -> dict[str, str]:
    """Type and message of the last exception of a traceback: the line after its last frame."""
    at = body.rfind("Traceback (most recent call last):")
    if at < 0:
        return {}
    found = _EXCEPTION.search(body, body.find("\n", at) + 1 or len(body))
    return {} if found is None else {"exception.type": found[1], "exception.message": found[2] or ""}
