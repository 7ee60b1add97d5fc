"""The Jobs of an order, as plain manifests; they meet Pod Security "restricted" unless a folder of the node is mounted.

A server from 1.22 on gets one Indexed Job. An older one gets a Job for each shard, which is told its number.
A pod that dies, or is killed, is replaced, and its successor finds in the store what is recorded already.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any

from chaosgym.fleet.order import Order, Volume
from chaosgym.sandbox.engine import CREATED_LABEL, OWNER_LABEL, RUN_LABEL

__all__ = ["ACCOUNT", "FLEET_LABEL", "INDEX_ANNOTATION", "SHARD_LABEL", "fleet_name", "has_indexed_jobs", "make_jobs", "service_account"]

ACCOUNT = "chaosgym-runner"
FLEET_LABEL, SHARD_LABEL = "chaosgym.dev/fleet", "chaosgym.dev/shard"
"""The name of the fleet; the number of the shard, where each has a Job of its own."""
INDEX_ANNOTATION = "batch.kubernetes.io/job-completion-index"
ORDER_ANNOTATIONS = {"shards": "chaosgym.dev/shards", "episodes": "chaosgym.dev/episodes", "out": "chaosgym.dev/out"}
_INDEXED_SINCE = (1, 22)
_USER = 10001
_INDEX = "JOB_COMPLETION_INDEX"
_RETRIES = 6
"""Failures of a shard that are put down to its node, before they are put down to the order."""
_KEPT = 24 * 3600
"""Seconds that a finished Job stays, so that it can be asked about."""
_GRACE = 30
_CPU, _MEMORY, _SCRATCH = (500, 2000), (512, 1536), 768
"""Thousandths of a core and MiB for each worker: asked for, and at most; MiB of its databases and files."""


def has_indexed_jobs(version: str) -> bool:
    """Whether a server of that version, as `v1.20.2`, gives the pods of one Job their numbers."""
    numbers = re.findall(r"\d+", version)
    return tuple(map(int, numbers[:2])) >= _INDEXED_SINCE


def fleet_name(run: str) -> str:
    """Of the fleet with that id."""
    return f"fleet-{run}"


def labels(run: str) -> dict[str, str]:
    """What everything of a fleet carries."""
    return {OWNER_LABEL: "chaosgym", RUN_LABEL: run, CREATED_LABEL: str(int(time.time())), FLEET_LABEL: fleet_name(run)}


def service_account() -> dict[str, Any]:
    """Without any role, and without a token in the pods; all fleets of a namespace share it."""
    metadata = {"name": ACCOUNT, "labels": {OWNER_LABEL: "chaosgym"}}
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata, "automountServiceAccountToken": False}


def make_jobs(order: Order, run: str, *, indexed: bool) -> list[dict[str, Any]]:
    """One Indexed Job, or one for each shard."""
    if indexed:
        shape = {"completionMode": "Indexed", "completions": order.shards, "parallelism": order.parallelism,
                 "backoffLimit": _RETRIES * order.shards}  # fmt: skip
        return [_job(order, fleet_name(run), labels(run), shape, {})]
    return [
        _job(order, f"{fleet_name(run)}-{index}", labels(run) | {SHARD_LABEL: str(index)}, {"backoffLimit": _RETRIES}, {_INDEX: str(index)})
        for index in range(order.shards)
    ]


def _job(order: Order, name: str, marks: Mapping[str, str], shape: Mapping[str, Any], env: Mapping[str, str]) -> dict[str, Any]:
    notes = {key: str(getattr(order, field)) for field, key in ORDER_ANNOTATIONS.items()}
    template = {"metadata": {"labels": dict(marks)}, "spec": _pod(order, marks, env)}
    return {
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "labels": dict(marks), "annotations": notes},
        "spec": {**shape, "ttlSecondsAfterFinished": _KEPT, "template": template},
    }  # fmt: skip


def _pod(order: Order, marks: Mapping[str, str], env: Mapping[str, str]) -> dict[str, Any]:
    scratch = {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": f"{_SCRATCH * order.workers}Mi"}}
    spread = {
        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {FLEET_LABEL: marks[FLEET_LABEL]}},
    }  # fmt: skip
    return {
        "serviceAccountName": ACCOUNT, "automountServiceAccountToken": False, "enableServiceLinks": False, "restartPolicy": "OnFailure",
        "terminationGracePeriodSeconds": _GRACE, "topologySpreadConstraints": [spread], "containers": [_container(order, env)],
        "securityContext": {
            "runAsNonRoot": True, "runAsUser": _USER, "runAsGroup": _USER, "fsGroup": _USER, "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumes": [scratch, *(_volume(number, volume) for number, volume in enumerate(order.volumes))],
    }  # fmt: skip


def _volume(number: int, volume: Volume) -> dict[str, Any]:
    if volume.kind == "claim":
        return {"name": f"volume-{number}", "persistentVolumeClaim": {"claimName": volume.source}}
    return {"name": f"volume-{number}", "hostPath": {"path": volume.source, "type": "Directory"}}


def _container(order: Order, env: Mapping[str, str]) -> dict[str, Any]:
    requests, limits = ({"cpu": f"{cpu * order.workers}m", "memory": f"{memory * order.workers}Mi"}
                        for cpu, memory in zip(_CPU, _MEMORY, strict=True))  # fmt: skip
    mounts = [{"name": f"volume-{number}", "mountPath": volume.path} for number, volume in enumerate(order.volumes)]
    return {
        "name": "main", "image": order.image, "imagePullPolicy": "IfNotPresent", "args": order.arguments(f"$({_INDEX})"),
        "env": [{"name": key, "value": value} for key, value in env.items()],
        "envFrom": [{"secretRef": {"name": order.secret}}] if order.secret else [],
        "resources": {"requests": requests, "limits": limits},
        "securityContext": {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}, *mounts],
    }  # fmt: skip
