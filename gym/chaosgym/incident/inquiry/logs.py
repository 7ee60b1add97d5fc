"""The tool `logs`: lines that say the same are one row, with how many there were before and during the incident."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from chaosgym.incident.inquiry.evidence import Evidence
from chaosgym.incident.inquiry.figures import moment
from chaosgym.incident.inquiry.lines import SEVERITIES, LogLine, Severity
from chaosgym.incident.inquiry.public import Query, Seconds
from chaosgym.incident.templates import mask

__all__ = ["LogQuery", "is_told", "show_logs"]

_COMPARED = 100
"""Characters that decide whether two lines say the same; rows are cut."""
_WEIGHTS = {"debug": 0.3, "info": 0.6, "warn": 2.0, "error": 3.0, "fatal": 4.0}


class LogQuery(Query):
    """Arguments of `logs`."""

    component: str | None = None
    """Only of this component."""
    contains: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """Only lines that contain this text, whatever the case of letters."""
    severity: Severity | None = None
    """Only lines as grave as this or graver."""
    since: Seconds = None
    """Not before so many seconds after the end of the baseline window (negative is within it)."""
    until: Seconds = None
    """Not after."""
    limit: Annotated[int, Field(ge=1, le=100)] = 12
    """Rows at most."""


@dataclass
class _Row:
    """Lines that say the same."""

    last: LogLine
    before: int = 0
    after: int = 0


def show_logs(evidence: Evidence, query: LogQuery) -> list[str]:
    """A count, then the rows: what became more frequent first, the graver the more."""
    header = evidence.header
    usual = (header.incident.end - header.baseline.end) / (header.baseline.end - header.baseline.start)
    rows: dict[tuple[str, str, str], _Row] = {}
    for line in _matching(evidence, query):
        row = rows.setdefault((line.component, line.severity, line.alike), _Row(line))
        row.last = line
        row.before += line.seconds < 0
        row.after += line.seconds >= 0
    told = sorted(rows.values(), key=lambda row: -_WEIGHTS[row.last.severity] * (row.after - usual * row.before))
    lines = sum(row.before + row.after for row in told)
    head = f"{lines} lines of {len(told)} kinds match; how many before -> during, and the last one"
    rest = [f"... {len(told) - query.limit} more kinds: raise limit, or narrow the search"] if len(told) > query.limit else []
    return [head, *map(_write, told[: query.limit]), *rest] if told else []


def _matching(evidence: Evidence, query: LogQuery) -> Iterable[LogLine]:
    low = float("-inf") if query.since is None else query.since
    high = float("inf") if query.until is None else query.until
    grave = SEVERITIES if query.severity is None else SEVERITIES[SEVERITIES.index(query.severity):]
    part = (query.contains or "").casefold()
    return (
        line
        for line in evidence.lines
        if query.component in (None, line.component) and line.severity in grave and low <= line.seconds <= high
        and (not part or part in line.body.casefold())
    )


def _write(row: _Row) -> str:
    last = row.last
    return f"{_head(last.component, last.severity)}{row.before} -> {row.after}, {moment(last.seconds)}: {_one_line(last.body)}"


def _head(component: str, severity: str) -> str:
    return f"{component} {severity} "


def _one_line(body: str) -> str:
    return " ".join(body.split())


def is_told(component: str, severity: str, body: str, answer: str) -> bool:
    """Whether an answer of this tool has a row for lines like this one."""
    wanted, head = mask(_one_line(body))[:_COMPARED], _head(component, severity)
    rows = (line.partition(" s: ")[2] for line in answer.splitlines() if line.startswith(head))
    return any(mask(row)[:_COMPARED] == wanted for row in rows)
