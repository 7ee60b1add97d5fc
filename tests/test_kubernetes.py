"""The Kubernetes sandbox: clusters that refuse, and, on a real one, episodes, what pods may do, and nothing left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from chaosgym.doctor_engines import examine_kubernetes
from chaosgym.errors import PrerequisiteError
from chaosgym.recording.pool import Pool
from chaosgym.sandbox.choice import SandboxChoice
from chaosgym.sandbox.engine import OWNER_LABEL, RUN_LABEL
from chaosgym.sandbox.kubernetes_api import Api, connect
from chaosgym.sandbox.leftovers import find_kubernetes
from chaosgym.scenarios import load_app, load_scenario
from chaosgym.truth import read_truth

PREFIX = "test-gym"
RUNNER = """
import sys
from pathlib import Path
from chaosgym.recording.pool import Pool
from chaosgym.sandbox.choice import SandboxChoice
from chaosgym.scenarios import load_app, load_scenario
with Pool(1, SandboxChoice("kubernetes", context=sys.argv[2], namespace=sys.argv[3])) as pool:
    worker = pool.workers[0]
    print(worker.process.pid, worker.process.args[-1], flush=True)
    for seed in range(50):
        pool.record(load_scenario("process-crash"), load_app("shop"), seed, Path(sys.argv[1]))
"""


def kubeconfig(path: Path, *, server: str = "https://127.0.0.1:1", token: str = "t") -> str:
    """A file with one context, `lab`."""
    document = {
        "apiVersion": "v1", "kind": "Config", "current-context": "lab",
        "clusters": [{"name": "c", "cluster": {"server": server, "insecure-skip-tls-verify": True}}],
        "users": [{"name": "u", "user": {"token": token}}],
        "contexts": [{"name": "lab", "context": {"cluster": "c", "user": "u"}}],
    }  # fmt: skip
    path.write_text(yaml.safe_dump(document))
    return str(path)


def chaosgym(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "chaosgym.cli", *arguments], capture_output=True, text=True, timeout=150, check=False)


# ---- clusters that refuse


def refusal(config: str, context: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The one line that `connect` says."""
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", config)
    with pytest.raises(PrerequisiteError) as refused:
        connect(context)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_cluster_that_is_down_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = refusal(kubeconfig(tmp_path / "config"), "lab", monkeypatch)
    assert said.startswith("the cluster of context 'lab' does not answer")
    assert "127.0.0.1" in said


def test_a_wrong_context_is_answered_with_those_that_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "contexts of your kubeconfig: lab" in refusal(kubeconfig(tmp_path / "config"), "production", monkeypatch)


@pytest.mark.parametrize("text", [None, "{{{", ""])
def test_a_kubeconfig_that_is_none_is_one_line(text: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "config"
    if text is not None:
        path.write_text(text)
    assert "kube" in refusal(str(path), "lab", monkeypatch)


# ---- a real one


@pytest.fixture
def api(cluster_context: str) -> Api:
    return connect(cluster_context)


def namespaces_of(api: Api, run: str) -> list[str]:
    return [each["metadata"]["name"] for each in api.namespaces(f"{OWNER_LABEL}=chaosgym,{RUN_LABEL}={run}")]


def wait_until(gone: Callable[[], Any], seconds: float) -> Any:
    """What is left at the end; falsy as soon as nothing is."""
    deadline = time.monotonic() + seconds
    while (left := gone()) and time.monotonic() < deadline:
        time.sleep(0.5)
    return left


@pytest.mark.kubernetes
@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_an_expired_token_is_named(tmp_path: Path, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    said = refusal(kubeconfig(tmp_path / "config", server=api.server, token="expired"), "lab", monkeypatch)
    assert "401 Unauthorized; the token may have expired" in said


@pytest.mark.kubernetes
@pytest.mark.timeout(240)
def test_a_fault_is_recorded_in_pods_that_may_do_nothing_else(tmp_path: Path, api: Api, cluster_context: str) -> None:
    with Pool(1, SandboxChoice("kubernetes", context=cluster_context, namespace=PREFIX)) as pool:
        run = str(pool.workers[0].process.args[-1])  # pyright: ignore[reportIndexIssue, reportUnknownArgumentType]
        (namespace,) = namespaces_of(api, run)
        pods = api.pods(namespace, f"{RUN_LABEL}={run}")
        assert {each.alive for each in find_kubernetes(cluster_context) if each.run == run} == {True}
        recorded = pool.record(load_scenario("process-crash"), load_app("shop"), 3, tmp_path)
    assert namespace.startswith(f"{PREFIX}-")
    assert len(pods) == 10
    for pod in pods:
        check_hardened(pod["spec"])
    assert recorded.status == "ok", recorded.reason
    assert [cause.fault for cause in read_truth(recorded.path).causes] == ["process.crash"]
    assert wait_until(lambda: namespaces_of(api, run), 40) == []


def check_hardened(spec: dict[str, Any]) -> None:
    (container,) = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["automountServiceAccountToken"] is False
    assert not spec.get("hostNetwork")
    assert all("hostPath" not in volume for volume in spec["volumes"])
    security = container["securityContext"]
    assert (security["readOnlyRootFilesystem"], security["allowPrivilegeEscalation"]) == (True, False)
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert {"cpu", "memory"} <= set(container["resources"]["limits"])
    assert not container.get("ports")


@pytest.mark.kubernetes
@pytest.mark.timeout(240)
def test_nothing_is_left_of_a_killed_runner_nor_after_clean_of_its_keeper(tmp_path: Path, api: Api, cluster_context: str) -> None:
    other = f"{PREFIX}-of-somebody-else"
    api.create_namespace({"metadata": {"name": other, "labels": {OWNER_LABEL: "somebody"}}})
    try:
        run, keeper, runner = start_runner(tmp_path / "a", cluster_context)
        runner.send_signal(signal.SIGKILL)
        runner.wait(10)
        assert wait_until(lambda: namespaces_of(api, run), 60) == [], "the keeper removes it"
        run, keeper, runner = start_runner(tmp_path / "b", cluster_context)
        children = Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()
        for pid in (keeper, runner.pid, *map(int, children)):
            os.kill(pid, signal.SIGKILL)
        runner.wait(10)
        assert len(namespaces_of(api, run)) == 1
        done = chaosgym("clean", "--sandbox", "kubernetes", "--context", cluster_context, "--older-than", "0", "--run", run)
        assert wait_until(lambda: namespaces_of(api, run), 60) == [], done.stderr
        assert api.namespaces(f"{OWNER_LABEL}=somebody")
    finally:
        api.delete_namespace(other)


def start_runner(out: Path, context: str) -> tuple[str, int, subprocess.Popen[str]]:
    """One in mid-episode: the id of its run, its keeper, itself."""
    command = [sys.executable, "-c", RUNNER, str(out), context, PREFIX]
    runner = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert runner.stdout is not None
    with runner.stdout:
        keeper, run = runner.stdout.readline().split()
    time.sleep(2.5)
    return run, int(keeper), runner


@pytest.mark.kubernetes
def test_the_doctor_finds_the_cluster_fit(cluster_context: str) -> None:
    found = {check.name: check for check in examine_kubernetes(cluster_context)}
    assert found["kubernetes.cluster"].status != "fail"
    assert found["kubernetes.rights"].status == "pass", found["kubernetes.rights"].found
    assert found["kubernetes.nodes"].status == "pass"
    assert all(bool(check.fix) == (check.status != "pass") for check in found.values())
