"""The entry of a service process: `run(config, control)` serves until SIGTERM.

A zygote imports the modules in `PRELOAD` before it forks; none of them starts a thread, a loop or a connection.
"""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import Callable

from chaosgym.services.config import ServiceConfig

__all__ = ["PRELOAD", "run"]

PRELOAD: tuple[str, ...] = (
    "uvloop",
    "aiohttp.web",
    "asyncpg",
    "redis.asyncio",
    "opentelemetry.sdk.trace.export",
    "opentelemetry.sdk.metrics.export",
    "chaosgym.services.program",
)


def run(config: ServiceConfig, control: socket.socket) -> None:
    """Serve `config` until SIGTERM, then drain, deliver the telemetry and return.

    `control` is a connected stream socket, see `chaosgym.services.control`. Raises OSError when the address is taken.
    """
    from chaosgym.services.program import Program

    gc.set_threshold(20_000, 20, 20)  # requests make little garbage in cycles; the default costs a tenth of the CPU
    program = Program(config, control)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(program.serve())


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop
