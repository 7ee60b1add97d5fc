"""The Docker sandbox on a real engine: episodes, what containers may do, and nothing left after any kind of end."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from chaosgym.episode import read_episode, validate_episode
from chaosgym.errors import SandboxError
from chaosgym.recording.pool import Pool, Recorded
from chaosgym.recording.record import Task, plan_tasks, record
from chaosgym.sandbox import docker
from chaosgym.sandbox.choice import SandboxChoice
from chaosgym.sandbox.engine import OWNER_LABEL, RUN_LABEL
from chaosgym.scenario import Scenario
from chaosgym.scenarios import load_app, load_scenario
from chaosgym.truth import read_truth

pytestmark = [pytest.mark.docker, pytest.mark.timeout(200)]

RUNNER = """
import sys
from pathlib import Path
from chaosgym.recording.pool import Pool
from chaosgym.sandbox.choice import SandboxChoice
from chaosgym.scenarios import load_app, load_scenario
with Pool(1, SandboxChoice("docker")) as pool:
    worker = pool.workers[0]
    print(worker.process.pid, worker.process.args[-1], worker.state, flush=True)
    for seed in range(50):
        pool.record(load_scenario("process-crash"), load_app("shop"), seed, Path(sys.argv[1]))
"""
PROXY = """
import asyncio, sys
async def copy(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
async def lead(reader, writer):
    far_reader, far_writer = await asyncio.open_unix_connection("/var/run/docker.sock")
    await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer), return_exceptions=True)
    far_writer.close()
    writer.close()
async def main():
    server = await asyncio.start_unix_server(lead, sys.argv[1])
    print("up", flush=True)
    await server.serve_forever()
asyncio.run(main())
"""
"""In front of the engine's socket; unlike the engine it may be killed."""


class Running(NamedTuple):
    """A runner in mid-episode."""

    runner: subprocess.Popen[str]
    keeper: int
    run: str
    state: str


@pytest.fixture
def client() -> Iterator[Any]:
    client = docker.connect()
    yield client
    client.close()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    runner = subprocess.Popen(
        [sys.executable, "-c", RUNNER, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert runner.stdout is not None
    keeper, run, state = runner.stdout.readline().split()
    time.sleep(2.5)
    yield Running(runner, int(keeper), run, state)
    runner.kill()
    runner.wait(10)
    runner.stdout.close()


def names_of(client: Any, run: str) -> list[str]:
    """Containers and networks of a run."""
    chosen = {"label": f"{RUN_LABEL}={run}"}
    containers = client.api.containers(all=True, filters=chosen)
    return [each["Names"][0] for each in containers] + [each["Name"] for each in client.api.networks(filters=chosen)]


def processes_with(text: str) -> list[str]:
    found: list[str] = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        found += [line] if text in line else []
    return found


def wait_until(gone: Callable[[], Any], seconds: float) -> Any:
    """What is left at the end; falsy as soon as nothing is."""
    deadline = time.monotonic() + seconds
    while (left := gone()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return left


def chaosgym(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "chaosgym.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=150, check=False, env=os.environ | environment)


def with_recovery(scenario: Scenario, seconds: float) -> Scenario:
    timeline = scenario.spec.timeline.model_copy(update={"recovery": seconds})
    return scenario.model_copy(update={"spec": scenario.spec.model_copy(update={"timeline": timeline})})


# ---- what a run is


def test_a_fault_is_recorded_and_healed_in_hardened_containers(tmp_path: Path, client: Any) -> None:
    scenario = with_recovery(load_scenario("process-crash"), 12.0)
    with Pool(1, SandboxChoice("docker")) as pool:
        run = pool.workers[0].process.args[-1]  # pyright: ignore[reportIndexIssue, reportUnknownVariableType]
        containers = client.containers.list(filters={"label": f"{RUN_LABEL}={run}"})
        (network,) = client.networks.list(filters={"label": f"{RUN_LABEL}={run}"})
        recorded = pool.record(scenario, load_app("shop"), 3, tmp_path)
    assert names_of(client, str(run)) == []
    assert len(containers) == 10
    for container in containers:
        check_hardened(container.attrs)
    assert network.attrs["Internal"] is True
    assert recorded.status == "ok", recorded.reason
    check_healed(recorded)


def check_hardened(found: dict[str, Any]) -> None:
    host, config = found["HostConfig"], found["Config"]
    assert host["ReadonlyRootfs"] is True
    assert (host["CapDrop"], host["CapAdd"], host["Privileged"]) == (["ALL"], None, False)
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert config["User"] == "10001:10001"
    assert 0 < host["PidsLimit"] <= 512
    assert 0 < host["Memory"] == host["MemorySwap"] <= 2**30
    assert 0 < host["NanoCpus"] <= 10**9
    assert (host["PortBindings"] or {}) == {}
    assert all(not ports for ports in found["NetworkSettings"]["Ports"].values())
    assert (host["Binds"] or [], found["Mounts"], host["AutoRemove"]) == ([], [], True)
    assert (host["PidMode"], host["IpcMode"], host["UsernsMode"]) == ("", "private", "")


def check_healed(recorded: Recorded) -> None:
    truth, episode = read_truth(recorded.path), validate_episode(recorded.path)
    assert episode.header.sandbox == "docker"
    assert [cause.fault for cause in truth.causes] == ["process.crash"]
    assert truth.visible, truth.symptoms_seen
    assert truth.healed_unix_nano is not None
    late = truth.healed_unix_nano + 8 * 10**9
    asked = [s for s in episode.tables["spans"].to_pylist() if s["service_name"] == "edge" and s["start_time_unix_nano"] > late]
    assert len(asked) > 10
    assert sum(each["status_code"] == "error" for each in asked) / len(asked) < 0.1


# ---- ends


def test_nothing_is_left_when_the_runner_is_killed_in_mid_episode(running: Running, client: Any) -> None:
    assert len(names_of(client, running.run)) == 11
    running.runner.send_signal(signal.SIGKILL)
    assert wait_until(lambda: names_of(client, running.run), 40) == []
    assert wait_until(lambda: processes_with(running.run), 10) == []
    assert not Path(running.state).exists()


def test_what_stays_when_the_keeper_is_killed_as_well_is_cleaned_and_nothing_else(running: Running, client: Any) -> None:
    other = client.networks.create("test-of-somebody-else", internal=True, labels={"owner": "somebody", f"{OWNER_LABEL}x": "chaosgym"})
    try:
        assert "spared, as their run goes on" in chaosgym("clean", "--run", running.run, "--older-than", "0").stderr
        children = Path(f"/proc/{running.keeper}/task/{running.keeper}/children").read_text().split()
        for pid in (running.keeper, running.runner.pid, *map(int, children)):
            os.kill(pid, signal.SIGKILL)
        running.runner.wait(10)
        assert any(name.startswith("net-") for name in names_of(client, running.run))
        assert "younger than 10m" in chaosgym("clean", "--run", running.run).stderr
        done = chaosgym("clean", "--older-than", "0")
        assert done.returncode == 0, done.stderr
        assert running.run in done.stdout
        assert running.state in done.stdout
        assert names_of(client, running.run) == []
        assert not Path(running.state).exists()
        other.reload()
    finally:
        other.remove()


def test_a_killed_container_makes_an_unscorable_episode_and_the_next_is_fine(tmp_path: Path, client: Any) -> None:
    scenario = load_scenario("healthy-steady")
    tasks = plan_tasks([scenario], {scenario.spec.app: load_app(scenario.spec.app)}, 2, seed=0, split=None)
    done: list[tuple[Task, Recorded]] = []
    with Pool(1, SandboxChoice("docker")) as pool:
        before = pool.workers
        victim = service_of(client, str(before[0].process.args[-1]))  # pyright: ignore[reportIndexIssue, reportUnknownArgumentType]
        asyncio.run(kill_after(victim, 2.5, lambda: record(tasks, pool, tmp_path, lambda task, outcome: done.append((task, outcome)))))
        assert set(pool.workers).isdisjoint(before)
    assert [(outcome.status, task.seed) for task, outcome in done] == [("unscorable", 0), ("ok", 1)], done[1][1].reason
    assert "the container is gone" in read_episode(tmp_path / tasks[0].id).header.reason


def service_of(client: Any, run: str) -> Any:
    containers = client.containers.list(filters={"label": f"{RUN_LABEL}={run}"})
    return next(each for each in containers if "KIND=service" in each.attrs["Config"]["Env"])


async def kill_after(container: Any, seconds: float, work: Callable[[], Any]) -> None:
    going = asyncio.create_task(asyncio.to_thread(work))
    await asyncio.sleep(seconds)
    await asyncio.to_thread(container.kill)
    await going


# ---- engines that fail


@contextmanager
def engine_to_kill(socket_path: Path) -> Generator[subprocess.Popen[str]]:
    with subprocess.Popen([sys.executable, "-c", PROXY, str(socket_path)], stdout=subprocess.PIPE, text=True) as proxy:
        assert proxy.stdout is not None
        assert proxy.stdout.readline() == "up\n"
        yield proxy
        proxy.kill()


def test_an_engine_that_dies_in_mid_episode_spoils_it_and_ends_the_run_with_3(tmp_path: Path) -> None:
    said = next(said for attempt in range(3) if "incident" in (said := run_while_the_engine_dies(tmp_path / f"{attempt}.sock")))
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert errors[0].startswith("error: unscorable: the Docker engine refused or died: ")
    assert "Traceback" not in said
    chaosgym("clean", "--sandbox", "docker", "--older-than", "0")  # the keeper could not reach the engine either


def run_while_the_engine_dies(path: Path) -> str:
    """What it says; a machine too busy for a steady baseline never comes to the incident."""
    command = [sys.executable, "-m", "chaosgym.cli", "run", "healthy-steady", "--sandbox", "docker"]
    environment = os.environ | {"DOCKER_HOST": f"unix://{path}"}
    with (
        engine_to_kill(path) as proxy,
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment) as run,
    ):
        assert run.stderr is not None
        said: list[str] = []
        for line in run.stderr:
            said.append(line)
            if "incident" in line:
                proxy.kill()
        assert run.wait(60) == 3
    return "".join(said)


@pytest.mark.skipif(os.getuid() != 0 or shutil.which("setpriv") is None, reason="needs root, to give it up")
def test_without_permission_the_remedy_is_the_group(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        os.chown(path, 65534, 65534)
        path.chmod(0o600)
        command = ["setpriv", "--inh-caps=-all", "--bounding-set=-all", sys.executable, "-m", "chaosgym.cli", "run", "process-crash"]
        environment = os.environ | {"DOCKER_HOST": f"unix://{path}"}
        done = subprocess.run([*command, "--sandbox", "docker"], capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert done.returncode == 3
    assert "usermod -aG docker" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("host", ["unix:///nowhere", "tcp://127.0.0.1:1", "nonsense"])
def test_an_address_where_no_engine_answers_is_one_line(host: str) -> None:
    done = chaosgym("run", "process-crash", "--sandbox", "docker", DOCKER_HOST=host)
    assert done.returncode == 3
    assert done.stderr.startswith(f"error: no Docker engine answers at {host}; ")
    assert len(done.stderr.splitlines()) == 1


async def test_an_image_that_cannot_be_loaded_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client: Any) -> None:
    archive = tmp_path / "image.tar"
    archive.write_bytes(b"no image" * 200)
    monkeypatch.setattr(docker, "image_reference", lambda: "chaosgym/component:never")
    monkeypatch.setattr(docker, "cached_image", lambda: archive)
    engine = docker.DockerEngine("never")
    with pytest.raises(SandboxError, match=r"the Docker engine refused or died: .*tar"):
        await engine.open()
    await engine.close()
    assert names_of(client, "never") == []
