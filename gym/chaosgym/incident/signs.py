"""What a log line is known to mean: a failure (`chaosgym.telemetry.failures`) or something else that programs often say.

A line that matches nothing has no sign and speaks through its template alone.
"""

from __future__ import annotations

import re
from functools import lru_cache

from chaosgym.telemetry.failures import failure_of

__all__ = ["sign_of"]

_PHRASES = (
    ("retrying", r"\bretry|\bretries|\bretrying|attempt \S+ (?:of|/)|backing off"),
    ("exception", r"traceback|exception|\w(?:Error|Exception)\b|unhandled|uncaught|(?<!\.)\binternal (?:server )?error|panic"),
    ("terminated", r"\bkilled\b|sigkill|was terminated by signal|segfault|core dumped|crash"),
    ("stopping", r"shutting down|shutdown|graceful|sigterm|stopping|\bdrain|received signal|\bexit"),
    ("started", r"\bstarted\b|\bstarting\b|\blistening|ready (?:to accept|at)|accepting connections|\bbooting"
                r"|\binitiali[sz]ing|attached to|subscribed"),
    ("slow", r"\bslow\b|slower than|exceeded \S+ ?m?s\b"),
)
_PATTERNS = tuple((sign, re.compile(pattern, re.IGNORECASE)) for sign, pattern in _PHRASES)


@lru_cache(maxsize=4096)
def sign_of(text: str) -> str:
    """The failure that `text` tells of, else the first other sign whose phrase stands in it, else an empty string."""
    return failure_of(text) or next((sign for sign, pattern in _PATTERNS if pattern.search(text)), "")
