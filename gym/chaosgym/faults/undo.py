"""Undoing on the dead: when a component has died meanwhile, there is nothing left to undo in it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from chaosgym.errors import SandboxError
from chaosgym.sandbox.base import Sandbox

__all__ = ["unless_dead"]


@asynccontextmanager
async def unless_dead(sandbox: Sandbox, role: str, *also: type[Exception]) -> AsyncGenerator[None]:
    """Let what fails in the body pass if the component has no process any more; raise it otherwise.

    What counts as failing: OSError, SandboxError, and `also`, as a client library calls a lost server.
    """
    try:
        yield
    except (OSError, SandboxError, *also):
        if await sandbox.processes(role):
            raise
