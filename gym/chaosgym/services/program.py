"""A running service: the parts put together, started, and ended gracefully."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
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
from chaosgym.services.rules import Rule, compile_settings
from chaosgym.services.steps import Steps

__all__ = ["Program"]

DRAIN = 0.3
"""Seconds that requests in flight get after SIGTERM."""
_BACKLOG = 128


class Program:
    """One service: `serve` is the life of a process; `start` and `stop` are its two ends."""

    def __init__(self, config: ServiceConfig, control: socket.socket, log: int = 1) -> None:
        """`log`: the file descriptor that the log goes to."""
        self._config, self._control = config, control
        self._journal = Journal(config.name, config.style, config.seed, descriptor=log)
        self._defects = Defects(config.name, self._journal)
        self._settings = compile_settings(config.name, config.environment, config.unfinished)

    async def serve(self) -> None:
        """Start, wait for SIGTERM, stop; what libraries log is written in the service's style."""
        logging.basicConfig(handlers=[JournalHandler(self._journal)], level=logging.WARNING, force=True)
        leave = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, leave.set)
        await self.start()
        await leave.wait()
        await self.stop()

    async def start(self) -> None:
        """Listen and say so on the control socket. Raises OSError when the address is taken."""
        config, journal = self._config, self._journal
        listener = _bound(config.bind)
        journal.log("INFO", "starting", name=config.name, version=config.version)
        self._defects.switch(config.defect)
        self._instruments = Instruments(config.name, config.version, config.otlp)
        self.steps = Steps(config, self._instruments, journal, self._defects)
        self._handlers = Handlers(config, self.steps, self._instruments, journal, self._defects, self._rules)
        self._runner = web.ServerRunner(web.Server(self._handlers.handle, access_log=None, keepalive_timeout=5.0), shutdown_timeout=DRAIN)
        await self._runner.setup()
        await web.SockSite(self._runner, listener, backlog=_BACKLOG).start()
        journal.log("INFO", "listening", address=f"0.0.0.0:{config.port}")
        self._tasks = [asyncio.create_task(work) for work in self._background()]

    async def stop(self) -> None:
        """Stop accepting, let requests in flight finish for up to DRAIN seconds, deliver the telemetry."""
        self._journal.log("INFO", "stopping")
        self._handlers.draining = True
        self._defects.switch(None)
        await _end(self._tasks)
        await self._runner.cleanup()
        await self.steps.close()
        await asyncio.to_thread(self._instruments.stop)
        self._journal.log("INFO", "stopped")

    def _rules(self) -> tuple[Rule, ...]:
        return (*self._settings, *((self._defects.rule,) if self._defects.rule else ()))

    def _background(self) -> Iterator[Coroutine[Any, Any, None]]:
        config = self._config
        yield Control(self._control, self._defects, self._instruments).serve()
        if (stream := config.consumes) is not None:
            peer = next(p for p in config.peers if p.host == stream.host)
            stream = dataclasses.replace(stream, stream=config.stream or stream.stream)
            yield Consumer(stream, peer, config.name, self.steps, self._instruments, self._journal, self._defects, self._rules).run()


def _bound(address: Address) -> socket.socket:
    """A socket that the next version can bind beside this one. Raises OSError when the address is taken."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
        listener.setsockopt(socket.SOL_SOCKET, option, 1)
    try:
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError):
            await task
