"""The entry of a service process: `run(config, control)` serves until SIGTERM.

A zygote imports the modules in `PRELOAD` before it forks; none of them starts a thread, a loop or a connection.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import socket
from collections.abc import Callable

from chaosgym.services.config import Call, Compute, EndpointConfig, Peer, ServiceConfig

__all__ = ["PRELOAD", "run", "warm_up"]

PRELOAD: tuple[str, ...] = (
    "uvloop",
    "aiohttp.web",
    "asyncpg",
    "redis.asyncio",
    "opentelemetry.sdk.trace.export",
    "opentelemetry.sdk.metrics.export",
    "chaosgym.services.program",
)
_REHEARSALS = 12
"""Requests of a rehearsal: Python 3.11 specialises code after eight runs."""


def run(config: ServiceConfig, control: socket.socket) -> None:
    """Serve `config` until SIGTERM, then drain, deliver the telemetry and return.

    `control` is a connected stream socket, see `chaosgym.services.control`. Raises OSError when the address is taken.
    """
    from chaosgym.services.program import Program

    gc.set_threshold(50_000, 20, 20)  # requests make little garbage in cycles; the default costs a tenth of the CPU
    program = Program(config, control)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(program.serve())


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def warm_up() -> None:
    """Serve a few requests in this process, so that the services forked from it find caches filled and code specialised.

    Leaves neither a thread, a loop nor a socket behind. Raises OSError when no loopback address can be bound.
    """
    with open(os.devnull, "w") as nowhere, asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_rehearse(nowhere.fileno()))


async def _rehearse(log: int) -> None:
    from opentelemetry.context import Context

    from chaosgym.services.program import Program
    from chaosgym.services.work import Work

    name, bind = "warm", (f"127.{random.randint(1, 15)}.{random.randint(0, 255)}.{random.randint(2, 250)}", random.randint(20_000, 60_000))
    call = Call(name, "GET", "/leaf/{id}", 1.0, 0)
    endpoints = (EndpointConfig("GET", "/leaf/{id}", (Compute(0.0),)), EndpointConfig("POST", "/root", (call,)))
    config = ServiceConfig(
        name=name, version="1", host=name, port=bind[1], bind=bind, style="json", seed=1, otlp=f"http://{bind[0]}:{bind[1]}",
        peers=(Peer(name, bind[1], bind, "service"),), endpoints=endpoints,
    )  # fmt: skip
    ours, theirs = socket.socketpair()
    with ours:
        program = Program(ServiceConfig.from_json(config.to_json()), theirs, log)
        await program.start()
        for item in range(_REHEARSALS):
            await program.steps.run((Call(name, "POST", "/root", 1.0, 0),), Work(item, Context(), ("", "")))
        await program.stop()
