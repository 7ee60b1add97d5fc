"""A container of somebody else's: its processes as this machine sees them, and what the engine tells of it, in our words."""

from __future__ import annotations

import contextlib
import resource
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from chaosgym.foreign.host import Found, HostEvent
from chaosgym.foreign.journal import Entry
from chaosgym.telemetry.process import gauge_row, sum_row
from chaosgym.telemetry.store import Row

__all__ = ["began", "event_of", "found_as", "is_well", "pause", "pids_of", "shared_network", "stat_rows", "undo_files"]

_EVENTS = {"start": "restart", "oom": "oom", "die": "exit"}
"""Those of an engine's events that an operator would look at, by our words; what gives an injection away is left out."""


_FREEZES = 10


def pids_of(container: Any) -> list[int]:
    """Its processes as this machine numbers them, the first one first; none when it is down or elsewhere."""
    pid = container.attrs["State"]["Pid"]
    with contextlib.suppress(OSError, StopIteration):
        lines = [line.split(":", 2) for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()]
        if pid and any(container.id in path for _, _, path in lines):
            controller, path = next((names, path) for _, names, path in lines if names in ("", "memory") and container.id in path)
            found = (Path("/sys/fs/cgroup") / controller / path.lstrip("/") / "cgroup.procs").read_text().split()
            return sorted({int(each) for each in found}, key=lambda each: (each != pid, each))
    return []


def pause(container: Any) -> None:
    """Freeze it. A busy kernel with version 1 of cgroups gives up now and then (`unable to freeze`), and is asked again."""
    from docker.errors import APIError

    for left in range(_FREEZES, -1, -1):
        try:
            container.pause()
            return
        except APIError as error:
            if not left or "unable to freeze" not in str(error):
                raise
            time.sleep(0.1)


def shared_network(group: Sequence[Any]) -> str:
    """Why rules of a firewall would hit others as well; an empty string when each container has a network of its own."""
    for container in group:
        mode = str(container.attrs["HostConfig"]["NetworkMode"])
        if mode == "host" or mode.startswith("container:"):
            return f"{container.name} shares the network of others ({mode}), who would be hit as well"
    return ""


def found_as(role: str, group: Sequence[Any]) -> Found:
    """A component's containers, for people."""
    image = str(group[0].attrs["Config"]["Image"])
    name, colon, tag = image.rpartition(":")
    return Found(role, tuple(c.name for c in group), image, tag if colon and "/" not in tag and not name.endswith("sha256") else "")


def is_well(container: Any) -> bool:
    """It runs, and says that it is well if it says anything."""
    state = container.attrs["State"]
    return bool(state["Running"]) and state.get("Health", {}).get("Status", "healthy") == "healthy"


def began(pid: int) -> str:
    """When a process began, as the kernel counts; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def undo_files(entry: Entry) -> None:
    """Put the limit of open files back."""
    pid = entry["pid"]
    if began(pid) == entry["began"]:  # else the number is another process's by now
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (entry["soft"], resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]))


def event_of(each: Mapping[str, Any], roles: Mapping[str, str]) -> HostEvent | None:
    """An event of the engine; None for what is not shown."""
    action, attributes = str(each["Action"]), each["Actor"]["Attributes"]
    role = roles[each["Actor"]["ID"]]
    if action.startswith("health_status: "):
        health = action.partition(": ")[2]
        return HostEvent(each["timeNano"], role, "health", f"health check says {health}", {"status": health})
    name = _EVENTS.get(action)
    if name == "exit":
        code = int(attributes.get("exitCode", 0))
        return HostEvent(each["timeNano"], role, name, f"exited with code {code}", {"exit_code": code})
    body = {"restart": "container started", "oom": "out of memory: a process was killed"}
    return HostEvent(each["timeNano"], role, name, body[name], {}) if name else None


def stat_rows(stats: Sequence[Mapping[str, Any]], name: str) -> list[Row]:
    """What an engine elsewhere tells of the containers' processes."""
    now = time.time_ns()
    seconds = sum(each["cpu_stats"]["cpu_usage"]["total_usage"] for each in stats) / 1e9
    memory = 0
    for each in stats:
        details = each["memory_stats"].get("stats", {})
        cache = details.get("total_inactive_file", details.get("inactive_file", 0))
        memory += max(each["memory_stats"].get("usage", 0) - cache, 0)
    threads = sum(each.get("pids_stats", {}).get("current", 0) for each in stats)
    return [
        sum_row(now, 0, name, "process.cpu.time", "s", seconds),
        gauge_row(now, name, "process.memory.usage", "By", memory),
        gauge_row(now, name, "process.thread.count", "{thread}", threads),
    ]
