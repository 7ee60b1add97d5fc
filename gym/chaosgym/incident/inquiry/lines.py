"""Log lines as an agent asks for them: with their time in the incident, one scale of severity, and what they have in common."""

from __future__ import annotations

from typing import Literal, NamedTuple

import pyarrow as pa

from chaosgym.episode import EpisodeHeader
from chaosgym.incident.templates import mask

__all__ = ["SEVERITIES", "LogLine", "Severity", "read_lines"]

Severity = Literal["debug", "info", "warn", "error", "fatal"]
SEVERITIES: tuple[Severity, ...] = ("debug", "info", "warn", "error", "fatal")
"""From the least grave to the gravest."""

_BOUNDS = (9, 13, 17, 21)
"""OpenTelemetry's severity number from which each severity after the first begins."""
_MAX_TEXT = 500


class LogLine(NamedTuple):
    """One line."""

    seconds: float
    """From the end of the baseline window."""
    component: str
    severity: Severity
    body: str
    alike: str
    """The text without its variable parts: lines that agree in it say the same."""


def read_lines(logs: pa.Table, header: EpisodeHeader) -> tuple[LogLine, ...]:
    """The lines of known components in `logs` (schema LOGS), in its order."""
    known = {component.name for component in header.components}
    columns = logs.select(["time_unix_nano", "service_name", "severity_number", "body"]).to_pydict()
    masked: dict[str, str] = {}
    found: list[LogLine] = []
    for time, name, number, body in zip(*columns.values(), strict=True):
        if name not in known or not body:
            continue
        alike = masked.get(body)
        if alike is None:
            alike = masked[body] = mask(body[:_MAX_TEXT])
        found.append(LogLine((time - header.baseline.end) / 1e9, name, _severity(number), body, alike))
    return tuple(found)


def _severity(number: int | None) -> Severity:
    return SEVERITIES[sum(number >= bound for bound in _BOUNDS)] if number else "info"  # 0 and nothing are "not said"
