"""What a run on a container engine would make and do, without touching the engine: its blast radius.

    blast = blast_radius(choice, plans, sandboxes=2)
    blast.objects        every object of one sandbox
    blast.manifests      Kubernetes: as they would be sent, in one namespace
    blast.actions        what would be done to which component, episode by episode

Names that are drawn anew each time stand here as zeros.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chaosgym.errors import InputError
from chaosgym.plan import Plan
from chaosgym.sandbox.choice import SandboxChoice

__all__ = ["Action", "Blast", "announcement", "blast_radius", "server_url"]

_RUN = "0" * 12
_TOKEN = "0" * 24
_OUR_ADDRESS = "192.0.2.1"
"""Of the documentation (RFC 5737): ours is known when there is a pod."""
_IN_CLUSTER = "in-cluster"


@dataclass(frozen=True)
class Action:
    """Something that would be done to a component."""

    scenario: str
    seed: int
    at: float
    """Seconds after the application serves."""
    action: str
    """Label of a fault, or `decoy KIND` for something harmless."""
    component: str
    """Role, as the application calls it."""
    name: str
    """In the telemetry of this episode."""
    needs: tuple[str, ...]
    """Capabilities of the sandbox that it uses."""
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Blast:
    """Everything that would be made and done; see the module docstring."""

    sandbox: str
    where: str
    """The engine or cluster."""
    sandboxes: int
    """How many of them side by side; `objects` and `manifests` are those of one."""
    image: str
    objects: tuple[dict[str, Any], ...]
    manifests: tuple[dict[str, Any], ...]
    actions: tuple[Action, ...]


def blast_radius(choice: SandboxChoice, plans: Sequence[Plan], sandboxes: int) -> Blast:
    """Of `plans` played on so many sandboxes. Raises InputError for a sandbox that is no container engine."""
    from chaosgym.sandbox.image import image_reference

    if choice.name == "local":
        raise InputError("--dry-run shows what would be made in a container engine; use it with --sandbox docker or kubernetes")
    actions = tuple(action for plan in plans for action in _actions(plan))
    if choice.name == "docker":
        where, objects, manifests = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock", _docker_objects(plans), ()
    else:
        manifests = tuple(_manifests(choice.namespace, plans))
        where, objects = f"{choice.context} ({server_url(choice.context)})", tuple(map(_as_object, manifests))
    return Blast(choice.name, where, sandboxes, image_reference(), tuple(objects), manifests, actions)


# ---- actions


def _actions(plan: Plan) -> Iterator[Action]:
    from chaosgym.faults import make_fault

    timeline = plan.scenario.spec.timeline
    at = timeline.warmup + timeline.baseline + plan.inject_offset
    for each in plan.faults:
        at += each.after
        needs = make_fault(each.fault, each.target, each.parameters).needs
        yield _action(plan, at, each.fault, each.target, sorted(needs), each.parameters)
    for decoy in plan.decoys:
        needs = ["restart"] if decoy.kind in ("deploy", "config") else []
        yield _action(plan, timeline.warmup + decoy.offset, f"decoy {decoy.kind}", decoy.target, needs, decoy.parameters)


def _action(plan: Plan, at: float, action: str, role: str, needs: Sequence[str], parameters: Mapping[str, Any]) -> Action:
    name = plan.components[role].name
    return Action(plan.scenario.metadata.name, plan.seed, round(at, 2), action, role, name, tuple(needs), dict(parameters))


# ---- objects


def _kinds(plans: Sequence[Plan]) -> list[Any]:
    """Of the containers of one sandbox."""
    from chaosgym.sandbox.containers import WARM_SERVICES

    stores = ("postgres", "redis")
    most = max(sum(each.kind not in stores for each in plan.app.spec.components.values()) for plan in plans)
    return [*stores, *["service"] * max(WARM_SERVICES, most)]


def _docker_objects(plans: Sequence[Plan]) -> tuple[dict[str, Any], ...]:
    from chaosgym.sandbox.docker import container_options
    from chaosgym.sandbox.engine import labels

    marks = labels(_RUN)
    network = {"kind": "network", "name": "net-0000000000", "count": 1, "driver": "bridge", "internal": True, "labels": marks}
    kinds = _kinds(plans)
    containers = (
        {"kind": "container", "name": kind, "count": kinds.count(kind), "published_ports": [], **container_options(kind), "labels": marks}
        for kind in dict.fromkeys(kinds)
    )
    return network, *containers


def _manifests(prefix: str, plans: Sequence[Plan]) -> Iterator[dict[str, Any]]:
    from chaosgym.sandbox import manifests
    from chaosgym.sandbox.engine import labels

    namespace, marks = f"{prefix}-00000000", labels(_RUN)
    yield manifests.namespace(namespace, marks)
    handles = {f"app-{number:08d}": kind for number, kind in enumerate(_kinds(plans))}
    inside = [make(marks) for make in manifests.OF_NAMESPACE.values()]
    inside.append(manifests.telemetry_policy(marks, _OUR_ADDRESS))
    inside += [manifests.deployment(handle, kind, _TOKEN, marks) for handle, kind in handles.items()]
    inside += [manifests.service(handle, kind, marks) for handle, kind in handles.items()]
    for body in inside:
        yield body | {"metadata": body["metadata"] | {"namespace": namespace}}


def _as_object(manifest: Mapping[str, Any]) -> dict[str, Any]:
    return {"kind": manifest["kind"].lower(), "name": manifest["metadata"]["name"], "count": 1}


# ---- where


def announcement(choice: SandboxChoice) -> str:
    """One line that says what a run is about to touch; empty where it stays among our own processes."""
    if choice.name != "kubernetes":
        return ""
    where = f"context {choice.context} at {server_url(choice.context)}"
    return f"kubernetes: {where}: makes and removes namespaces {choice.namespace}-XXXXXXXX, and touches nothing else"


def server_url(context: str) -> str:
    """The API server of a context as the kubeconfig has it, without asking it; `unknown` for a context that is not there."""
    if context == _IN_CLUSTER:
        return f"https://{os.environ.get('KUBERNETES_SERVICE_HOST', 'kubernetes.default.svc')}"
    files = (os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")).split(os.pathsep)
    documents = [document for file in files if (document := _read_config(file))]
    cluster = _named(documents, "contexts", "context", context).get("cluster", "")
    return str(_named(documents, "clusters", "cluster", cluster).get("server", "unknown"))


def _read_config(file: str) -> dict[str, Any] | None:
    import yaml

    try:
        found = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except OSError:
        return None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: no kubeconfig ({' '.join(str(error).split())}); see KUBECONFIG") from error
    return found if isinstance(found, dict) else None


def _named(documents: Sequence[Mapping[str, Any]], many: str, one: str, name: str) -> Mapping[str, Any]:
    """The first that has the name, as kubectl merges files."""
    entries = (entry for document in documents for entry in document.get(many) or ())
    return next((entry.get(one) or {} for entry in entries if entry.get("name") == name), {})
