"""The Docker engine: a private network and hardened containers per sandbox, through the official SDK.

Containers have a read-only root, no capabilities, no way to new privileges, an unprivileged user, and limits of CPU,
memory, processes, files and disk. The network is internal: no published port, no way out. Containers remove
themselves when they end, and end when nobody has steered them for a while.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

from chaosgym.errors import FaultError, PrerequisiteError, SandboxError
from chaosgym.sandbox.base import Capability, PlatformChange, PlatformView
from chaosgym.sandbox.engine import CONTROL_PORT, OWNER_LABEL, RUN_LABEL, EngineEvent, Place, PlaceKind, labels
from chaosgym.sandbox.engine_logs import lines_since
from chaosgym.sandbox.image import cached_image, image_reference

__all__ = ["DockerEngine", "connect", "container_options", "remove_run"]

_USER = "10001:10001"
_MEMORY = {"service": "512m", "postgres": "512m", "redis": "192m"}
_TMPFS = {
    "/tmp": "size=16m,mode=1777,nosuid,nodev,noexec",
    "/run/app": "size=256m,mode=0700,uid=10001,gid=10001,nosuid,nodev,noexec",
}  # fmt: skip
_PROCESSES = 256
_FILES = (1024, 4096)
_LOG_SIZE = "16m"

P = ParamSpec("P")
T = TypeVar("T")


def connect() -> Any:
    """A client of the engine that DOCKER_HOST names, or of this machine's. Raises PrerequisiteError with the remedy."""
    try:
        import docker
        from docker.errors import DockerException
    except ImportError as error:
        raise PrerequisiteError("the Docker SDK is not installed; run: pip install 'chaosgym[docker]'") from error
    try:
        client = docker.from_env(timeout=30)
        client.ping()
    except DockerException as error:
        where = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
        if "Permission denied" in str(error):
            remedy = "add yourself to its group: sudo usermod -aG docker $USER, and log in again"
        else:
            remedy = "start it: sudo systemctl start docker (Debian: apt-get install docker.io), or set DOCKER_HOST"
        raise PrerequisiteError(f"no Docker engine answers at {where}; {remedy}") from error
    return client


def container_options(kind: PlaceKind) -> dict[str, Any]:
    """What a container may do, and how much, as the SDK takes it; what only its types can say is added where it is made."""
    return {
        "user": _USER, "read_only": True, "tmpfs": _TMPFS, "cap_drop": ["ALL"], "security_opt": ["no-new-privileges"],
        "auto_remove": True, "pids_limit": _PROCESSES, "nano_cpus": 10**9, "mem_limit": _MEMORY[kind], "memswap_limit": _MEMORY[kind],
    }  # fmt: skip


class DockerEngine:
    """Implements `chaosgym.sandbox.engine.Engine`."""

    name = "docker"
    lacks: frozenset[Capability] = frozenset({"packets", "platform"})

    def __init__(self, run: str) -> None:
        """`run`: an id that all objects are labelled with."""
        self._run = run
        self._client = connect()
        self._network: Any = None
        self._containers: dict[str, Any] = {}
        self.host = ""

    async def open(self) -> None:
        await self._do(self._open)

    def _open(self) -> None:
        _ensure_image(self._client)
        self._network = self._make_network()
        self._network.reload()
        config = self._network.attrs["IPAM"]["Config"][0]
        self.host = config.get("Gateway") or config["Subnet"].rpartition(".")[0] + ".1"

    def _make_network(self) -> Any:
        """An engine has addresses for some thirty networks; when those are taken, what dead runs hold of them is given back."""
        from docker.errors import APIError

        make = functools.partial(self._client.networks.create, driver="bridge", internal=True, labels=labels(self._run))
        try:
            return make(f"net-{secrets.token_hex(5)}")
        except APIError as error:
            if "address pool" not in str(error):
                raise
        from chaosgym.sandbox.leftovers import find_docker, remove

        remove(found for found in find_docker() if not found.alive)
        return make(f"net-{secrets.token_hex(5)}")

    async def add(self, kinds: Sequence[PlaceKind]) -> list[Place]:
        return list(await asyncio.gather(*(self._do(self._add, kind) for kind in kinds)))

    def _add(self, kind: PlaceKind) -> Place:
        from docker.types import LogConfig, Ulimit

        token = secrets.token_hex(12)
        container = self._client.containers.create(
            image_reference(), environment={"PORT": str(CONTROL_PORT), "TOKEN": token, "KIND": kind}, network=self._network.name,
            hostname=secrets.token_hex(6), labels=labels(self._run), **container_options(kind),
            log_config=LogConfig(type="json-file", config={"max-size": _LOG_SIZE}),
            ulimits=[Ulimit(name="nofile", soft=_FILES[0], hard=_FILES[1]), Ulimit(name="core", soft=0, hard=0)],
        )  # fmt: skip
        container.start()
        container.reload()
        self._containers[container.id] = container
        address = container.attrs["NetworkSettings"]["Networks"][self._network.name]["IPAddress"]
        return Place(container.id, kind, address, address, token)

    async def settle(self, places: Sequence[Place]) -> None:
        """Containers are reached at their own address; no port is published."""

    async def replaced(self) -> list[Place]:
        """None: a container that ended is not started again, and its sandbox is burned."""
        return []

    async def events(self, since: int) -> Sequence[EngineEvent]:
        return ()

    async def gauges(self) -> Mapping[str, Mapping[str, float]]:
        return {}

    async def change(self, handle: str, change: PlatformChange | None) -> None:
        raise FaultError("no orchestrator runs the components of a Docker sandbox")

    async def view(self, handle: str) -> PlatformView:
        raise FaultError("no orchestrator runs the components of a Docker sandbox")

    async def logs(self, place: Place, since: int) -> str:
        read = functools.partial(self._containers[place.handle].logs, since=since / 1e9, timestamps=True)
        return lines_since((await self._do(read)).decode(errors="replace"), since)

    async def close(self) -> None:
        await asyncio.to_thread(remove_run, self._client, self._run)
        self._containers.clear()

    async def _do(self, work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Run it in a thread; what the engine refuses becomes a SandboxError."""
        from docker.errors import DockerException
        from requests.exceptions import RequestException

        try:
            return await asyncio.to_thread(work, *arguments, **named)
        except (DockerException, RequestException) as error:
            raise SandboxError(f"the Docker engine refused or died: {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    return str(getattr(error, "explanation", None) or error).strip().splitlines()[0]


def _ensure_image(client: Any) -> None:
    """Load the image of our components unless the engine has it."""
    from docker.errors import ImageNotFound

    try:
        client.images.get(image_reference())
    except ImageNotFound:
        with cached_image().open("rb") as archive:
            client.images.load(archive)


def remove_run(client: Any, run: str) -> list[str]:
    """Remove every container and network that carries the label of `run`; returns what it removed."""
    from docker.errors import APIError, NotFound

    chosen = {"label": [f"{OWNER_LABEL}=chaosgym", f"{RUN_LABEL}={run}"]}
    removed: list[str] = []
    for container in client.containers.list(all=True, filters=chosen, ignore_removed=True):
        with contextlib.suppress(NotFound, APIError):  # it is removing itself
            container.remove(force=True)
        removed.append(f"container {container.name}")
    for network in client.networks.list(filters=chosen):
        _remove_network(network)
        removed.append(f"network {network.name}")
    return removed


def _remove_network(network: Any) -> None:
    from docker.errors import APIError, NotFound

    for _ in range(50):  # a container on its way out still holds it
        try:
            network.remove()
            return
        except NotFound:
            return
        except APIError:
            time.sleep(0.1)
