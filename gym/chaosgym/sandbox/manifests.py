"""What the Kubernetes engine makes, as plain manifests; they meet Pod Security "restricted" and work from server 1.20 on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from chaosgym.sandbox.component import LINK_PORTS, SERVICE_PORT
from chaosgym.sandbox.datastores import POSTGRES_PORT, REDIS_PORT
from chaosgym.sandbox.engine import CONTROL_PORT, PlaceKind, labels
from chaosgym.sandbox.image import image_reference

__all__ = [
    "OF_NAMESPACE", "SLOT_LABEL", "deployment", "extra_quota", "labels", "namespace", "service", "service_patch",
    "telemetry_policy",
]  # fmt: skip

SLOT_LABEL = "app.kubernetes.io/instance"
_ACCOUNT = "workload"
_USER = 10001
_PORTS: dict[PlaceKind, int] = {"service": SERVICE_PORT, "postgres": POSTGRES_PORT, "redis": REDIS_PORT}
_MEMORY = {"service": "512Mi", "postgres": "512Mi", "redis": "256Mi"}


def namespace(name: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """With the Pod Security level that newer servers enforce."""
    secure = {"pod-security.kubernetes.io/enforce": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {**labels, **secure}}}


def quota(labels: Mapping[str, str]) -> dict[str, Any]:
    """An upper bound for a sandbox that goes wild."""
    hard = {"pods": "120", "limits.memory": "48Gi", "limits.cpu": "120", "services": "120", "persistentvolumeclaims": "0"}
    return extra_quota("compute-resources", hard, labels)


def extra_quota(name: str, hard: Mapping[str, str], labels: Mapping[str, str]) -> dict[str, Any]:
    """A ResourceQuota."""
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": name, "labels": dict(labels)}, "spec": {"hard": dict(hard)}}


def limit_range(labels: Mapping[str, str]) -> dict[str, Any]:
    """So that no container is without limits."""
    limit = {"type": "Container", "default": {"cpu": "1", "memory": "512Mi"}, "defaultRequest": {"cpu": "5m", "memory": "32Mi"}}
    return {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "limits", "labels": dict(labels)}, "spec": {"limits": [limit]}}


def service_account(labels: Mapping[str, str]) -> dict[str, Any]:
    """Without any role, and without a token in the pods."""
    metadata = {"name": _ACCOUNT, "labels": dict(labels)}
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata, "automountServiceAccountToken": False}


def network_policy(labels: Mapping[str, str]) -> dict[str, Any]:
    """Deny all but traffic within the namespace, and orders and users from ours.

    Ours has no pod label to select by when it runs on a node, so the control port and the entry are open to addresses.
    """
    inside = {"podSelector": {}}
    ours = [{"protocol": "TCP", "port": port} for port in (CONTROL_PORT, SERVICE_PORT, SERVICE_PORT + 1)]
    return _policy("private", labels, {"ingress": [{"from": [inside]}, {"ports": ours}], "egress": [{"to": [inside]}]})


def telemetry_policy(labels: Mapping[str, str], address: str) -> dict[str, Any]:
    """Permit what pods tell of themselves to ours, at that address, which is known when the first pod runs; policies add up."""
    to = {"to": [{"ipBlock": {"cidr": f"{address}/32"}}], "ports": [{"protocol": "TCP"}]}
    return _policy("telemetry", labels, {"egress": [to]})


def _policy(name: str, labels: Mapping[str, str], rules: Mapping[str, Any]) -> dict[str, Any]:
    types = [each.capitalize() for each in rules]
    return {
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name, "labels": dict(labels)},
        "spec": {"podSelector": {}, "policyTypes": types, **rules},
    }  # fmt: skip


OF_NAMESPACE: Mapping[str, Callable[[Mapping[str, str]], dict[str, Any]]] = {
    "resource_quota": quota, "limit_range": limit_range, "service_account": service_account, "network_policy": network_policy,
}  # fmt: skip
"""What every namespace has, from the labels, by kind in the client's spelling."""


def deployment(handle: str, kind: PlaceKind, token: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """A place: one pod, replaced as a whole when its Deployment changes."""
    marks = {**labels, SLOT_LABEL: handle}
    pod = {
        "serviceAccountName": _ACCOUNT, "automountServiceAccountToken": False, "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 1, "containers": [_container(kind, token)],
        "securityContext": {
            "runAsNonRoot": True, "runAsUser": _USER, "runAsGroup": _USER, "fsGroup": _USER, "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumes": [{"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}},
                    {"name": "run", "emptyDir": {"medium": "Memory", "sizeLimit": "256Mi"}}],
    }  # fmt: skip
    return {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": handle, "labels": marks},
        "spec": {
            "replicas": 1, "selector": {"matchLabels": {SLOT_LABEL: handle}}, "revisionHistoryLimit": 1,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}},
            "template": {"metadata": {"labels": marks}, "spec": pod},
        },
    }  # fmt: skip


def _container(kind: PlaceKind, token: str) -> dict[str, Any]:
    environment = {"PORT": str(CONTROL_PORT), "TOKEN": token, "KIND": kind}
    return {
        "name": "main", "image": image_reference(), "imagePullPolicy": "IfNotPresent",
        "env": [{"name": key, "value": value} for key, value in environment.items()],
        "resources": {"limits": {"cpu": "1", "memory": _MEMORY[kind]}, "requests": {"cpu": "5m", "memory": "32Mi"}},
        "readinessProbe": {"tcpSocket": {"port": CONTROL_PORT}, "initialDelaySeconds": 2, "periodSeconds": 1, "timeoutSeconds": 1},
        "securityContext": {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, {"name": "run", "mountPath": "/run/app"}],
    }  # fmt: skip


def service(handle: str, kind: PlaceKind, labels: Mapping[str, str]) -> dict[str, Any]:
    """A ClusterIP in front of a place, for all applications that it will ever be of: straight, by its link, and for our orders."""
    ports = {"direct": _PORTS[kind], "link": LINK_PORTS[_PORTS[kind]], "orders": CONTROL_PORT}
    listed = [{"name": name, "port": port, "targetPort": port, "protocol": "TCP"} for name, port in ports.items()]
    spec = {"type": "ClusterIP", "selector": {SLOT_LABEL: handle}, "ports": listed}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": handle, "labels": dict(labels)}, "spec": spec}


def service_patch(body: Mapping[str, Any], selector: Mapping[str, str], target_port: int | None) -> dict[str, Any]:
    """A patch that makes a Service what `body` says, but for another selector, and another target of its ports."""
    ports = [{**port, "targetPort": target_port or port["targetPort"]} for port in body["spec"]["ports"]]
    return {"spec": {"selector": {"$patch": "replace", **(selector or body["spec"]["selector"])}, "ports": [{"$patch": "replace"}, *ports]}}
