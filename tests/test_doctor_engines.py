"""The doctor at a container engine: what it says of engines that can do less, without one."""

from __future__ import annotations

from typing import Any

import pytest

from chaosgym import doctor_engines
from chaosgym.doctor import Check
from chaosgym.doctor_engines import examine_docker, examine_kubernetes
from chaosgym.errors import PrerequisiteError
from chaosgym.sandbox import docker, image, kubernetes_api


def by_name(checks: list[Check]) -> dict[str, Check]:
    assert all(bool(check.fix) == (check.status != "pass") for check in checks)
    return {check.name: check for check in checks}


@pytest.fixture(autouse=True)
def reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "image_reference", lambda: "chaosgym/component:tag")


# ---- Docker


class Network:
    def __init__(self, gateway: str) -> None:
        self.attrs = {"IPAM": {"Config": [{"Gateway": gateway}]}}
        self.removed = False

    def reload(self) -> None: ...

    def remove(self) -> None:
        self.removed = True


class Docker:
    """A client of an engine with a network at `gateway` and with what `about` says."""

    def __init__(self, gateway: str = "127.0.0.1", **about: Any) -> None:
        self.network, self.about = Network(gateway), about
        self.images = self.networks = self

    def info(self) -> dict[str, Any]:
        limits = {"MemoryLimit": True, "CpuCfsQuota": True, "PidsLimit": True}
        return {"ServerVersion": "20.10.24", "CgroupVersion": "2", "DockerRootDir": "/", **limits, **self.about}

    def version(self) -> dict[str, str]:
        return {"ApiVersion": "1.41"}

    def get(self, name: str) -> None: ...

    def create(self, name: str, **_: Any) -> Network:
        return self.network

    def list(self) -> list[Network]:
        return [self.network]


def test_an_engine_that_can_everything_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Docker()
    monkeypatch.setattr(docker, "connect", lambda: engine)
    checks = by_name(examine_docker())
    assert {name for name, check in checks.items() if check.status != "pass"} <= {"docker.disk"}
    assert "20.10.24 (API 1.41)" in checks["docker.engine"].found
    assert engine.network.removed


def test_networks_on_another_machine_are_noticed_and_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Docker("192.0.2.1")
    monkeypatch.setattr(docker, "connect", lambda: engine)
    check = by_name(examine_docker())["docker.network"]
    assert (check.status, engine.network.removed) == ("fail", True)
    assert "not reached from here" in check.found


def test_limits_that_an_engine_cannot_set_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker, "connect", lambda: Docker(PidsLimit=False))
    check = by_name(examine_docker())["docker.limits"]
    assert (check.status, "without limits of processes" in check.found) == ("warn", True)


def test_no_engine_is_one_check_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect() -> None:
        raise PrerequisiteError("no Docker engine answers at unix:///nowhere; start it: sudo systemctl start docker")

    monkeypatch.setattr(docker, "connect", connect)
    (check,) = examine_docker()
    assert (check.status, check.fix) == ("fail", "start it: sudo systemctl start docker")


# ---- Kubernetes


class Cluster:
    """An Api of a cluster that allows everything but `refused`."""

    server = "https://192.0.2.7"

    def __init__(self, version: str = "v1.30.1", refused: str = "", groups: tuple[str, ...] = (), pods: tuple[str, ...] = ()) -> None:
        self._version, self._refused, self._groups, self._pods = version, refused, groups, pods

    def version(self) -> str:
        return self._version

    def may(self, verb: str, group: str, resource: str) -> bool:
        return f"{verb} {resource}" != self._refused

    def groups(self) -> set[str]:
        return set(self._groups)

    def nodes(self) -> list[dict[str, Any]]:
        status = {"conditions": [{"type": "Ready", "status": "True"}], "images": [{"names": ["docker.io/chaosgym/component:tag"]}]}
        return [{"metadata": {"name": "one"}, "status": status}, {"metadata": {"name": "two"}, "status": status | {"images": []}}]

    def some_pods(self, count: int) -> list[dict[str, Any]]:
        return [{"status": {"podIP": address, "phase": "Running"}, "spec": {}} for address in self._pods]


def examine(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> dict[str, Check]:
    monkeypatch.setattr(kubernetes_api, "connect", lambda context: cluster)
    return by_name(examine_kubernetes("lab"))


@pytest.mark.parametrize(
    ("version", "status", "says"),
    [("v1.19.4", "fail", "v1.19.4"), ("v1.20.2", "warn", "Indexed Jobs"), ("v1.24.0+k3s1", "warn", "ephemeral"), ("v1.30.1", "pass", "")],
)
def test_what_old_servers_lack(version: str, status: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check = examine(Cluster(version), monkeypatch)["kubernetes.cluster"]
    assert check.status == status
    assert says in check.found


def test_every_right_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    check = examine(Cluster(refused="delete namespaces"), monkeypatch)["kubernetes.rights"]
    assert (check.status, check.found) == ("fail", "you may not: delete namespaces")
    assert "ClusterRole" in check.fix


def test_nodes_without_our_image_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = examine(Cluster(), monkeypatch)
    assert (found["kubernetes.nodes"].found, found["kubernetes.image"].status) == ("2 of 2 ready", "warn")
    assert "is not listed by two" in found["kubernetes.image"].found


def test_what_is_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    found = examine(Cluster(groups=("crd.projectcalico.org", "chaos-mesh.org")), monkeypatch)
    assert "Calico" in found["kubernetes.policies"].found
    assert found["kubernetes.chaos-mesh"].found == "installed"
    assert examine(Cluster(), monkeypatch)["kubernetes.policies"].status == "warn"


@pytest.mark.parametrize(("pods", "status"), [(("127.0.0.1",), "pass"), ((), "warn")])
def test_pods_are_tried(pods: tuple[str, ...], status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert examine(Cluster(pods=pods), monkeypatch)["kubernetes.reach"].status == status


def test_pods_that_stay_silent_are_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_engines, "_reached", lambda address: False)
    check = examine(Cluster(pods=("192.0.2.9",)), monkeypatch)["kubernetes.reach"]
    assert (check.status, "on a node or in a pod" in check.fix) == ("fail", True)
