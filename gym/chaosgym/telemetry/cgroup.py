"""What a container's control group counts, seen from inside it, under OpenTelemetry's `container.*` names.

`container.cpu.time` and `container.memory.usage` are of the semantic conventions; `container.cpu.throttling_data.throttled_periods`
is what the collector's receiver for Docker calls it. Both versions of control groups are read; what is not there is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from chaosgym.telemetry.process import gauge_row, sum_row

if TYPE_CHECKING:
    from chaosgym.telemetry.store import Row

__all__ = ["sample_cgroup"]

_ROOT = Path("/sys/fs/cgroup")
_CPU_STAT = ("cpu.stat", "cpu/cpu.stat", "cpu,cpuacct/cpu.stat")
_CPU_NANOSECONDS = ("cpuacct/cpuacct.usage", "cpu,cpuacct/cpuacct.usage")
_MEMORY = ("memory.current", "memory/memory.usage_in_bytes")
_MEMORY_LIMIT = ("memory.max", "memory/memory.limit_in_bytes")
_NO_LIMIT = 1 << 60


def sample_cgroup(service_name: str, now_ns: int, root: Path = _ROOT) -> list[Row]:
    """Rows of METRICS of the container that we are in."""
    return list(_rows(service_name, now_ns, root))


def _rows(name: str, now: int, root: Path) -> Iterator[Row]:
    stat = dict(line.split()[:2] for line in _read(root, _CPU_STAT).splitlines() if len(line.split()) == 2)
    if "usage_usec" in stat:
        yield sum_row(now, now, name, "container.cpu.time", "s", int(stat["usage_usec"]) / 1e6)
    elif spent := _number(root, _CPU_NANOSECONDS):
        yield sum_row(now, now, name, "container.cpu.time", "s", spent / 1e9)
    if "nr_throttled" in stat:
        yield sum_row(now, now, name, "container.cpu.throttling_data.throttled_periods", "{period}", int(stat["nr_throttled"]))
    if used := _number(root, _MEMORY):
        yield gauge_row(now, name, "container.memory.usage", "By", used)
    if 0 < (limit := _number(root, _MEMORY_LIMIT)) < _NO_LIMIT:
        yield gauge_row(now, name, "container.memory.usage.limit", "By", limit)


def _read(root: Path, names: tuple[str, ...]) -> str:
    for name in names:
        try:
            return (root / name).read_text()
        except OSError:
            continue
    return ""


def _number(root: Path, names: tuple[str, ...]) -> int:
    text = _read(root, names).strip()
    return int(text) if text.isdecimal() else 0
