"""What a container engine can do for chaosgym: one Check each, with the exact fix where something is missing.

    examine_docker()               the engine that DOCKER_HOST names, or this machine's
    examine_kubernetes("test")     the cluster of that context

Nothing is changed but that a Docker network is made for a moment, as only that shows whether one is left and reached.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from chaosgym.doctor import Check
from chaosgym.errors import PrerequisiteError

__all__ = ["examine_docker", "examine_kubernetes"]

_GIB = 2**30
_OLDEST = (1, 20)
_NEWS = {(1, 22): "Indexed Jobs (a fleet of recorders)", (1, 23): "Pod Security admission", (1, 25): "ephemeral containers for everybody"}
"""What servers have from that version on, and what for."""
_RIGHTS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("", "namespaces"): ("create", "list", "delete"),
    ("", "resourcequotas"): ("create", "delete"),
    ("", "limitranges"): ("create",),
    ("", "serviceaccounts"): ("create",),
    ("networking.k8s.io", "networkpolicies"): ("create",),
    ("apps", "deployments"): ("create", "get", "list", "patch", "update"),
    ("", "services"): ("create", "patch"),
    ("", "endpoints"): ("get", "list"),
    ("", "pods"): ("list", "delete"),
    ("", "pods/log"): ("get",),
    ("", "events"): ("list", "watch"),
}
"""Verbs that a run uses, by API group and resource."""
_ENFORCERS = {"projectcalico.org": "Calico", "cilium.io": "Cilium", "antrea.io": "Antrea", "ovn.org": "OVN"}
"""Network plug-ins that are known to enforce network policies, by the end of their API groups."""
_IMAGE_FIX = "load it into the nodes: chaosgym image build, then kind load image-archive FILE or ctr --namespace k8s.io images import FILE"


# ---- Docker


def examine_docker() -> list[Check]:
    """In the order in which to mend things; the first alone when no engine answers."""
    from chaosgym.sandbox.docker import connect

    try:
        client = connect()
    except PrerequisiteError as error:
        return [_refusal("docker.engine", error)]
    about: dict[str, Any] = client.info()
    where = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    engine = Check("docker.engine", "pass", f"{about['ServerVersion']} (API {client.version()['ApiVersion']}) at {where}")
    return [engine, _docker_image(client), _docker_network(client), _docker_limits(about), _docker_disk(about)]


def _refusal(name: str, error: Exception) -> Check:
    what, _, remedy = str(error).rpartition("; ")
    return Check(name, "fail", what or str(error), remedy)


def _docker_image(client: Any) -> Check:
    from docker.errors import ImageNotFound

    from chaosgym.sandbox.image import image_path, image_reference

    try:
        reference, archive = image_reference(), image_path()
    except PrerequisiteError as error:
        return _refusal("docker.image", error)
    try:
        client.images.get(reference)
    except ImageNotFound:
        if archive.exists():
            return Check("docker.image", "pass", f"{reference} is built, and loaded by the first run")
        return Check("docker.image", "warn", f"{reference} is not built yet", "the first run builds it; beforehand: chaosgym image build")
    return Check("docker.image", "pass", f"{reference} is in the engine")


def _docker_network(client: Any) -> Check:
    """Makes one as a run does: are there addresses left, and is it on this machine?"""
    from docker.errors import DockerException

    from chaosgym.sandbox.engine import labels

    try:
        network = client.networks.create(f"net-{secrets.token_hex(5)}", driver="bridge", internal=True, labels=labels(secrets.token_hex(6)))
    except DockerException as error:
        said = str(getattr(error, "explanation", None) or error)
        remedy = "chaosgym clean --sandbox docker; docker network prune; or more of `default-address-pools` in /etc/docker/daemon.json"
        return Check("docker.network", "fail", f"no private network can be made ({said})", remedy)
    try:
        network.reload()
        gateway = network.attrs["IPAM"]["Config"][0].get("Gateway", "")
        here, count = _is_ours(gateway), len(client.networks.list())
    finally:
        network.remove()
    if not here:
        remedy = "run chaosgym on the machine of the engine, not beside a virtual machine or a rootless engine that hides its networks"
        return Check("docker.network", "fail", f"containers are not reached from here: the bridge {gateway} is on no interface", remedy)
    return Check("docker.network", "pass", f"private networks are made and reached from here ({count - 1} in use)")


def _is_ours(address: str) -> bool:
    """An interface of this machine has it."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
            return True
    except OSError:
        return False


def _docker_limits(about: Mapping[str, Any]) -> Check:
    wanted = {"MemoryLimit": "memory", "CpuCfsQuota": "CPU", "PidsLimit": "processes"}
    missing = [name for key, name in wanted.items() if not about.get(key)]
    found = f"control groups version {about.get('CgroupVersion', '1')}"
    if missing:
        remedy = "run the engine as root, or delegate the controllers of control groups version 2 to it (https://rootlesscontaine.rs)"
        return Check("docker.limits", "warn", f"{found}, without limits of {', '.join(missing)}", remedy)
    return Check("docker.limits", "pass", f"{found}: memory, CPU and processes are limited")


def _docker_disk(about: Mapping[str, Any]) -> Check:
    root = str(about.get("DockerRootDir", ""))
    try:
        free = shutil.disk_usage(root).free
    except OSError:
        return Check("docker.disk", "pass", f"{root} is not on this machine, or not ours to see")
    found = f"{free / _GIB:.1f} GiB free in {root}"
    return Check("docker.disk", "pass", found) if free >= _GIB else Check("docker.disk", "fail", found, "docker image prune, or more disk")


# ---- Kubernetes


def examine_kubernetes(context: str) -> list[Check]:
    """In the order in which to mend things; the first alone when the cluster does not answer."""
    from chaosgym.sandbox.kubernetes_api import connect

    try:
        api = connect(context)
    except PrerequisiteError as error:
        return [_refusal("kubernetes.cluster", error)]
    nodes = _nodes(api)
    return [_version(api), _rights(api), _readiness(nodes), _cluster_image(nodes), _reach(api), _policies(api), _chaos_mesh(api)]


def _version(api: Any) -> Check:
    version: str = api.version()
    match = re.match(r"v?(\d+)\.(\d+)", version)
    found, number = f"{version} at {api.server}", (int(match[1]), int(match[2])) if match else _OLDEST
    if number < _OLDEST:
        return Check("kubernetes.cluster", "fail", found, f"use a cluster of at least {'.'.join(map(str, _OLDEST))}")
    lacks = [f"{what} ({'.'.join(map(str, since))})" for since, what in _NEWS.items() if number < since]
    if lacks:
        return Check("kubernetes.cluster", "warn", f"{found}, without {', '.join(lacks)}", "nothing for episodes; else a newer cluster")
    return Check("kubernetes.cluster", "pass", found)


def _rights(api: Any) -> Check:
    refused = [f"{verb} {resource}" for (group, resource), verbs in _RIGHTS.items() for verb in verbs if not api.may(verb, group, resource)]
    if refused:
        remedy = "give your user or service account a ClusterRole with these verbs (namespaces are made and removed, so a Role will not do)"
        return Check("kubernetes.rights", "fail", f"you may not: {', '.join(refused)}", remedy)
    return Check("kubernetes.rights", "pass", f"all {sum(map(len, _RIGHTS.values()))} verbs that a run uses")


def _nodes(api: Any) -> list[dict[str, Any]] | None:
    """None where we may not see them."""
    from kubernetes.client.exceptions import ApiException

    try:
        return api.nodes()
    except ApiException:
        return None


def _readiness(nodes: Sequence[Mapping[str, Any]] | None) -> Check:
    if nodes is None:
        return Check("kubernetes.nodes", "warn", "you may not list them", "ask somebody who may: kubectl get nodes")
    ready = [node["metadata"]["name"] for node in nodes if _is_ready(node)]
    found = f"{len(ready)} of {len(nodes)} ready"
    if not ready:
        return Check("kubernetes.nodes", "fail", found, "kubectl describe nodes says why")
    return Check("kubernetes.nodes", "pass", found)


def _is_ready(node: Mapping[str, Any]) -> bool:
    return any(each["type"] == "Ready" and each["status"] == "True" for each in node["status"].get("conditions") or ())


def _cluster_image(nodes: Sequence[Mapping[str, Any]] | None) -> Check:
    from chaosgym.sandbox.image import image_reference

    try:
        reference = image_reference()
    except PrerequisiteError as error:
        return _refusal("kubernetes.image", error)
    if nodes is None:
        return Check("kubernetes.image", "warn", f"{reference}: you may not see what the nodes have", _IMAGE_FIX)
    without = [node["metadata"]["name"] for node in nodes if not _has_image(node, reference)]
    if without:
        status = "fail" if len(without) == len(nodes) else "warn"  # kubelets list their 50 largest images alone
        return Check("kubernetes.image", status, f"{reference} is not listed by {', '.join(without)}", _IMAGE_FIX)
    return Check("kubernetes.image", "pass", f"{reference} is on every node")


def _has_image(node: Mapping[str, Any], reference: str) -> bool:
    names = (name for image in node["status"].get("images") or () for name in image.get("names") or ())
    return any(name == reference or name.endswith(f"/{reference}") for name in names)


def _reach(api: Any) -> Check:
    """A pod that runs answers or refuses at once; what is not reached stays silent."""
    from kubernetes.client.exceptions import ApiException

    remedy = "run chaosgym on a node or in a pod: chaosgym must reach pods by their address"
    try:
        pods = api.some_pods(50)
    except ApiException:
        return Check("kubernetes.reach", "warn", "you may not list pods to try", remedy)
    addresses = [
        pod["status"]["podIP"] for pod in pods
        if pod["status"].get("podIP") and pod["status"].get("phase") == "Running" and not pod["spec"].get("hostNetwork")
    ]  # fmt: skip
    if not addresses:
        return Check("kubernetes.reach", "warn", "no pod runs that could be tried", remedy)
    if not any(map(_reached, addresses[:5])):
        return Check("kubernetes.reach", "fail", f"no answer from pods at {', '.join(addresses[:5])}", remedy)
    return Check("kubernetes.reach", "pass", "pods are reached from here by their address")


def _reached(address: str) -> bool:
    try:
        with socket.create_connection((address, 9), timeout=1):
            return True
    except ConnectionRefusedError:
        return True
    except OSError:
        return False


def _policies(api: Any) -> Check:
    groups = api.groups()
    names = [name for end, name in _ENFORCERS.items() if any(group.endswith(end) for group in groups)]
    if names:
        return Check("kubernetes.policies", "pass", f"network policies are enforced by {', '.join(names)}")
    remedy = "ask for a network plug-in that enforces them, as Calico or Cilium; without, pods of a run reach whatever their node reaches"
    return Check("kubernetes.policies", "warn", "not known whether the cluster enforces network policies", remedy)


def _chaos_mesh(api: Any) -> Check:
    found = "chaos-mesh.org" in api.groups()
    return Check("kubernetes.chaos-mesh", "pass", "installed" if found else "not installed; only faults of its own kind need it")
