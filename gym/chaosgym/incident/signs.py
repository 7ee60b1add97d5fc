"""What a log line is known to mean: phrases that errno, SQLSTATE, Redis, Python and HTTP clients use everywhere.

The table is general knowledge about widely used software, not about any application; a line that matches nothing
has no sign and speaks through its template alone.
"""

from __future__ import annotations

import re
from functools import lru_cache

__all__ = ["sign_of"]

_PHRASES = (
    ("toofiles", r"too many open files|emfile|enfile|errno 24\b|no file descriptors"),
    ("toomany", r"too many clients|remaining connection slots|too ?many ?connections|max number of clients|connection limit exceeded"),
    ("badauth", r"password authentication|authentication fail|auth(?:entication)? error|invalid ?password|invalid ?authorization"
                r"|noauth|wrongpass|access denied|permission denied for|role \S+ does not exist|invalid credential|unauthori[sz]ed"),
    ("oomcmd", r"command not allowed when used memory|maxmemory|\boom command"),
    ("nomemory", r"memoryerror|out of memory|cannot allocate memory|oom.?kill|enomem"),
    ("lockwait", r"lock timeout|locknotavailable|deadlock|could not obtain lock|still waiting for \w*lock|lock wait|waiting for lock"),
    ("canceled", r"cancell?ing statement|querycancell?ed|statement timeout|cancell?ed on user request"),
    ("opened", r"circuit (?:breaker )?(?:for \S+ )?(?:is )?(?:now )?open|breaker (?:for \S+ )?open|circuit ?open|tripping|breaker tripped"),
    ("refused", r"refused|errno 111\b|connect call failed"),
    ("unreachable", r"unreachable|no route to host|errno 113\b"),
    ("unresolved", r"name or service not known|getaddrinfo|nxdomain|cannot resolve|could not resolve|name resolution"),
    ("retrying", r"\bretry|\bretries|\bretrying|attempt \S+ (?:of|/)"),
    ("timeout", r"time[d]?[ -]?out|timeouterror|deadline exceeded|took too long"),
    ("reset", r"connection reset|server disconnected|broken pipe|connection (?:was )?closed|connection lost|unexpected eof|econnreset"
              r"|connection (?:does not exist|to client lost)|terminating connection|errno 104\b"),
    ("exception", r"traceback|exception|\w(?:Error|Exception)\b|unhandled|uncaught|internal error|panic"),
    ("terminated", r"\bkilled\b|sigkill|was terminated by signal|segfault|core dumped|crash"),
    ("stopping", r"shutting down|shutdown|graceful|sigterm|stopping|\bdrain|received signal|\bexit"),
    ("started", r"\bstarted\b|\bstarting\b|\blistening|ready (?:to accept|at)|accepting connections|\bbooting"
                r"|\binitiali[sz]ing|attached to|subscribed"),
    ("slow", r"\bslow\b|slower than|exceeded \S+ ?m?s\b"),
)
_PATTERNS = tuple((sign, re.compile(pattern, re.IGNORECASE)) for sign, pattern in _PHRASES)


@lru_cache(maxsize=4096)
def sign_of(text: str) -> str:
    """The first sign, from specific to general, whose phrase stands in `text`; an empty string when none does."""
    return next((sign for sign, pattern in _PATTERNS if pattern.search(text)), "")
