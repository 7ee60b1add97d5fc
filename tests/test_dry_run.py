"""What `--dry-run` says, without any engine; and what is refused before one is asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from chaosgym.cli.program import make_program
from chaosgym.errors import InputError
from chaosgym.sandbox.choice import SandboxChoice, read_choice
from chaosgym.sandbox.dry_run import announcement, server_url

CLUSTER = ("--sandbox", "kubernetes", "--context", "lab", "--namespace", "gym")


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No engine can be asked; the kubeconfig is in two files, as kubectl merges them."""
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text(yaml.safe_dump({"contexts": [{"name": "lab", "context": {"cluster": "c", "user": "u"}}]}))
    second.write_text(yaml.safe_dump({"clusters": [{"name": "c", "cluster": {"server": "https://192.0.2.7:6443"}}]}))
    monkeypatch.setenv("KUBECONFIG", f"{first}:{tmp_path / 'none'}:{second}")


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(make_program(), list(arguments))


def test_docker_objects_have_their_limits_and_actions_their_capabilities() -> None:
    shown = invoke("run", "process-crash", "--seed", "3", "--sandbox", "docker", "--dry-run", "--json")
    assert shown.exit_code == 0, shown.stderr
    blast: dict[str, Any] = json.loads(shown.stdout)
    assert (blast["sandbox"], blast["where"], blast["sandboxes"]) == ("docker", "tcp://127.0.0.1:1", 1)
    network, *containers = blast["objects"]
    assert (network["kind"], network["internal"]) == ("network", True)
    assert {each["name"]: each["count"] for each in containers} == {"postgres": 1, "redis": 1, "service": 8}
    for each in containers:
        assert (each["read_only"], each["cap_drop"], each["published_ports"]) == (True, ["ALL"], [])
        assert each["pids_limit"] > 0
        assert each["mem_limit"] == each["memswap_limit"]
    fault = next(action for action in blast["actions"] if not action["action"].startswith("decoy"))
    assert (fault["action"], fault["seed"], fault["needs"]) == ("process.crash", 3, ["hold", "signal"])
    assert fault["at"] > 1.5


def test_a_recording_shows_every_episode_and_writes_nothing(tmp_path: Path) -> None:
    out = tmp_path / "episodes"
    shown = invoke(
        "record", "--scenarios", "process-*", "--episodes", "4", "--workers", "2", "--sandbox", "docker", "--dry-run", "--out", str(out)
    )
    assert shown.exit_code == 0, shown.stderr
    assert "each of 2 sandboxes would make" in shown.stderr
    assert {f"seed {seed}:" for seed in range(4)} <= {line.split(" ", 1)[1].split(":")[0] + ":" for line in shown.stderr.splitlines()[1:]}
    assert not out.exists()


def test_kubernetes_objects_are_manifests_of_one_namespace() -> None:
    shown = invoke("run", "process-crash", *CLUSTER, "--dry-run")
    assert shown.exit_code == 0, shown.stderr
    namespace, *others = list(yaml.safe_load_all(shown.stdout))
    assert (namespace["kind"], namespace["metadata"]["name"]) == ("Namespace", "gym-00000000")
    assert {each["metadata"]["namespace"] for each in others} == {"gym-00000000"}
    assert all(each["metadata"]["labels"]["chaosgym.dev/owner"] == "chaosgym" for each in (namespace, *others))
    kinds = [each["kind"] for each in others]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "ResourceQuota": 1, "LimitRange": 1, "ServiceAccount": 1, "NetworkPolicy": 2, "Deployment": 10, "Service": 10,
    }  # fmt: skip
    assert "lab (https://192.0.2.7:6443)" in shown.stderr
    assert "process.crash on" in shown.stderr


def test_services_lead_to_deployments_that_are_there() -> None:
    blast = json.loads(invoke("run", "process-crash", *CLUSTER, "--dry-run", "--json").stdout)
    slots = {each["metadata"]["name"] for each in blast["manifests"] if each["kind"] == "Deployment"}
    led = [each["spec"]["selector"]["app.kubernetes.io/instance"] for each in blast["manifests"] if each["kind"] == "Service"]
    assert set(led) <= slots
    assert len(set(led)) == len(led)


def test_without_an_engine_there_is_nothing_to_show() -> None:
    shown = invoke("run", "process-crash", "--dry-run")
    assert isinstance(shown.exception, InputError)
    assert "--sandbox docker or kubernetes" in str(shown.exception)


def test_a_run_in_a_cluster_says_beforehand_what_it_touches() -> None:
    line = announcement(SandboxChoice("kubernetes", context="lab", namespace="gym"))
    assert "context lab at https://192.0.2.7:6443" in line
    assert "namespaces gym-XXXXXXXX, and touches nothing else" in line
    assert announcement(SandboxChoice("docker")) == ""


def test_the_server_of_a_context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert server_url("other") == "unknown"
    broken = tmp_path / "broken"
    broken.write_text("{{{")
    monkeypatch.setenv("KUBECONFIG", str(broken))
    with pytest.raises(InputError, match="broken: no kubeconfig"):
        server_url("lab")


@pytest.mark.parametrize("prefix", ["default", "kube", "kube-system", "kube-x", "Gym", "gym_1", "-gym", "gym-", "g" * 41, "gym\n"])
def test_a_prefix_that_is_not_ours_to_use_is_refused(prefix: str) -> None:
    with pytest.raises(InputError, match="--namespace"):
        read_choice("kubernetes", context="lab", namespace=prefix)


@pytest.mark.parametrize("prefix", ["gym", "g", "my-gym-2", "g" * 40, "kubeless", "2nd"])
def test_a_prefix_of_ours_is_taken(prefix: str) -> None:
    assert read_choice("kubernetes", context="lab", namespace=prefix).namespace == prefix


@pytest.mark.parametrize("given", [{}, {"context": "lab"}, {"namespace": "gym"}, {"context": "", "namespace": "gym"}])
def test_a_cluster_that_is_not_named_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="--context NAME"):
        read_choice("kubernetes", **given)
