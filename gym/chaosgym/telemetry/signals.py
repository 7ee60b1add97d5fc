"""Golden signals: what each component and each edge did in the baseline window and in the incident window.

    tables, header ──> measure ──> Signals
                                   ├── components: requests served; process; a datastore's own statistics; is it alive
                                   └── edges: calls as the caller saw them, and the gap to the callee

Every number is a `Change(before, after)`; NaN is "not known". Times are seconds, sizes bytes, shares 0 to 1. A span
belongs to the window in which it ended. Users are the component `edge`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from chaosgym.episode import ComponentInfo, EpisodeHeader
from chaosgym.telemetry.calls import EDGE, CallSignals, Traffic, read_traffic
from chaosgym.telemetry.gauges import Gauges, read_gauges
from chaosgym.telemetry.windows import UNKNOWN, Change

__all__ = ["EDGE", "CallSignals", "Change", "ComponentSignals", "EdgeSignals", "Signals", "measure"]

pc: Any = pyarrow.compute  # its functions are made at run time, unseen by type checkers


@dataclass(frozen=True)
class ComponentSignals:
    """One component; what its telemetry does not tell stays NaN."""

    name: str
    kind: str
    served: CallSignals
    """Requests as the component saw them itself (datastores tell none)."""
    seen: CallSignals
    """Calls to it as all of its callers together saw them."""
    cpu: Change = UNKNOWN
    """Cores in use."""
    memory: Change = UNKNOWN
    """Largest resident memory that three samples reached (a rollout doubles it for a moment)."""
    files: Change = UNKNOWN
    """Largest number of open file descriptors."""
    files_share: Change = UNKNOWN
    """Open file descriptors as a share of their limit."""
    threads: Change = UNKNOWN
    sockets: Change = UNKNOWN
    """Largest number of open sockets."""
    active: Change = UNKNOWN
    """Most requests that were being served at once."""
    slots: Change = UNKNOWN
    """Connections of a datastore as a share of those it allows."""
    locks: Change = UNKNOWN
    """Most sessions seen waiting for a lock."""
    full: Change = UNKNOWN
    """A datastore's memory as a share of its limit."""
    refused: Change = UNKNOWN
    """Connections a second that a datastore rejected."""
    evicted: Change = UNKNOWN
    """Keys a second that a datastore threw away for want of memory."""
    endpoints: Change = UNKNOWN
    """Fewest addresses that its service led to."""
    pods: Change = UNKNOWN
    """Fewest pods that were available."""
    process_quiet: float = math.nan
    """Seconds without a sample of the process up to the end of the incident window."""
    quiet: float = math.nan
    """Seconds without anything else from it: spans, metrics of its own, log lines."""


@dataclass(frozen=True)
class EdgeSignals:
    """Calls from one component to another; `source` is `edge` for users."""

    source: str
    target: str
    calls: CallSignals
    again: Change = UNKNOWN
    """Calls to the callee per request of the caller that makes any: retries multiply it."""


@dataclass(frozen=True)
class Signals:
    """Of one episode."""

    components: Mapping[str, ComponentSignals]
    edges: Mapping[tuple[str, str], EdgeSignals]
    """All of the known topology and whatever else was seen to call."""


def measure(tables: Mapping[str, pa.Table], header: EpisodeHeader) -> Signals:
    """Compare the windows of `header` in `tables` (as `chaosgym.telemetry.schema` has them)."""
    traffic = read_traffic(tables["spans"], header)
    gauges = read_gauges(tables["metrics"], header)
    edges = _edges(traffic, header)
    heard = _last_heard(tables, header)
    components = {c.name: _component(c, traffic, gauges, heard.get(c.name, math.nan)) for c in header.components}
    return Signals(components, edges)


def _edges(traffic: Traffic, header: EpisodeHeader) -> dict[tuple[str, str], EdgeSignals]:
    pairs = dict.fromkeys([(EDGE, header.entry), *((e.source, e.target) for e in header.edges), *traffic.calls])
    return {pair: _edge(pair, traffic) for pair in pairs}


def _edge(pair: tuple[str, str], traffic: Traffic) -> EdgeSignals:
    calls = traffic.calls.get(pair, CallSignals())
    return EdgeSignals(*pair, calls, Change(*(n / m if m > 0 else math.nan for n, m in zip(calls.count, calls.causes, strict=True))))


def _component(info: ComponentInfo, traffic: Traffic, gauges: Gauges, quiet: float) -> ComponentSignals:
    name = info.name
    own = gauges.last_seen(name, process=False)
    return ComponentSignals(
        name=name,
        kind=info.kind,
        served=traffic.served.get(name, CallSignals()),
        seen=traffic.seen.get(name, CallSignals()),
        cpu=_cpu(gauges, name),
        memory=gauges.sustained(name, "process.memory.usage"),
        files=gauges.peak(name, "process.unix.file_descriptor.count", "process.open_file_descriptor.count"),
        files_share=_share(gauges, name, "process.unix.file_descriptor.count", "process.unix.file_descriptor.limit"),
        threads=gauges.peak(name, "process.thread.count"),
        sockets=gauges.peak(name, "process.socket.count"),
        active=gauges.peak(name, "http.server.active_requests"),
        slots=_slots(gauges, name),
        locks=gauges.peak(name, "postgresql.database.locks.waiting", "postgresql.locks.waiting"),
        full=_share(gauges, name, "redis.memory.used", "redis.maxmemory"),
        refused=gauges.rate(name, "redis.connections.rejected", "redis.clients.rejected"),
        evicted=gauges.rate(name, "redis.keys.evicted"),
        endpoints=gauges.least(name, "k8s.service.endpoint.count"),
        pods=gauges.least(name, "k8s.deployment.available_pods", "k8s.deployment.available"),
        process_quiet=gauges.last_seen(name, process=True),
        quiet=float(np.fmin(own, quiet)),
    )


def _cpu(gauges: Gauges, name: str) -> Change:
    spent = gauges.rate(name, "process.cpu.time")
    return gauges.mean(name, "process.cpu.utilization") if math.isnan(spent.after) else spent


def _slots(gauges: Gauges, name: str) -> Change:
    postgres = _share(gauges, name, "postgresql.backends", "postgresql.connection.max")
    return _share(gauges, name, "redis.clients.connected", "redis.clients.max") if math.isnan(postgres.after) else postgres


def _share(gauges: Gauges, name: str, used: str, limit: str) -> Change:
    """Largest `used` over the smallest positive `limit` of each window; NaN without a limit."""
    top, bound = gauges.peak(name, used), gauges.find(name, [limit])
    if bound is None:
        return UNKNOWN
    windows = (gauges.header.baseline, gauges.header.incident)
    limits = [float(part.min()) if len(part := bound.inside(window)) else math.nan for window in windows]
    return Change(*(u / m if m > 0 else math.nan for u, m in zip(top, limits, strict=True)))


def _last_heard(tables: Mapping[str, pa.Table], header: EpisodeHeader) -> dict[str, float]:
    """Seconds from each component's last span or log line to the end of the incident window."""
    last: dict[str, int] = {}
    for signal, column in (("spans", "end_time_unix_nano"), ("logs", "time_unix_nano")):
        table = tables[signal].filter(pc.less(tables[signal][column], header.incident.end))
        grouped = table.select(["service_name", column]).group_by("service_name", use_threads=False).aggregate([(column, "max")])
        for name, time in zip(grouped["service_name"].to_pylist(), grouped[f"{column}_max"].to_pylist(), strict=True):
            last[name] = max(last.get(name, 0), time or 0)
    return {name: (header.incident.end - time) / 1e9 for name, time in last.items()}
