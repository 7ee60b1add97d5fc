"""Where an application that is not ours runs, as the sandbox sees it: found, read, changed and put back.

Whatever a host changes it first writes into the journal, as an entry that its own `undo` understands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from chaosgym.foreign.app import ForeignApp
from chaosgym.foreign.journal import Entry, Journal, journal_path
from chaosgym.sandbox.base import Capability, ProcessView, Toxic
from chaosgym.telemetry.store import Row

__all__ = ["Found", "Host", "HostEvent", "make_host", "open_journal"]


@dataclass(frozen=True)
class Found:
    """A component, found running."""

    role: str
    what: tuple[str, ...]
    """Names of its containers or pods."""
    image: str
    version: str
    """What its image is tagged with."""


@dataclass(frozen=True)
class HostEvent:
    """Something that the engine reports of a component."""

    at: int
    """Unix nanoseconds."""
    role: str
    name: str
    body: str
    attributes: Mapping[str, str | int]


class Host(Protocol):
    """Docker or Kubernetes; calls block no event loop and raise SandboxError, PrerequisiteError or FaultError."""

    name: str

    @property
    def place(self) -> str:
        """The project or namespace, for people."""
        ...

    @property
    def identity(self) -> str:
        """What tells this engine or cluster from others; known after `find`."""
        ...

    async def find(self, *, running: bool = True) -> Sequence[Found]:
        """Look for every component. Raises InputError naming all that are missing, and, where it is asked for, not `running`."""
        ...

    def others(self) -> Sequence[str]:
        """What else runs there and is not touched."""
        ...

    def lacks(self, role: str) -> Mapping[Capability, str]:
        """What cannot be done to the component here, each with the reason."""
        ...

    async def address(self, role: str, port: int) -> tuple[str, int]:
        """Where a port of the component is reached from here."""
        ...

    # ---- what is done to it

    async def processes(self, role: str) -> Sequence[int]:
        """See `Sandbox`."""
        ...

    async def inspect(self, role: str) -> Sequence[ProcessView]:
        """See `Sandbox`."""
        ...

    async def signal(self, role: str, number: int, pid: int | None, journal: Journal) -> None:
        """See `Sandbox`."""
        ...

    async def hold(self, role: str, down: bool, journal: Journal) -> None:
        """See `Sandbox`; letting it be again brings it back."""
        ...

    async def limit_files(self, role: str, count: int | None, journal: Journal) -> None:
        """See `Sandbox`."""
        ...

    async def limit_memory(self, role: str, size: int | None, journal: Journal) -> None:
        """See `Sandbox`."""
        ...

    async def toxic(self, role: str, toxic: Toxic | None, journal: Journal) -> None:
        """See `Sandbox`."""
        ...

    async def link_toxic(self, role: str) -> Toxic | None:
        """See `Sandbox`."""
        ...

    async def undo(self, entry: Entry) -> None:
        """Undo what an entry of the journal says; nothing where it has been undone."""
        ...

    # ---- what it says

    async def sample(self, role: str, name: str) -> Sequence[Row]:
        """Rows of METRICS of the component, under its public name."""
        ...

    async def logs(self, role: str, since: int) -> Sequence[tuple[int, str]]:
        """(Unix nanoseconds, line) written since."""
        ...

    async def events(self, since: int) -> Sequence[HostEvent]:
        """What the engine has reported since (Unix nanoseconds)."""
        ...

    async def close(self) -> None:
        """Nothing is asked of the engine any more."""
        ...


def make_host(app: ForeignApp) -> Host:
    """The one that the application's file names. Raises PrerequisiteError when it cannot be reached."""
    if app.spec.compose is not None:
        from chaosgym.foreign.docker import DockerHost

        return DockerHost(app)
    from chaosgym.foreign.kubernetes import KubernetesHost

    return KubernetesHost(app)


def open_journal(host: Host, *, wait: bool = False) -> Journal:
    """The journal of the application of a host that has found it."""
    return Journal(journal_path(f"{host.name}-{host.place}", host.identity), wait=wait)

