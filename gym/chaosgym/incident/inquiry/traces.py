"""The tool `traces`: whole requests of the incident window, the slowest or those that failed, as trees of calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from chaosgym.incident.inquiry.evidence import Evidence
from chaosgym.incident.inquiry.figures import moment
from chaosgym.incident.inquiry.public import Query
from chaosgym.incident.inquiry.spans import Span

__all__ = ["Request", "TraceQuery", "chosen_requests", "show_traces"]

_MAX_DEPTH = 12
_MAX_ROWS = 24
"""Rows of one tree."""
_PROGRAMS = ("gateway", "service", "worker")
"""Kinds of components that leave spans of their own."""


class TraceQuery(Query):
    """Arguments of `traces`."""

    component: str | None = None
    """Only requests in which this component made a call or was called."""
    order: Literal["failing", "slow"] = "failing"
    """`failing`: requests in which something failed, those that users saw failing first; `slow`: the slowest of all."""
    limit: Annotated[int, Field(ge=1, le=5)] = 2
    """Requests at most."""


@dataclass(frozen=True)
class Request:
    """One trace: its spans by the span above them."""

    root: Span
    spans: Sequence[Span]
    below: Mapping[str, Sequence[Span]]

    def told(self) -> tuple[str, ...]:
        """What kind of request it is: two of the same kind tell nothing new."""
        return (self.root.name, *dict.fromkeys(f"{span.component} {span.peer} {span.failure}" for span in self.spans if span.failure))


def chosen_requests(evidence: Evidence, query: TraceQuery) -> tuple[int, list[Request]]:
    """How many match, and those to show; requests of different kinds come before more of the same."""
    found = [request for request in _requests(evidence) if query.component is None or _touches(request, query.component)]
    if query.order == "failing":
        found = [request for request in found if any(span.failure for span in request.spans)]
    found.sort(key=lambda r: (query.order == "failing" and not r.root.failure, -r.root.took))
    telling = {request.told(): request for request in reversed(found)}
    return len(found), sorted(found, key=lambda r: telling[r.told()] is not r)[: query.limit]


def show_traces(evidence: Evidence, query: TraceQuery) -> list[str]:
    """For each request a head and its tree."""
    count, chosen = chosen_requests(evidence, query)
    what, first = ("failing requests", "") if query.order == "failing" else ("requests", ", the slowest first")
    head = f"{count} {what} in the incident window, {len(chosen)} of them{first}"
    return [head, *(row for request in chosen for row in _tree(request, evidence.kinds))] if chosen else []


def _requests(evidence: Evidence) -> Iterator[Request]:
    start = (evidence.header.incident.start - evidence.header.baseline.end) / 1e9
    traces: dict[str, dict[str, Span]] = {}
    for span in evidence.spans:
        traces.setdefault(span.trace, {})[span.id] = span  # foreign data may repeat an id; a tree has it once
    for spans in traces.values():
        below: dict[str, list[Span]] = {}
        for span in spans.values():
            below.setdefault(span.parent if span.parent in spans else "", []).append(span)
        for root in below.get("", []):
            if root.seconds >= start:
                yield Request(root, _under(root, below), below)


def _under(root: Span, below: Mapping[str, Sequence[Span]]) -> list[Span]:
    found = [root]
    for span in found:
        found += below.get(span.id, ())
    return found


def _touches(request: Request, component: str) -> bool:
    return any(component in (span.component, span.peer) for span in request.spans)


def _tree(request: Request, kinds: Mapping[str, str]) -> list[str]:
    root = request.root
    rows = list(_rows([root], request.below, kinds, 1))
    more = [f"  ... {len(rows) - _MAX_ROWS} more rows"] if len(rows) > _MAX_ROWS else []
    head = f"request {root.trace[:8]}, ended {moment(root.seconds)}, {root.took * 1000:.0f} ms, {root.failure or 'succeeded'}"
    return [head, *rows[:_MAX_ROWS], *more]


def _rows(spans: Sequence[Span], below: Mapping[str, Sequence[Span]], kinds: Mapping[str, str], depth: int) -> Iterator[str]:
    """One row per call, with what its callee saw of it; equal neighbours without anything below them are one row."""
    at = 0
    while at < len(spans):
        span, children = spans[at], below.get(spans[at].id, ())
        alike = at + 1
        while not children and alike < len(spans) and _same(span, spans[alike]) and not below.get(spans[alike].id):
            alike += 1
        yield f"{'  ' * depth}{_row(spans[at:alike], children, kinds)}"
        served = [child for child in children if child.kind == "server"] if span.kind == "client" else []
        deeper = [child for server in served for child in below.get(server.id, ())] + [c for c in children if c not in served]
        if depth < _MAX_DEPTH:
            yield from _rows(deeper, below, kinds, depth + 1)
        at = alike


def _same(a: Span, b: Span) -> bool:
    return (a.component, a.name, a.peer, a.failure) == (b.component, b.name, b.peer, b.failure)


def _row(alike: Sequence[Span], children: Sequence[Span], kinds: Mapping[str, str]) -> str:
    span = alike[0]
    longest = max(one.took for one in alike)
    took = f"{longest * 1000:.0f} ms" if len(alike) == 1 else f"{len(alike)} times, up to {longest * 1000:.0f} ms"
    served = [child for child in children if child.kind == "server"] if span.kind == "client" else []
    there = "".join(f", {child.took * 1000:.0f} ms there{f' ({child.failure})' if child.failure else ''}" for child in served)
    unseen = span.kind == "client" and not served and kinds.get(span.peer, "") in _PROGRAMS
    who = f"{span.component} -> {span.peer}" if span.peer else span.component
    return f"{who} {span.name} {took}{there}{', left no trace there' if unseen else ''}{f' FAILED {span.failure}' if span.failure else ''}"
