"""What the kernel knows of a component's processes, read from /proc and under OpenTelemetry's `process.*` names.

One row per metric and component: a component of several processes (replicas, a database and its backends) is summed.
About 0.1 ms a process. Two names are ours, in OpenTelemetry's style: `process.unix.file_descriptor.limit` (the soft
limits, summed as the descriptors are) and `process.socket.count`.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # what is sampled in a container needs no Arrow
    from chaosgym.telemetry.store import Row

__all__ = ["ProcessSampler", "gauge_row", "sum_row"]

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_MAX_LINKS = 1024  # of a process with more descriptors only so many are looked at for sockets


@dataclass
class _Account:
    """CPU seconds of one component: total so far, and what each living process had at the last sample."""

    first_ns: int
    sampled_ns: int
    total: float = 0.0
    seen: dict[tuple[int, int], float] = field(default_factory=dict[tuple[int, int], float])


class _Process(NamedTuple):
    key: tuple[int, int]
    cpu: float
    memory: int
    threads: int
    uptime: float
    descriptors: int | None
    sockets: int | None
    limit: int | None


class ProcessSampler:
    """Samples components and remembers what CPU they had used; one per sandbox and episode."""

    def __init__(self) -> None:
        self._accounts: dict[str, _Account] = {}

    def sample(self, pids: Iterable[int], service_name: str, now_ns: int) -> list[Row]:
        """Rows of METRICS for one component; none when none of its processes lives.

        `process.cpu.utilization` is in cores since the component's previous sample, so absent in the first.
        """
        alive = [process for pid in pids if (process := _read(pid)) is not None]
        if not alive:
            return []
        first_ns, seconds, cores = self._charge(service_name, now_ns, {process.key: process.cpu for process in alive})
        rows = [sum_row(now_ns, first_ns, service_name, "process.cpu.time", "s", seconds)]
        return rows + [gauge_row(now_ns, service_name, *gauge) for gauge in _gauges(alive, cores)]

    def _charge(self, service_name: str, now_ns: int, used: dict[tuple[int, int], float]) -> tuple[int, float, float | None]:
        """Take note of the CPU seconds `used` by each living process, keyed by (pid, start).

        Returns the time of the first sample, the CPU seconds since then (of ended processes too), and the cores used
        since the last sample (None in the first).
        """
        account = self._accounts.get(service_name)
        if account is None:
            self._accounts[service_name] = _Account(now_ns, now_ns, 0.0, used)
            return now_ns, 0.0, None
        delta = sum(max(0.0, seconds - account.seen.get(key, 0.0)) for key, seconds in used.items())
        elapsed = (now_ns - account.sampled_ns) / 1e9
        account.total, account.seen, account.sampled_ns = account.total + delta, used, now_ns
        return account.first_ns, account.total, delta / elapsed if elapsed > 0 else None


def _gauges(alive: list[_Process], cores: float | None) -> list[tuple[str, str, float]]:
    """(name, unit, value) of the levels that are known."""
    found: list[tuple[str, str, float | None]] = [
        ("process.cpu.utilization", "1", cores),
        ("process.memory.usage", "By", sum(p.memory for p in alive)),
        ("process.thread.count", "{thread}", sum(p.threads for p in alive)),
        ("process.unix.file_descriptor.count", "{file_descriptor}", _total(p.descriptors for p in alive)),
        ("process.unix.file_descriptor.limit", "{file_descriptor}", _total(p.limit for p in alive)),
        ("process.socket.count", "{socket}", _total(p.sockets for p in alive)),
        ("process.uptime", "s", max(p.uptime for p in alive)),
    ]
    return [(name, unit, value) for name, unit, value in found if value is not None]


def gauge_row(now_ns: int, service_name: str, name: str, unit: str, value: float, attributes: str = "{}") -> Row:
    """A row of METRICS: a level now."""
    return (now_ns, now_ns, service_name, name, unit, "gauge", float(value), None, None, None, attributes)


def sum_row(now_ns: int, start_ns: int, service_name: str, name: str, unit: str, value: float, attributes: str = "{}") -> Row:
    """A row of METRICS: a monotonic total since `start_ns`."""
    return (now_ns, start_ns, service_name, name, unit, "sum", float(value), None, None, None, attributes)


def _total(counts: Iterable[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _read(pid: int) -> _Process | None:
    """One process, or None when it is gone (a zombie is)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            stat = file.read().rpartition(b")")[2].split()  # the command before it may hold spaces and parentheses
        cpu = _cpu_seconds(pid)
    except OSError:
        return None
    if stat[0] in (b"Z", b"X"):
        return None
    started = int(stat[19])
    descriptors, sockets = _descriptors(pid)
    uptime = time.clock_gettime(time.CLOCK_BOOTTIME) - started / _TICKS
    return _Process((pid, started), cpu, int(stat[21]) * _PAGE, int(stat[17]), uptime, descriptors, sockets, _soft_limit(pid))


def _cpu_seconds(pid: int) -> float:
    """To the nanosecond, where /proc/<pid>/stat counts in hundredths of a second.

    The clock id is that of clock_getcpuclockid(3): the inverted pid above three bits, of which 2 is CPUCLOCK_SCHED.
    """
    return time.clock_gettime((~pid << 3) | 2)


def _descriptors(pid: int) -> tuple[int | None, int | None]:
    """(open file descriptors, sockets among them); None where another user's process may not be looked into."""
    folder = f"/proc/{pid}/fd"
    try:
        names = os.listdir(folder)
    except OSError:
        return None, None
    return len(names), sum(_is_socket(f"{folder}/{name}") for name in islice(names, _MAX_LINKS))


def _is_socket(link: str) -> bool:
    try:
        return os.readlink(link).startswith("socket:")
    except OSError:  # closed meanwhile
        return False


def _soft_limit(pid: int) -> int | None:
    try:
        soft = resource.prlimit(pid, resource.RLIMIT_NOFILE)[0]
    except OSError:
        return None
    return None if soft == resource.RLIM_INFINITY else soft
