"""What a sandbox can do to a component or a link: the capabilities that faults are written against.

Components are addressed by role. A fault names the capabilities it needs, a sandbox those it has; an
impossible pair is refused before anything starts. Every call acts for real and returns when it is in force.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from pydantic import TypeAdapter

from chaosgym.plan import Plan

__all__ = ["Capability", "ObservedSandbox", "PlatformChange", "PlatformView", "Pressure", "ProcessView", "Sandbox", "Toxic"]

Capability = Literal["signal", "hold", "restart", "limit", "defect", "link", "sql", "redis", "load", "packets", "platform"]


@dataclass(frozen=True)
class Toxic:
    """What happens to the packets and streams between a component and those who call it (seconds; shares 0 to 1)."""

    latency: float = 0.0
    """Added to each direction."""
    jitter: float = 0.0
    """Uniform, plus or minus."""
    drop: float = 0.0
    """Share of packets that vanish, SYNs included; 1 is a partition."""
    mute: bool = False
    """What the component sends vanishes; what is sent to it arrives."""
    refuse: bool = False
    """Connections are reset, new ones refused, by something in front of a component that is well."""
    reset: float = 0.0
    """Share of answers in place of which the connection is reset."""
    truncate: float = 0.0
    """Share of answers before whose end the connection is closed as if that were all."""
    corrupt: float = 0.0
    """Share of answers with bytes that are not those that were sent."""
    unavailable: bool = False
    """An HTTP proxy on the way answers 503 itself, because it takes the component for dead."""


@dataclass(frozen=True)
class Pressure:
    """What others than the usual users do to the edge (requests a second)."""

    kind: Literal["surge", "scraper", "probing", "slow_clients", "large_requests"]
    factor: float = 1.0
    """surge: times the usual rate of journeys."""
    rate: float = 0.0
    """scraper, probing, large_requests."""
    connections: int = 0
    """slow_clients: how many are held open."""
    size: int = 0
    """large_requests: bytes of a body."""


@dataclass(frozen=True)
class PlatformChange:
    """What somebody did to the objects that an orchestrator runs a component by."""

    workload: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Strategic merge patch of the Deployment's spec."""
    selector: Mapping[str, str] = field(default_factory=dict[str, str])
    """What its Service looks for in pods instead."""
    target_port: int | None = None
    """Where its Service leads to instead."""
    quota: Mapping[str, str] = field(default_factory=dict[str, str])
    """Hard limits of one more ResourceQuota in the namespace."""
    delete_pod: bool = False
    """The running pod is deleted at once."""


@dataclass(frozen=True)
class PlatformView:
    """A component as its orchestrator shows it."""

    replicas: int
    """Wanted."""
    ready: int
    """Pods that are."""
    endpoints: int
    """Addresses that its Service leads to."""
    reasons: frozenset[str]
    """Why containers wait or ended and pods cannot be made, as `ImagePullBackOff`."""


@dataclass(frozen=True)
class ProcessView:
    """A living process as the kernel shows it, wherever it lives: what a fault is read back from."""

    pid: int
    """As `signal` takes it."""
    state: str
    """One letter as in proc(5): R, S, D, T ..."""
    resident: int
    """Bytes of its resident set."""
    files_limit: int | None
    """Soft limit of open files in force; None is no limit, or not known."""
    files: frozenset[int]
    """Its open file descriptors."""
    connections: frozenset[int]
    """Those of `files` that are TCP connections, which listening sockets are not."""
    threads: Mapping[int, float]
    """CPU seconds, user and system, that each thread has used, by thread id; the main one's is `pid`."""

    def to_json(self) -> dict[str, Any]:
        """As values of JSON, to be read where the process does not live."""
        return _VIEW.dump_python(self, mode="json")

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> ProcessView:
        """The inverse of `to_json`. Raises ValueError on anything else."""
        return _VIEW.validate_python(values)


_VIEW = TypeAdapter(ProcessView)


class Sandbox(Protocol):
    """A running application that can be broken."""

    @property
    def plan(self) -> Plan: ...

    @property
    def capabilities(self) -> frozenset[Capability]: ...

    async def processes(self, role: str) -> Sequence[int]:
        """Process ids of the component as `signal` takes them (empty when it is down)."""
        ...

    async def inspect(self, role: str) -> Sequence[ProcessView]:
        """Every living process of the component, read back from the kernel: dearer than `processes`, which does where ids will."""
        ...

    async def signal(self, role: str, number: int, pid: int | None = None) -> None:
        """[signal] Send a signal to every process of the component, or to that one of them."""
        ...

    async def hold(self, role: str, down: bool) -> None:
        """[hold] Keep a dead component from being restarted by its supervisor, or let it be again."""
        ...

    async def restart(self, role: str, *, version: str | None = None, settings: Mapping[str, Any] | None = None) -> None:
        """[restart] Roll out the component with another version and changed settings, without downtime.

        `settings` replace fields of its ServiceConfig; None goes back to what the plan says. The
        rollout appears as a `deployment` event as any rollout does (a `config_change` when the version stays).
        """
        ...

    async def limit_files(self, role: str, count: int | None) -> None:
        """[limit] Set the soft limit of open files of the running processes; None restores the plan's."""
        ...

    async def limit_memory(self, role: str, size: int | None) -> None:
        """[limit] Set the resident bytes above which a process of the component is killed; None restores the plan's."""
        ...

    async def defect(self, role: str, defect: Mapping[str, Any] | None) -> None:
        """[defect] Turn a real defect in the running program on (`{"kind": "leak", ...}`), or all of them off."""
        ...

    async def toxic(self, role: str, toxic: Toxic | None) -> None:
        """[link] What happens to traffic towards the component; None is a clean link. Needs `role in plan.proxied`."""
        ...

    async def link_toxic(self, role: str) -> Toxic | None:
        """[link] The toxic in force, read back from the proxy."""
        ...

    def sql(self, role: str) -> AbstractAsyncContextManager[Any]:
        """[sql] A superuser's asyncpg connection to the postgres component."""
        ...

    def sql_server(self, role: str) -> Mapping[str, Any]:
        """[sql] Where the server of the postgres component is reached from here: host, port and database, as asyncpg takes them."""
        ...

    async def redis(self, role: str, *command: str | int) -> Any:
        """[redis] Run a command on the redis component and return the reply."""
        ...

    async def press(self, pressure: Pressure | None) -> None:
        """[load] What comes to the edge on top of the usual users; None is nothing."""
        ...

    def pressure(self) -> Pressure | None:
        """[load] What comes at present, read back from whoever makes it."""
        ...


    async def change_platform(self, role: str, change: PlatformChange | None) -> None:
        """[platform] Change the objects that the orchestrator runs it by; None puts back what the plan says."""
        ...

    async def platform(self, role: str) -> PlatformView:
        """[platform] What the orchestrator says of it."""
        ...


class ObservedSandbox(Sandbox, Protocol):
    """One whose telemetry is kept: what a timeline is played on."""

    async def deliver(self) -> None:
        """Wait until what the components have measured so far is in the telemetry, except for those that do not respond."""
        ...
