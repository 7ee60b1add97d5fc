"""Redis's own statistics, under the names of the OpenTelemetry Collector's redis receiver.

One INFO a sample. Ours, as the receiver has no such names: `redis.errors` (error replies by their first word, such
as OOM or WRONGTYPE) and `redis.clients.max` (the limit that `redis.clients.connected` runs into).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from redis.exceptions import RedisError

from chaosgym.telemetry.decode import compact_json
from chaosgym.telemetry.process import gauge_row, sum_row
from chaosgym.telemetry.store import Row

__all__ = ["sample_redis"]

_GAUGES = (
    ("redis.memory.used", "By", "used_memory"),
    ("redis.memory.peak", "By", "used_memory_peak"),
    ("redis.maxmemory", "By", "maxmemory"),
    ("redis.memory.fragmentation_ratio", "1", "mem_fragmentation_ratio"),
    ("redis.clients.connected", "{client}", "connected_clients"),
    ("redis.clients.blocked", "{client}", "blocked_clients"),
    ("redis.clients.max", "{client}", "maxclients"),
    ("redis.commands", "{ops}/s", "instantaneous_ops_per_sec"),
)
_SUMS = (
    ("redis.commands.processed", "{command}", "total_commands_processed"),
    ("redis.connections.received", "{connection}", "total_connections_received"),
    ("redis.connections.rejected", "{connection}", "rejected_connections"),
    ("redis.keyspace.hits", "{hit}", "keyspace_hits"),
    ("redis.keyspace.misses", "{miss}", "keyspace_misses"),
    ("redis.keys.evicted", "{key}", "evicted_keys"),
    ("redis.keys.expired", "{event}", "expired_keys"),
    ("redis.net.input", "By", "total_net_input_bytes"),
    ("redis.net.output", "By", "total_net_output_bytes"),
)


async def sample_redis(client: Any, service_name: str, now_ns: int, timeout: float = 0.25) -> list[Row]:
    """Rows of METRICS from a redis.asyncio client; none when the server does not answer within `timeout` seconds."""
    try:
        async with asyncio.timeout(timeout):
            info: Mapping[str, Any] = await client.info()
    except (TimeoutError, OSError, RedisError):
        return []  # a gap in the statistics is what a monitor would see too
    rows = [gauge_row(now_ns, service_name, name, unit, info[key]) for name, unit, key in _GAUGES if _is_number(info.get(key))]
    rows += [sum_row(now_ns, 0, service_name, name, unit, info[key]) for name, unit, key in _SUMS if _is_number(info.get(key))]
    for key, value in info.items():
        if key.startswith("errorstat_") and isinstance(value, Mapping):
            attributes = compact_json({"error": key.removeprefix("errorstat_")})
            rows.append(sum_row(now_ns, 0, service_name, "redis.errors", "{error}", float(value["count"]), attributes))
        elif key.startswith("db") and isinstance(value, Mapping) and "keys" in value:
            rows.append(gauge_row(now_ns, service_name, "redis.db.keys", "{key}", value["keys"], compact_json({"db": key[2:]})))
    return rows


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
