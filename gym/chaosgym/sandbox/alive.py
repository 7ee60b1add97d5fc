"""Is the process that made something still there? An identity that can be written down and looked up later.

    mark = this_process()      7d2ae1c0.4026531836.4711.8812345: boot, pid namespace, pid, start in clock ticks
    is_alive(mark)             True, False; None where it cannot be known, as it lived on another machine, or in a container

The pid alone would not do: it is used again, and means another process in another container. The text is a label value of
Docker and of Kubernetes.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["is_alive", "this_process"]


def this_process() -> str:
    """The identity of this process."""
    return f"{_machine()}.{os.getpid()}.{_start(os.getpid())}"


def is_alive(mark: str) -> bool | None:
    """Whether that process lives; None when it is none of this machine's, or the text is no identity."""
    machine, _, process = mark.partition(".")
    namespace, _, process = process.partition(".")
    pid, _, start = process.partition(".")
    if f"{machine}.{namespace}" != _machine() or not pid.isdigit():
        return None
    found = _start(int(pid))
    return found == start if found else _answers(int(pid))


def _machine() -> str:
    """This boot of this machine, and which of its tables of processes we see."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
        return f"{boot}.{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:  # no Linux
        return "unknown.0"


def _start(pid: int) -> str:
    """When it started; empty when it has ended, or is hidden from us."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def _answers(pid: int) -> bool:
    """/proc may hide what belongs to others (hidepid); signal 0 finds it all the same. A zombie of ours is dead."""
    if Path(f"/proc/{pid}").exists():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
