"""Requests told from spans: what each component served and how its calls to others went.

Work is in columns: strings become integer codes once, then groups are sorted slices of numpy arrays.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute

from chaosgym.episode import EpisodeHeader
from chaosgym.telemetry.failures import failure_kind
from chaosgym.telemetry.windows import UNKNOWN, Change, runs, window_of

__all__ = ["EDGE", "CallSignals", "Traffic", "read_traffic"]

EDGE = "edge"
"""The component that users are, as spans name it."""

pc: Any = pyarrow.compute  # its functions are made at run time, unseen by type checkers
_Ints = npt.NDArray[np.intp]
_Floats = npt.NDArray[np.float64]
_AT_ONCE = 0.02
"""Seconds."""


@dataclass(frozen=True)
class CallSignals:
    """A flow of requests, seen from one side."""

    count: Change = UNKNOWN
    """Requests in each window."""
    causes: Change = UNKNOWN
    """How many different spans they have as parents: retries are many requests of one."""
    rate: Change = UNKNOWN
    """Requests a second."""
    errors: Change = UNKNOWN
    """Share that failed."""
    p50: Change = UNKNOWN
    """Seconds, without those that failed at once."""
    p95: Change = UNKNOWN
    gap: Change = UNKNOWN
    """Median seconds of a call that the callee did not see (edges between two traced components)."""
    kinds: tuple[tuple[str, float], ...] = ()
    """Ways to fail in the incident window, each with its share of all calls, the most frequent first."""


@dataclass(frozen=True)
class Traffic:
    """All flows: by component (requests served; calls to it by whomsoever) and by (caller, callee)."""

    served: Mapping[str, CallSignals]
    seen: Mapping[str, CallSignals]
    calls: Mapping[tuple[str, str], CallSignals]


@dataclass(frozen=True)
class _Spans:
    """Columns of the spans inside the windows."""

    window: _Ints
    component: _Ints
    """Index into `names`; who made the span."""
    peer: _Ints
    """Index into `names` of the callee for client and producer spans, else -1."""
    served: npt.NDArray[np.bool_]
    seconds: _Floats
    gap: _Floats
    parent: _Ints
    """A number for each parent, -1 for none."""
    failed: npt.NDArray[np.bool_]
    names: list[str]
    table: pa.Table


def read_traffic(spans: pa.Table, header: EpisodeHeader) -> Traffic:
    """Measure every flow in `spans` (schema SPANS)."""
    columns = _columns(spans, header)
    count = len(columns.names)
    served = _groups(columns, np.where(columns.served, columns.component, -1), header)
    seen = _groups(columns, columns.peer, header)
    calls = _groups(columns, np.where(columns.peer >= 0, columns.component * count + columns.peer, -1), header)
    return Traffic(
        served={columns.names[key]: signals for key, signals in served.items()},
        seen={columns.names[key]: signals for key, signals in seen.items()},
        calls={(columns.names[key // count], columns.names[key % count]): signals for key, signals in calls.items()},
    )


def _columns(spans: pa.Table, header: EpisodeHeader) -> _Spans:
    names = [*(c.name for c in header.components), EDGE]
    start, end = (_integers(spans[f"{side}_time_unix_nano"]) for side in ("start", "end"))
    component = _codes(spans["service_name"], names)
    parent = _lookup(spans["parent_span_id"], spans["span_id"])
    kind = _codes(spans["kind"], ["server", "consumer", "client", "producer"])
    outgoing = kind >= 2
    peer = _callees(spans, header, component, parent, kind)
    known = (component >= 0) & (end >= start)
    seconds = (end - start) / 1e9
    return _Spans(
        window=np.where(known, window_of(end, header), 2),
        component=component,
        peer=np.where(outgoing & (peer != component), peer, -1),
        served=(kind == 0) | (kind == 1),
        seconds=seconds,
        gap=_gaps(seconds, parent, kind),
        parent=_numbered(spans["parent_span_id"]),
        failed=_failed(spans),
        names=names,
        table=spans,
    )


def _integers(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    return pc.fill_null(column, 0).to_numpy().astype(np.int64, copy=False)


def _codes(column: pa.ChunkedArray, words: list[str]) -> _Ints:
    """The index of each value in `words`, -1 for others and null."""
    return _lookup(column, pa.array(words, pa.string()))


def _lookup(column: pa.ChunkedArray, values: pa.Array | pa.ChunkedArray) -> _Ints:
    found = pc.index_in(column, value_set=values, skip_nulls=True)
    return pc.fill_null(found, -1).to_numpy().astype(np.intp, copy=False)


def _numbered(column: pa.ChunkedArray) -> _Ints:
    """A number for each distinct value, -1 for null."""
    return pc.fill_null(column.combine_chunks().dictionary_encode().indices, -1).to_numpy().astype(np.intp, copy=False)


def _callees(spans: pa.Table, header: EpisodeHeader, component: _Ints, parent: _Ints, kind: _Ints) -> _Ints:
    """Whom a span calls: by its peer's host name, by its peer's component name, else by who served it."""
    hosts = {c.host: i for i, c in reversed(list(enumerate(header.components))) if c.host}
    names = {c.name: i for i, c in enumerate(header.components)}
    known = {**hosts, **names} if not hosts else {**names, **hosts}
    code = _codes(spans["server_address"], list(known))
    index = np.array([*known.values(), -1], dtype=np.intp)
    peer = index[code]
    child = np.flatnonzero((parent >= 0) & (kind == 0))
    missing = child[peer[parent[child]] < 0]
    peer[parent[missing]] = component[missing]
    return peer


def _gaps(seconds: _Floats, parent: _Ints, kind: _Ints) -> _Floats:
    """Of client spans with a server span under them: seconds that the server did not see; else NaN."""
    gap = np.full(len(seconds), math.nan)
    child = np.flatnonzero((parent >= 0) & (kind == 0))
    child = child[kind[parent[child]] == 2]
    gap[parent[child]] = seconds[parent[child]] - seconds[child]
    return gap


def _failed(spans: pa.Table) -> npt.NDArray[np.bool_]:
    status = pc.fill_null(pc.equal(spans["status_code"], "error"), False)
    http = pc.fill_null(pc.greater_equal(spans["http_status_code"], 500), False)
    return pc.or_(status, http).to_numpy().astype(np.bool_, copy=False)


def _groups(spans: _Spans, key: _Ints, header: EpisodeHeader) -> dict[int, CallSignals]:
    """Signals of each group of spans with the same key (-1 is no group)."""
    chosen = np.flatnonzero((key >= 0) & (spans.window < 2))
    order = chosen[np.lexsort((spans.seconds[chosen], spans.window[chosen], key[chosen]))]
    group = key[order] * 2 + spans.window[order]
    slices = {int(group[a]): order[a:b] for a, b in runs(group)}
    return {k: _signals(spans, slices.get(2 * k), slices.get(2 * k + 1), header) for k in sorted({g // 2 for g in slices})}


def _signals(spans: _Spans, before: _Ints | None, after: _Ints | None, header: EpisodeHeader) -> CallSignals:
    pair = (before, after)
    lengths = [(w.end - w.start) / 1e9 for w in (header.baseline, header.incident)]
    slow = tuple(None if rows is None else _not_at_once(spans, rows) for rows in pair)
    return CallSignals(
        count=Change(*(0.0 if rows is None else float(len(rows)) for rows in pair)),
        causes=Change(*(0.0 if rows is None else _distinct(spans.parent[rows]) for rows in pair)),
        rate=Change(*((0.0 if rows is None else len(rows)) / length for rows, length in zip(pair, lengths, strict=True))),
        errors=Change(*(math.nan if rows is None else float(spans.failed[rows].mean()) for rows in pair)),
        p50=Change(*(_quantile(spans.seconds, rows, 0.5) for rows in slow)),
        p95=Change(*(_quantile(spans.seconds, rows, 0.95) for rows in slow)),
        gap=Change(*(_median_gap(spans.gap, rows) for rows in pair)),
        kinds=() if after is None else _kinds(spans, after),
    )


def _not_at_once(spans: _Spans, rows: _Ints) -> _Ints:
    """Without failures that took no time (refused, breaker open): they would pass for fast answers."""
    return rows[~spans.failed[rows] | (spans.seconds[rows] > _AT_ONCE)]


def _distinct(parents: _Ints) -> float:
    """How many different numbers there are; one without a parent is a cause of its own."""
    known = np.sort(parents[parents >= 0])
    return float(len(parents) - len(known) + (np.count_nonzero(np.diff(known)) + 1 if len(known) else 0))


def _quantile(values: _Floats, rows: _Ints | None, q: float) -> float:
    """Of rows that are sorted by value: the nearest rank."""
    return math.nan if rows is None or not len(rows) else float(values[rows[min(int(q * len(rows)), len(rows) - 1)]])


def _median_gap(gap: _Floats, rows: _Ints | None) -> float:
    if rows is None:
        return math.nan
    known = np.sort(gap[rows])
    known = known[~np.isnan(known)]
    return float(known[len(known) // 2]) if len(known) else math.nan


def _kinds(spans: _Spans, rows: _Ints) -> tuple[tuple[str, float], ...]:
    bad = rows[spans.failed[rows]]
    if not len(bad):
        return ()
    part = spans.table.select(["error_type", "status_message", "http_status_code"]).take(pa.array(bad))
    texts = Counter(zip(*(part[i].to_pylist() for i in range(3)), strict=True))
    kinds: Counter[str] = Counter()
    for parts, number in texts.items():
        kinds[failure_kind(" ".join(str(p) for p in parts if p is not None))] += number
    return tuple((kind, number / len(rows)) for kind, number in sorted(kinds.items(), key=lambda item: (-item[1], item[0])))
