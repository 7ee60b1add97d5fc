"""How things fail, in one word each: phrases that errno, SQLSTATE, Redis, Python and HTTP clients use everywhere.

The table is general knowledge about widely used software, not about any application. It serves spans (error type,
message, status) as well as log lines.
"""

from __future__ import annotations

import re
from functools import lru_cache

__all__ = ["FAILURE_KINDS", "failure_kind", "failure_of"]

_PHRASES = (
    ("nopool", r"connections in use: \d+ of \d+"),
    ("toofiles", r"too many open files|emfile|enfile|errno 24\b|no file descriptors"),
    ("toomany", r"too many clients|remaining connection slots|too ?many ?connections|max number of clients|connection limit exceeded"),
    ("badauth", r"password authentication|authentication ?fail|auth(?:entication)? ?error|invalid ?password|invalid ?authorization"
                r"|noauth|wrongpass|access denied|role \S+ does not exist|invalid credential|unauthori[sz]ed"),
    ("denied", r"permission denied for|insufficientprivilege|noperm\b|no permissions to (?:run|access)"),
    ("readonly", r"read-?only (?:transaction|replica)|readonlysqltransaction|\breadonly\b"),
    ("schema", r"(?:relation|column|table) \S+ (?:of relation \S+ )?does not exist|undefined(?:column|table)"),
    ("nodatabase", r"database \S+ does not exist|invalidcatalogname"),
    ("violation", r"violates \S+ constraint|duplicate key value|(?:unique|check|notnull)violation"),
    ("exhausted", r"reached maximum value of sequence|sequencegeneratorlimit"),
    ("wrongtype", r"wrongtype\b|wrong kind of value"),
    ("nogroup", r"\bnogroup\b"),
    ("recovery", r"recovery mode|crash of another server|automatic recovery|database system is (?:starting up|shutting down)"
                 r"|cannotconnectnow|all server processes terminated"),
    ("limited", r"too many requests|rate limit|throttling|\b429\b"),
    ("toolarge", r"\b413\b|too large|exceeds the limit"),
    ("notready", r"\bnot ?ready\b|still starting|readiness check"),
    ("cutoff", r"contentlengtherror|not enough data to satisfy"),
    ("unreadable", r"(?:json|unicode)decodeerror|codec can't decode|unterminated string|expecting (?:value|property)"
                   r"|invalid (?:header|http)|bad(?:statusline|httpmessage)"),
    ("oomcmd", r"command not allowed when used memory|maxmemory|\boom command|(?<![a-z])OutOfMemoryError: (?:oom )?command"),
    ("nomemory", r"memoryerror|out of memory|cannot allocate memory|oom.?kill|enomem"),
    ("lockwait", r"lock ?timeout|locknotavailable|deadlock|could not obtain lock|still waiting for \w*lock|lock wait|waiting for lock"),
    ("canceled", r"cancell?ing statement|querycancell?ed|statement timeout|cancell?ed on user request"),
    ("opened", r"circuit ?(?:breaker )?(?:for \S+ )?(?:is )?(?:now )?open|breaker (?:for \S+ )?(?:is )?open|tripping|breaker tripped"),
    ("refused", r"refused|errno 111\b|connect call failed"),
    ("unreachable", r"unreachable|no route to host|errno 113\b"),
    ("unresolved", r"name or service not known|getaddrinfo|nxdomain|(?:cannot|could not) resolve|name resolution"),
    ("noconnect", r"connection ?time[d]?[ -]?out|connect(?:ing)? ?time[d]?[ -]?out|time(?:d )?out (?:while )?connecting|errno 110\b"),
    ("timeout", r"time[d]?[ -]?out|deadline ?exceeded|took too long"),
    ("reset", r"connection ?reset|disconnected|broken ?pipe|connection (?:was )?closed|connection lost|unexpected eof|econnreset"
              r"|connection ?does ?not ?exist|connection to client lost|terminating connection|errno (?:104|32)\b"),
)
_PATTERNS = tuple((kind, re.compile(pattern, re.IGNORECASE)) for kind, pattern in _PHRASES)
_REST = (
    ("timeout", re.compile(r"\b(?:504|408)\b")),
    ("server", re.compile(r"\b5\d\d\b")),
    ("client", re.compile(r"\b4\d\d\b")),
    ("exception", re.compile(r"\w(?:Error|Exception)\b")),
)

FAILURE_KINDS: tuple[str, ...] = tuple(dict.fromkeys([*(kind for kind, _ in _PATTERNS), *(kind for kind, _ in _REST), "other"]))
"""All that `failure_kind` gives; `noconnect` timed out before it was connected, `client` and `server` are HTTP statuses."""


@lru_cache(maxsize=4096)
def failure_of(text: str) -> str:
    """The first kind, from specific to general, whose phrase stands in `text`; an empty string when none does."""
    return next((kind for kind, pattern in _PATTERNS if pattern.search(text)), "")


def failure_kind(text: str) -> str:
    """How a call failed, told from its error type, message and HTTP status in one text."""
    return failure_of(text) or next((kind for kind, pattern in _REST if pattern.search(text)), "other")
