"""The Kubernetes engine: a namespace per sandbox with a Deployment per place, through the official client.

The namespace has a quota, limits, a network policy that lets nothing in or out but its own traffic and ours, and a
service account without access to the API. Pods meet Pod Security "restricted". Clients reach a component through a
Service whose endpoints follow the pods' readiness, as anywhere. What is done to Deployments and Services by a fault of the
platform family is undone by putting back what was there. This process must reach pods by their address: run it on a
node or in a pod.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

from chaosgym.errors import SandboxError
from chaosgym.sandbox import manifests
from chaosgym.sandbox.base import Capability, PlatformChange, PlatformView
from chaosgym.sandbox.engine import OWNER_LABEL, RUN_LABEL, EngineEvent, Exposure, Place, PlaceKind
from chaosgym.sandbox.engine_logs import lines_since
from chaosgym.sandbox.kubernetes_api import Api, connect, first_line, message
from chaosgym.services.config import Address

__all__ = ["KubernetesEngine", "remove_run"]

_POD_TIMEOUT = 60.0
_SETTLE_TIMEOUT = 20.0
_GONE_TIMEOUT = 20.0
"""Seconds that we wait for a namespace to be gone; the cluster goes on removing it."""
_POLL = 0.15
_WATCH_SECONDS = 600
_EXTRA_QUOTA = "compute-resources-extra"

P = ParamSpec("P")
T = TypeVar("T")


class KubernetesEngine:
    """Implements `chaosgym.sandbox.engine.Engine`."""

    name = "kubernetes"
    lacks: frozenset[Capability] = frozenset({"packets"})

    def __init__(self, run: str, context: str, prefix: str) -> None:
        """`run`: an id that all objects are labelled with; `prefix`: what the namespace's name begins with."""
        self._run = run
        self._api = connect(context)
        self.namespace = f"{prefix}-{secrets.token_hex(4)}"
        self._deployments: dict[str, dict[str, Any]] = {}
        """What each place should look like, by its handle."""
        self._services: dict[str, dict[str, Any]] = {}
        """By role, for the length of an episode."""
        self._tokens: dict[str, str] = {}
        self._kinds: dict[str, PlaceKind] = {}
        self._pods: dict[str, str] = {}
        """Name of the pod that a place is, by its handle."""
        self._changed: set[str] = set()
        self._logs_of_lost: dict[str, str] = {}
        self._events: list[EngineEvent] = []
        self.host = ""

    async def open(self) -> None:
        await self._do(self._open)

    def _open(self) -> None:
        labels = manifests.labels(self._run)
        self._api.create_namespace(manifests.namespace(self.namespace, labels))
        for kind in ("resource_quota", "limit_range", "service_account", "network_policy"):
            self._api.create(kind, self.namespace, manifests.OF_NAMESPACE[kind](labels))
        threading.Thread(target=self._watch_events, daemon=True).start()

    # ---- places

    async def add(self, kinds: Sequence[PlaceKind]) -> list[Place]:
        handles = [f"app-{secrets.token_hex(4)}" for _ in kinds]
        for handle, kind in zip(handles, kinds, strict=True):
            self._kinds[handle], self._tokens[handle] = kind, secrets.token_hex(12)
        await asyncio.gather(*(self._do(self._add, handle) for handle in handles))
        return list(await asyncio.gather(*(self._find(handle) for handle in handles)))

    def _add(self, handle: str) -> None:
        body = manifests.deployment(handle, self._kinds[handle], self._tokens[handle], manifests.labels(self._run))
        self._deployments[handle] = body
        self._api.create("deployment", self.namespace, body)

    async def _find(self, handle: str, timeout: float = _POD_TIMEOUT) -> Place:
        """The place as soon as its pod runs. Raises SandboxError after `timeout`."""
        deadline = time.monotonic() + timeout
        while True:
            pods = await self._do(self._list_pods, handle)
            for pod in pods:
                if _runs(pod):
                    return self._take(handle, pod)
            if time.monotonic() > deadline:
                raise SandboxError(f"no pod of {self.namespace}/{handle} runs after {timeout:g} s: {_why(pods)}")
            await asyncio.sleep(_POLL)

    def _list_pods(self, handle: str) -> list[dict[str, Any]]:
        return self._api.pods(self.namespace, f"{manifests.SLOT_LABEL}={handle}")

    def _take(self, handle: str, pod: Mapping[str, Any]) -> Place:
        address = pod["status"]["podIP"]
        self._pods[handle] = pod["metadata"]["name"]
        self.host = self.host or _own_address(address)
        return Place(handle, self._kinds[handle], address, self._tokens[handle])

    async def replaced(self, handle: str) -> Place | None:
        """The place, if its pod is another one than when it was last asked for; None while it is the same or none runs."""
        for pod in await self._do(self._list_pods, handle):
            if pod["metadata"]["name"] != self._pods.get(handle) and _runs(pod):
                return self._take(handle, pod)
        return None

    # ---- how components are reached

    async def expose(self, exposures: Mapping[str, Exposure]) -> dict[str, Address]:
        addresses = await asyncio.gather(*(self._do(self._expose, role, exposure) for role, exposure in exposures.items()))
        return dict(zip(exposures, addresses, strict=True))

    def _expose(self, role: str, exposure: Exposure) -> Address:
        body = manifests.service(f"svc-{secrets.token_hex(4)}", exposure, manifests.labels(self._run))
        made = self._api.create("service", self.namespace, body)
        self._services[role] = body
        return made["spec"]["clusterIP"], exposure.port

    async def settle(self, addresses: Sequence[Address]) -> None:
        """Wait until the cluster's network leads to each of `addresses`. Raises SandboxError when it does not in time."""
        await asyncio.gather(*(asyncio.to_thread(_wait_open, address) for address in addresses))

    async def withdraw(self) -> None:
        services, self._services = self._services, {}
        names = [body["metadata"]["name"] for body in services.values()]
        await asyncio.gather(*(self._do(self._api.delete, "service", self.namespace, name) for name in names))
        self._logs_of_lost.clear()

    # ---- what they say

    async def logs(self, place: Place, since: int) -> str:
        lost = self._logs_of_lost.get(place.handle, "")
        return lines_since(lost + await self._do(self._read_log, place.handle, since), since)

    def _read_log(self, handle: str, since: int) -> str:
        seconds = max(1, int(time.time() - since / 1e9) + 2)
        return self._api.pod_log(self.namespace, self._pods[handle], seconds)

    async def events(self, since: int) -> list[EngineEvent]:
        return [event for event in list(self._events) if event.at >= since]

    def _watch_events(self) -> None:
        while self.namespace:
            with contextlib.suppress(Exception):  # the cluster went away; whoever needs it will say so
                for event in self._api.watch_events(self.namespace, _WATCH_SECONDS):
                    self._take_event(event)
            time.sleep(0.5)

    def _take_event(self, event: Mapping[str, Any]) -> None:
        thing = event["involvedObject"]
        handle = next((h for h in self._deployments if thing["name"].startswith(h)), None)
        if handle is not None:
            shown = (event.get("message") or "").replace(thing["name"], handle)
            attributes = {"k8s.object.kind": thing["kind"].lower(), "type": event.get("type") or "Normal"}
            self._events.append(EngineEvent(time.time_ns(), handle, event.get("reason") or "", shown, attributes))

    # ---- the platform itself

    async def change(self, handle: str, role: str, change: PlatformChange | None) -> None:
        """Put a change in force, or put back what was there."""
        if change is None:
            await self._do(self._restore, handle, role)
        else:
            self._changed.add(handle)
            self._logs_of_lost[handle] = await self._do(self._read_log, handle, time.time_ns() - 60 * 10**9)
            await self._do(self._change, handle, role, change)

    def _change(self, handle: str, role: str, change: PlatformChange) -> None:
        if change.quota:
            body = manifests.extra_quota(_EXTRA_QUOTA, change.quota, manifests.labels(self._run))
            self._api.create("resource_quota", self.namespace, body)
        if change.service:
            self._api.patch("service", self.namespace, self._services[role]["metadata"]["name"], {"spec": dict(change.service)})
        if change.workload:
            self._api.patch("deployment", self.namespace, handle, {"spec": dict(change.workload)})
        if change.delete_pod:
            self._api.delete("pod", self.namespace, self._pods[handle])

    def _restore(self, handle: str, role: str) -> None:
        self._api.delete("resource_quota", self.namespace, _EXTRA_QUOTA)
        if role in self._services:
            body = self._services[role]
            self._api.patch("service", self.namespace, body["metadata"]["name"], {"spec": manifests.whole_service_spec(body)})
        if handle in self._changed:
            found = self._api.read("deployment", self.namespace, handle)
            body = copy.deepcopy(self._deployments[handle])
            body["metadata"]["resourceVersion"] = found["metadata"]["resourceVersion"]
            self._api.replace("deployment", self.namespace, handle, body)

    async def view(self, handle: str, role: str) -> PlatformView:
        """The state of a component as the API tells it."""
        return await self._do(self._view, handle, role)

    def _view(self, handle: str, role: str) -> PlatformView:
        found = self._api.read("deployment", self.namespace, handle)
        ends = self._api.read("endpoints", self.namespace, self._services[role]["metadata"]["name"])
        addresses = sum(len(subset.get("addresses") or ()) for subset in ends.get("subsets") or ())
        reasons = {reason for pod in self._list_pods(handle) for reason in _reasons(pod)}
        conditions = found["status"].get("conditions") or ()
        reasons |= {c["reason"] for c in conditions if c["type"] == "ReplicaFailure" and c["status"] == "True"}
        return PlatformView(found["spec"]["replicas"], found["status"].get("readyReplicas", 0), addresses, frozenset(reasons))

    # ---- the end

    async def close(self) -> None:
        await asyncio.to_thread(remove_run, self._api, self._run)
        self.namespace = ""

    async def _do(self, work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Run it in a thread; what the cluster refuses becomes a SandboxError."""
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        try:
            return await asyncio.to_thread(work, *arguments, **named)
        except ApiException as error:
            raise SandboxError(f"the cluster refused: {error.status} {error.reason}: {message(error)}") from error
        except HTTPError as error:
            raise SandboxError(f"the cluster does not answer: {first_line(error)}") from error


def remove_run(api: Api, run: str, timeout: float = _GONE_TIMEOUT) -> list[str]:
    """Remove every namespace that carries the label of `run` and wait until they are gone; returns what it removed."""
    selector = f"{OWNER_LABEL}=chaosgym,{RUN_LABEL}={run}"
    found = [each["metadata"]["name"] for each in api.namespaces(selector)]
    for name in found:
        for pod in api.pods(name, ""):  # or the namespace waits for their grace
            api.delete("pod", name, pod["metadata"]["name"])
        api.delete_namespace(name)
    deadline = time.monotonic() + timeout
    while found and time.monotonic() < deadline and api.namespaces(selector):
        time.sleep(0.3)
    return [f"namespace {name}" for name in found]


def _statuses(pod: Mapping[str, Any]) -> list[dict[str, Any]]:
    return pod["status"].get("containerStatuses") or []


def _runs(pod: Mapping[str, Any]) -> bool:
    leaving = "deletionTimestamp" in pod["metadata"]
    return not leaving and bool(pod["status"].get("podIP")) and any("running" in status["state"] for status in _statuses(pod))


def _reasons(pod: Mapping[str, Any]) -> Iterator[str]:
    """Why its containers wait or ended, and why it is not scheduled."""
    for status in _statuses(pod):
        for state in (*status["state"].values(), *status["lastState"].values()):
            if "reason" in state:
                yield state["reason"]
    for condition in pod["status"].get("conditions") or ():
        if condition["status"] == "False" and "reason" in condition:
            yield condition["reason"]


def _why(pods: Sequence[Any]) -> str:
    reasons = sorted({reason for pod in pods for reason in _reasons(pod)})
    hint = ""
    if any("Pull" in reason for reason in reasons):
        hint = "; load our image into the cluster: chaosgym image build"
    elif "Unschedulable" in reasons:
        hint = "; the cluster is full, or its nodes are tainted"
    return (", ".join(reasons) or "no reason given") + hint


def _own_address(peer: str) -> str:
    """Ours, as `peer` sees it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((peer, 9))
        return probe.getsockname()[0]


def _wait_open(address: Address) -> None:
    deadline = time.monotonic() + _SETTLE_TIMEOUT
    while True:
        try:
            with socket.create_connection(address, timeout=0.5):
                return
        except OSError as error:
            if time.monotonic() > deadline:
                where = f"{address[0]}:{address[1]}"
                raise SandboxError(f"the service at {where} leads nowhere after {_SETTLE_TIMEOUT:g} s: {error}") from error
            time.sleep(0.05)
