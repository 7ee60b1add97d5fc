"""The environment on recorded episodes, and several side by side."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import chaosgym.envs
from chaosgym.agents import right_answer
from chaosgym.app import App
from chaosgym.envs import ROOT_CAUSE, RootCauseEnv, ThreadedVectorEnv
from chaosgym.episode import ComponentInfo, EdgeInfo, EpisodeHeader, Window, write_episode
from chaosgym.errors import InfrastructureError, InputError
from chaosgym.recording.pool import Recorded
from chaosgym.scenario import Scenario
from chaosgym.telemetry.store import TelemetryBuffer
from chaosgym.truth import TrueCause, Truth

SECOND = 10**9
START = 1_790_000_000 * SECOND
NAMES = ("front-door", "billing-core", "ledger-db")
HEALTHY = '{"verdict": "healthy"}'


def spans(buffer: TelemetryBuffer, fails: bool) -> None:
    """A request every 25 ms, front-door to billing-core; from the second second on it may be refused."""
    for i in range(100):
        at, bad = START + i * SECOND // 40, fails and i >= 40
        error, http = ("ConnectionRefusedError", 503) if bad else (None, 200)
        status = "error" if bad else "unset"
        row = (f"t{i}", f"c{i}", None, "GET", "client", status, error, "billing-core.internal", http, error, "{}")
        buffer.spans.append((at, at + 4_000_000, "front-door", *row))
        if not bad:
            served = (f"t{i}", f"s{i}", f"c{i}", "GET", "server", "unset", None, None, 200, None, "{}")
            buffer.spans.append((at, at + 3_000_000, "billing-core", *served))


def record(folder: Path, number: int, truth: Truth, **changes: Any) -> None:
    buffer = TelemetryBuffer()
    spans(buffer, fails=bool(truth.causes))
    kinds = ("gateway", "service", "postgres")
    header = EpisodeHeader(
        id=f"e{number}", entry=NAMES[0], baseline=Window(START, START + SECOND), incident=Window(START + SECOND, START + 5 * SECOND // 2),
        components=tuple(ComponentInfo(name=n, kind=k, host=f"{n}.internal") for n, k in zip(NAMES, kinds, strict=True)),
        edges=(EdgeInfo(source=NAMES[0], target=NAMES[1]), EdgeInfo(source=NAMES[1], target=NAMES[2])), **changes,
    )
    write_episode(folder, header, buffer.tables(), truth)


def truth(fault: str = "", **changes: Any) -> Truth:
    causes = (TrueCause(component=NAMES[1], fault=fault),) if fault else ()
    return Truth(scenario="s", app="shop", verdict="fault" if fault else "healthy", causes=causes, chain=(NAMES[1], NAMES[0]), **changes)


@pytest.fixture(scope="module")
def episodes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("episodes")
    record(folder, 0, truth("process.crash"))
    record(folder, 1, truth())
    record(folder, 2, truth("network.partition"))
    record(folder, 3, truth("process.hang", split="seeds"))
    record(folder, 4, truth("resource.cpu", visible=False))
    record(folder, 5, truth("process.crash"), status="unscorable", reason="the sandbox died")
    return folder


@pytest.fixture
def env(episodes: Path) -> Iterator[RootCauseEnv]:
    made = RootCauseEnv(episodes)
    yield made
    made.close()


def test_the_conformance_checker_of_gymnasium_is_content(episodes: Path) -> None:
    for rendering in ("readable", "compact"):
        made = gymnasium.make(ROOT_CAUSE, episodes=str(episodes), rendering=rendering, render_mode="ansi")
        check_env(made.unwrapped)
        made.close()


def test_only_scorable_episodes_of_the_split_are_asked_about(episodes: Path, env: RootCauseEnv) -> None:
    asked = {env.reset(seed=i)[1]["episode"] for i in range(40)}
    assert asked == {"e0", "e1", "e2"}
    everything = RootCauseEnv(episodes, split=None)
    assert {everything.reset(seed=i)[1]["episode"] for i in range(60)} == {"e0", "e1", "e2", "e3"}


def test_an_answer_ends_the_episode_with_its_score(env: RootCauseEnv) -> None:
    report, info = env.reset(seed=1, options={"episode": "e0"})
    assert info["components"] == NAMES
    assert NAMES[1] in report
    _, reward, terminated, truncated, after = env.step(right_answer(truth("process.crash")).to_json())
    assert (reward, terminated, truncated) == (1.0, True, False)
    assert set(after["terms"].values()) == {1.0}
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(HEALTHY)
    env.reset(options={"episode": "e0"})
    assert env.step("it was the network")[1] == 0


def test_nothing_an_agent_sees_tells_the_truth(env: RootCauseEnv) -> None:
    report, info = env.reset(seed=1, options={"episode": "e0"})
    after = env.step(HEALTHY)
    seen = report + json.dumps(info) + after[0] + json.dumps(after[4])
    assert "process.crash" not in seen
    assert '"scenario"' not in seen


def test_a_compact_report_is_answered_by_handle(episodes: Path) -> None:
    env = RootCauseEnv(episodes, rendering="compact")
    rewards, reports = set[float](), set[str]()
    for seed in range(30):
        report, _ = env.reset(seed=seed, options={"episode": "e0"})
        handles = [word for word in report.split() if word.startswith("c") and word[1:].isdigit()]
        reports.add(report)
        causes = '", "fault": "process.crash", "probability": 1.0}], "evidence": []}'
        rewards |= {env.step('{"verdict": "fault", "causes": [{"component": "' + handles[1] + causes)[1]}
    assert len(reports) == 8
    assert max(rewards) > 0.9


def test_rendering_shows_report_answer_and_reward(episodes: Path) -> None:
    env = RootCauseEnv(episodes, render_mode="ansi")
    env.reset(seed=1, options={"episode": "e1"})
    env.step(HEALTHY)
    text = env.render()
    assert text is not None
    assert HEALTHY in text
    assert "1.000" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "one of them"),
        ({"episodes": "x", "sandbox": "local"}, "one of them"),
        ({"sandbox": "cloud"}, "known: local"),
        ({"episodes": ".", "rendering": "pretty"}, "known: compact, readable"),
        ({"episodes": ".", "variants": 0}, "at least 1"),
        ({"episodes": "no/such/folder"}, "no/such/folder"),
        ({"sandbox": "local", "scenarios": "no-such-scenario-*"}, "no-such-scenario"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message.replace("*", r"\*")):
        RootCauseEnv(**arguments)


def test_a_folder_without_anything_to_ask_is_refused(tmp_path: Path) -> None:
    record(tmp_path, 0, truth("process.crash", split="seeds"))
    with pytest.raises(InputError, match="none of its 1 episodes"):
        RootCauseEnv(tmp_path)


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_threads_give_what_the_loop_gives(episodes: Path, mode: AutoresetMode) -> None:
    makers: list[Callable[[], Any]] = [lambda: RootCauseEnv(episodes)] * 3
    threaded, looped = ThreadedVectorEnv(makers, autoreset_mode=mode), SyncVectorEnv(makers, autoreset_mode=mode)
    assert_same(threaded.reset(seed=5), looped.reset(seed=5))
    for step in range(3):
        actions = (HEALTHY, "?", right_answer(truth("process.crash")).to_json())
        assert_same(threaded.step(actions), looped.step(actions))
        if mode == AutoresetMode.DISABLED:
            mask = np.array([True, True, True])
            assert_same(threaded.reset(seed=step, options={"reset_mask": mask}), looped.reset(seed=step, options={"reset_mask": mask}))
    threaded.close()
    looped.close()


def assert_same(one: tuple[Any, ...], other: tuple[Any, ...]) -> None:
    for a, b in zip(one, other, strict=True):
        if isinstance(a, np.ndarray):
            assert np.array_equal(a, b)
        else:
            assert repr(a) == repr(b)


def test_make_vec_is_threaded(episodes: Path) -> None:
    made = gymnasium.make_vec(ROOT_CAUSE, num_envs=2, episodes=str(episodes))
    reports, _ = made.reset(seed=3)
    assert isinstance(made.unwrapped, ThreadedVectorEnv)
    assert len(reports) == 2
    assert all(NAMES[0] in report for report in reports)
    made.close()


class Slow(gymnasium.Env[str, str]):
    """Waits for the others: passes only when all of them move at the same time."""

    observation_space = action_space = gymnasium.spaces.Text(9)

    def __init__(self, barrier: threading.Barrier) -> None:
        self._barrier = barrier

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        self._barrier.wait(10)
        return "ready", {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        if action == "fail":
            raise RuntimeError("broken")
        time.sleep(0.05)
        return "done", 1.0, True, False, {}


def test_all_move_at_once_and_errors_surface_after_all_have_ended() -> None:
    barrier = threading.Barrier(4)
    vector = ThreadedVectorEnv([lambda: Slow(barrier)] * 4)
    reports, _ = vector.reset()
    assert reports == ("ready",) * 4
    with pytest.raises(RuntimeError, match="broken"):
        vector.step(("fail", "go", "go", "go"))
    with pytest.raises(InputError, match="3 seeds for 4"):
        vector.reset(seed=[1, 2, 3])
    vector.close()


class Pool:
    """Stands for a pool of sandboxes: the first runs fail, leave no trace or cannot be scored, the next is a crash."""

    def __init__(self, size: int) -> None:
        self.runs, self.closed = 0, 0

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *reason: object) -> None:
        self.closed += 1

    def record(self, scenario: Scenario, app: App, seed: int, out: Path) -> Recorded:
        self.runs += 1
        if self.runs == 1:
            raise InfrastructureError("the sandbox's worker died")
        status = "unscorable" if self.runs == 2 else "ok"
        record(out, self.runs, truth("process.crash", visible=self.runs != 3), status=status, reason="hung" if self.runs == 2 else "")
        return Recorded(out / f"e{self.runs}", status, self.runs != 3, "hung" if self.runs == 2 else "")


def test_a_live_environment_runs_until_an_episode_can_be_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool(1)
    monkeypatch.setattr("chaosgym.recording.pool.Pool", lambda size: pool)
    env = gymnasium.make(ROOT_CAUSE, sandbox="local", scenarios="*", split=None, disable_env_checker=True)
    assert env.spec is not None
    assert env.spec.nondeterministic
    _, info = env.reset(seed=1)
    assert (info["episode"], pool.runs) == ("e4", 4)
    assert env.step(right_answer(truth("process.crash")).to_json())[1] == 1.0
    env.close()
    assert pool.closed == 1


def test_a_sandbox_that_keeps_failing_is_an_error_and_not_a_reward(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> Recorded:
        raise InfrastructureError("no memory left")

    pool = Pool(1)
    monkeypatch.setattr(pool, "record", fail)
    monkeypatch.setattr("chaosgym.recording.pool.Pool", lambda size: pool)
    env = RootCauseEnv(sandbox="local", split=None)
    with pytest.raises(InfrastructureError, match=r"5 live episodes in a row.*no memory left"):
        env.reset(seed=1)
    env.close()


@pytest.mark.sandbox
def test_a_live_environment_breaks_real_services() -> None:
    env = gymnasium.make(ROOT_CAUSE, sandbox="local", scenarios="*crash*", split=None)
    report, info = env.reset(seed=1)
    assert len(info["components"]) >= 8
    assert all(name in report for name in info["components"][:1])
    assert 0 <= float(env.step(HEALTHY)[1]) < 0.2
    env.close()


def test_exports_are_sorted() -> None:
    assert sorted(chaosgym.envs.__all__) == chaosgym.envs.__all__
