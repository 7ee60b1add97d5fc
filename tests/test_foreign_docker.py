"""Applications that are not ours, in a Docker engine: attached to, broken, healed, and left as they were."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "foreign"
PAGE = ROOT / "docs" / "bring-your-own.md"
ROLES = ("front", "shop", "database", "cache")
TIMELINE = "timeline: {warmup: 500ms, baseline: 4s, incident: 5s, recovery: 4s}"


def docker(*arguments: str, check: bool = True) -> str:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=120, check=check).stdout.strip()


def answers() -> bool:
    return shutil.which("docker") is not None and subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


pytestmark = [
    pytest.mark.docker,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not answers(), reason="no Docker engine answers"),
]


@pytest.fixture(scope="module")
def image() -> None:
    if not docker("images", "--quiet", "example/shop:1"):
        if os.geteuid() != 0 or shutil.which("debootstrap") is None:
            pytest.skip("the example's image needs root and debootstrap to be built")
        subprocess.run([EXAMPLE / "build-images"], capture_output=True, check=True, timeout=500)


@pytest.fixture(scope="module")
def shop(image: None) -> Iterator[None]:
    """The example, running; torn down with its data."""
    if docker("ps", "--all", "--quiet", "--filter", "label=com.docker.compose.project=shop"):
        pytest.skip("the example is running already, and is somebody's")
    subprocess.run([EXAMPLE / "up"], check=True, capture_output=True, timeout=120)
    try:
        wait_for(lambda: "tea" in fetch("/products"), 60)
        yield
    finally:
        subprocess.run([EXAMPLE / "down"], check=True, capture_output=True, timeout=120)


def fetch(path: str) -> str:
    command = ["curl", "--silent", "--max-time", "2", f"http://127.0.0.1:18080{path}"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def wait_for(holds: Any, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.2)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The example's file with a shorter timeline."""
    path = tmp_path / "shop.yaml"
    text = (EXAMPLE / "shop.yaml").read_text().replace("p95: 1500ms", "p95: 4s")
    path.write_text(text.replace("  rate:", f"  {TIMELINE}\n  rate:"))
    return path


def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "SHOP_POSTGRES_PASSWORD": "postgres", "XDG_STATE_HOME": str(tmp_path / "state")}


def chaosgym(tmp_path: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Once more, and again, where the machine is too busy for a steady baseline."""
    command = [sys.executable, "-m", "chaosgym.cli", "foreign", *map(str, arguments)]
    for _ in range(4):
        done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False, env=environment(tmp_path))
        if "baseline not steady" not in done.stderr:
            return done
    pytest.skip("the machine is too busy: the baseline is not steady")


def start(tmp_path: Path, *arguments: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "chaosgym.cli", "foreign", "run", *map(str, arguments)]
    return subprocess.Popen(command, text=True, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment(tmp_path))


def looks() -> dict[str, Any]:
    """What must be the same after a fault: the containers themselves, their policies and limits, and that they run."""
    found: dict[str, Any] = {}
    for role in ROLES:
        (each,) = json.loads(docker("inspect", f"shop-{role}-1"))
        config, state = each["HostConfig"], each["State"]
        found[role] = (each["Id"], config["RestartPolicy"], config["Memory"], state["Running"], state["Paused"])
    return found


def sql(statement: str) -> str:
    login = ("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups")
    return docker("exec", "shop-database-1", *login, "psql", "-d", "shop", "-Atc", statement)


def logins() -> str:
    return sql("select string_agg(rolname, ',' order by rolname) from pg_roles where rolcanlogin")


def journal(tmp_path: Path) -> str:
    return "".join(path.read_text() for path in (tmp_path / "state").rglob("*.jsonl"))


# ── the page, first: it starts the example itself ──────────────────────────────────────────────────


def test_the_page_does_what_it_says(image: None, tmp_path: Path) -> None:
    if docker("ps", "--all", "--quiet", "--filter", "label=com.docker.compose.project=shop"):
        pytest.skip("the example is running already, and is somebody's")
    folder = tmp_path / "foreign"
    shutil.copytree(EXAMPLE, folder)
    program = tmp_path / "bin" / "chaosgym"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m chaosgym.cli "$@"\n')
    program.chmod(0o755)
    place = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}", "XDG_STATE_HOME": str(tmp_path / "state"), "COLUMNS": "120"}
    seen = ""
    try:
        for info, text in re.findall(r"^```([^\n]*)\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE):
            if info.startswith("sh"):
                done = subprocess.run(
                    ["bash", "-c", text], cwd=folder, env=place, text=True, timeout=300, check=False,
                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                )  # fmt: skip
                seen = done.stdout.strip()
                assert done.returncode == 0, f"{text}{seen}"
            elif info == "text output":
                lines = [re.escape(line).replace(r"\.\.\.", ".*") for line in text.splitlines()]
                pattern = "".join(r"(?:.*\n)*?" if line == ".*" else f"{line}\n" for line in lines)
                assert re.fullmatch(pattern, f"{seen}\n"), f"the page shows\n{text}\nbut there is\n{seen}"
    finally:
        subprocess.run([EXAMPLE / "down"], check=False, capture_output=True, timeout=120)


# ── the example, running ───────────────────────────────────────────────────────────────────────────


def test_check_finds_everything_and_changes_nothing(shop: None, file: Path, tmp_path: Path) -> None:
    before = looks()
    done = chaosgym(tmp_path, "check", file, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [row["component"] for row in told["components"]] == list(ROLES)
    assert set(told["probes"].values()) == {"ok"}
    assert told["untouched"] == []
    assert "dependency.lock" in told["components"][2]["faults"]
    assert looks() == before


def test_a_probe_that_fails_fails_the_check(shop: None, file: Path, tmp_path: Path) -> None:
    file.write_text(file.read_text().replace('"tea"', '"coffee"'))
    done = chaosgym(tmp_path, "check", file)
    assert done.returncode == 1
    assert "UnexpectedBody" in done.stdout


FAULTS = {
    "process.crash": ("shop", []),
    "process.hang": ("shop", []),
    "dependency.lock": ("database", ["table=orders"]),
    "dependency.connections": ("database", []),
    "data.missing_table": ("database", ["table=products"]),
    "dependency.cache_memory": ("cache", []),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_seen_and_healed_and_the_data_stays(fault: str, shop: None, file: Path, tmp_path: Path) -> None:
    target, parameters = FAULTS[fault]
    before, rows, who = looks(), int(sql("select count(*) from orders")), logins()
    options = [word for each in parameters for word in ("--parameters", each)]
    done = chaosgym(tmp_path, "run", file, "--fault", fault, "--target", target, *options, "--json", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["visible"]
    assert told["recovered"]
    assert told["truth"]["causes"] == [{"component": target, "fault": fault, "parameters": dict(p.split("=") for p in parameters)}]
    assert told["truth"]["split"] == "foreign"
    assert looks() == before
    assert logins() == who
    assert int(sql("select count(*) from orders")) >= rows
    assert journal(tmp_path) == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="rules of a firewall need root")
def test_a_partition_is_seen_and_its_rules_are_gone(shop: None, file: Path, tmp_path: Path) -> None:
    done = chaosgym(tmp_path, "run", file, "--fault", "network.partition", "--target", "shop", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["visible"]
    assert told["recovered"]
    pid = docker("inspect", "--format", "{{.State.Pid}}", "shop-shop-1")
    rules = subprocess.run(["nsenter", "--target", pid, "--net", "iptables", "-S"], capture_output=True, text=True, check=True).stdout
    assert "chaosgym" not in rules


def test_what_is_not_allowed_is_refused_by_name_and_line(shop: None, file: Path, tmp_path: Path) -> None:
    before = looks()
    done = chaosgym(tmp_path, "run", file, "--fault", "process.crash", "--target", "front")
    assert done.returncode == 2
    assert re.search(rf"{re.escape(str(file))}:\d+:\d+: spec\.components\.front\.allow: process\.crash needs hold and signal", done.stderr)
    done = chaosgym(tmp_path, "run", file, "--fault", "dependency.cache_flush", "--target", "cache")
    assert done.returncode == 2
    assert "it would overwrite or delete data of yours" in done.stderr
    assert looks() == before


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_whatever_ends_chaosgym_the_application_is_healed(ending: signal.Signals, shop: None, file: Path, tmp_path: Path) -> None:
    before = looks()
    running = start(tmp_path, file, "--fault", "process.crash", "--target", "shop")
    assert running.stderr is not None
    with running.stderr:
        for line in running.stderr:
            if " incident " in line:
                break
        else:
            pytest.skip("the machine is too busy: the baseline is not steady")
    assert looks() != before
    running.send_signal(ending)
    running.wait(60)
    wait_for(lambda: looks() == before and journal(tmp_path) == "", 40)
    wait_for(lambda: "tea" in fetch("/products"), 20)


def test_what_nobody_could_heal_is_healed_by_hand(shop: None, file: Path, tmp_path: Path) -> None:
    before, who = looks(), logins()
    running = start(tmp_path, file, "--fault", "dependency.lock", "--target", "database", "--parameters", "table=orders")
    assert running.stderr is not None
    with running.stderr:
        for line in running.stderr:
            if " incident " in line:
                break
        else:
            pytest.skip("the machine is too busy: the baseline is not steady")
    keeper = subprocess.run(["pgrep", "--parent", str(running.pid)], capture_output=True, text=True, check=True).stdout.split()
    for pid in keeper:
        os.kill(int(pid), signal.SIGKILL)
    running.kill()
    running.wait(10)
    assert logins() != who
    refused = chaosgym(tmp_path, "run", file)
    assert refused.returncode == 3
    assert "chaosgym foreign heal" in refused.stderr
    healed = chaosgym(tmp_path, "heal", file)
    assert healed.returncode == 0, healed.stderr
    assert healed.stdout.strip() == "undone: sql on database"
    assert (looks(), logins()) == (before, who)
    assert chaosgym(tmp_path, "heal", file).stdout.strip() == "nothing was left behind"
