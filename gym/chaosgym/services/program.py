"""A running service: the parts put together, started, and ended gracefully."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Coroutine, Iterator
from typing import Any

from aiohttp import web

from chaosgym.services.config import Address, ServiceConfig
from chaosgym.services.consumer import Consumer
from chaosgym.services.control import Control
from chaosgym.services.defects import Defects
from chaosgym.services.handlers import Handlers
from chaosgym.services.instruments import Instruments
from chaosgym.services.journal import Journal, JournalHandler
from chaosgym.services.steps import Steps

__all__ = ["Program"]

DRAIN = 0.3
"""Seconds that requests in flight get after SIGTERM."""
_BACKLOG = 128


class Program:
    """One service process."""

    def __init__(self, config: ServiceConfig, control: socket.socket) -> None:
        self._config, self._control = config, control
        self._journal = Journal(config.name, config.style, config.seed)
        logging.basicConfig(handlers=[JournalHandler(self._journal)], level=logging.WARNING, force=True)

    async def serve(self) -> None:
        """Start, wait for SIGTERM, end."""
        config, journal = self._config, self._journal
        leave = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, leave.set)
        journal.log("INFO", "starting", name=config.name, version=config.version)
        defects = Defects(config.name)
        defects.switch(config.defect)
        instruments = Instruments(config.name, config.version, config.otlp)
        steps = Steps(config, instruments, journal)
        handlers = Handlers(config.endpoints, steps, instruments, journal, lambda: defects.rule)
        runner = await self._listen(handlers)
        background = [asyncio.create_task(work) for work in self._background(steps, instruments, defects)]
        await leave.wait()
        journal.log("INFO", "stopping")
        handlers.draining = True
        await _end(background)
        await runner.cleanup()
        await steps.close()
        await asyncio.to_thread(instruments.stop)
        journal.log("INFO", "stopped")

    async def _listen(self, handlers: Handlers) -> web.ServerRunner:
        runner = web.ServerRunner(web.Server(handlers.handle, access_log=None, keepalive_timeout=5.0), shutdown_timeout=DRAIN)
        await runner.setup()
        await web.SockSite(runner, _bound(self._config.bind), backlog=_BACKLOG).start()
        self._journal.log("INFO", "listening", address=f"0.0.0.0:{self._config.port}")
        return runner

    def _background(self, steps: Steps, instruments: Instruments, defects: Defects) -> Iterator[Coroutine[Any, Any, None]]:
        yield Control(self._control, defects).serve()
        if (stream := self._config.consumes) is not None:
            peer = next(p for p in self._config.peers if p.host == stream.host)
            yield Consumer(stream, peer, self._config.name, steps, instruments, self._journal, lambda: defects.rule).run()


def _bound(address: Address) -> socket.socket:
    """A socket that the next version can bind beside this one. Raises OSError when the address is taken."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
        listener.setsockopt(socket.SOL_SOCKET, option, 1)
    listener.bind(address)
    return listener


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError):
            await task
