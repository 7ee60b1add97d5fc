"""A namespace of a cluster as a host: Deployments that are there already, and their pods.

A killed pod is replaced at once, so whoever is held down is scaled to zero first; a pod that comes back is a new one. SIGSTOP and
SIGCONT are sent from inside, by the container's own shell: to a program that is process 1 of its container the kernel delivers
neither, unless the pod has `shareProcessNamespace: true`. This process must reach pods by their address for SQL and Redis.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn, ParamSpec, TypeVar

from chaosgym.errors import FaultError, InputError, SandboxError, did_you_mean
from chaosgym.foreign.app import ForeignApp
from chaosgym.foreign.host import Found, HostEvent
from chaosgym.foreign.journal import Entry, Journal
from chaosgym.foreign.lines import stamped
from chaosgym.sandbox.base import Capability, ProcessView, Toxic
from chaosgym.sandbox.kubernetes_api import connect, make_client
from chaosgym.telemetry.process import gauge_row, sum_row
from chaosgym.telemetry.store import Row

__all__ = ["KubernetesHost"]

_BACK_WITHIN = 90.0
_POLL = 0.3
_NOT_YET = "chaosgym does it to containers of a Compose project, not to pods yet"
_STATES = "for p in /proc/[0-9]*; do read -r line < $p/stat 2>/dev/null && echo \"${p#/proc/} $line\"; done"

P = ParamSpec("P")
T = TypeVar("T")


class KubernetesHost:
    """Implements `chaosgym.foreign.host.Host`."""

    name = "kubernetes"

    def __init__(self, app: ForeignApp) -> None:
        from kubernetes import client

        assert app.spec.kubernetes is not None
        self.place = app.spec.kubernetes.namespace
        self._context = app.spec.kubernetes.context
        self._components = app.spec.components
        connect(self._context)  # with the remedy where it cannot be reached
        self._api: Any = make_client(self._context)
        self._core: Any = client.CoreV1Api(self._api)
        self._apps: Any = client.AppsV1Api(self._api)
        self._selectors: dict[str, str] = {}
        """Of the pods of a component, by role."""
        self._others: list[str] = []
        self._logs_of_lost: dict[str, str] = {}
        self._usage: tuple[float, dict[str, Any]] = (0.0, {})
        self.identity = ""

    async def find(self, *, running: bool = True) -> Sequence[Found]:
        return await self._do(self._find, running)

    def _find(self, running: bool) -> list[Found]:
        self.identity = _json(self._core.read_namespace, self.place)["metadata"]["uid"]
        known = {each["metadata"]["name"]: each for each in _json(self._apps.list_namespaced_deployment, self.place)["items"]}
        found: list[Found] = []
        problems: list[str] = []
        for role, component in self._components.items():
            name = component.workload or ""
            if name not in known:
                have = ", ".join(known) or "none"
                problems.append(f"'{role}': namespace '{self.place}' has no Deployment '{name}'; it has {have}{did_you_mean(name, known)}")
                continue
            deployment = known[name]
            if running and not deployment["status"].get("readyReplicas"):
                problems.append(f"'{role}': Deployment {name} has no pod that is ready")
            labels = deployment["spec"]["selector"].get("matchLabels", {})
            self._selectors[role] = ",".join(f"{key}={value}" for key, value in labels.items())
            image = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
            _, colon, tag = image.rpartition(":")
            found.append(Found(role, (name,), image, tag if colon and "/" not in tag else ""))
        if problems:
            raise InputError("\n".join(problems))
        named = {component.workload for component in self._components.values()}
        self._others = sorted(name for name in known if name not in named)
        return found

    def others(self) -> Sequence[str]:
        return self._others

    def lacks(self, role: str) -> Mapping[Capability, str]:
        return {"link": _NOT_YET, "packets": _NOT_YET, "limit": _NOT_YET}

    async def address(self, role: str, port: int) -> tuple[str, int]:
        for pod in await self._do(self._pods, role):
            return pod["status"]["podIP"], port
        raise SandboxError(f"'{role}' has no pod that runs")

    # ---- what is done to it

    def _all_pods(self, role: str) -> list[dict[str, Any]]:
        return _json(self._core.list_namespaced_pod, self.place, label_selector=self._selectors[role])["items"]

    def _pods(self, role: str) -> list[dict[str, Any]]:
        """Those that run and are not on their way out."""
        return [p for p in self._all_pods(role) if "deletionTimestamp" not in p["metadata"] and p["status"]["phase"] == "Running"]

    async def processes(self, role: str) -> Sequence[int]:
        """A number for each pod: processes cannot be told apart from here."""
        return list(range(1, len(await self._do(self._pods, role)) + 1))

    async def inspect(self, role: str) -> Sequence[ProcessView]:
        return await self._do(self._inspect, role)

    def _inspect(self, role: str) -> list[ProcessView]:
        found: list[ProcessView] = []
        for number, pod in enumerate(self._pods(role), start=1):
            lines = [line.split() for line in self._exec(pod, _STATES).splitlines()]
            states = {line[line.index(")") + 1] if ")" in line else line[3] for line in lines if len(line) > 3 and line[0] != "1"}
            state = "T" if "T" in states else "S"
            found.append(ProcessView(number, state, 0, None, frozenset(), frozenset(), {}))
        return found

    def _exec(self, pod: Mapping[str, Any], script: str) -> str:
        from kubernetes.stream import stream

        return str(stream(
            self._core.connect_get_namespaced_pod_exec, pod["metadata"]["name"], self.place, command=["/bin/sh", "-c", script],
            container=pod["spec"]["containers"][0]["name"], stderr=True, stdin=False, stdout=True, tty=False,
        ))  # fmt: skip

    async def signal(self, role: str, number: int, pid: int | None, journal: Journal) -> None:
        if pid is not None:
            raise FaultError(f"processes of '{role}' cannot be told apart from outside its pods; only all of them can be signalled")
        await self._do(self._signal, role, number, journal)

    def _signal(self, role: str, number: int, journal: Journal) -> None:
        if number == signal.SIGKILL:
            self._keep_logs(role)
            for pod in self._all_pods(role):
                with _unless_gone():
                    _json(self._core.delete_namespaced_pod, pod["metadata"]["name"], self.place, grace_period_seconds=0)
            return
        pods = self._pods(role)
        alone = [pod["metadata"]["name"] for pod in pods if not pod["spec"].get("shareProcessNamespace")]
        if alone and number == signal.SIGSTOP:
            why = "is process 1 of its container, to which the kernel delivers no SIGSTOP from inside"
            raise FaultError(f"the program of pod {alone[0]} {why}; set shareProcessNamespace: true on the workload")
        if number == signal.SIGSTOP:
            journal.write("continue", role)
        for pod in pods:
            self._exec(pod, f"kill -{int(number)} -1")

    def _keep_logs(self, role: str) -> None:
        """What pods have written goes with them."""
        self._logs_of_lost[role] = self._logs_of_lost.get(role, "") + self._read_logs(role)

    async def hold(self, role: str, down: bool, journal: Journal) -> None:
        await self._do(self._hold, role, down, journal)

    def _hold(self, role: str, down: bool, journal: Journal) -> None:
        name = self._components[role].workload
        if not down:
            for entry in journal.entries:
                if entry["kind"] == "replicas" and entry["role"] == role:
                    self._undo_replicas(entry)
            return
        deployment = _json(self._apps.read_namespaced_deployment, name, self.place)["spec"]
        volumes = deployment["template"]["spec"].get("volumes", [])
        if kept := [volume["name"] for volume in volumes if "emptyDir" in volume]:
            raise FaultError(f"what '{role}' keeps in the volume {kept[0]} (emptyDir) would be gone with its pod; it is not brought down")
        if replicas := deployment.get("replicas", 1):
            journal.write("replicas", role, workload=name, replicas=replicas)
        self._keep_logs(role)
        self._scale(name, 0)

    def _scale(self, name: str | None, replicas: int) -> None:
        _json(self._apps.patch_namespaced_deployment_scale, name, self.place, {"spec": {"replicas": replicas}})

    def _undo_replicas(self, entry: Entry) -> None:
        name = entry["workload"]
        if _json(self._apps.read_namespaced_deployment, name, self.place)["spec"].get("replicas", 1):
            return  # somebody has scaled it since
        self._scale(name, entry["replicas"])
        deadline = time.monotonic() + _BACK_WITHIN
        while _json(self._apps.read_namespaced_deployment, name, self.place)["status"].get("readyReplicas", 0) < entry["replicas"]:
            if time.monotonic() > deadline:
                raise SandboxError(f"Deployment {name} was scaled back to {entry['replicas']}, and is not ready after {_BACK_WITHIN:g} s")
            time.sleep(_POLL)

    async def limit_files(self, role: str, count: int | None, journal: Journal) -> None:
        _refuse("limits")

    async def limit_memory(self, role: str, size: int | None, journal: Journal) -> None:
        _refuse("limits")

    async def toxic(self, role: str, toxic: Toxic | None, journal: Journal) -> None:
        _refuse("the network")

    async def link_toxic(self, role: str) -> Toxic | None:
        _refuse("the network")

    async def undo(self, entry: Entry) -> None:
        match entry["kind"]:
            case "replicas":
                await self._do(self._undo_replicas, entry)
            case "continue":
                for pod in await self._do(self._pods, entry["role"]):
                    await self._do(self._exec, pod, f"kill -{int(signal.SIGCONT)} -1")
            case kind:
                raise SandboxError(f"the journal says '{kind}', which this version cannot undo; use the chaosgym that wrote it")

    # ---- what it says

    async def sample(self, role: str, name: str) -> Sequence[Row]:
        return await self._do(self._sample, role, name)

    def _sample(self, role: str, name: str) -> list[Row]:
        """As the kubelets tell it; nothing where that may not be asked."""
        seconds = memory = 0.0
        known = self._ask_kubelets()
        names = [pod["metadata"]["name"] for pod in self._pods(role)]
        pods = [known[name] for name in names if name in known]
        for container in [container for pod in pods for container in pod.get("containers", ())]:
            seconds += container.get("cpu", {}).get("usageCoreNanoSeconds", 0) / 1e9
            memory += container.get("memory", {}).get("workingSetBytes", 0)
        now = time.time_ns()
        if not pods:
            return []
        return [sum_row(now, 0, name, "process.cpu.time", "s", seconds), gauge_row(now, name, "process.memory.usage", "By", memory)]

    def _ask_kubelets(self) -> dict[str, Any]:
        from kubernetes.client.exceptions import ApiException

        if time.monotonic() - self._usage[0] < 1.0:
            return self._usage[1]
        found: dict[str, Any] = {}
        with contextlib.suppress(ApiException):  # it takes a right that not everybody has
            for node in {pod["spec"].get("nodeName") for pod in _json(self._core.list_namespaced_pod, self.place)["items"]}:
                summary = _json(self._core.connect_get_node_proxy_with_path, node, "stats/summary")
                found |= {pod["podRef"]["name"]: pod for pod in summary["pods"] if pod["podRef"]["namespace"] == self.place}
        self._usage = (time.monotonic(), found)
        return found

    async def logs(self, role: str, since: int) -> Sequence[tuple[int, str]]:
        text = self._logs_of_lost.get(role, "") + await self._do(self._read_logs, role)
        return sorted({(at, line) for at, line in stamped(text) if at >= since})

    def _read_logs(self, role: str) -> str:
        found = ""
        for pod in self._all_pods(role):
            name = pod["metadata"]["name"]
            with _unless_gone():
                answer = self._core.read_namespaced_pod_log(name, self.place, timestamps=True, since_seconds=600, _preload_content=False)
                found += answer.data.decode(errors="replace")
        return found

    async def events(self, since: int) -> Sequence[HostEvent]:
        return await self._do(self._read_events, since)

    def _read_events(self, since: int) -> list[HostEvent]:
        """Those of pods; of a Deployment that was scaled its own would give the injection away."""
        found: list[HostEvent] = []
        for event in _json(self._core.list_namespaced_event, self.place)["items"]:
            at = _nanoseconds(event.get("lastTimestamp") or event.get("eventTime"))
            subject = event["involvedObject"]
            name = subject.get("name", "")
            role = next((role for role, c in self._components.items() if c.workload == name.rsplit("-", 2)[0]), None)
            if subject.get("kind") == "Pod" and role is not None and at >= since:
                body = event.get("message", "").replace(name, role)
                found.append(HostEvent(at, role, event.get("reason", ""), body, {"count": event.get("count") or 1}))
        return found

    async def close(self) -> None:
        await asyncio.to_thread(self._api.close)

    async def _do(self, work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Run it in a thread; what the cluster refuses becomes a SandboxError."""
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        try:
            return await asyncio.to_thread(work, *arguments, **named)
        except ApiException as error:
            raise SandboxError(f"the cluster of context {self._context!r} refused: {error.status} {error.reason}") from error
        except HTTPError as error:
            raise SandboxError(f"the cluster of context {self._context!r} does not answer: {error}") from error


def _unless_gone() -> contextlib.AbstractContextManager[None]:
    """For what may be gone by the time that it is asked for."""
    from kubernetes.client.exceptions import ApiException

    @contextlib.contextmanager
    def within() -> Any:
        try:
            yield
        except ApiException as error:
            if error.status not in (400, 404):
                raise

    return within()


def _json(call: Callable[..., Any], *arguments: Any, **named: Any) -> dict[str, Any]:
    """What the cluster answers; the client's own models refuse what servers of other versions say."""
    return json.loads(call(*arguments, _preload_content=False, _request_timeout=30, **named).data)


def _nanoseconds(moment: str | None) -> int:
    return 0 if moment is None else int(datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp() * 1e9)


def _refuse(what: str) -> NoReturn:
    raise FaultError(f"{what} of pods: {_NOT_YET}")
