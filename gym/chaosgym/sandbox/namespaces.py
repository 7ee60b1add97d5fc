"""Private namespaces for one worker, without root, and a process tree that dies as a whole.

    runner ── lifeline pipe ──> keeper ── PR_SET_PDEATHSIG ──> worker (pid 1 of its namespace) ──> everything

The keeper does nothing but wait. When the runner goes, even by SIGKILL, its end of the lifeline closes
and the keeper kills the worker; as the worker is init of a pid namespace, the kernel kills all that
it started. Where namespaces are refused the same tree is held together by parent-death signals and by
the keeper, which adopts (PR_SET_CHILD_SUBREAPER) and kills every orphan.

This module is imported before anything that starts threads: unshare(CLONE_NEWUSER) demands one thread.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Isolation", "die_with_parent", "keep", "mount_tmpfs", "probe"]

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x00020000, 0x10000000, 0x20000000, 0x40000000
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REC, MS_PRIVATE = 2, 4, 8, 16384, 1 << 18
MNT_DETACH = 2
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
INNER_UID = 1000
"""PostgreSQL refuses uid 0, so whoever we are outside is this user inside."""

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Isolation:
    """What the worker got: private namespaces, or the reason why not."""

    namespaced: bool
    reason: str = ""


def die_with_parent() -> None:
    """Ask the kernel to SIGKILL this process when its parent dies; exits if that happened already."""
    parent = os.getppid()
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)


def _check(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def _unshare() -> None:
    uid, gid = os.getuid(), os.getgid()
    _check(_libc.unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{INNER_UID} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{INNER_UID} {gid} 1")
    with socket.socket() as probe_socket:
        fcntl.ioctl(probe_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))
    _check(_libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None), "mount --make-rprivate")


def _mount_proc() -> None:
    _check(_libc.mount(b"proc", b"/proc", b"proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, None), "mount /proc")


def mount_tmpfs(path: Path, size: int) -> None:
    """Mount a tmpfs of `size` bytes on `path` in the current mount namespace. Raises OSError."""
    options = f"size={size},mode=0700".encode()
    _check(_libc.mount(b"tmpfs", os.fsencode(path), b"tmpfs", MS_NOSUID | MS_NODEV, options), f"mount tmpfs on {path}")


def probe() -> Isolation:
    """Try, in a throw-away child, everything that a namespaced worker needs."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            _unshare()
            grandchild = os.fork()
            if grandchild == 0:
                _probe_inside(writer)
            os.waitpid(grandchild, 0)
        except OSError as error:
            os.write(writer, str(error).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read().decode()
    os.waitpid(child, 0)
    return Isolation(said == "ok", "" if said == "ok" else said or "namespaces: the probe died")


def _probe_inside(writer: int) -> None:
    try:
        _mount_proc()
        os.write(writer, b"ok")
    except OSError as error:
        os.write(writer, str(error).encode())
    os._exit(0)


def keep(lifeline: int, state: Path, want_namespaces: bool = True, cleaner: Sequence[str] = ()) -> Isolation:
    """Split this process: the caller goes on as the worker, the original becomes its keeper.

    Returns only in the worker. The keeper removes `state` and exits with the worker's status when the
    worker ends, or kills the worker when the other end of `lifeline` (a pipe or socket) closes. After a worker that did
    not end well it runs the command `cleaner`, if there is one.
    """
    isolation = probe() if want_namespaces else Isolation(False, "switched off")
    if isolation.namespaced:
        _unshare()
    else:
        _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    worker = os.fork()
    if worker != 0:
        _wait(worker, lifeline, state, cleaner)
    die_with_parent()
    os.close(lifeline)
    if isolation.namespaced:
        _mount_proc()
    return isolation


def _wait(worker: int, lifeline: int, state: Path, cleaner: Sequence[str]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for fd in (0, 1):
        os.close(fd)
    watch = os.pidfd_open(worker)
    ends = select.poll()
    ends.register(lifeline, 0)  # hang-up alone: the worker reads what comes over it
    ends.register(watch, select.POLLIN)
    if all(fd == lifeline for fd, _ in ends.poll()):
        os.kill(worker, signal.SIGKILL)
    _, status = os.waitpid(worker, 0)
    _kill_orphans()
    _libc.umount2(os.fsencode(state), MNT_DETACH)  # its tmpfs, if there is one; else this fails and changes nothing
    shutil.rmtree(state, ignore_errors=True)
    if status != 0 and cleaner:
        subprocess.run(cleaner, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=120, check=False)
    sys.stderr.flush()
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def _kill_orphans() -> None:
    """Without a pid namespace, what the worker left has been re-parented to us: end it, to the last one."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    while True:
        try:
            pids = [int(p) for p in children.read_text().split()]
        except OSError:
            return
        if not pids:
            return
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
