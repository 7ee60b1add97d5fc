"""The controller's end of the line to a component's container; `chaosgym.sandbox.component` is the other.

    remote = await Remote.connect(address, port, token, on_notice)
    await remote.ask("signal", number=9, pid=None)
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from chaosgym.errors import FaultError, SandboxError
from chaosgym.sandbox.component import copy

__all__ = ["Notice", "Remote", "tunnel"]

CONNECT_TIMEOUT = 60.0
"""Seconds that a container may take from its start until it listens."""
ASK_TIMEOUT = 12.0
_RETRY = 0.05
_LINE = 2**24

Notice = Callable[[str, str, Mapping[str, Any], int], None]
"""(event name, body, attributes, Unix nanoseconds)."""


class Remote:
    """A connection to one container; orders may be under way side by side."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, on_notice: Notice) -> None:
        self._reader, self._writer, self._on_notice = reader, writer, on_notice
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._count = 0
        self._listening = asyncio.get_running_loop().create_task(self._listen())

    @classmethod
    async def connect(cls, address: str, port: int, token: str, on_notice: Notice, timeout: float = CONNECT_TIMEOUT) -> Remote:
        """Connect as soon as the container listens. Raises SandboxError after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                reader, writer = await _open(address, port, {"token": token})
                if await asyncio.wait_for(reader.readline(), 3):
                    return cls(reader, writer, on_notice)
                raise ConnectionResetError("closed at once")
            except OSError as error:
                if time.monotonic() > deadline:
                    raise SandboxError(
                        f"the container at {address}:{port} did not answer within {timeout:g} s ({error or type(error).__name__}); "
                        "is its network reachable from here?"
                    ) from error
                await asyncio.sleep(_RETRY)

    async def ask(self, order: str, /, timeout: float = ASK_TIMEOUT, **parameters: Any) -> Any:
        """Have an order carried out and return its result. Raises FaultError or SandboxError as it failed."""
        self._count += 1
        number, future = self._count, asyncio.get_running_loop().create_future()
        if self._listening.done():
            raise SandboxError(f"{order}: the container is gone")
        self._waiting[number] = future
        self._writer.write(json.dumps({"id": number, "order": order, "with": parameters}).encode() + b"\n")
        try:
            answer = await asyncio.wait_for(future, timeout)
        except TimeoutError as error:
            raise SandboxError(f"{order}: the container did not answer within {timeout:g} s") from error
        finally:
            self._waiting.pop(number, None)
        if "fault" in answer:
            raise FaultError(answer["fault"])
        if "error" in answer:
            raise SandboxError(f"{order}: {answer['error']}")
        return answer["value"]

    async def _listen(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            while line := await self._reader.readline():
                message = json.loads(line)
                if "notice" in message:
                    self._on_notice(*message["notice"])
                elif (future := self._waiting.get(message["id"])) is not None and not future.done():
                    future.set_result(message)
        for future in self._waiting.values():
            if not future.done():
                future.set_result({"error": "the container is gone"})

    @property
    def alive(self) -> bool:
        """The line has not broken."""
        return not self._listening.done()

    async def close(self) -> None:
        """Hang up."""
        self._listening.cancel()
        self._writer.close()
        with contextlib.suppress(asyncio.CancelledError):
            await self._listening


async def tunnel(local: Path, address: str, port: int, token: str, name: str) -> asyncio.Server:
    """Listen on the Unix socket `local` and lead each connection to the socket `name` inside the container."""

    async def lead(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await _open(address, port, {"token": token, "tunnel": name})
        except OSError:
            writer.close()
            return
        await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer))

    return await asyncio.start_unix_server(lead, str(local))


async def _open(address: str, port: int, hello: Mapping[str, str]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.wait_for(asyncio.open_connection(address, port, limit=_LINE), 3)
    writer.write(json.dumps(hello).encode() + b"\n")
    return reader, writer
