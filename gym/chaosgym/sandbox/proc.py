"""A process as the kernel shows it, whatever the injector was told.

What may not be looked into, such as the files of another user's process, reads as empty, never as an exception.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

from chaosgym.sandbox.base import ProcessView

__all__ = ["children", "read_process"]

_PAGE = os.sysconf("SC_PAGESIZE")
_TICK = os.sysconf("SC_CLK_TCK")
_ENDED = ("Z", "X")
"""States of a process that is dead and has not been waited for."""
_TCP = (b"TCP\0", b"TCPv6\0")
_SOCK_DIAG, _BY_FAMILY, _REQUEST_DUMP = 4, 20, 0x301
"""NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP of sock_diag(7)."""
_HEADER = struct.Struct("=IHHII")
_INODE_AT = _HEADER.size + 68
"""Of the `idiag_inode` of an inet_diag_msg."""
_TCP_LISTEN = 1 << 10


def read_process(pid: int) -> ProcessView | None:
    """One process, or None when it is gone or has ended (a zombie has)."""
    fields = _stat_fields(_read(f"/proc/{pid}/stat"))
    if not fields or fields[0] in _ENDED:
        return None
    links = {number: _link(f"/proc/{pid}/fd/{number}") for number in _entries(f"/proc/{pid}/fd")}
    return ProcessView(
        pid, fields[0], _resident_bytes(pid), _files_limit(pid), frozenset(links), _connections(pid, links), _thread_seconds(pid)
    )


def children(pid: int) -> list[int]:
    """Those that a process has forked and that live."""
    return [int(child) for child in _read(f"/proc/{pid}/task/{pid}/children").split()]


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _stat_fields(text: str) -> list[str]:
    """The fields of a `stat` line from the state on (proc(5) numbers it 3); the name may hold spaces and brackets."""
    return text[text.rfind(")") + 1 :].split()


def _resident_bytes(pid: int) -> int:
    fields = _read(f"/proc/{pid}/statm").split()
    return int(fields[1]) * _PAGE if len(fields) > 1 else 0


def _files_limit(pid: int) -> int | None:
    for line in _read(f"/proc/{pid}/limits").splitlines():
        if line.startswith("Max open files"):
            soft = line.split()[3]
            return int(soft) if soft.isdigit() else None  # it may say "unlimited"
    return None


def _connections(pid: int, links: dict[int, str]) -> frozenset[int]:
    """Those descriptors that are TCP sockets and do not listen.

    /proc/net/tcp would tell as well, but for it the kernel walks the table of every connection on the machine: 20 ms.
    """
    found = {number: link for number, link in links.items() if link.startswith("socket:") and _protocol(pid, number) in _TCP}
    if not found:
        return frozenset()
    listening = {f"socket:[{inode}]" for family in (socket.AF_INET, socket.AF_INET6) for inode in _listening(family)}
    return frozenset(number for number, link in found.items() if link not in listening)


def _protocol(pid: int, number: int) -> bytes:
    try:
        return os.getxattr(f"/proc/{pid}/fd/{number}", "system.sockprotoname")
    except OSError:  # closed meanwhile
        return b""


def _listening(family: int) -> Iterator[int]:
    """Inodes of the TCP sockets that listen, in the network namespace that we share with the component."""
    request = struct.pack("=BBxxI48x", family, socket.IPPROTO_TCP, _TCP_LISTEN)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as diag:
            diag.send(_HEADER.pack(_HEADER.size + len(request), _BY_FAMILY, _REQUEST_DUMP, 0, 0) + request)
            while True:
                data, at = diag.recv(2**16), 0
                while at < len(data):
                    size, kind, *_ = _HEADER.unpack_from(data, at)
                    if kind != _BY_FAMILY:  # the end, or an error
                        return
                    yield int.from_bytes(data[at + _INODE_AT : at + _INODE_AT + 4], sys.byteorder)
                    at += (size + 3) & ~3
    except OSError:  # a kernel without sock_diag
        return


def _thread_seconds(pid: int) -> dict[int, float]:
    """User and system time, which the kernel counts in ticks of 10 ms."""
    used: dict[int, float] = {}
    for tid in _entries(f"/proc/{pid}/task"):
        fields = _stat_fields(_read(f"/proc/{pid}/task/{tid}/stat"))
        if len(fields) > 12:
            used[tid] = (int(fields[11]) + int(fields[12])) / _TICK
    return used


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:  # closed meanwhile
        return ""


def _entries(folder: str) -> list[int]:
    try:
        return [int(name) for name in os.listdir(folder) if name.isdigit()]
    except OSError:
        return []
