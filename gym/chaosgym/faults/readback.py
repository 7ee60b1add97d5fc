"""Reading a fault back from the kernel: what `/proc` says about a process, whatever the injector was told.

A process that is gone reads as empty (None, 0, no entries), never as an exception: a fault may kill it.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

from chaosgym.errors import FaultError

__all__ = ["connection_numbers", "file_numbers", "in_force", "resident_bytes", "soft_files_limit", "state", "thread_seconds"]

_PAGE = os.sysconf("SC_PAGESIZE")
_ESTABLISHED = "01"
"""TCP_ESTABLISHED in the fourth column of /proc/net/tcp."""
_TICK = os.sysconf("SC_CLK_TCK")


async def in_force(holds: Callable[[], bool], failure: Callable[[], str], within: float = 1.0) -> None:
    """Wait until `holds()`; after `within` seconds raise FaultError with `failure()`."""
    deadline = time.monotonic() + within
    while not holds():
        if time.monotonic() > deadline:
            raise FaultError(failure())
        await asyncio.sleep(0.004)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _stat_fields(text: str) -> list[str]:
    """The fields of a `stat` line from the state on (proc(5) numbers it 3); the name may hold spaces and brackets."""
    return text[text.rfind(")") + 1 :].split()


def state(pid: int) -> str | None:
    """One letter as in proc(5): R, S, D, Z, T ...; None when there is no such process."""
    fields = _stat_fields(_read(f"/proc/{pid}/stat"))
    return fields[0] if fields else None


def thread_seconds(pid: int) -> dict[int, float]:
    """CPU seconds that each thread has used (user and system, in ticks of 10 ms)."""
    used: dict[int, float] = {}
    for tid in _entries(f"/proc/{pid}/task"):
        fields = _stat_fields(_read(f"/proc/{pid}/task/{tid}/stat"))
        if len(fields) > 12:
            used[tid] = (int(fields[11]) + int(fields[12])) / _TICK
    return used


def resident_bytes(pid: int) -> int:
    """Resident set size."""
    fields = _read(f"/proc/{pid}/statm").split()
    return int(fields[1]) * _PAGE if len(fields) > 1 else 0


def soft_files_limit(pid: int) -> int | None:
    """The soft limit on open files in force for a running process."""
    for line in _read(f"/proc/{pid}/limits").splitlines():
        if line.startswith("Max open files"):
            return int(line.split()[3])
    return None


def file_numbers(pid: int) -> set[int]:
    """The file descriptors that are open."""
    return set(_entries(f"/proc/{pid}/fd"))


def connection_numbers(pid: int) -> set[int]:
    """Those of `file_numbers` that are TCP connections (established; not the sockets that listen)."""
    inodes = {
        f"socket:[{fields[9]}]"
        for table in ("tcp", "tcp6")
        for line in _read(f"/proc/{pid}/net/{table}").splitlines()[1:]
        if (fields := line.split())[3] == _ESTABLISHED
    }
    return {number for number in file_numbers(pid) if _link(f"/proc/{pid}/fd/{number}") in inodes}


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _entries(folder: str) -> list[int]:
    try:
        return [int(name) for name in os.listdir(folder) if name.isdigit()]
    except OSError:
        return []
