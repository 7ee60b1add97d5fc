"""A container engine, as a sandbox sees it: places where components run, and how they are reached and read.

Everything an engine makes carries `LABELS` with the id of the run, and nothing else is ever touched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from chaosgym.sandbox.base import Capability, PlatformChange, PlatformView
from chaosgym.services.config import Address

__all__ = ["CONTROL_PORT", "CREATED_LABEL", "OWNER_LABEL", "RUN_LABEL", "Engine", "EngineEvent", "Exposure", "Place", "PlaceKind"]

CONTROL_PORT = 9000
"""Where the process 1 of a container takes orders."""
OWNER_LABEL, RUN_LABEL, CREATED_LABEL = "chaosgym.dev/owner", "chaosgym.dev/run", "chaosgym.dev/created"
"""On everything we make: always `chaosgym`; the id of the run; when it was made, Unix seconds."""

PlaceKind = Literal["service", "postgres", "redis"]


@dataclass(frozen=True)
class Place:
    """A running container that waits for a component."""

    handle: str
    """The engine's name for it."""
    kind: PlaceKind
    address: str
    """Where it is reached from here and from other places."""
    token: str = field(repr=False)
    """What its process 1 asks for."""


@dataclass(frozen=True)
class Exposure:
    """A component that others connect to."""

    place: Place
    target: int
    """The port that something listens on in the container."""
    port: int
    """The port that clients are told, where the engine can choose."""


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

    async def expose(self, exposures: Mapping[str, Exposure]) -> dict[str, Address]:
        """Where clients connect, by role, for the length of an episode."""
        ...

    async def settle(self, addresses: Sequence[Address]) -> None:
        """Wait until what listens behind `addresses` is reached."""
        ...

    async def withdraw(self) -> None:
        """Undo `expose`."""
        ...

    async def replaced(self, handle: str) -> Place | None:
        """The place, if another container has taken its part since it was last asked for."""
        ...

    async def events(self, since: int) -> Sequence[EngineEvent]:
        """What the engine has reported since (Unix nanoseconds)."""
        ...

    async def change(self, handle: str, role: str, change: PlatformChange | None) -> None:
        """[platform] See `Sandbox.change_platform`."""
        ...

    async def view(self, handle: str, role: str) -> PlatformView:
        """[platform] See `Sandbox.platform`."""
        ...

    async def logs(self, place: Place, since: int) -> str:
        """What the container has written since (Unix nanoseconds)."""
        ...

    async def close(self) -> None:
        """Remove everything that this engine made; safe to call twice."""
        ...
