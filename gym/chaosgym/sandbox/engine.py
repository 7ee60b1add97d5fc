"""A container engine, as a sandbox sees it: places where components run, and how they are reached and read.

Everything an engine makes carries `labels` with the id of the run, and nothing else is ever touched.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from chaosgym.sandbox.alive import this_process
from chaosgym.sandbox.base import Capability, PlatformChange, PlatformView

__all__ = [
    "CONTROL_PORT", "CREATED_LABEL", "OWNER_LABEL", "RUN_LABEL", "WORKER_LABEL", "Engine", "EngineEvent", "Place", "PlaceKind",
    "labels",
]  # fmt: skip

CONTROL_PORT = 9000
"""Where the process 1 of a container takes orders."""
OWNER_LABEL, RUN_LABEL, CREATED_LABEL = "chaosgym.dev/owner", "chaosgym.dev/run", "chaosgym.dev/created"
"""On everything we make: always `chaosgym`; the id of the run; when it was made, Unix seconds."""
WORKER_LABEL = "chaosgym.dev/worker"
"""On everything we make: the process that steers it (`chaosgym.sandbox.alive`)."""

PlaceKind = Literal["service", "postgres", "redis"]


def labels(run: str) -> dict[str, str]:
    """What everything of a run carries."""
    return {OWNER_LABEL: "chaosgym", RUN_LABEL: run, CREATED_LABEL: str(int(time.time())), WORKER_LABEL: this_process()}


@dataclass(frozen=True)
class Place:
    """A running container that waits for a component."""

    handle: str
    """The engine's name for it."""
    kind: PlaceKind
    address: str
    """Where its process 1 takes our orders."""
    entry: str
    """Where clients of the component connect."""
    token: str = field(repr=False)
    """What its process 1 asks for."""


@dataclass(frozen=True)
class EngineEvent:
    """Something that the engine itself reports of a place."""

    at: int
    """Unix nanoseconds, when we heard of it."""
    handle: str
    name: str
    """Its reason, as the engine words it."""
    body: str
    """What it says; the place goes by its handle."""
    attributes: Mapping[str, str]


class Engine(Protocol):
    """Docker or Kubernetes; calls block no event loop and raise SandboxError or PrerequisiteError."""

    @property
    def name(self) -> str:
        """`docker` or `kubernetes`."""
        ...

    @property
    def lacks(self) -> frozenset[Capability]:
        """What cannot be done to components there."""
        ...

    @property
    def host(self) -> str:
        """The address under which containers reach this process; known after the first `add`."""
        ...

    async def open(self) -> None:
        """Make the private network of a sandbox."""
        ...

    async def add(self, kinds: Sequence[PlaceKind]) -> list[Place]:
        """Start a container for each; they may still be booting when this returns."""
        ...

    async def settle(self, places: Sequence[Place]) -> None:
        """Wait until the entries of `places` lead to them."""
        ...

    async def replaced(self) -> list[Place]:
        """Places whose part another container has taken since it was last asked for."""
        ...

    async def events(self, since: int) -> Sequence[EngineEvent]:
        """What the engine has reported since (Unix nanoseconds)."""
        ...

    async def gauges(self) -> Mapping[str, Mapping[str, float]]:
        """What the engine counts: by handle, by the name of the metric."""
        ...

    async def change(self, handle: str, change: PlatformChange | None) -> None:
        """[platform] See `Sandbox.change_platform`."""
        ...

    async def view(self, handle: str) -> PlatformView:
        """[platform] See `Sandbox.platform`."""
        ...

    async def logs(self, place: Place, since: int) -> str:
        """What the container has written since (Unix nanoseconds)."""
        ...

    async def close(self) -> None:
        """Remove everything that this engine made; safe to call twice."""
        ...
