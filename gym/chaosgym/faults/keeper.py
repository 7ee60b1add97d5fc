"""A Keeper: does one thing again and again while a fault lasts, because what it breaks would heal by itself."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from chaosgym.errors import FaultError, InfrastructureError

__all__ = ["Keeper"]

_STOP_TIMEOUT = 3.0


class Keeper:
    """Runs in the loop that starts it."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None
        self._stopping = False

    async def start(self, step: Callable[[], Awaitable[object]], every: float, *passing: type[Exception]) -> None:
        """Do `step` now and then every so many seconds; OSError, InfrastructureError and `passing` cost the later steps one turn."""
        self._stopping = False
        await step()
        self._task = asyncio.create_task(self._repeat(step, every, (OSError, InfrastructureError, *passing)))

    async def _repeat(self, step: Callable[[], Awaitable[object]], every: float, passing: tuple[type[Exception], ...]) -> None:
        while not self._stopping:  # a client may swallow the cancellation of its caller
            await asyncio.sleep(every)
            with contextlib.suppress(*passing):
                await step()

    @property
    def at_work(self) -> bool:
        """Whether it goes on."""
        return self._task is not None and not self._task.done()

    async def stop(self) -> None:
        """No more steps; safe to call twice. Raises FaultError when a step does not end."""
        task, self._task, self._stopping = self._task, None, True
        if task is None:
            return
        task.cancel()
        _, pending = await asyncio.wait([task], timeout=_STOP_TIMEOUT)
        if pending:
            raise FaultError(f"what a fault repeats did not end within {_STOP_TIMEOUT:g} s")
