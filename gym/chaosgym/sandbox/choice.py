"""Which sandbox to run in, and how to make and to clean up one."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from chaosgym.errors import InputError, did_you_mean
from chaosgym.sandbox.engine import Engine
from chaosgym.sandbox.live import LiveSandbox

__all__ = ["SANDBOX_NAMES", "SandboxChoice", "SandboxName", "make_container_sandbox", "make_engine", "read_choice"]

SandboxName = Literal["local", "docker", "kubernetes"]
SANDBOX_NAMES: tuple[SandboxName, ...] = get_args(SandboxName)
_PREFIX = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?"
_LONGEST_PREFIX = 40


@dataclass(frozen=True)
class SandboxChoice:
    """As the command line gives it; travels to the worker as JSON."""

    name: SandboxName = "local"
    namespaces: bool = True
    """local: private namespaces where the system allows them."""
    context: str = ""
    """kubernetes: the context of the kubeconfig; it must be named."""
    namespace: str = ""
    """kubernetes: what the names of the namespaces that we make begin with; it must be named."""

    def to_json(self) -> str:
        """One line."""
        return json.dumps(dataclasses.asdict(self))

    @staticmethod
    def from_json(text: str) -> SandboxChoice:
        """The inverse."""
        return SandboxChoice(**json.loads(text))


def read_choice(name: str, *, namespaces: bool = True, context: str | None = None, namespace: str | None = None) -> SandboxChoice:
    """What was asked for. Raises InputError for an unknown sandbox, and for a cluster or namespace that is not named."""
    if name not in SANDBOX_NAMES:
        raise InputError(f"unknown sandbox {name!r}{did_you_mean(name, SANDBOX_NAMES)}; known: {', '.join(SANDBOX_NAMES)}")
    if name != "kubernetes" and (context or namespace):
        raise InputError(f"--context and --namespace are for --sandbox kubernetes, not for {name}")
    if name == "kubernetes" and not (context and namespace):
        raise InputError(
            "--sandbox kubernetes breaks things in a cluster, so name which: --context NAME (kubectl config get-contexts; "
            "`in-cluster` inside one) and --namespace PREFIX for the namespaces that it makes and removes"
        )
    if namespace:
        _check_prefix(namespace)
    return SandboxChoice(name, namespaces, context or "", namespace or "")


def _check_prefix(prefix: str) -> None:
    """The names of namespaces must be free to be made and removed, and short enough for what is put behind them."""
    if not re.fullmatch(_PREFIX, prefix) or len(prefix) > _LONGEST_PREFIX:
        wanted = f"at most {_LONGEST_PREFIX} lower case letters, digits and '-', which stands neither first nor last"
        raise InputError(f"--namespace {prefix!r} cannot begin the name of a namespace: write {wanted}, as in gym")
    if prefix in ("default", "kube") or prefix.startswith("kube-"):
        raise InputError(f"--namespace {prefix!r} is the cluster's own; choose a PREFIX of yours, as in gym")


def make_engine(choice: SandboxChoice, run: str) -> Engine:
    """The engine behind a sandbox of containers. Raises PrerequisiteError when it cannot be reached."""
    if choice.name == "docker":
        from chaosgym.sandbox.docker import DockerEngine

        return DockerEngine(run)
    if choice.name == "kubernetes":
        from chaosgym.sandbox.kubernetes import KubernetesEngine

        return KubernetesEngine(run, choice.context, choice.namespace)
    raise InputError(f"the sandbox {choice.name!r} has no container engine")


def make_container_sandbox(choice: SandboxChoice, run: str, state: Path) -> LiveSandbox:
    """A sandbox that is not booted yet; everything that it makes is labelled with `run`."""
    from chaosgym.sandbox.containers import ContainerSandbox

    return ContainerSandbox(state, make_engine(choice, run))
