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

from chaosgym.errors import PrerequisiteError, SandboxError
from chaosgym.sandbox import manifests
from chaosgym.sandbox.base import Capability, PlatformChange, PlatformView
from chaosgym.sandbox.engine import OWNER_LABEL, RUN_LABEL, EngineEvent, Exposure, Place, PlaceKind
from chaosgym.sandbox.engine_logs import lines_since
from chaosgym.services.config import Address

__all__ = ["KubernetesEngine", "connect", "remove_run"]

_POD_TIMEOUT = 60.0
_SETTLE_TIMEOUT = 20.0
_GONE_TIMEOUT = 60.0
_POLL = 0.15
_WATCH_SECONDS = 600
_EXTRA_QUOTA = "compute-resources-extra"

P = ParamSpec("P")
T = TypeVar("T")


def connect(context: str) -> Any:
    """An API client of that context, or of the cluster we run in. Raises PrerequisiteError with the remedy."""
    try:
        from kubernetes import client, config
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError
    except ImportError as error:
        raise PrerequisiteError("the Kubernetes client is not installed; run: pip install 'chaosgym[kubernetes]'") from error
    try:
        if context == "in-cluster":
            config.load_incluster_config()
            api = client.ApiClient()
        else:
            api = config.new_client_from_config(context=context)
        client.VersionApi(api).get_code(_request_timeout=10)
    except config.ConfigException as error:
        known = ", ".join(_contexts()) or "none"
        raise PrerequisiteError(f"context {context!r}: {_one_line(error)}; contexts of your kubeconfig: {known}") from error
    except ApiException as error:
        remedy = "the token may have expired: log in to the cluster again" if error.status == 401 else "see `kubectl auth can-i --list`"
        raise PrerequisiteError(f"the cluster of context {context!r} refused: {error.status} {error.reason}; {remedy}") from error
    except (HTTPError, OSError) as error:
        raise PrerequisiteError(f"the cluster of context {context!r} does not answer ({_one_line(error)}); is it up?") from error
    return api


def _contexts() -> list[str]:
    from kubernetes import config

    try:
        found: Any = config.list_kube_config_contexts()
    except config.ConfigException:
        return []
    return [each["name"] for each in found[0]]


class KubernetesEngine:
    """Implements `chaosgym.sandbox.engine.Engine`."""

    name = "kubernetes"
    lacks: frozenset[Capability] = frozenset({"packets"})

    def __init__(self, run: str, context: str, prefix: str) -> None:
        """`run`: an id that all objects are labelled with; `prefix`: what the namespace's name begins with."""
        from kubernetes import client

        self._run = run
        api = connect(context)
        self._core: Any = client.CoreV1Api(api)  # Any: the client's models make every field optional
        self._apps: Any = client.AppsV1Api(api)
        self._net: Any = client.NetworkingV1Api(api)
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
        self._core.create_namespace(manifests.namespace(self.namespace, labels))
        self._core.create_namespaced_resource_quota(self.namespace, manifests.quota(labels))
        self._core.create_namespaced_limit_range(self.namespace, manifests.limit_range(labels))
        self._core.create_namespaced_service_account(self.namespace, manifests.service_account(labels))
        self._net.create_namespaced_network_policy(self.namespace, manifests.network_policy(labels))
        threading.Thread(target=self._watch_events, daemon=True).start()

    # ---- places

    async def add(self, kinds: Sequence[PlaceKind]) -> list[Place]:
        handles = [f"app-{secrets.token_hex(4)}" for _ in kinds]
        for handle, kind in zip(handles, kinds, strict=True):
            self._kinds[handle], self._tokens[handle] = kind, secrets.token_hex(12)
        await asyncio.gather(*(self._do(self._add, handle) for handle in handles))
        return list(await asyncio.gather(*(self.find(handle) for handle in handles)))

    def _add(self, handle: str) -> None:
        body = manifests.deployment(handle, self._kinds[handle], self._tokens[handle], manifests.labels(self._run))
        self._deployments[handle] = body
        self._apps.create_namespaced_deployment(self.namespace, body)

    async def find(self, handle: str, other_than: str = "", timeout: float = _POD_TIMEOUT) -> Place:
        """The place as soon as a pod of it, other than the one named, has an address. Raises SandboxError after `timeout`."""
        deadline = time.monotonic() + timeout
        while True:
            pods = await self._do(self._list_pods, handle)
            for pod in pods:
                if pod.status.pod_ip and pod.metadata.name != other_than and pod.metadata.deletion_timestamp is None and _runs(pod):
                    self._pods[handle] = pod.metadata.name
                    self.host = self.host or _own_address(pod.status.pod_ip)
                    return Place(handle, self._kinds[handle], pod.status.pod_ip, self._tokens[handle])
            if time.monotonic() > deadline:
                raise SandboxError(f"no pod of {self.namespace}/{handle} runs after {timeout:g} s: {_why(pods)}")
            await asyncio.sleep(_POLL)

    def _list_pods(self, handle: str) -> list[Any]:
        return self._core.list_namespaced_pod(self.namespace, label_selector=f"{manifests.SLOT_LABEL}={handle}").items

    async def replaced(self, handle: str) -> Place | None:
        """The place, if its pod is another one than when it was last asked for; None while it is the same or none runs."""
        pods = await self._do(self._list_pods, handle)
        known = self._pods.get(handle)
        for pod in pods:
            if pod.metadata.name != known and pod.status.pod_ip and pod.metadata.deletion_timestamp is None and _runs(pod):
                self._pods[handle] = pod.metadata.name
                return Place(handle, self._kinds[handle], pod.status.pod_ip, self._tokens[handle])
        return None

    # ---- how components are reached

    async def expose(self, exposures: Mapping[str, Exposure]) -> dict[str, Address]:
        addresses = await asyncio.gather(*(self._do(self._expose, role, exposure) for role, exposure in exposures.items()))
        return dict(zip(exposures, addresses, strict=True))

    def _expose(self, role: str, exposure: Exposure) -> Address:
        body = manifests.service(f"svc-{secrets.token_hex(4)}", exposure, manifests.labels(self._run))
        made = self._core.create_namespaced_service(self.namespace, body)
        self._services[role] = body
        return made.spec.cluster_ip, exposure.port

    async def settle(self, addresses: Sequence[Address]) -> None:
        """Wait until the cluster's network leads to each of `addresses`. Raises SandboxError when it does not in time."""
        await asyncio.gather(*(asyncio.to_thread(_wait_open, address) for address in addresses))

    async def withdraw(self) -> None:
        services, self._services = self._services, {}
        names = [body["metadata"]["name"] for body in services.values()]
        await asyncio.gather(*(self._do(self._core.delete_namespaced_service, name, self.namespace) for name in names))
        self._logs_of_lost.clear()

    # ---- what they say

    async def logs(self, place: Place, since: int) -> str:
        lost = self._logs_of_lost.get(place.handle, "")
        return lines_since(lost + await self._do(self._read_log, place.handle, since), since)

    def _read_log(self, handle: str, since: int) -> str:
        from kubernetes.client.exceptions import ApiException

        seconds = max(1, int(time.time() - since / 1e9) + 2)
        try:
            return self._core.read_namespaced_pod_log(self._pods[handle], self.namespace, timestamps=True, since_seconds=seconds) or ""
        except ApiException as error:
            if error.status in (400, 404):  # it is gone, or never began
                return ""
            raise

    async def events(self, since: int) -> list[EngineEvent]:
        return [event for event in list(self._events) if event.at >= since]

    def _watch_events(self) -> None:
        from kubernetes import watch

        while self.namespace:
            with contextlib.suppress(Exception):  # the cluster went away; whoever needs it will say so
                stream: Any = watch.Watch().stream(self._core.list_namespaced_event, self.namespace, timeout_seconds=_WATCH_SECONDS)
                for each in stream:
                    self._take_event(each["object"])
            time.sleep(0.5)

    def _take_event(self, event: Any) -> None:
        handle = next((h for h in self._deployments if event.involved_object.name.startswith(h)), None)
        if handle is not None:
            shown = (event.message or "").replace(event.involved_object.name, handle)
            kind = event.involved_object.kind.lower()
            self._events.append(EngineEvent(time.time_ns(), handle, event.reason, shown, {"k8s.object.kind": kind, "type": event.type}))

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
            self._core.create_namespaced_resource_quota(self.namespace, body)
        if change.service:
            self._core.patch_namespaced_service(self._services[role]["metadata"]["name"], self.namespace, {"spec": dict(change.service)})
        if change.workload:
            self._apps.patch_namespaced_deployment(handle, self.namespace, {"spec": dict(change.workload)})
        if change.delete_pod:
            self._core.delete_namespaced_pod(self._pods[handle], self.namespace, grace_period_seconds=0)

    def _restore(self, handle: str, role: str) -> None:
        from kubernetes.client.exceptions import ApiException

        with contextlib.suppress(ApiException):  # there was none
            self._core.delete_namespaced_resource_quota(_EXTRA_QUOTA, self.namespace)
        if role in self._services:
            body = self._services[role]
            self._core.patch_namespaced_service(body["metadata"]["name"], self.namespace, {"spec": manifests.whole_service_spec(body)})
        if handle in self._changed:
            found = self._apps.read_namespaced_deployment(handle, self.namespace)
            body = copy.deepcopy(self._deployments[handle])
            body["metadata"]["resourceVersion"] = found.metadata.resource_version
            self._apps.replace_namespaced_deployment(handle, self.namespace, body)

    async def view(self, handle: str, role: str) -> PlatformView:
        """The state of a component as the API tells it."""
        return await self._do(self._view, handle, role)

    def _view(self, handle: str, role: str) -> PlatformView:
        found = self._apps.read_namespaced_deployment(handle, self.namespace)
        ends = self._core.read_namespaced_endpoints(self._services[role]["metadata"]["name"], self.namespace)
        ready = sum(len(subset.addresses or ()) for subset in ends.subsets or ())
        reasons = {reason for pod in self._list_pods(handle) for reason in _reasons(pod)}
        reasons |= {c.reason for c in found.status.conditions or () if c.status == "True" and c.type == "ReplicaFailure"}
        return PlatformView(found.spec.replicas, found.status.ready_replicas or 0, ready, frozenset(reasons))

    # ---- the end

    async def close(self) -> None:
        await asyncio.to_thread(remove_run, self._core, self._run)
        self.namespace = ""

    async def _do(self, work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Run it in a thread; what the cluster refuses becomes a SandboxError."""
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        try:
            return await asyncio.to_thread(work, *arguments, **named)
        except ApiException as error:
            raise SandboxError(f"the cluster refused: {error.status} {error.reason}: {_message(error)}") from error
        except HTTPError as error:
            raise SandboxError(f"the cluster does not answer: {_one_line(error)}") from error


def remove_run(core: Any, run: str) -> list[str]:
    """Remove every namespace that carries the label of `run`, wait until they are gone; returns what it removed."""
    from kubernetes.client.exceptions import ApiException

    selector = f"{OWNER_LABEL}=chaosgym,{RUN_LABEL}={run}"
    found = [each.metadata.name for each in core.list_namespace(label_selector=selector).items]
    for name in found:
        with contextlib.suppress(ApiException):  # it is on its way out already
            core.delete_namespace(name, grace_period_seconds=0)
    deadline = time.monotonic() + _GONE_TIMEOUT
    while time.monotonic() < deadline and core.list_namespace(label_selector=selector).items:
        time.sleep(0.3)
    return [f"namespace {name}" for name in found]


def _runs(pod: Any) -> bool:
    return any(status.state.running is not None for status in pod.status.container_statuses or ())


def _reasons(pod: Any) -> Iterator[str]:
    """Why its containers wait or ended, and why it is not scheduled."""
    for status in pod.status.container_statuses or ():
        for state in (status.state.waiting, status.state.terminated, status.last_state.terminated):
            if state is not None and state.reason:
                yield state.reason
    for condition in pod.status.conditions or ():
        if condition.status == "False" and condition.reason:
            yield condition.reason


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


def _message(error: Any) -> str:
    import json

    with contextlib.suppress(ValueError, TypeError, KeyError):
        return json.loads(error.body)["message"]
    return _one_line(error)


def _one_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
