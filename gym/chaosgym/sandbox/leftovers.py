"""What runs have left behind, found by the labels that everything of ours carries, and removed run by run.

Usually there is nothing: the keeper of a worker removes what its run made, and containers end when nobody has steered them
for a while. What stays is what was there when the keeper was killed as well, or the machine.

Age is no proof that nobody uses a thing, so a run counts as alive
- here, as long as the process lives that its labels name;
- elsewhere (another machine or container shares the engine), for its first minute, and then while one of its containers has
  been up for longer than a container stays up that nobody steers.
A state folder is ours if it holds the file in which its runner signed, and in use while that runner lives, or any process
that names the folder; not when it is older than the last boot.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from chaosgym.errors import SandboxError
from chaosgym.sandbox.alive import is_alive, this_process
from chaosgym.sandbox.engine import CREATED_LABEL, OWNER_LABEL, RUN_LABEL, WORKER_LABEL

__all__ = ["STATE_PREFIX", "Found", "find_docker", "find_folders", "find_kubernetes", "remove", "remove_run", "sign_folder"]

STATE_PREFIX = "app-"
"""Of a worker's state folder; PostgreSQL names it in its log, so it says nothing."""
_SIGNATURE = ".owner"
_OWNED = f"{OWNER_LABEL}=chaosgym"
_YOUNG = 60.0
"""Seconds in which a run that was begun elsewhere may still be starting."""
_STEERED = 30.0
"""A container that has been up for so many seconds has a controller: alone it would have ended after 20."""


@dataclass(frozen=True)
class Found:
    """One thing of ours."""

    sandbox: Literal["local", "docker", "kubernetes"]
    kind: Literal["container", "network", "namespace", "folder"]
    name: str
    run: str
    """Empty for a folder."""
    age: float
    """Seconds."""
    alive: bool
    """Its run goes on."""


@dataclass(frozen=True)
class _Thing:
    """As an engine lists it."""

    kind: Literal["container", "network", "namespace"]
    name: str
    labels: Mapping[str, str]
    uptime: float = 0.0
    """Seconds since which it has been running."""


# ---- finding


def find_docker() -> list[Found]:
    """Containers and networks of all runs that the engine knows. Raises PrerequisiteError or SandboxError."""
    from chaosgym.sandbox.docker import connect

    client, chosen, now = connect(), {"label": _OWNED}, time.time()
    with _in_our_words("docker"):
        containers, networks = client.api.containers(all=True, filters=chosen), client.api.networks(filters=chosen)
    things = [
        _Thing("container", each["Names"][0].lstrip("/"), each["Labels"], now - each["Created"] if each["State"] == "running" else 0.0)
        for each in containers
    ]
    things += [_Thing("network", each["Name"], each["Labels"]) for each in networks]
    return _judge("docker", things)


def find_kubernetes(context: str) -> list[Found]:
    """Namespaces of all runs in the cluster of that context. Raises PrerequisiteError or SandboxError."""
    from chaosgym.sandbox.kubernetes_api import connect

    api = connect(context)
    with _in_our_words("kubernetes"):
        found = {each["metadata"]["name"]: each["metadata"]["labels"] for each in api.namespaces(_OWNED)}
        things = [_Thing("namespace", name, labels, _longest_uptime(api.pods(name, _OWNED))) for name, labels in found.items()]
    return _judge("kubernetes", things)


def _longest_uptime(pods: Iterable[Mapping[str, Any]]) -> float:
    statuses = (status for pod in pods for status in pod["status"].get("containerStatuses") or ())
    since = [status["state"]["running"]["startedAt"] for status in statuses if "running" in status["state"]]
    return max((time.time() - datetime.fromisoformat(at.replace("Z", "+00:00")).timestamp() for at in since), default=0.0)


def _judge(sandbox: Literal["docker", "kubernetes"], things: Sequence[_Thing]) -> list[Found]:
    """Whether their runs go on; what does not carry all of our labels is none of ours."""
    ours = [thing for thing in things if thing.labels.get(RUN_LABEL) and thing.labels.get(CREATED_LABEL, "").isdigit()]
    alive = {thing.labels[RUN_LABEL] for thing in ours if _shows_life(thing)}
    return [
        Found(sandbox, thing.kind, thing.name, thing.labels[RUN_LABEL], _age(thing), thing.labels[RUN_LABEL] in alive) for thing in ours
    ]


def _shows_life(thing: _Thing) -> bool:
    worker = is_alive(thing.labels.get(WORKER_LABEL, ""))
    return worker if worker is not None else _age(thing) < _YOUNG or thing.uptime > _STEERED


def _age(thing: _Thing) -> float:
    return max(time.time() - int(thing.labels[CREATED_LABEL]), 0.0)


def sign_folder(folder: Path) -> None:
    """Say in the folder that it is ours, and whose."""
    (folder / _SIGNATURE).write_text(this_process())


def find_folders(where: Path | None = None) -> list[Found]:
    """State folders of local workers in the folder for temporary files."""
    return list(_folders(where or Path(tempfile.gettempdir())))


def _folders(where: Path) -> Iterator[Found]:
    named: str | None = None
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    for folder in sorted(where.glob(f"{STATE_PREFIX}*")):
        try:
            signature, made = (folder / _SIGNATURE).read_text(), folder.stat().st_ctime
        except (OSError, ValueError):  # none of ours, or another user's
            continue
        named = _all_arguments() if named is None else named
        alive = made > booted and (is_alive(signature) is not False or str(folder) in named)
        yield Found("local", "folder", str(folder), "", max(time.time() - made, 0.0), alive)


def _all_arguments() -> str:
    """The command lines of all processes, of which a worker's and its servers' name the folder."""

    def read(path: Path) -> str:
        try:
            return path.read_bytes().decode(errors="replace")
        except OSError:  # it ended
            return ""

    return "\n".join(read(path) for path in Path("/proc").glob("[0-9]*/cmdline"))


# ---- removing


def remove(found: Iterable[Found], *, context: str = "") -> list[Found]:
    """Remove them, each run as a whole; `context` is that of the cluster. Returns what is still there."""
    found = list(found)
    for sandbox, run in dict.fromkeys((each.sandbox, each.run) for each in found if each.run):
        remove_run(sandbox, run, context=context)
    for each in found:
        if each.kind == "folder":
            shutil.rmtree(each.name, ignore_errors=True)
    return list(_still_there(found, context))


def remove_run(sandbox: str, run: str, *, context: str = "") -> list[str]:
    """Remove everything that carries the label of a run; returns what was there. Raises PrerequisiteError without an engine."""
    if sandbox == "docker":
        from chaosgym.sandbox import docker

        client = docker.connect()
        with _in_our_words("docker"):
            return docker.remove_run(client, run)
    from chaosgym.sandbox import kubernetes, kubernetes_api

    api = kubernetes_api.connect(context)
    with _in_our_words("kubernetes"):
        return kubernetes.remove_run(api, run)


@contextmanager
def _in_our_words(sandbox: Literal["docker", "kubernetes"]) -> Generator[None]:
    """What an engine refuses, and that it died, as a SandboxError of one line."""
    if sandbox == "docker":
        from docker.errors import DockerException as Refused
        from requests.exceptions import RequestException as Died
    else:
        from kubernetes.client.exceptions import ApiException as Refused
        from urllib3.exceptions import HTTPError as Died
    try:
        yield
    except (Refused, Died) as error:
        said = getattr(error, "explanation", None) or " ".join(str(error).split())
        raise SandboxError(f"{sandbox} refused or died: {said[:300]}") from error


def _still_there(found: Sequence[Found], context: str) -> Iterator[Found]:
    names = {(each.sandbox, each.name) for each in found}
    sandboxes = {each.sandbox for each in found}
    if "docker" in sandboxes:
        yield from (each for each in find_docker() if ("docker", each.name) in names)
    if "kubernetes" in sandboxes:
        yield from (each for each in find_kubernetes(context) if ("kubernetes", each.name) in names)
    yield from (each for each in found if each.kind == "folder" and Path(each.name).exists())
