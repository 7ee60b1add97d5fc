"""What this machine can do for chaosgym: one Check each, with the exact fix where something is missing.

    examine("local")        everything that live episodes and training need
    examine("replay")       only what reading, scoring and evaluating recorded episodes needs
    examine("docker")       this machine's part of it; `chaosgym.doctor_engines` asks the engine itself
    examine("kubernetes")   likewise
"""

from __future__ import annotations

import os
import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from chaosgym.errors import InputError, PrerequisiteError, did_you_mean
from chaosgym.extras import EXTRAS, install_line, missing_modules
from chaosgym.sandbox.binaries import Program, find_postgres, find_redis

__all__ = ["SANDBOXES", "Check", "examine"]

Status = Literal["pass", "warn", "fail"]
SANDBOXES = ("local", "replay", "docker", "kubernetes")
_ENGINES = ("docker", "kubernetes")
_GIB = 2**30
_WORKER_BYTES = 350 * 2**20
"""What one worker of the local sandbox may take, with its PostgreSQL and Redis."""


@dataclass(frozen=True)
class Check:
    """One fact about this machine."""

    name: str
    status: Status
    """fail: what was asked for cannot work; warn: it works, but less of it or slower."""
    found: str
    fix: str = ""
    """What to do about it; empty when it passed."""


def examine(sandbox: str = "local") -> list[Check]:
    """Every check that matters for a sandbox, in the order in which to mend things. Raises InputError for an unknown one."""
    if sandbox not in SANDBOXES:
        raise InputError(f"unknown sandbox {sandbox!r}{did_you_mean(sandbox, SANDBOXES)}; known: {', '.join(SANDBOXES)}")
    checks = [_python(), _system(), *_packages(sandbox)]
    if sandbox == "local":
        checks += [_server("postgres", find_postgres), _server("redis", find_redis), _namespaces(), _files()]
    return [*checks, _processors(), _memory(), _disk(), _torch()]


def _python() -> Check:
    found = f"{sys.version.split()[0]} ({sys.executable})"
    fine = sys.version_info >= (3, 11)
    remedy = "" if fine else "install Python 3.11 or newer and make a new virtual environment"
    return Check("python", "pass" if fine else "fail", found, remedy)


def _system() -> Check:
    found = f"{os.uname().sysname} {os.uname().release} {os.uname().machine}"
    fine = sys.platform == "linux"
    remedy = "" if fine else "live episodes need Linux; everything on recorded episodes works here"
    return Check("system", "pass" if fine else "warn", found, remedy)


def _packages(sandbox: str) -> Iterator[Check]:
    for extra, modules in EXTRAS.items():
        if (extra == "services" and sandbox == "replay") or (extra in _ENGINES and sandbox != extra):
            continue
        missing = missing_modules(extra)
        if not missing:
            yield Check(f"packages.{extra}", "pass", f"all {len(modules)} found")
        else:
            status = "fail" if extra in ("services", sandbox) else "warn"
            yield Check(f"packages.{extra}", status, f"missing: {', '.join(missing)}", f"run: {install_line(missing[0])}")


def _server(name: str, find: Callable[[], Program]) -> Check:
    try:
        program = find()
    except PrerequisiteError as error:
        what, _, remedy = str(error).partition("; ")
        return Check(name, "fail", what, remedy)
    return Check(name, "pass", f"{program.version_text} ({program.source}: {program.path})")


def _namespaces() -> Check:
    from chaosgym.sandbox.namespaces import probe

    isolation = probe()
    if isolation.namespaced:
        return Check("namespaces", "pass", "user, network, mount and pid")
    remedy = (
        "sandboxes fall back to process groups and shared loopback ports; for private ones, as root: "
        "sysctl -w kernel.unprivileged_userns_clone=1 kernel.apparmor_restrict_unprivileged_userns=0, "
        "or in a container: docker run --security-opt seccomp=unconfined"
    )
    return Check("namespaces", "warn", f"refused ({isolation.reason})", remedy)


def _files() -> Check:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    fine = soft >= 1024
    return Check("files", "pass" if fine else "warn", f"{soft} open files (at most {hard})", "" if fine else "run: ulimit -n 4096")


def _processors() -> Check:
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _processor_quota()
    usable = min(float(count), quota or float(count))
    fine = usable >= 2
    remedy = "" if fine else "use one worker (--workers 1) and expect the quickstart to take twice as long, or give it 2 cores"
    return Check("cpu", "pass" if fine else "warn", f"{usable:g} cores", remedy)


def _processor_quota() -> float | None:
    """Cores that a control group allows; None without a limit."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        pass
    try:
        folder = Path("/sys/fs/cgroup/cpu")
        quota_us = int((folder / "cpu.cfs_quota_us").read_text())
        return quota_us / int((folder / "cpu.cfs_period_us").read_text()) if quota_us > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _memory() -> Check:
    free = _free_memory()
    if free is None:
        return Check("memory", "warn", "unknown", "see that 4 GiB are free for the quickstart")
    found = f"{free / _GIB:.1f} GiB free"
    if free < 2 * _WORKER_BYTES:
        return Check("memory", "fail", found, f"free some: one worker takes up to {_WORKER_BYTES // 2**20} MiB, training about 3 GiB")
    if free < 4 * _GIB:
        return Check("memory", "warn", found, "recording works; training wants 4 GiB, so close other programs first")
    return Check("memory", "pass", found)


def _free_memory() -> int | None:
    """Bytes that programs may still take: of the machine, or less where a control group says so."""
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
    pairs = (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"))
    for limit, usage in pairs:
        try:
            root = Path("/sys/fs/cgroup")
            free = min(free, int((root / limit).read_text()) - int((root / usage).read_text()))
        except (OSError, ValueError):  # no such controller, or `max`
            continue
    return max(free, 0)


def _disk() -> Check:
    free = shutil.disk_usage(Path.cwd()).free
    found = f"{free / _GIB:.1f} GiB free in {Path.cwd()}"
    if free < _GIB // 2:
        return Check("disk", "fail", found, "free at least 0.5 GiB, or record to another disk with --out")
    if free < 4 * _GIB:
        return Check("disk", "warn", found, "enough to record; an installation with torch and its checkpoints wants 4 GiB")
    return Check("disk", "pass", found)


def _torch() -> Check:
    try:
        found = version("torch")
    except PackageNotFoundError:
        return Check("torch", "warn", "not installed", f"to train or to run a language model: {install_line('torch')}")
    card = Path("/proc/driver/nvidia/version").exists()
    if card and "+cpu" in found:
        remedy = "to train on the GPU install a CUDA build of torch (https://pytorch.org/get-started)"
        return Check("torch", "warn", f"{found}, but this machine has an NVIDIA driver", remedy)
    return Check("torch", "pass", f"{found} ({'an NVIDIA driver is loaded' if card else 'CPU'})")
