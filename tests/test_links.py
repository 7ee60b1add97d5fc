"""Links: what a client sees of a component behind a delayed, lossy, cut or dead link."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time

import pytest

from chaosgym.errors import FaultError
from chaosgym.sandbox import links
from chaosgym.sandbox.base import Toxic
from chaosgym.sandbox.links import Link
from chaosgym.sandbox.wire import draw_address

PORT = 7000


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(4096):
            writer.write(data)
    writer.close()


class _Pair:
    """An echo server behind a link."""

    async def __aenter__(self) -> _Pair:
        upstream = draw_address()
        self.server = await asyncio.start_server(_echo, upstream, PORT)
        self.link = Link(draw_address(), PORT, (upstream, PORT))
        self.link.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.link.refuse()
        self.server.close()
        await asyncio.sleep(0.05)  # aborted transports close in a later turn of the loop

    async def call(self, timeout: float = 2.0) -> float:
        """Seconds for connect, send, receive. Raises TimeoutError or OSError as a client would see it."""
        begun = time.perf_counter()
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(self.link.address, PORT)
            try:
                writer.write(b"hello")
                assert await reader.readexactly(5) == b"hello"
            finally:
                writer.close()
        return time.perf_counter() - begun


async def test_a_clean_link_is_quick() -> None:
    async with _Pair() as pair:
        assert min([await pair.call() for _ in range(5)]) < 0.05


async def test_latency_is_added_in_each_direction_and_goes_again() -> None:
    async with _Pair() as pair:
        pair.link.set(Toxic(latency=0.08))
        slow = await pair.call()
        pair.link.set(None)
        assert slow >= 0.16
        assert min([await pair.call() for _ in range(5)]) < 0.08


async def test_jitter_keeps_the_order_of_a_stream() -> None:
    async with _Pair() as pair:
        pair.link.set(Toxic(latency=0.02, jitter=0.02))
        reader, writer = await asyncio.open_connection(pair.link.address, PORT)
        sent = b"".join(i.to_bytes(2) for i in range(200))
        for i in range(0, len(sent), 20):
            writer.write(sent[i : i + 20])
            await asyncio.sleep(0.001)
        assert await asyncio.wait_for(reader.readexactly(len(sent)), 3) == sent
        writer.close()


@pytest.fixture(params=["filtered", "unprivileged"])
def partition(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of making one: by packet filters, and where those are not permitted."""
    real = links._set_loss  # pyright: ignore[reportPrivateUsage]

    def refuse(sock: socket.socket, share: float) -> None:
        if share > 0:
            raise PermissionError(1, "Operation not permitted")
        real(sock, share)

    if request.param == "unprivileged":
        monkeypatch.setattr(links, "_set_loss", refuse)


@pytest.mark.usefixtures("partition")
async def test_a_partition_times_out_instead_of_refusing_and_heals() -> None:
    async with _Pair() as pair:
        await pair.call()
        pair.link.set(Toxic(drop=1.0))
        with pytest.raises(TimeoutError):
            await pair.call(0.3)
        pair.link.set(None)
        assert await pair.call() < 1.5


@pytest.mark.usefixtures("partition")
async def test_a_partition_also_stops_connections_that_were_open() -> None:
    async with _Pair() as pair:
        reader, writer = await asyncio.open_connection(pair.link.address, PORT)
        writer.write(b"a")
        assert await reader.readexactly(1) == b"a"
        pair.link.set(Toxic(drop=1.0))
        writer.write(b"b")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readexactly(1), 0.3)
        pair.link.set(None)
        assert await asyncio.wait_for(reader.readexactly(1), 3) == b"b", "the kernel retransmits what was lost"
        writer.close()


async def test_loss_costs_retransmissions() -> None:
    async with _Pair() as pair:
        try:
            pair.link.set(Toxic(drop=0.5))
        except FaultError:
            pytest.skip("packet filters are not permitted here")
        times = await asyncio.gather(*(pair.call(8.0) for _ in range(12)), return_exceptions=True)
        slow = [t for t in times if isinstance(t, BaseException) or t > 0.15]
        assert slow, "half of the packets lost and nobody waited for a retransmission"


async def test_a_link_to_a_dead_component_refuses() -> None:
    async with _Pair() as pair:
        pair.link.refuse()
        with pytest.raises(ConnectionRefusedError):
            await pair.call()
        pair.link.start()
        assert await pair.call() < 1
