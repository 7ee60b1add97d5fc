"""Fleets in a namespace of a cluster: launch one, ask how far it is, read its logs, remove it.

How many episodes are recorded is what the pods themselves have said last: that needs no access to the store.
"""

from __future__ import annotations

import re
import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from chaosgym.errors import InputError, PrerequisiteError, SandboxError
from chaosgym.fleet.jobs import (
    FLEET_LABEL,
    INDEX_ANNOTATION,
    ORDER_ANNOTATIONS,
    SHARD_LABEL,
    fleet_name,
    has_indexed_jobs,
    make_jobs,
    service_account,
)
from chaosgym.fleet.order import Order
from chaosgym.sandbox.kubernetes_api import connect, first_line, make_client, message

__all__ = ["Fleets", "Status"]

_POLL = 2.0
_TAIL = 40
_SAID = re.compile(r"^recorded (\d+) of \d+$", re.MULTILINE)

State = Literal["running", "complete", "failed"]


@dataclass(frozen=True)
class Status:
    """How far a fleet is."""

    name: str
    state: State
    out: str
    shards: int
    done: int
    """Shards that are."""
    pods: int
    """That run now."""
    episodes: int
    recorded: int
    """As the pods have said last, so rather too few."""
    why: str = ""
    """What pods wait for, or why the fleet failed."""


class Fleets:
    """Those of a namespace."""

    def __init__(self, context: str, namespace: str) -> None:
        """Raises PrerequisiteError when the cluster does not answer or the namespace is not there."""
        self.namespace = namespace
        self.indexed = has_indexed_jobs(connect(context).version())
        from kubernetes import client

        api = make_client(context)
        self._core: Any = client.CoreV1Api(api)  # Any: its models make every field optional
        self._batch: Any = client.BatchV1Api(api)

    def plan(self, order: Order) -> tuple[str, list[dict[str, Any]]]:
        """The name of a new fleet for `order`, and its Jobs."""
        run = secrets.token_hex(4)
        return fleet_name(run), make_jobs(order, run, indexed=self.indexed)

    def accounts(self) -> list[dict[str, Any]]:
        """What the Jobs need beside them."""
        return [service_account()]

    def launch(self, jobs: Sequence[Mapping[str, Any]]) -> None:
        """Create them, and the account of their pods."""
        with self._asking():
            self._make_account()
            for job in jobs:
                self._batch.create_namespaced_job(self.namespace, dict(job))

    def _make_account(self) -> None:
        from kubernetes.client.exceptions import ApiException

        try:
            self._core.create_namespaced_service_account(self.namespace, service_account())
        except ApiException as error:
            if error.status != 409:  # it is there
                raise

    def names(self) -> list[str]:
        """Of the fleets that are there, the oldest first."""
        found = sorted(self._jobs(FLEET_LABEL), key=lambda job: job["metadata"]["creationTimestamp"])
        return list(dict.fromkeys(job["metadata"]["labels"][FLEET_LABEL] for job in found))

    def status(self, name: str, heard: dict[str, int] | None = None) -> Status:
        """How far the fleet is; `heard` keeps what was recorded by shard, as pods that are replaced take their logs along."""
        jobs = self._jobs(f"{FLEET_LABEL}={name}")
        if not jobs:
            raise InputError(f"no fleet {name!r} in namespace {self.namespace}; there are: {', '.join(self.names()) or 'none'}")
        heard = {} if heard is None else heard
        pods = self._pods(name)
        for pod in pods:
            shard, said = _shard(pod), _SAID.findall(self._log(pod, _TAIL))
            heard[shard] = max(heard.get(shard, 0), *map(int, said), 0)
        notes = jobs[0]["metadata"]["annotations"]
        shards, episodes, out = (notes[ORDER_ANNOTATIONS[key]] for key in ("shards", "episodes", "out"))
        done = sum(job["status"].get("succeeded") or 0 for job in jobs)
        failed = [condition for job in jobs for condition in job["status"].get("conditions") or () if _holds(condition, "Failed")]
        state: State = "complete" if done >= int(shards) else "failed" if failed and all(map(_ended, jobs)) else "running"
        why = ", ".join(sorted({f"{each.get('reason')}: {each.get('message')}" for each in failed} | _troubles(pods)))
        running = sum(pod["status"].get("phase") == "Running" for pod in pods)
        return Status(name, state, out, int(shards), done, running, int(episodes), sum(heard.values()), "" if state == "complete" else why)

    def follow(self, name: str, on_status: Callable[[Status], None], waiting: Sequence[Mapping[str, Any]] = (), most: int = 0) -> Status:
        """Ask until it is complete or has failed; Jobs of `waiting` are launched as others end, so that `most` run."""
        todo, heard = list(waiting), dict[str, int]()
        while True:
            status = self.status(name, heard)
            on_status(status)
            if status.state != "running" and not todo:
                return status
            if todo:
                ended = sum(_ended(job) for job in self._jobs(f"{FLEET_LABEL}={name}"))
                now, todo = _split(todo, most - (status.shards - len(todo) - ended))
                self.launch(now)
            time.sleep(_POLL)

    def logs(self, name: str, shard: int | None = None, lines: int = 100) -> dict[str, str]:
        """The last lines of each pod, by its name."""
        self.status(name)
        pods = [pod for pod in self._pods(name) if shard is None or _shard(pod) == str(shard)]
        return {pod["metadata"]["name"]: self._log(pod, lines) for pod in sorted(pods, key=lambda pod: int(_shard(pod)))}

    def delete(self, name: str) -> int:
        """Remove its Jobs with their pods; how many there were. What is recorded stays in the store."""
        jobs = self._jobs(f"{FLEET_LABEL}={name}")
        with self._asking():
            for job in jobs:
                self._batch.delete_namespaced_job(
                    job["metadata"]["name"], self.namespace, propagation_policy="Background", _preload_content=False
                )
        return len(jobs)

    def _jobs(self, selector: str) -> list[dict[str, Any]]:
        with self._asking():
            return self._read(self._batch.list_namespaced_job, label_selector=selector)["items"]

    def _pods(self, name: str) -> list[dict[str, Any]]:
        with self._asking():
            return self._read(self._core.list_namespaced_pod, label_selector=f"{FLEET_LABEL}={name}")["items"]

    def _read(self, call: Callable[..., Any], **named: Any) -> dict[str, Any]:
        import json

        return json.loads(call(self.namespace, _preload_content=False, **named).data)

    def _log(self, pod: Mapping[str, Any], lines: int) -> str:
        from kubernetes.client.exceptions import ApiException

        try:
            answer = self._core.read_namespaced_pod_log(pod["metadata"]["name"], self.namespace, tail_lines=lines, _preload_content=False)
        except ApiException:  # it has not begun, is gone, or may not be read
            return ""
        return answer.data.decode(errors="replace")

    @contextmanager
    def _asking(self) -> Generator[None]:
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        try:
            yield
        except ApiException as error:
            what = f"namespace {self.namespace}: {error.status} {error.reason}: {message(error)}"
            if error.status == 404:
                raise PrerequisiteError(f"{what}; make it: kubectl apply -k deploy/fleet, or kubectl create namespace") from error
            if error.status == 403:
                raise PrerequisiteError(f"{what}; deploy/fleet has the role that a fleet's operator needs") from error
            raise SandboxError(f"the cluster refused: {what}") from error
        except HTTPError as error:
            raise SandboxError(f"the cluster does not answer: {first_line(error)}") from error


def _shard(pod: Mapping[str, Any]) -> str:
    metadata = pod["metadata"]
    return metadata["labels"].get(SHARD_LABEL) or (metadata.get("annotations") or {}).get(INDEX_ANNOTATION, "0")


def _holds(condition: Mapping[str, Any], kind: str) -> bool:
    return condition["type"] == kind and condition["status"] == "True"


def _ended(job: Mapping[str, Any]) -> bool:
    return any(_holds(condition, kind) for condition in job["status"].get("conditions") or () for kind in ("Complete", "Failed"))


def _split(todo: list[Mapping[str, Any]], room: int) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    room = max(room, 0)
    return todo[:room], todo[room:]


def _troubles(pods: Sequence[Mapping[str, Any]]) -> set[str]:
    """Why pods wait, as `2 pods: ImagePullBackOff`."""
    count: defaultdict[str, int] = defaultdict(int)
    for pod in pods:
        for status in pod["status"].get("containerStatuses") or ():
            reason = (status["state"].get("waiting") or {}).get("reason", "ContainerCreating")
            if reason not in ("ContainerCreating", "PodInitializing"):
                count[reason] += 1
        for condition in pod["status"].get("conditions") or ():
            if condition["status"] == "False" and condition.get("reason") == "Unschedulable":
                count[f"{condition['reason']} ({condition.get('message', '')})"] += 1
    return {f"{number} pod{'s' if number > 1 else ''}: {reason}" for reason, number in count.items()}
