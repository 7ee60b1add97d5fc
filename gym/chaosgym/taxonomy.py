"""The names of what can go wrong: family.type, with what people also call it.

The taxonomy is data alone, so that the reward, the agents and the reports can read it without
importing a single injector. A fault under `chaosgym.faults` carries one of these labels.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FAULT_TYPES", "HEALTHY", "FaultType", "normalise"]

HEALTHY = "healthy"


@dataclass(frozen=True)
class FaultType:
    """One label: `family.type`, one sentence for people, and accepted synonyms."""

    name: str
    summary: str
    synonyms: tuple[str, ...] = ()

    @property
    def family(self) -> str:
        """The part before the dot."""
        return self.name.split(".", 1)[0]


_TYPES = (
    FaultType(
        "process.crash",
        "the process was killed and stays down for a while",
        ("crash", "killed", "service_down", "pod_kill"),
    ),
    FaultType(
        "process.hang",
        "the process is alive and accepts connections, but answers nothing",
        ("hang", "freeze", "stuck", "pause"),
    ),
    FaultType(
        "resource.cpu",
        "the process burns CPU until its requests wait",
        ("cpu_hog", "cpu", "cpu_saturation", "cpu_stress"),
    ),
    FaultType(
        "resource.memory_leak",
        "memory grows until the process is killed for it",
        ("memory_leak", "oom", "oom_kill", "memory"),
    ),
    FaultType(
        "resource.file_descriptors",
        "the process has no file descriptors left",
        ("fd_exhaustion", "file_descriptors", "too_many_open_files", "emfile"),
    ),
    FaultType(
        "network.latency",
        "packets to the component arrive late",
        ("latency", "network_delay", "delay", "slow_network"),
    ),
    FaultType(
        "network.partition",
        "packets to the component vanish",
        ("partition", "blackhole", "network_loss", "unreachable"),
    ),
    FaultType(
        "dependency.connections",
        "the database has no connection slots left",
        ("connection_exhaustion", "too_many_clients", "pool_exhaustion", "max_connections"),
    ),
    FaultType(
        "dependency.lock",
        "somebody holds a table lock that everybody waits for",
        ("lock_contention", "table_lock", "lock", "blocked_queries"),
    ),
    FaultType(
        "dependency.cache_memory",
        "the cache is full and refuses writes",
        ("redis_oom", "cache_oom", "maxmemory", "cache_full"),
    ),
    FaultType(
        "configuration.credential",
        "a deploy came with a credential the other side refuses",
        ("wrong_credential", "auth", "bad_password", "authentication"),
    ),
    FaultType(
        "application.bad_deploy",
        "a new version throws on some inputs",
        ("bad_deploy", "bug", "regression", "exception", "code_bug"),
    ),
    FaultType(
        "application.retry_storm",
        "retries without restraint multiply the load on a slow dependency",
        ("retry_storm", "retries", "thundering_herd", "metastable"),
    ),
)

FAULT_TYPES: dict[str, FaultType] = {t.name: t for t in _TYPES}
_BY_WORD: dict[str, str] = {s: t.name for t in _TYPES for s in (t.name, *t.synonyms)}


def normalise(word: str) -> str | None:
    """Return the label that `word` stands for (itself or a synonym, any case, `-`, `/` or space as separators), or None."""
    key = word.strip().lower().replace("-", "_").replace(" ", "_").replace("/", ".")
    return _BY_WORD.get(key)
