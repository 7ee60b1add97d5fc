"""Fleets and deploy/ on a real cluster, the one of the context CHAOSGYM_TEST_CONTEXT.

Its node must be this machine (a folder of it is mounted) and hold the runner image (`chaosgym image build --kind runner`), or
the one that CHAOSGYM_TEST_RUNNER names.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from chaosgym.episode import list_episodes, validate_episode
from chaosgym.recording.record import plan_tasks
from chaosgym.sandbox.image import image_reference
from chaosgym.scenarios import load_app, load_scenario
from chaosgym.truth import read_truth

CONTEXT = os.environ.get("CHAOSGYM_TEST_CONTEXT", "")
DEPLOY = Path(__file__).resolve().parents[1] / "deploy"
pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(420)]


def kubectl(*arguments: str | Path, given: str | None = None) -> str:
    command = ["kubectl", "--context", CONTEXT, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, input=given, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def namespace() -> Iterator[str]:
    name = f"fleet-test-{secrets.token_hex(3)}"
    kubectl("create", "namespace", name)
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


def fleet(*arguments: str, namespace: str) -> list[str]:
    verb, *rest = arguments
    return [sys.executable, "-m", "chaosgym.cli", "fleet", verb, "--context", CONTEXT, "--namespace", namespace, *rest]


def told(*arguments: str, namespace: str) -> Any:
    return json.loads(subprocess.run(fleet(*arguments, "--json", namespace=namespace), capture_output=True, check=True).stdout)


def wait_for(what: Callable[[], Any], seconds: float = 120) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.5)
    return found


def running(namespace: str) -> list[str]:
    pods = json.loads(kubectl("get", "pods", "--namespace", namespace, "--output", "json"))["items"]
    return [pod["metadata"]["name"] for pod in pods if pod["status"]["phase"] == "Running"]


def test_a_killed_pod_costs_one_try_and_every_episode_is_there_once(namespace: str, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)  # the pods are somebody else
    for parent in tmp_path.parents[:2]:
        parent.chmod(0o755)
    image = os.environ.get("CHAOSGYM_TEST_RUNNER") or image_reference("runner")
    order = ["--shards", "2", "--episodes", "6", "--scenarios", "process-crash", "--image", image,
             "--out", "file:///episodes", "--volume", f"host:{tmp_path}:/episodes"]  # fmt: skip
    command = fleet("record", *order, "--json", namespace=namespace)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as launcher:
        wait_for(lambda: list_episodes(tmp_path))  # in the middle: something is recorded, and something is not
        [victim, *_] = wait_for(lambda: running(namespace))
        kubectl("delete", "pod", victim, "--namespace", namespace, "--grace-period=0", "--force")
        assert len(list_episodes(tmp_path)) < 6
        stdout, stderr = launcher.communicate(timeout=300)
    assert launcher.returncode == 0, stderr
    [status] = json.loads(stdout)
    assert (status["state"], status["recorded"], status["done"]) == ("complete", 6, 2)

    tasks = plan_tasks([load_scenario("process-crash")], {"shop": load_app("shop")}, 6, seed=0, split=None)
    found = list_episodes(tmp_path)
    assert Counter(validate_episode(path).header.id for path in found) == Counter(task.id for task in tasks)
    assert [read_truth(path).scenario for path in found] == ["process-crash"] * 6
    pods = kubectl("get", "pods", "--namespace", namespace, "--output", "name").split()
    assert len(pods) == 2
    assert f"pod/{victim}" not in pods  # it was replaced

    assert [row["name"] for row in told("status", namespace=namespace)] == [status["name"]]
    logs = told("logs", status["name"], namespace=namespace)
    assert sorted(f"pod/{row['name']}" for row in logs) == sorted(pods)
    assert all("recorded 3 of 3" in row["log"] for row in logs)
    again = told("record", *order, namespace=namespace)[0]
    assert again["recorded"] == 6
    assert [path.stat().st_mtime_ns for path in list_episodes(tmp_path)] == [path.stat().st_mtime_ns for path in found]
    for name in (status["name"], again["name"]):
        subprocess.run(fleet("delete", name, namespace=namespace), check=True, capture_output=True)
    assert told("status", namespace=namespace) == []


def test_an_image_that_is_not_there_is_told(namespace: str) -> None:
    order = ["--shards", "1", "--episodes", "1", "--scenarios", "process-crash", "--out", "s3://bucket/episodes", "--image", "none/such:1"]
    [status] = told("record", *order, "--detach", namespace=namespace)
    why = wait_for(lambda: told("status", status["name"], namespace=namespace)[0]["why"])
    assert why in ("1 pod: ErrImagePull", "1 pod: ImagePullBackOff")


def test_a_namespace_that_is_not_there_is_told() -> None:
    order = ["--shards", "1", "--episodes", "1", "--scenarios", "process-crash", "--out", "s3://bucket/episodes", "--image", "none/such:1"]
    done = subprocess.run(fleet("record", *order, namespace="no-such-place"), capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "kubectl apply -k deploy/fleet" in done.stderr


# ── deploy/ ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("folder", ["sandbox", "fleet", "fleet/example"])
def test_manifests_are_accepted_by_the_server(folder: str, namespace: str, tmp_path: Path) -> None:
    """In a namespace of the test, as a dry run makes none for the objects that go into it."""
    given = [each for each in yaml.safe_load_all(kubectl("kustomize", DEPLOY / folder)) if each["kind"] != "Namespace"]
    for each in given:
        if "namespace" in each["metadata"]:
            each["metadata"]["namespace"] = namespace
    # Servers from before 1.22 have no Indexed Jobs: `kubectl` must not mind the field, which they leave out.
    said = kubectl("apply", "--dry-run=server", "--validate=false", "--filename", "-", given=yaml.safe_dump_all(given))
    assert len(said.splitlines()) == len(given)
    assert all(line.endswith("(server dry run)") for line in said.splitlines())


@pytest.fixture
def applied(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """deploy/sandbox and deploy/fleet under other names; their namespaces."""
    suffix = f"-test-{secrets.token_hex(3)}"
    for name in ("sandbox", "fleet"):
        (tmp_path / name).mkdir()
        base = os.path.relpath(DEPLOY / name, (tmp_path / name).resolve())
        changes = {"resources": [base], "nameSuffix": suffix, "namespace": f"{name}{suffix}"}
        (tmp_path / name / "kustomization.yaml").write_text(yaml.safe_dump(changes))
        kubectl("apply", "--kustomize", tmp_path / name)
    yield f"sandbox{suffix}", f"fleet{suffix}"
    for name in ("sandbox", "fleet"):
        kubectl("delete", "--kustomize", tmp_path / name, "--wait=false")


def may(account: str, verb: str, resource: str, namespace: str) -> bool:
    name, _, part = resource.partition("/")
    command = ["kubectl", "--context", CONTEXT, "auth", "can-i", verb, name, f"--subresource={part}", "--namespace", namespace,
               "--as", f"system:serviceaccount:{account}"]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() == "yes"


def rights(path: str) -> list[tuple[str, str]]:
    rules = [rule for each in yaml.safe_load_all((DEPLOY / path).read_text()) for rule in each.get("rules", ())]
    return [(verb, resource if not rule["apiGroups"][0] else f"{resource}.{rule['apiGroups'][0]}")
            for rule in rules for resource in rule["resources"] for verb in rule["verbs"]]  # fmt: skip


def test_roles_give_what_is_needed_and_no_more(applied: tuple[str, str]) -> None:
    sandboxes, fleets = applied
    suffix = sandboxes.removeprefix("sandbox")
    sandbox, operator, runner = f"{sandboxes}:chaosgym{suffix}", f"{fleets}:chaosgym-operator{suffix}", f"{fleets}:chaosgym-runner{suffix}"
    assert [right for right in rights("sandbox/role.yaml") if not may(sandbox, *right, "a-sandbox")] == []
    assert [right for right in rights("fleet/operator.yaml") if not may(operator, *right, fleets)] == []
    assert [right for right in rights("fleet/operator.yaml") if may(runner, *right, fleets)] == []
    for verb, resource in (("get", "secrets"), ("create", "clusterroles.rbac.authorization.k8s.io"), ("create", "pods/exec")):
        assert not may(sandbox, verb, resource, "a-sandbox")
        assert not may(operator, verb, resource, fleets)
    assert not may(operator, "create", "jobs.batch", "default")


def kubeconfig_of(account: str, namespace: str, folder: Path) -> Path:
    """Of somebody who has nothing but the account's token."""
    config = json.loads(kubectl("config", "view", "--raw", "--minify", "--output", "json"))
    config["users"][0]["user"] = {"token": kubectl("create", "token", account, "--namespace", namespace).strip()}
    path = folder / "kubeconfig"
    path.write_text(json.dumps(config))
    return path


def test_the_operator_needs_no_other_role(applied: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    namespace = applied[1]
    account = f"chaosgym-operator{namespace.removeprefix('fleet')}"
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig_of(account, namespace, tmp_path)))
    order = ["--shards", "2", "--episodes", "2", "--scenarios", "process-crash", "--out", "s3://bucket/episodes", "--image", "none/such:1"]
    [status] = told("record", *order, "--detach", namespace=namespace)
    assert status["shards"] == 2
    assert wait_for(lambda: told("status", namespace=namespace)[0]["why"])
    assert len(told("logs", status["name"], namespace=namespace)) == 2
    subprocess.run(fleet("delete", status["name"], namespace=namespace), check=True, capture_output=True)
    assert told("status", namespace=namespace) == []
    done = subprocess.run(fleet("status", namespace="default"), capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "403 Forbidden" in done.stderr
    assert "deploy/fleet has the role" in done.stderr
