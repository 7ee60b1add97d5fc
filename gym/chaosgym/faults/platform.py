"""Faults of the platform: what an orchestrator is told to run, and whom its services lead to.

Each changes the objects of the API as somebody in a hurry does, and the platform does the rest: the old pod goes, the
new one is not scheduled, not pulled, not started or not ready. Healing puts back what was there.
"""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from chaosgym.faults.base import Fault, FaultParameters, Symptom
from chaosgym.faults.readback import in_force
from chaosgym.sandbox.base import Capability, PlatformChange, PlatformView, Sandbox

__all__ = ["PLATFORM_FAULTS", "PlatformFault"]

_IN_FORCE = 15.0
"""Seconds that a control loop may take to notice and act."""
_WORDS = ("app", "runtime", "shared", "common", "service", "backend", "core", "main")


def _suffering(pattern: str = "") -> tuple[Symptom, ...]:
    """What users and callers see of a pod that is gone, and what the platform says of it."""
    event = (Symptom("component", "event", pattern=pattern),) if pattern else ()
    refused = Symptom("callers", "log", pattern=r"(?i)refused|cannot connect|connect call failed|timed? ?out|unreachable|reset by peer")
    return (*event, Symptom("component", "down"), Symptom("callers", "errors"), Symptom("edge", "errors"), refused)


class PlatformFault(Fault):
    """A change to the objects that a component is run by; `change` says which, `holds` when it is in force."""

    kinds = frozenset({"gateway", "service"})
    needs: ClassVar[frozenset[Capability]] = frozenset({"platform"})

    class Parameters(FaultParameters):
        """None: it is so, or it is not."""

    @abstractmethod
    def change(self, draw: random.Random) -> PlatformChange:
        """What is done to the objects."""

    @abstractmethod
    def holds(self, seen: PlatformView) -> bool:
        """Whether the platform shows that it is in force."""

    async def inject(self, sandbox: Sandbox) -> None:
        await sandbox.change_platform(self.target, self.change(random.Random(f"{sandbox.plan.seed}/{self.label}")))

    async def verify(self, sandbox: Sandbox) -> None:
        async def shown() -> bool:
            return self.holds(await sandbox.platform(self.target))

        await in_force(shown, lambda: f"{self.label}: the platform does not show it on {self.target!r}", _IN_FORCE)

    async def heal(self, sandbox: Sandbox) -> None:
        await sandbox.change_platform(self.target, None)


def _container(fields: Mapping[str, Any]) -> PlatformChange:
    """A rollout of a pod whose container differs in `fields`."""
    return PlatformChange(workload={"template": {"spec": {"containers": [{"name": "main", **fields}]}}})


def _pod(fields: Mapping[str, Any]) -> PlatformChange:
    """A rollout of a pod whose spec differs in `fields`."""
    return PlatformChange(workload={"template": {"spec": dict(fields)}})


def _name(draw: random.Random, what: str) -> str:
    """Of an object that does not exist."""
    return f"{draw.choice(_WORDS)}-{what}-{draw.randint(2, 99)}"


class ImagePull(PlatformFault):
    """The rollout names an image that cannot be pulled: a typo in the tag, a registry that is gone, a missing login."""

    label = "platform.image_pull"
    documented = "https://kubernetes.io/docs/concepts/containers/images/#imagepullbackoff"
    symptoms = _suffering(r"failed to (?:pull|resolve)|ImagePullBackOff|ErrImagePull")

    def change(self, draw: random.Random) -> PlatformChange:
        tag = f"{draw.randint(1, 9)}.{draw.randint(0, 40)}.{draw.randint(0, 20)}"
        return _container({"image": f"registry.internal/{draw.choice(_WORDS)}/{draw.choice(_WORDS)}:{tag}"})

    def holds(self, seen: PlatformView) -> bool:
        return bool(seen.reasons & {"ErrImagePull", "ImagePullBackOff"})


class ReadinessProbe(PlatformFault):
    """The readiness probe asks at the wrong port: the pod is well and never gets a request."""

    label = "platform.readiness_probe"
    documented = "https://kubernetes.io/docs/tasks/configure-pod-container/configure-liveness-readiness-startup-probes/"
    symptoms = _suffering(r"Readiness probe failed")

    def change(self, draw: random.Random) -> PlatformChange:
        return _container({"readinessProbe": {"tcpSocket": {"port": draw.choice((8888, 9090, 3000, 5000))}}})

    def holds(self, seen: PlatformView) -> bool:
        return seen.endpoints == 0 and "ContainersNotReady" in seen.reasons


class LivenessProbe(PlatformFault):
    """The liveness probe asks at the wrong port: the kubelet kills a container that is well, again and again."""

    label = "platform.liveness_probe"
    documented = "https://kubernetes.io/docs/tasks/configure-pod-container/configure-liveness-readiness-startup-probes/"
    symptoms = _suffering(r"Liveness probe failed|failed liveness probe")

    def change(self, draw: random.Random) -> PlatformChange:
        probe = {"tcpSocket": {"port": draw.choice((8888, 9090, 3000, 5000))}, "periodSeconds": 1, "failureThreshold": 1}
        return _container({"livenessProbe": probe})

    def holds(self, seen: PlatformView) -> bool:
        return bool(seen.reasons & {"CrashLoopBackOff", "Error", "Completed"})


class Selector(PlatformFault):
    """The selector of its Service matches no pod any more: a label was renamed on one side."""

    label = "platform.selector"
    documented = "https://kubernetes.io/docs/tasks/debug/debug-application/debug-service/#does-the-service-have-any-endpoints"
    symptoms = _suffering()

    def change(self, draw: random.Random) -> PlatformChange:
        return PlatformChange(selector={"app.kubernetes.io/name": _name(draw, "web")})

    def holds(self, seen: PlatformView) -> bool:
        return seen.endpoints == 0 and seen.ready > 0


class TargetPort(PlatformFault):
    """Its Service leads to a port at which nobody listens."""

    label = "platform.target_port"
    documented = "https://kubernetes.io/docs/tasks/debug/debug-application/debug-service/#is-the-service-defined-correctly"
    symptoms = _suffering()

    def change(self, draw: random.Random) -> PlatformChange:
        return PlatformChange(target_port=draw.choice((8888, 9090, 3000, 5000)))

    def holds(self, seen: PlatformView) -> bool:
        return seen.endpoints > 0 and seen.ready > 0


class Quota(PlatformFault):
    """The namespace is over its quota when a pod is moved: it is not made again."""

    label = "platform.quota"
    documented = "https://kubernetes.io/docs/concepts/policy/resource-quotas/"
    symptoms = _suffering(r"exceeded quota")

    def change(self, draw: random.Random) -> PlatformChange:
        return PlatformChange(quota={"pods": str(draw.randint(1, 3))}, delete_pod=True)

    def holds(self, seen: PlatformView) -> bool:
        return seen.ready == 0 and "FailedCreate" in seen.reasons


class Unschedulable(PlatformFault):
    """The rollout asks for a node that the cluster does not have."""

    label = "platform.unschedulable"
    documented = "https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/"
    symptoms = _suffering(r"didn't match (?:node selector|Pod's node affinity)")

    def change(self, draw: random.Random) -> PlatformChange:
        return _pod({"nodeSelector": {draw.choice(("disktype", "pool", "zone")): draw.choice(("nvme", "gpu", "spot", "arm"))}})

    def holds(self, seen: PlatformView) -> bool:
        return "Unschedulable" in seen.reasons


class NoCapacity(PlatformFault):
    """The rollout asks for more CPU than any node has left."""

    label = "platform.capacity"
    documented = "https://kubernetes.io/docs/concepts/configuration/manage-resources-containers/#my-pods-are-pending-with-event-message-failedscheduling"
    symptoms = _suffering(r"Insufficient (?:cpu|memory)")

    def change(self, draw: random.Random) -> PlatformChange:
        cores = str(draw.randint(40, 90))
        return _container({"resources": {"requests": {"cpu": cores}, "limits": {"cpu": cores}}})

    def holds(self, seen: PlatformView) -> bool:
        return "Unschedulable" in seen.reasons


class ConfigMissing(PlatformFault):
    """The rollout takes its environment from a ConfigMap that nobody has made."""

    label = "platform.config_missing"
    documented = "https://kubernetes.io/docs/tasks/configure-pod-container/configure-pod-configmap/"
    symptoms = _suffering(r"^Failed: .*configmap \"[^\"]*\" not found")

    def change(self, draw: random.Random) -> PlatformChange:
        return _container({"envFrom": [{"configMapRef": {"name": _name(draw, "config")}}]})

    def holds(self, seen: PlatformView) -> bool:
        return "CreateContainerConfigError" in seen.reasons


class SecretMissing(PlatformFault):
    """The rollout takes a password from a Secret that nobody has made."""

    label = "platform.secret_missing"
    documented = "https://kubernetes.io/docs/concepts/configuration/secret/"
    symptoms = _suffering(r"secret \"[^\"]*\" not found")

    def change(self, draw: random.Random) -> PlatformChange:
        reference = {"secretKeyRef": {"name": _name(draw, "credentials"), "key": "password"}}
        return _container({"env": [{"name": "API_PASSWORD", "valueFrom": reference}]})

    def holds(self, seen: PlatformView) -> bool:
        return "CreateContainerConfigError" in seen.reasons


class VolumeMissing(PlatformFault):
    """The rollout mounts what does not exist: the pod waits for its volume for ever."""

    label = "platform.volume_missing"
    documented = "https://kubernetes.io/docs/concepts/storage/volumes/#configmap"
    symptoms = _suffering(r"MountVolume|Unable to attach or mount")

    def change(self, draw: random.Random) -> PlatformChange:
        name = _name(draw, "files")
        mount = {"name": "main", "volumeMounts": [{"name": "files", "mountPath": "/srv/files"}]}
        return _pod({"volumes": [{"name": "files", "configMap": {"name": name}}], "containers": [mount]})

    def holds(self, seen: PlatformView) -> bool:
        return "ContainerCreating" in seen.reasons and seen.ready == 0


class ServiceAccountMissing(PlatformFault):
    """The rollout runs as a service account that does not exist: no pod may be made."""

    label = "platform.service_account"
    documented = "https://kubernetes.io/docs/tasks/configure-pod-container/configure-service-account/"
    symptoms = _suffering(r"serviceaccount \"[^\"]*\" not found")

    def change(self, draw: random.Random) -> PlatformChange:
        return _pod({"serviceAccountName": _name(draw, "runner")})

    def holds(self, seen: PlatformView) -> bool:
        return "FailedCreate" in seen.reasons


class ScaledToZero(PlatformFault):
    """Somebody, or an autoscaler, has scaled it to no pod at all."""

    label = "platform.scaled_to_zero"
    documented = "https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#scaling-a-deployment"
    symptoms = _suffering()

    def change(self, draw: random.Random) -> PlatformChange:
        return PlatformChange(workload={"replicas": 0})

    def holds(self, seen: PlatformView) -> bool:
        return seen.replicas == 0 and seen.ready == 0


class Command(PlatformFault):
    """The rollout starts a program that the image does not have."""

    label = "platform.command"
    documented = "https://kubernetes.io/docs/tasks/inject-data-application/define-command-argument-container/"
    symptoms = _suffering(r"executable file not found|no such file or directory")

    def change(self, draw: random.Random) -> PlatformChange:
        return _container({"command": [f"/usr/local/bin/{draw.choice(('start', 'entrypoint', 'run-server', 'launch'))}.sh"]})

    def holds(self, seen: PlatformView) -> bool:
        return bool(seen.reasons & {"RunContainerError", "CrashLoopBackOff", "StartError", "ContainerCannotRun"})


class MemoryTooSmall(PlatformFault):
    """The rollout's memory limit is smaller than what the program needs to start: the kernel kills it each time."""

    label = "platform.memory_limit"
    documented = "https://kubernetes.io/docs/tasks/configure-pod-container/assign-memory-resource/"
    symptoms = _suffering(r"OOMKilled|Back-off restarting failed container|ran out of memory")

    def change(self, draw: random.Random) -> PlatformChange:
        size = f"{draw.randint(18, 30)}Mi"
        return _container({"resources": {"requests": {"memory": size}, "limits": {"memory": size}}})

    def holds(self, seen: PlatformView) -> bool:
        return bool(seen.reasons & {"OOMKilled", "CrashLoopBackOff", "Error", "RunContainerError", "StartError"})


class RunAsRoot(PlatformFault):
    """The rollout runs as root where that is not allowed: the container is not created."""

    label = "platform.security_context"
    documented = "https://kubernetes.io/docs/tasks/configure-pod-container/security-context/"
    symptoms = _suffering(r"container's runAsUser breaks non-root policy|run as root|violates PodSecurity")

    def change(self, draw: random.Random) -> PlatformChange:
        return _container({"securityContext": {"runAsUser": 0}})

    def holds(self, seen: PlatformView) -> bool:
        return bool(seen.reasons & {"CreateContainerConfigError", "FailedCreate"})


PLATFORM_FAULTS: tuple[type[PlatformFault], ...] = (
    ImagePull, ReadinessProbe, LivenessProbe, Selector, TargetPort, Quota, Unschedulable, NoCapacity, ConfigMissing, SecretMissing,
    VolumeMissing, ServiceAccountMissing, ScaledToZero, Command, MemoryTooSmall, RunAsRoot,
)  # fmt: skip
"""All of the family."""
