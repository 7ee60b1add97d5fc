"""deploy/train on a real cluster, the one of the context CHAOSGYM_TEST_CONTEXT: two pods train one model by gloo, and one is killed.

Its node must be this machine: in place of an image with torch, which is large, the pods have the runner image for a Python
(`chaosgym image build --kind runner`, or what CHAOSGYM_TEST_RUNNER names), and the packages and the source of this machine mounted.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from chaosgym.sandbox.image import image_reference
from chaosgym.training.config import SftConfig

Record = Callable[..., None]
CONTEXT = os.environ.get("CHAOSGYM_TEST_CONTEXT", "test")
ROOT = Path(__file__).resolve().parents[1]
TRAIN = ROOT / "deploy" / "train"
PORTIONS = ("gym", "envs", "agents", "rewards", "training", "evaluation", "scenarios")
MOUNTED = {"site": "/mnt/site-packages", "src": "/src"}
"""dill, which datasets hashes with, tells libraries from people's own modules by that name in their path."""
pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(420)]


def kubectl(*arguments: str | Path, given: str | None = None) -> str:
    command = ["kubectl", "--context", CONTEXT, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, input=given, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def wait_for(what: Callable[[], Any], seconds: float) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.5)
    return found


@pytest.fixture
def namespace() -> Iterator[str]:
    name = f"train-test-{secrets.token_hex(3)}"
    kubectl("create", "namespace", name)
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


def manifests(folder: str) -> list[dict[str, Any]]:
    """What `kubectl apply -k` applies."""
    command = ["kubectl", "kustomize", str(TRAIN / folder)]
    return list(yaml.safe_load_all(subprocess.run(command, capture_output=True, text=True, check=True).stdout))


# ── the manifests ────────────────────────────────────────────────────────────────────────────────────


def pods(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of all the Jobs among the manifests, also those in a JobSet."""
    sets = [job["template"] for each in found if each["kind"] == "JobSet" for job in each["spec"]["replicatedJobs"]]
    return [job["spec"]["template"] for job in (*sets, *(each for each in found if each["kind"] == "Job"))]


@pytest.mark.parametrize(("folder", "count"), [("jobs", 2), ("indexed", 1), ("jobset", 1)])
def test_pods_of_all_ways_are_alike(folder: str, count: int) -> None:
    """But for how they know their number, where they meet and who starts them again."""
    found = pods(manifests(folder))
    assert len(found) == count
    for pod in found:
        [container] = pod["spec"]["containers"]
        [alike] = pods(manifests("jobs"))[0]["spec"]["containers"]
        differing = {"command", "env"}
        assert {name: container[name] for name in container.keys() - differing} == {name: alike[name] for name in alike.keys() - differing}
        assert "--nnodes=2" in container["command"]
        assert container["args"] == ["train", "sft", "--config", "/config/train.yaml", "--resume"]
        assert pod["spec"]["volumes"] == pods(manifests("jobs"))[0]["spec"]["volumes"]
    [config] = [each for each in manifests(folder) if each["kind"] == "ConfigMap"]
    SftConfig.model_validate(yaml.safe_load(config["data"]["train.yaml"]))


@pytest.mark.parametrize("folder", ["jobs", "indexed"])
def test_manifests_are_accepted_by_the_server(folder: str, namespace: str) -> None:
    """Of a JobSet the server knows nothing; one from before 1.22 leaves out the fields of Indexed Jobs."""
    given = [each for each in manifests(folder) if each["kind"] != "Namespace"]
    for each in given:
        each["metadata"]["namespace"] = namespace
    said = kubectl("apply", "--dry-run=server", "--validate=false", "--filename", "-", given=yaml.safe_dump_all(given))
    assert [line.endswith("(server dry run)") for line in said.splitlines()] == [True] * len(given)


# ── a training ───────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def volumes(record: Record, tmp_path: Path) -> Path:
    """Folders `episodes` and `runs` that pods, who are somebody else, may read and write."""
    for parent in (tmp_path, *tmp_path.parents[:2]):
        parent.chmod(0o755)
    for number in range(12):
        record(tmp_path / "episodes", number)
    for path in (tmp_path / "episodes").rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    (tmp_path / "runs").mkdir(mode=0o777)
    (tmp_path / "runs").chmod(0o777)
    return tmp_path


def host(path: Path | str) -> dict[str, Any]:
    return {"hostPath": {"path": str(path)}}


def adapt(found: list[dict[str, Any]], namespace: str, config: dict[str, Any], volumes: Path) -> list[dict[str, Any]]:
    """For a node without GPUs, volumes and an image of torch; all else stays as it is."""
    kept = [each for each in found if each["kind"] not in ("Namespace", "PersistentVolumeClaim")]
    paths = ":".join(["/mnt/site-packages", *(f"/src/{portion}" for portion in PORTIONS)])
    for each in kept:
        each["metadata"]["namespace"] = namespace
        if each["kind"] == "ConfigMap":
            each["data"] = {"train.yaml": json.dumps(config)}
    for pod in pods(kept):
        [container] = pod["spec"]["containers"]
        container["image"] = os.environ.get("CHAOSGYM_TEST_RUNNER") or image_reference("runner")
        container["command"][0] = "/opt/python/bin/python3"
        container["command"][container["command"].index("--nproc-per-node=gpu")] = "--nproc-per-node=1"
        container["resources"] = {"requests": {"cpu": "100m", "memory": "512Mi"}, "limits": {"memory": "2Gi"}}
        container["env"] += [{"name": "PYTHONPATH", "value": paths}, {"name": "OMP_NUM_THREADS", "value": "1"}]
        container["volumeMounts"] += [{"name": name, "mountPath": path, "readOnly": True} for name, path in MOUNTED.items()]
        other = [volume for volume in pod["spec"]["volumes"] if "persistentVolumeClaim" not in volume]
        mine = {"episodes": volumes / "episodes", "runs": volumes / "runs", "site": sysconfig.get_path("purelib"), "src": ROOT}
        pod["spec"]["volumes"] = [*other, *({"name": name, **host(path)} for name, path in mine.items())]
    return kept


def succeeded(namespace: str) -> bool:
    jobs = json.loads(kubectl("get", "jobs", "--namespace", namespace, "--output", "json"))["items"]
    return len(jobs) == 2 and all(job["status"].get("succeeded") for job in jobs)


def test_two_pods_train_one_model_and_a_killed_one_comes_back(volumes: Path, namespace: str) -> None:
    config: dict[str, Any] = {
        "episodes": ["/episodes"], "out": "/runs/sft", "budget": 200, "nano": {"hidden": 64, "layers": 1}, "precision": "float32",
        "steps": 600, "batch_size": 8, "save_every": 10, "log_every": 1, "validation": 0, "learning_rate": 1e-3, "muon_learning_rate": 0,
    }  # fmt: skip
    given = adapt(manifests("jobs"), namespace, config, volumes)
    kubectl("apply", "--filename", "-", given=yaml.safe_dump_all(given))
    run = volumes / "runs" / "sft"
    wait_for(lambda: list(run.glob("checkpoint-*/trainer_state.json")), 180)
    [victim] = kubectl("get", "pods", "--namespace", namespace, "--selector", "chaosgym.dev/host=false", "--output", "name").split()
    kubectl("delete", victim, "--namespace", namespace, "--grace-period=0", "--force")
    assert not (run / "summary.json").exists()
    wait_for(lambda: succeeded(namespace), 200)
    summary = json.loads((run / "summary.json").read_text())
    assert summary["steps"] == 600
    assert summary["resumed_from"].startswith("checkpoint-")
    assert victim not in kubectl("get", "pods", "--namespace", namespace, "--output", "name").split()
    found = losses(run)
    assert set(found) == set(range(1, 601))
    assert found[600] < 0.1 * found[1]


def losses(run: Path) -> dict[int, float]:
    """By step; of one that came twice the last."""
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {record["step"]: record["loss"] for record in found if "loss" in record}
