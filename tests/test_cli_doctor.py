"""The doctor: every check says what it found, and what to do where that is not enough."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import pytest
from typer.testing import CliRunner

from chaosgym import doctor
from chaosgym.cli.program import make_program
from chaosgym.doctor import Check, examine
from chaosgym.errors import InputError, PrerequisiteError
from chaosgym.sandbox.namespaces import Isolation

LOCAL = {"postgres", "redis", "namespaces", "files", "packages.services"}


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def by_name(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def test_replay_is_not_asked_for_what_only_live_episodes_need() -> None:
    assert set(by_name(examine("local"))) - set(by_name(examine("replay"))) == LOCAL


def test_a_fix_stands_wherever_something_is_wrong_and_nowhere_else() -> None:
    assert all(bool(check.fix) == (check.status != "pass") for check in examine())
    assert all(check.found for check in examine())


def test_unknown_sandbox_is_refused() -> None:
    with pytest.raises(InputError, match="did you mean 'replay'"):
        examine("reply")


def test_missing_services_fail_with_the_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "missing_modules", lambda extra: ["uvloop"] if extra == "services" else [])
    check = by_name(examine())["packages.services"]
    assert (check.status, check.fix) == ("fail", "run: pip install 'chaosgym[services]'")


def test_missing_training_packages_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "missing_modules", lambda extra: ["trl"] if extra == "train" else [])
    assert by_name(examine())["packages.train"].status == "warn"


def test_missing_server_fails_with_both_ways_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def find() -> None:
        raise PrerequisiteError("no Redis server found; run: pip install 'chaosgym[services]', or as root: apt-get install redis-server")

    monkeypatch.setattr(doctor, "find_redis", find)
    check = by_name(examine())["redis"]
    assert (check.status, check.found) == ("fail", "no Redis server found")
    assert "apt-get install redis-server" in check.fix


def test_refused_namespaces_are_a_warning_that_says_what_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chaosgym.sandbox.namespaces.probe", lambda: Isolation(False, "unshare: Operation not permitted"))
    check = by_name(examine())["namespaces"]
    assert check.status == "warn"
    assert "Operation not permitted" in check.found
    assert "process groups" in check.fix


@pytest.mark.parametrize(("free", "status"), [(2**28, "fail"), (2**31, "warn"), (2**34, "pass")])
def test_memory_and_disk_by_what_is_free(monkeypatch: pytest.MonkeyPatch, free: int, status: str) -> None:
    monkeypatch.setattr(doctor, "_free_memory", lambda: free)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: Usage(2**40, 0, free))
    found = by_name(examine())
    assert (found["memory"].status, found["disk"].status) == (status, status)


def test_command_prints_an_array_with_names_and_ends_with_3_on_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "missing_modules", lambda extra: ["redis"])
    shown = CliRunner().invoke(make_program(), ["doctor", "--json"])
    assert shown.exit_code == 3
    assert {row["name"] for row in json.loads(shown.stdout)} >= LOCAL
    plain = CliRunner().invoke(make_program(), ["doctor"])
    assert "fail packages.services: run: pip install 'chaosgym[services]'" in plain.stderr


def test_processor_quota_of_a_control_group_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda path: "150000 100000")
    assert doctor._processor_quota() == 1.5  # pyright: ignore[reportPrivateUsage]
