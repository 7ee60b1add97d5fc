"""What killed runs leave behind: what is found, what is spared, what is removed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from chaosgym.cli.program import main, make_program
from chaosgym.errors import PrerequisiteError
from chaosgym.sandbox import docker, kubernetes, kubernetes_api, leftovers
from chaosgym.sandbox.alive import is_alive, this_process
from chaosgym.sandbox.engine import CREATED_LABEL, OWNER_LABEL, RUN_LABEL, WORKER_LABEL, labels
from chaosgym.sandbox.leftovers import find_docker, find_folders, find_kubernetes, sign_folder

ELSEWHERE = "00000000.1.2.3"
DEAD = ".".join([*this_process().split(".")[:2], "1", "0"])
"""A process of this machine whose pid another one has now."""


def run(*arguments: str) -> Result:
    return CliRunner().invoke(make_program(), ["clean", *arguments])


def labelled(run_id: str, worker: str, age: float = 3600) -> dict[str, str]:
    return {OWNER_LABEL: "chaosgym", RUN_LABEL: run_id, CREATED_LABEL: str(int(time.time() - age)), WORKER_LABEL: worker}


class Docker:
    """A client that knows some objects; what is removed is gone."""

    def __init__(self) -> None:
        self.api = self
        self.objects: list[dict[str, Any]] = []

    def add(self, name: str, marks: dict[str, str], *, up: float = 0.0) -> None:
        state, created = ("running" if up else "exited"), int(time.time() - up)
        self.objects.append({"Names": [f"/{name}"], "Name": name, "Labels": marks, "State": state, "Created": created})

    def containers(self, **_: Any) -> list[dict[str, Any]]:
        return [each for each in self.objects if not each["Name"].startswith("net-")]

    def networks(self, **_: Any) -> list[dict[str, Any]]:
        return [each for each in self.objects if each["Name"].startswith("net-")]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Docker:
    """In place of this machine's Docker; every other place where things are left is empty."""
    fake = Docker()

    def remove_run(client: Docker, run_id: str) -> list[str]:
        client.objects = [each for each in client.objects if each["Labels"][RUN_LABEL] != run_id]
        return []

    monkeypatch.setattr(docker, "connect", lambda: fake)
    monkeypatch.setattr(docker, "remove_run", remove_run)
    monkeypatch.setattr(leftovers, "find_folders", list)
    return fake


# ---- who lives


def test_a_process_is_known_again_and_its_end_is_noticed() -> None:
    code = "from chaosgym.sandbox.alive import this_process; print(this_process(), flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        mark = child.stdout.readline().strip()
        assert is_alive(mark) is True
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert is_alive(mark) is False, "a zombie"
    assert is_alive(mark) is False
    assert is_alive(this_process()) is True
    assert is_alive(DEAD) is False
    assert [is_alive(text) for text in (ELSEWHERE, "", "x", "..")] == [None] * 4


def test_the_labels_are_values_of_kubernetes_labels() -> None:
    for value in labels("0123456789ab").values():
        assert len(value) <= 63
        assert value.replace(".", "").replace("-", "").isalnum()


# ---- Docker


def test_a_run_is_alive_while_its_worker_is(engine: Docker) -> None:
    engine.add("a", labelled("live", this_process()), up=9999)
    engine.add("net-a", labelled("live", DEAD))
    engine.add("net-b", labelled("dead", DEAD))
    engine.add("b", labelled("dead", DEAD), up=9999)
    assert {(each.run, each.kind, each.alive) for each in find_docker()} == {
        ("live", "container", True), ("live", "network", True), ("dead", "container", False), ("dead", "network", False),
    }  # fmt: skip


@pytest.mark.parametrize(("age", "up", "alive"), [(30, 0, True), (90, 5, False), (90, 0, False), (3600, 40, True)])
def test_a_run_of_another_machine_is_alive_when_young_or_steered(engine: Docker, age: float, up: float, alive: bool) -> None:
    engine.add("a", labelled("far", ELSEWHERE, age), up=up)
    assert [each.alive for each in find_docker()] == [alive]


def test_what_lacks_one_of_our_labels_is_not_ours(engine: Docker) -> None:
    engine.add("other", {OWNER_LABEL: "chaosgym"})
    engine.add("odd", {OWNER_LABEL: "chaosgym", RUN_LABEL: "r", CREATED_LABEL: "yesterday"})
    assert find_docker() == []


def test_it_lists_first_and_removes_only_what_is_dead_and_old_enough(engine: Docker) -> None:
    engine.add("old", labelled("old", DEAD))
    engine.add("young", labelled("young", DEAD, age=60))
    engine.add("live", labelled("live", this_process()), up=3600)
    listed = run("--sandbox", "docker", "--dry-run")
    assert (listed.exit_code, len(engine.objects)) == (0, 3)
    assert [line.split()[2:4] for line in listed.stdout.splitlines()] == [["NAME", "RUN"], ["old", "old"]]
    assert "would remove 1 container" in listed.stderr
    assert "spared, as their run goes on: 1 container" in listed.stderr
    assert "spared, as younger than 10m: 1 container" in listed.stderr
    assert run("--sandbox", "docker").exit_code == 0
    assert [each["Name"] for each in engine.objects] == ["young", "live"]
    done = run("--sandbox", "docker", "--older-than", "0", "--json")
    assert [(row["name"], row["removed"]) for row in json.loads(done.stdout)] == [("young", True)]
    assert [each["Name"] for each in engine.objects] == ["live"]
    again = run("--sandbox", "docker", "--older-than", "0")
    assert (again.exit_code, again.stdout) == (0, "")
    assert "nothing is left behind" in again.stderr


def test_one_run_can_be_named(engine: Docker) -> None:
    engine.add("a", labelled("a", DEAD))
    engine.add("b", labelled("b", DEAD))
    assert run("--sandbox", "docker", "--run", "a").exit_code == 0
    assert [each["Name"] for each in engine.objects] == ["b"]


def test_what_stays_is_named_and_ends_with_3(engine: Docker, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.add("net-a", labelled("a", DEAD))
    monkeypatch.setattr(docker, "remove_run", lambda client, run_id: [])
    shown = run("--sandbox", "docker")
    assert shown.exit_code == 3
    assert "still there: network net-a" in shown.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--sandbox", "dokcer"], 2, "did you mean 'docker'"),
        (["--sandbox", "kubernetes"], 2, "--context NAME"),
        (["--sandbox", "docker", "--context", "x"], 2, "not for docker"),
        (["--older-than", "soon"], 2, "--older-than: 'soon' is not a duration"),
        (["--sandbox", "docker"], 3, "no Docker engine answers at tcp://127.0.0.1:1"),
    ],
)
def test_refusals_are_one_line(
    arguments: list[str], code: int, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    monkeypatch.setattr(sys, "argv", ["chaosgym", "clean", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == code
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1


def test_everywhere_means_where_something_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect() -> None:
        raise PrerequisiteError("no Docker engine answers at unix:///nowhere; start it")

    monkeypatch.setattr(docker, "connect", connect)
    shown = run("--dry-run")
    assert shown.exit_code == 0
    assert "not looked into: no Docker engine answers" in shown.stderr
    assert "--context NAME" in shown.stderr


# ---- Kubernetes


class Cluster:
    """An Api that knows some namespaces."""

    def __init__(self, found: dict[str, dict[str, str]], up: float) -> None:
        self._found = found
        self._since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - up))

    def namespaces(self, selector: str) -> list[dict[str, Any]]:
        return [{"metadata": {"name": name, "labels": marks}} for name, marks in self._found.items()]

    def pods(self, namespace: str, selector: str) -> list[dict[str, Any]]:
        return [{"status": {"containerStatuses": [{"state": {"running": {"startedAt": self._since}}}]}}, {"status": {}}]


@pytest.mark.parametrize(
    ("worker", "up", "alive"), [(DEAD, 999, False), (this_process(), 1, True), (ELSEWHERE, 999, True), (ELSEWHERE, 9, False)]
)
def test_a_namespace_is_alive_as_its_pods_are_steered(worker: str, up: float, alive: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubernetes_api, "connect", lambda context: Cluster({"gym-1": labelled("r", worker)}, up))
    (found,) = find_kubernetes("test")
    assert (found.kind, found.name, found.run, found.alive) == ("namespace", "gym-1", "r", alive)


def test_namespaces_are_removed_run_by_run(monkeypatch: pytest.MonkeyPatch) -> None:
    removed: list[str] = []
    clusters = [Cluster({"gym-1": labelled("r", DEAD)}, 999), Cluster({}, 0), Cluster({}, 0)]
    monkeypatch.setattr(kubernetes_api, "connect", lambda context: clusters.pop(0))
    monkeypatch.setattr(kubernetes, "remove_run", lambda api, run_id: removed.append(run_id))
    assert run("--sandbox", "kubernetes", "--context", "test").exit_code == 0
    assert removed == ["r"]


# ---- folders


def signed(where: Path, name: str, owner: str) -> Path:
    folder = where / name
    folder.mkdir()
    sign_folder(folder)
    (folder / ".owner").write_text(owner)
    return folder


def test_folders_are_ours_if_signed_and_dead_if_nobody_uses_them(tmp_path: Path) -> None:
    (tmp_path / "app-stranger").mkdir()
    (tmp_path / "app-file").write_text("")
    dead, live = signed(tmp_path, "app-dead", DEAD), signed(tmp_path, "app-live", this_process())
    far, used = signed(tmp_path, "app-far", ELSEWHERE), signed(tmp_path, "app-used", DEAD)
    signed(tmp_path, "other-prefix", DEAD)
    code = "print('up', flush=True); import time; time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code, str(used)], stdout=subprocess.PIPE) as user:
        assert user.stdout is not None
        user.stdout.readline()
        found = {each.name: each.alive for each in find_folders(tmp_path)}
        user.send_signal(signal.SIGKILL)
    assert found == {str(dead): False, str(live): True, str(far): True, str(used): True}


def test_dead_folders_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dead, live = signed(tmp_path, "app-dead", DEAD), signed(tmp_path, "app-live", this_process())
    monkeypatch.setattr(leftovers.tempfile, "gettempdir", lambda: str(tmp_path))
    assert "nothing is left behind" in run("--sandbox", "local").stderr
    assert run("--sandbox", "local", "--older-than", "0").exit_code == 0
    assert (dead.exists(), live.exists()) == (False, True)
