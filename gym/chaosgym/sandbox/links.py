"""A link: a TCP proxy in front of a component whose packets can be delayed or lost.

Loss is real: a classic BPF program on the listening and on every accepted socket makes the kernel drop
incoming segments, SYNs included, so clients see what a partition or a lossy network gives them (connect
timeouts, retransmissions at the RTO) without iptables. That needs CAP_NET_ADMIN over the network namespace, which
a private one gives to anybody; without it a partition is made by a full accept queue, which makes the kernel drop
SYNs too, and by keeping back what arrives on open connections. Latency is added to each chunk in both
directions; the proxy cannot delay a SYN. What a middlebox does to a stream - resets, half answers, wrong bytes,
an error page of its own - is done to what the component answers, a chunk being an answer or a part of one.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import random
import socket
import struct
from collections import deque
from collections.abc import Coroutine
from typing import Any, cast

from chaosgym.errors import FaultError
from chaosgym.sandbox.base import Toxic

__all__ = ["Link"]

SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27
_BACKLOG = 128
_PLUGS = 3
"""Connections that fill an accept queue of length 0, with some to spare."""
_DROP_ALL = ((0x06, 0, 0, 0),)  # ret 0
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of zero seconds: closing sends RST."""
_LACKING = 8
"""A truncated answer lacks this part of it: the end of its body."""
_WRONG_BYTES = 0.05
"""Of a corrupt answer."""
_NOBODY_HOME = b"upstream connect error or disconnect/reset before headers. reset reason: connection timeout"
_UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s" % (
    len(_NOBODY_HOME), _NOBODY_HOME,
)
"""As Envoy words it."""


def _loss_program(share: float) -> tuple[tuple[int, int, int, int], ...]:
    if share >= 1:
        return _DROP_ALL
    keep_below = min(0xFFFFFFFF, int((1 - share) * 2**32))
    load_random = (0x20, 0, 0, 0xFFFFF000 + 56)  # ld [SKF_AD_OFF + SKF_AD_RANDOM]
    return (load_random, (0x35, 0, 1, keep_below), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))


def _set_loss(sock: socket.socket, share: float) -> None:
    if share <= 0:
        with contextlib.suppress(OSError):  # nothing was attached
            sock.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
        return
    program = _loss_program(share)
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", len(program), ctypes.addressof(code)))


class _Half(asyncio.Protocol):
    """One end of a proxied connection; what it reads goes to `other` after the link's delay."""

    def __init__(self, link: Link, *, answers: bool = False) -> None:
        self.link = link
        self.answers = answers
        """What it reads comes from the component."""
        self.other: _Half | None = None
        self.transport: asyncio.Transport | None = None
        self.early: list[bytes] = []
        self.waiting: deque[tuple[float, bytes]] = deque()
        """(loop time at which it is due, data), in order."""
        self.kept: list[bytes] = []
        """What arrived while the link was cut, or mute."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        for data in self.early:
            self.transport.write(data)
        self.early.clear()

    def data_received(self, data: bytes) -> None:
        if self.other is None:
            return
        if self.link.cut:
            self.kept.append(data)
            return
        if self.link.toxic is not None and not self._passes(data, self.link.toxic):
            return
        delay = self.link.delay()
        if delay == 0 and not self.waiting:
            self.other.write(data)
            return
        now = self.link.loop.time()
        last = self.waiting[-1][0] if self.waiting else 0.0
        self.waiting.append((max(now + delay, last), data))  # a stream keeps its order under jitter
        if len(self.waiting) == 1:
            self.link.loop.call_at(self.waiting[0][0], self._deliver)

    def _passes(self, data: bytes, toxic: Toxic) -> bool:
        """Whether the chunk goes on as it is; otherwise what happens instead has happened."""
        if not self.answers:
            if toxic.unavailable and b"\r\n\r\n" in data:
                self.write(_UNAVAILABLE)
                self.close()
            return not toxic.unavailable
        if toxic.mute:
            self.kept.append(data)
            return False
        client = self.other
        assert client is not None
        fate = random.random()
        if fate < toxic.reset:
            client.reset()
        elif fate < toxic.reset + toxic.truncate:
            client.write(data[: -(len(data) // _LACKING) - 1])
            client.close()
        elif fate < toxic.reset + toxic.truncate + toxic.corrupt:
            client.write(bytes(byte ^ 0x80 if random.random() < _WRONG_BYTES else byte for byte in data))
        else:
            return True
        return False

    def _deliver(self) -> None:
        now = self.link.loop.time()
        while self.waiting and self.waiting[0][0] <= now:
            _, data = self.waiting.popleft()
            if self.other is not None:
                self.other.write(data)
        if self.waiting:
            self.link.loop.call_at(self.waiting[0][0], self._deliver)

    def release(self) -> None:
        """Hand on what was kept back, as retransmissions would."""
        kept, self.kept = self.kept, []
        for data in kept:
            self.data_received(data)

    def write(self, data: bytes) -> None:
        if self.transport is None:
            self.early.append(data)
        elif not self.transport.is_closing():
            self.transport.write(data)

    def close(self) -> None:
        """End the connection when all is written."""
        if self.transport is not None:
            self.transport.close()

    def reset(self) -> None:
        """End the connection by RST."""
        if self.transport is not None and (sock := self.transport.get_extra_info("socket")):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.abort()

    def abort(self) -> None:
        """Drop the connection with what is not written yet."""
        self.link.halves.discard(self)
        if self.transport is not None:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.link.halves.discard(self)
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()


class Link:
    """Listens on `address:port`, forwards to `upstream`; see the module docstring."""

    def __init__(self, address: str, port: int, upstream: tuple[str, int]) -> None:
        self.address, self.port, self.upstream = address, port, upstream
        self.toxic: Toxic | None = None
        self.halves: set[_Half] = set()
        self.loop = asyncio.get_running_loop()
        self.cut = False
        """A partition without filters is in force."""
        self._plugs: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: socket.socket | None = None

    def delay(self) -> float:
        """Seconds to hold the next chunk."""
        toxic = self.toxic
        if toxic is None or toxic.latency <= 0:
            return 0.0
        return max(0.0, toxic.latency + random.uniform(-toxic.jitter, toxic.jitter))

    def start(self) -> None:
        """Bind and accept; no-op when listening. Raises OSError when the address is taken."""
        if self._listener is not None or (self.toxic is not None and self.toxic.refuse):
            return
        self._listener = socket.create_server((self.address, self.port), backlog=_BACKLOG)
        self._listener.setblocking(False)
        if self.toxic is not None:
            self.set(self.toxic)
        if not self.cut:
            self.loop.add_reader(self._listener.fileno(), self._accept, self._listener)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):  # until nobody waits
            while True:
                client, _ = listener.accept()
                client.setblocking(False)
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._spawn(self._join(client))

    async def _join(self, client: socket.socket) -> None:
        near, far = _Half(self), _Half(self, answers=True)
        near.other, far.other = far, near
        self.halves.add(near)
        try:
            await self.loop.connect_accepted_socket(lambda: near, client)
            await self.loop.create_connection(lambda: far, *self.upstream)
        except OSError:
            near.abort()  # the server refused between its death and our hearing of it
        except asyncio.CancelledError:
            near.abort()
            client.close()
            raise
        if near not in self.halves:  # the client left while we connected
            far.abort()

    def set(self, toxic: Toxic | None) -> None:
        """Put `toxic` in force for present and future connections; None cleans the link.

        Raises FaultError for a partial loss where filters are not permitted.
        """
        refused = self.toxic is not None and self.toxic.refuse
        self.toxic = toxic
        share = toxic.drop if toxic else 0.0
        self._mend()
        if toxic is not None and toxic.refuse:
            self.refuse()
            return
        if refused:
            self.start()  # which comes back here
            return
        for half in list(self.halves):
            if half.other is not None:
                half.other.release()
        try:
            self._lose(share)
        except PermissionError as error:
            if share < 1:
                raise FaultError(f"losing {share:.0%} of packets needs CAP_NET_ADMIN or a private network namespace") from error
            self._cut()

    def _lose(self, share: float) -> None:
        if self._listener is not None:
            _set_loss(self._listener, share)
        for half in self.halves:
            if half.transport is not None and (sock := half.transport.get_extra_info("socket")):
                _set_loss(sock, share)

    def _cut(self) -> None:
        """Let nobody in: accept nothing, and fill the accept queue so that the kernel drops further SYNs."""
        self.cut = True
        if self._listener is None:
            return
        self.loop.remove_reader(self._listener.fileno())
        self._listener.listen(0)
        for _ in range(_PLUGS):
            plug = socket.socket()
            plug.setblocking(False)
            plug.connect_ex((self.address, self.port))
            self._plugs.append(plug)

    def _mend(self) -> None:
        if not self.cut:
            return
        self.cut = False
        for plug in self._plugs:
            plug.close()
        self._plugs.clear()
        if self._listener is not None:
            self._listener.listen(_BACKLOG)
            self.loop.add_reader(self._listener.fileno(), self._accept, self._listener)
        for half in list(self.halves):
            half.release()
            if half.other is not None:
                half.other.release()

    def refuse(self) -> None:
        """Close the listener and every connection: the component behind is down, and looks so."""
        for task in list(self._tasks):
            task.cancel()
        for plug in self._plugs:
            plug.close()
        self._plugs.clear()
        self.cut = False
        if self._listener is not None:
            self.loop.remove_reader(self._listener.fileno())
            self._listener.close()
            self._listener = None
        for half in list(self.halves):
            half.abort()
            if half.other is not None:
                half.other.abort()
