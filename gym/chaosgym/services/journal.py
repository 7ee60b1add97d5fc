"""The log of a service: lines on standard output in one of three styles, worded as this service words them.

Levels, key names and layout are drawn per service, as programs of different teams differ.
"""

from __future__ import annotations

import json
import logging
import os
import random
import re
import time
from collections.abc import Callable
from typing import Any, Literal

from chaosgym.services.phrases import draw_phrases
from chaosgym.services.trace import format_traceback

__all__ = ["Journal", "JournalHandler", "Level", "Trace"]

Level = Literal["DEBUG", "INFO", "WARN", "ERROR"]
Trace = tuple[str, str]
"""Trace id and span id in hex."""

_NO_TRACE: Trace = ("", "")
_BARE = re.compile(r'[^\s"=\\]+')
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"})


class Journal:
    """Writes whole lines with one write each, so that lines of two processes on one file do not mix."""

    def __init__(self, name: str, style: str, seed: int, *, descriptor: int = 1) -> None:
        draw = random.Random(f"journal:{seed}")
        self._name, self._descriptor = name, descriptor
        self._phrases = draw_phrases(seed)
        self._warn = draw.choice(("WARN", "WARNING"))
        self._lower = style != "plain" and draw.random() < 0.5
        self._keys = draw.choice(
            (("ts", "level", "msg"), ("timestamp", "severity", "message"), ("time", "level", "message"), ("time", "lvl", "msg"))
        )
        self._layout = draw.randrange(4)
        self._access_fields = draw.random() < 0.5
        self._second, self._stamp = -1, ""
        self._write: Callable[[Level, str, dict[str, Any], Trace, str], str] = getattr(self, f"_{style}")

    def log(self, level: Level, event: str, trace: Trace = _NO_TRACE, raised: BaseException | None = None, **fields: Any) -> None:
        """One record: the phrase of `event` filled from `fields`; with `raised` its traceback follows."""
        self.line(level, self._phrases[event].format_map(fields), trace, raised)

    def access(self, method: str, path: str, status: int, seconds: float, trace: Trace) -> None:
        """The line of a served request."""
        ms = f"{seconds * 1000:.1f}"
        text = self._phrases["access"].format(method=method, path=path, status=status, ms=ms)
        fields = {"method": method, "path": path, "status": status, "duration_ms": float(ms)} if self._access_fields else {}
        os.write(self._descriptor, self._write("INFO", text, fields, trace, "").encode())

    def line(self, level: Level, text: str, trace: Trace = _NO_TRACE, raised: BaseException | None = None) -> None:
        """One record with a ready text."""
        stack = format_traceback(raised, self._name) if raised else ""
        os.write(self._descriptor, self._write(level, text, {}, trace, stack).encode(errors="replace"))

    def _level(self, level: Level) -> str:
        word = self._warn if level == "WARN" else level
        return word.lower() if self._lower else word

    def _now(self) -> str:
        """ISO 8601, UTC, milliseconds, without the zone."""
        now = time.time_ns() // 1_000_000
        second, millis = divmod(now, 1000)
        if second != self._second:
            self._second, self._stamp = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._stamp}.{millis:03d}"

    def _json(self, level: Level, text: str, fields: dict[str, Any], trace: Trace, stack: str) -> str:
        when, severity, message = self._keys
        record: dict[str, Any] = {when: self._now() + "Z", severity: self._level(level), "service": self._name, message: text, **fields}
        if trace[0]:
            record["trace_id"], record["span_id"] = trace
        if stack:
            record["exception"] = stack
        return json.dumps(record, ensure_ascii=False) + "\n"

    def _logfmt(self, level: Level, text: str, fields: dict[str, Any], trace: Trace, stack: str) -> str:
        when, severity, message = self._keys
        pairs = {when: self._now() + "Z", severity: self._level(level), message: text, **fields}
        if trace[0]:
            pairs["trace_id"], pairs["span_id"] = trace
        line = " ".join(f"{key}={_quoted(str(value))}" for key, value in pairs.items())
        return f"{line}\n{stack}\n" if stack else f"{line}\n"

    def _plain(self, level: Level, text: str, fields: dict[str, Any], trace: Trace, stack: str) -> str:
        now, word = self._now(), self._level(level)
        head = (
            f"{now}Z {word:<7} [{self._name}] ",
            f"{now.replace('T', ' ').replace('.', ',')} {word} {self._name}: ",
            f"[{now}+00:00] [{os.getpid()}] [{word}] ",
            f"{now.replace('T', ' ')} [{word}] ",
        )[self._layout]
        known = f" trace_id={trace[0]}" if trace[0] else ""
        return f"{head}{text}{known}\n{stack}\n" if stack else f"{head}{text}{known}\n"


def _quoted(text: str) -> str:
    return text if _BARE.fullmatch(text) else f'"{text.translate(_ESCAPES)}"'


class JournalHandler(logging.Handler):
    """What libraries log (asyncio, aiohttp, asyncpg) in the service's own style."""

    def __init__(self, journal: Journal) -> None:
        super().__init__(logging.WARNING)
        self._journal = journal

    def emit(self, record: logging.LogRecord) -> None:
        level: Level = "ERROR" if record.levelno >= logging.ERROR else "WARN"
        first = (record.getMessage().splitlines() or [record.name])[0]
        self._journal.line(level, first, raised=record.exc_info[1] if record.exc_info else None)
