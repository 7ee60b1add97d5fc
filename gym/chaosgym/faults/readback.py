"""Waiting until a fault is in force, as whoever looks at the component itself sees it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from chaosgym.errors import FaultError

__all__ = ["in_force"]


async def in_force(holds: Callable[[], Awaitable[bool]], failure: Callable[[], str], within: float = 1.0) -> None:
    """Wait until `holds()`; after `within` seconds raise FaultError with `failure()`, which may tell what was seen last."""
    deadline = time.monotonic() + within
    while not await holds():
        if time.monotonic() > deadline:
            raise FaultError(failure())
        await asyncio.sleep(0.004)
