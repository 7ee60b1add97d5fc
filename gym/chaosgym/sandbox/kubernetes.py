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
from datetime import datetime
from typing import Any, ParamSpec, TypeVar

from chaosgym.errors import SandboxError
from chaosgym.sandbox import manifests
from chaosgym.sandbox.base import Capability, PlatformChange, PlatformView
from chaosgym.sandbox.engine import CONTROL_PORT, OWNER_LABEL, RUN_LABEL, EngineEvent, Place, PlaceKind
from chaosgym.sandbox.engine_logs import lines_since
from chaosgym.sandbox.image import image_reference
from chaosgym.sandbox.kubernetes_api import Api, connect, first_line, message
from chaosgym.sandbox.remote import Remote

__all__ = ["KubernetesEngine", "remove_run"]

_POD_TIMEOUT = 60.0
_SETTLE_TIMEOUT = 20.0
_GONE_TIMEOUT = 45.0
"""Seconds that we wait for a namespace to be gone; the cluster goes on removing it."""
_POLL = 0.15
_HEAR_TIMEOUT = 20.0
_LATE = 2 * 10**9
"""Nanoseconds: a kubelet sends five events a second, and what is more waits."""
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
        """What the Service in front of it should look like, likewise."""
        self._entries: dict[str, str] = {}
        """The address of that Service."""
        self._tokens: dict[str, str] = {}
        self._kinds: dict[str, PlaceKind] = {}
        self._pods: dict[str, str] = {}
        """Name of the pod that a place is, by its handle."""
        self._changed: set[str] = set()
        self._logs_of_lost: dict[str, str] = {}
        self._events: list[EngineEvent] = []
        self._started: set[str] = set()
        """Pods of which we were told that they run."""
        self._ended: set[str] = set()
        """Containers whose end was told."""
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
        first = not self.host
        places = list(await asyncio.gather(*(self._find(handle) for handle in handles)))
        if first:
            policy = manifests.telemetry_policy(manifests.labels(self._run), self.host)
            await self._do(self._api.create, "network_policy", self.namespace, policy)
        return places

    def _add(self, handle: str) -> None:
        kind, labels = self._kinds[handle], manifests.labels(self._run)
        self._services[handle] = manifests.service(handle, kind, labels)
        self._entries[handle] = self._api.create("service", self.namespace, self._services[handle])["spec"]["clusterIP"]
        self._deployments[handle] = manifests.deployment(handle, kind, self._tokens[handle], labels)
        self._api.create("deployment", self.namespace, self._deployments[handle])

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
        return Place(handle, self._kinds[handle], address, self._entries[handle], self._tokens[handle])

    async def replaced(self) -> list[Place]:
        """Places whose pod is another one than when it was last asked for."""
        pods = await self._do(self._api.pods, self.namespace, manifests.SLOT_LABEL)
        found = ((pod["metadata"]["labels"][manifests.SLOT_LABEL], pod) for pod in pods if _runs(pod))
        return [self._take(handle, pod) for handle, pod in found if pod["metadata"]["name"] != self._pods.get(handle, "")]

    async def settle(self, places: Sequence[Place]) -> None:
        """Ask each for its process 1 by its Service: an answer from anything else proves nothing. SandboxError when none comes.

        Then hear out what the node has still to tell of the start: it tells in order, a few events a second, and what is
        broken next would be told too late.
        """
        await asyncio.gather(*(_prove(place) for place in places))
        for _ in range(round(_HEAR_TIMEOUT / _POLL)):
            if self._started.issuperset(self._pods.values()):
                return
            await asyncio.sleep(_POLL)

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
        if event.get("reason") == "Started":
            self._started.add(thing["name"])
        handle = next((h for h in self._deployments if thing["name"].startswith(h)), None)
        if handle is not None:
            shown = (event.get("message") or "").replace(thing["name"], handle)
            for ours, public in ((image_reference(), f"{handle}:current"), (self.namespace, "default")):
                shown = shown.replace(ours, public)  # names that say who runs this
            attributes = {"k8s.object.kind": thing["kind"].lower(), "type": event.get("type") or "Normal"}
            self._events.append(EngineEvent(_happened(event), handle, event.get("reason") or "", shown, attributes))

    async def gauges(self) -> Mapping[str, Mapping[str, float]]:
        return await self._do(self._gauges)

    def _gauges(self) -> dict[str, dict[str, float]]:
        found: dict[str, dict[str, float]] = {}
        for each in self._api.list("deployment", self.namespace):
            status, counts = each["status"], found.setdefault(each["metadata"]["name"], {})
            counts["k8s.deployment.desired_pods"] = each["spec"]["replicas"]
            counts["k8s.deployment.available_pods"] = status.get("availableReplicas", 0)
        self._tell_ends()
        for each in self._api.list("endpoints", self.namespace):
            found.setdefault(each["metadata"]["name"], {})["k8s.service.endpoint.count"] = _addresses(each)
        return found

    def _tell_ends(self) -> None:
        """How containers ended stands in the status of their pods, and in no event; those of pods that leave may end."""
        for pod in self._api.pods(self.namespace, manifests.SLOT_LABEL):
            handle = pod["metadata"]["labels"][manifests.SLOT_LABEL]
            for status in () if "deletionTimestamp" in pod["metadata"] else _statuses(pod):
                for end in (state["terminated"] for state in (status["lastState"], status["state"]) if "terminated" in state):
                    if end["exitCode"] and end.get("containerID", pod["metadata"]["name"]) not in self._ended:
                        self._ended.add(end.get("containerID", pod["metadata"]["name"]))
                        said = f"container {status['name']} ended with exit code {end['exitCode']}"
                        attributes = {"k8s.object.kind": "pod", "type": "Warning"}
                        self._events.append(EngineEvent(time.time_ns(), handle, end.get("reason") or "Error", said, attributes))

    # ---- the platform itself

    async def change(self, handle: str, change: PlatformChange | None) -> None:
        """Put a change in force, or put back what was there."""
        if change is None:
            await self._do(self._restore, handle)
        else:
            self._changed.add(handle)
            self._logs_of_lost[handle] = await self._do(self._read_log, handle, time.time_ns() - 60 * 10**9)
            await self._do(self._change, handle, change)

    def _change(self, handle: str, change: PlatformChange) -> None:
        if change.quota:
            body = manifests.extra_quota(_EXTRA_QUOTA, change.quota, manifests.labels(self._run))
            self._api.create("resource_quota", self.namespace, body)
        if change.selector or change.target_port:
            body = manifests.service_patch(self._services[handle], change.selector, change.target_port)
            self._api.patch("service", self.namespace, handle, body)
        if change.workload:
            self._api.patch("deployment", self.namespace, handle, {"spec": dict(change.workload)})
        if change.delete_pod:
            self._api.delete("pod", self.namespace, self._pods[handle])

    def _restore(self, handle: str) -> None:
        self._api.delete("resource_quota", self.namespace, _EXTRA_QUOTA)
        self._api.patch("service", self.namespace, handle, manifests.service_patch(self._services[handle], {}, None))
        if handle in self._changed:
            found = self._api.read("deployment", self.namespace, handle)
            body = copy.deepcopy(self._deployments[handle])
            body["metadata"]["resourceVersion"] = found["metadata"]["resourceVersion"]
            self._api.replace("deployment", self.namespace, handle, body)

    async def view(self, handle: str) -> PlatformView:
        """The state of a component as the API tells it."""
        return await self._do(self._view, handle)

    def _view(self, handle: str) -> PlatformView:
        found = self._api.read("deployment", self.namespace, handle)
        ends = self._api.read("endpoints", self.namespace, handle)
        reasons = {reason for pod in self._list_pods(handle) for reason in _reasons(pod)}
        conditions = found["status"].get("conditions") or ()
        reasons |= {c["reason"] for c in conditions if c["type"] == "ReplicaFailure" and c["status"] == "True"}
        return PlatformView(found["spec"]["replicas"], found["status"].get("readyReplicas", 0), _addresses(ends), frozenset(reasons))

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
        api.delete_namespace(name)
    deadline = time.monotonic() + timeout
    while (left := api.namespaces(selector) if found else []) and time.monotonic() < deadline:
        for name in (each["metadata"]["name"] for each in left):
            for pod in api.pods(name, ""):  # or the namespace waits for their grace, and then for its next turn
                api.delete("pod", name, pod["metadata"]["name"])
        time.sleep(0.5)
    return [f"namespace {name}" for name in found]


def _happened(event: Mapping[str, Any]) -> int:
    """Unix nanoseconds: when we heard of it, which is exact, unless the cluster told us late; it tells whole seconds."""
    now, stamp = time.time_ns(), event.get("lastTimestamp") or event.get("firstTimestamp")
    if not stamp:
        return now
    told = int(datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp() * 1e9)
    return now if now - told < _LATE else told


def _addresses(endpoints: Mapping[str, Any]) -> int:
    return sum(len(subset.get("addresses") or ()) for subset in endpoints.get("subsets") or ())


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


async def _prove(place: Place) -> None:
    remote = await Remote.connect(place.entry, CONTROL_PORT, place.token, lambda *notice: None, _SETTLE_TIMEOUT)
    await remote.close()
