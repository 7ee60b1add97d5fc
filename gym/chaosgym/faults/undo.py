"""Undoing on the dead: when a component has died meanwhile, there is nothing left to undo in it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from chaosgym.errors import SandboxError
from chaosgym.sandbox.base import Sandbox

__all__ = ["unless_dead"]


@contextmanager
def unless_dead(sandbox: Sandbox, role: str, *also: type[Exception]) -> Generator[None]:
    """Let what fails in the body pass if the component has no process any more; raise it otherwise.

    What counts as failing: OSError, SandboxError, and `also`, as a client library calls a lost server.
    """
    try:
        yield
    except (OSError, SandboxError, *also):
        if sandbox.processes(role):
            raise
