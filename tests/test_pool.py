"""The pool of local sandboxes: real episodes, and nothing left of it after any kind of end."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import cast

import pytest

from chaosgym.app import App
from chaosgym.drawing import draw_plan
from chaosgym.episode import read_episode, validate_episode
from chaosgym.errors import InfrastructureError, PrerequisiteError
from chaosgym.recording.failure import write_failure
from chaosgym.recording.pool import Pool, Recorded, episode_id
from chaosgym.recording.record import ATTEMPTS, Room, Summary, plan_tasks, record
from chaosgym.recording.timeline import UNSTEADY
from chaosgym.sandbox.choice import SandboxChoice
from chaosgym.sandbox.namespaces import probe
from chaosgym.scenario import Scenario
from chaosgym.scenarios import load_app, load_scenario
from chaosgym.truth import read_truth

pytestmark = pytest.mark.sandbox

RUNNER = """
import sys, time
from pathlib import Path
from chaosgym.recording.pool import Pool
from chaosgym.sandbox.choice import SandboxChoice
from chaosgym.scenarios import load_app, load_scenario
with Pool(1, SandboxChoice(namespaces=sys.argv[2] == "yes")) as pool:
    print(pool.workers[0].state, flush=True)
    scenario = load_scenario("process-crash")
    for seed in range(50):
        pool.record(scenario, load_app("shop"), seed, Path(sys.argv[1]))
"""


def _left(state: str) -> list[str]:
    """Processes that mention the worker's state folder, and the folder itself."""
    found = [state] if Path(state).exists() else []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if state in line:
                found.append(f"{entry.name}: {line}")
    return found


def _wait_until_gone(state: str, seconds: float = 8.0) -> list[str]:
    deadline = time.monotonic() + seconds
    while (left := _left(state)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("namespaces", ["yes", "no"])
def test_nothing_is_left_when_the_runner_is_killed_in_mid_episode(tmp_path: Path, how: signal.Signals, namespaces: str) -> None:
    runner = subprocess.Popen(
        [sys.executable, "-c", RUNNER, str(tmp_path), namespaces], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert runner.stdout is not None
    state = runner.stdout.readline().strip()
    time.sleep(1.5)
    assert _left(state), "the sandbox runs"
    runner.send_signal(how)
    runner.wait(20)
    runner.stdout.close()
    assert _wait_until_gone(state) == []
    assert [p.name for p in tmp_path.iterdir() if (p / "episode.json").exists() and not (p / "truth.json").exists()] == []


def test_a_fault_is_recorded_with_its_truth_apart(tmp_path: Path) -> None:
    scenario, app = load_scenario("process-crash"), load_app("shop")
    with Pool(1) as pool:
        state = str(pool.workers[0].state)
        recorded = pool.record(scenario, app, 3, tmp_path)
    assert recorded.status == "ok", recorded.reason
    episode, truth = validate_episode(recorded.path), read_truth(recorded.path)
    assert [c.fault for c in truth.causes] == ["process.crash"]
    assert truth.visible
    assert truth.causes[0].component in {c.name for c in episode.header.components}
    assert all(episode.tables[signal_].num_rows > 10 for signal_ in ("logs", "spans", "metrics"))
    assert _wait_until_gone(state) == []


def test_without_namespaces_the_same_scenario_runs(tmp_path: Path) -> None:
    with Pool(1, SandboxChoice(namespaces=False)) as pool:
        recorded = pool.record(load_scenario("network-partition"), load_app("shop"), 5, tmp_path)
    assert recorded.status == "ok", recorded.reason
    assert read_truth(recorded.path).visible


def test_a_killed_worker_is_an_unscorable_episode_and_is_replaced(tmp_path: Path) -> None:
    scenario, app = load_scenario("process-crash"), load_app("shop")
    tasks = plan_tasks([scenario], {"shop": app}, 2, seed=0, split=None)
    with Pool(1) as pool:
        pool.workers[0].process.kill()
        summary = record(tasks, pool, tmp_path, lambda task, outcome: None)
        assert (summary.recorded, summary.unscorable) == (2, 1)
    assert "worker" in read_episode(tmp_path / tasks[0].id).header.reason


def test_recording_again_records_only_what_is_missing(tmp_path: Path) -> None:
    scenario, app = load_scenario("process-hang"), load_app("shop")
    tasks = plan_tasks([scenario], {"shop": app}, 2, seed=0, split=None)
    with Pool(2) as pool:
        first = record(tasks[:1], pool, tmp_path, lambda task, outcome: None)
        before = (tmp_path / tasks[0].id / "episode.json").read_bytes()
        second = record(tasks, pool, tmp_path, lambda task, outcome: None)
    assert first == Summary(recorded=1, skipped=0, unscorable=first.unscorable, invisible=first.invisible, retried=first.retried)
    assert (second.recorded, second.skipped) == (2, 1)
    assert (tmp_path / tasks[0].id / "episode.json").read_bytes() == before


def test_an_application_follows_another_one_that_failed(tmp_path: Path) -> None:
    """What a spoiled run left behind is of another application, whose components the next one does not have."""
    quiet = _with_rate(load_scenario("healthy-ledger"), 0.5)
    with Pool(1) as pool:
        assert pool.record(quiet, load_app("ledger"), 1, tmp_path).reason.startswith(UNSTEADY)
        assert pool.record(load_scenario("healthy-steady"), load_app("shop"), 1, tmp_path).status == "ok"


def _with_rate(scenario: Scenario, rate: float) -> Scenario:
    spec = scenario.spec.model_copy(update={"workload": scenario.spec.workload.model_copy(update={"rate": rate})})
    return scenario.model_copy(update={"spec": spec})


def test_an_exception_in_the_block_stops_the_workers() -> None:
    states: list[str] = []

    def fail() -> None:
        with Pool(1) as pool:
            states.append(str(pool.workers[0].state))
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        fail()
    assert _wait_until_gone(states[0]) == []


def test_a_full_or_read_only_disk_is_one_clear_error(tmp_path: Path) -> None:
    out = tmp_path / "file"
    out.write_text("not a folder")
    with Pool(1) as pool, pytest.raises((InfrastructureError, PrerequisiteError), match="file"):
        pool.record(load_scenario("healthy-steady"), load_app("shop"), 1, out)


def test_the_name_of_an_episode_is_stable_and_says_nothing() -> None:
    scenario, app = load_scenario("process-crash"), load_app("shop")
    name = episode_id(scenario, app, 7)
    assert name == episode_id(scenario, app, 7) != episode_id(scenario, app, 8)
    assert len(name) == 16
    assert set(name[1:]) <= set("0123456789abcdef")


def test_the_probe_says_why_there_are_no_namespaces() -> None:
    isolation = probe()
    assert isolation.namespaced == (isolation.reason == "")


def test_fewer_sandboxes_are_busy_after_overload_and_more_after_a_calm_while() -> None:
    room = Room(allowed=3, most=3)
    for _ in range(5):
        room.heard(overloaded=True)
    assert room.allowed == 1
    for _ in range(100):
        room.heard(overloaded=False)
    assert room.allowed == 3


class _Busy:
    """A pool on a machine that is too busy for the first two attempts at each episode."""

    size = 2

    def __init__(self) -> None:
        self.attempts = Counter[int]()

    def record(self, scenario: Scenario, app: App, seed: int, out: Path, progress: object = None) -> Recorded:
        self.attempts[seed] += 1
        plan = draw_plan(app, scenario, seed)
        busy = self.attempts[seed] < ATTEMPTS or seed == 8
        reason = f"{UNSTEADY}: 1 of 8 requests failed" if busy else "the sandbox died"
        return Recorded(write_failure(plan, episode_id(scenario, app, seed), out, "local", reason), "unscorable", None, reason)


def test_an_unsteady_baseline_is_tried_again_and_nothing_begins_after_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chaosgym.recording.record.STAGGER", 0.0)
    scenario = load_scenario("process-crash")
    tasks = plan_tasks([scenario], {"shop": load_app("shop")}, 3, seed=7, split=None)
    pool, done = _Busy(), list[tuple[int, str]]()
    summary = record(tasks, cast(Pool, pool), tmp_path, lambda task, outcome: done.append((task.seed, outcome.reason)))
    assert pool.attempts == {7: ATTEMPTS, 8: ATTEMPTS, 9: ATTEMPTS}
    assert dict(done) == {7: "the sandbox died", 8: f"{UNSTEADY}: 1 of 8 requests failed", 9: "the sandbox died"}
    assert summary == Summary(recorded=3, unscorable=3, retried=3 * (ATTEMPTS - 1))
    none = record(tasks, cast(Pool, _Busy()), tmp_path / "late", lambda task, outcome: None, minutes=0)
    assert none == Summary()
