"""The multi-turn environment: its tools on recorded episodes, its budget and reward, the investigator, and TRL's view of it."""

from __future__ import annotations

import functools
import gc
import inspect
import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from chaosgym.agents import right_answer
from chaosgym.agents.investigator import investigate
from chaosgym.app import App
from chaosgym.cli.program import make_program
from chaosgym.diagnosis import Cause, Diagnosis
from chaosgym.envs import INVESTIGATE, InvestigateEnv, ThreadedVectorEnv
from chaosgym.envs.dossier import RecordedDossiers
from chaosgym.envs.investigate import SPENDING, investigation_reward
from chaosgym.envs.trl import InvestigateTools, close, rollout_rows
from chaosgym.episode import ComponentInfo, EdgeInfo, EpisodeHeader, Window, read_episode, write_episode
from chaosgym.errors import InfrastructureError, InputError
from chaosgym.incident.inquiry import TOOLS, Budget, Evidence, Inquiry, gather, learned, manual, write_action
from chaosgym.incident.inquiry.page import cut
from chaosgym.recording.pool import Recorded
from chaosgym.rewards import EXTRAS, WEIGHTS, score
from chaosgym.scenario import Scenario
from chaosgym.taxonomy import FAULT_TYPES
from chaosgym.telemetry.store import TelemetryBuffer
from chaosgym.truth import TrueCause, Truth

SECOND = 10**9
START = 1_790_000_000 * SECOND
END = START + 5 * SECOND // 2
NAMES = ("front-door", "billing-core", "ledger-db", "mailer")
LATE = "the fault was healed"
"""What a line says that comes after the incident window."""


def call(tool: str, **arguments: Any) -> str:
    return write_action(tool, arguments)


def answer(diagnosis: Diagnosis) -> str:
    return write_action("submit", diagnosis.model_dump(mode="json"))


HEALTHY = answer(Diagnosis(verdict="healthy"))


def requests(buffer: TelemetryBuffer, fails: bool) -> None:
    """A request every 25 ms through front-door to billing-core; from the second second on it may be refused."""
    for i in range(140):
        at, bad = START + i * SECOND // 40, fails and i >= 40
        error, http, status = ("ConnectionRefusedError", 503, "error") if bad else (None, 200, "unset")
        route = '{"url.template": "/pay/{id}"}'
        tail = (status, error, "front-door.internal", http, error, route)
        buffer.spans.append((at, at + 5_000_000, "edge", f"t{i}", f"u{i}", None, "GET", "client", *tail))
        row = (f"t{i}", f"f{i}", f"u{i}", "GET /pay/{id}", "server", status, None, None, http, None, "{}")
        buffer.spans.append((at + 500_000, at + 4_500_000, "front-door", *row))
        out = (f"t{i}", f"c{i}", f"f{i}", "GET", "client", status, error, "billing-core.internal", http, error, "{}")
        buffer.spans.append((at + 1_000_000, at + 4_000_000, "front-door", *out))
        if bad:
            body = f"could not reach billing-core.internal: [Errno 111] Connection refused, request {i}"
            buffer.logs.append((at, "front-door", 17, "ERROR", body, None, None, "{}"))
        else:
            served = (f"t{i}", f"s{i}", f"c{i}", "GET /pay/{id}", "server", "unset", None, None, 200, None, "{}")
            buffer.spans.append((at + 1_500_000, at + 3_500_000, "billing-core", *served))
            buffer.logs.append((at, "billing-core", 9, "INFO", f"handled GET /pay/{i} in 2.0 ms", None, None, "{}"))


def samples(buffer: TelemetryBuffer, fails: bool) -> None:
    """Processor and memory of each process five times a second; that of billing-core may end with the baseline."""
    for i in range(18):
        at = START + i * SECOND // 5
        for name in NAMES:
            if fails and name == "billing-core" and i >= 5:
                continue
            gauges = (("process.cpu.utilization", "1", 0.05), ("process.memory.usage", "By", 5e7), ("queue.depth", "{message}", float(i)))
            buffer.metrics += [(at, at, name, metric, unit, "gauge", value, None, None, None, "{}") for metric, unit, value in gauges]


def record(folder: Path, number: int, truth: Truth, **changes: Any) -> None:
    buffer, fails = TelemetryBuffer(), bool(truth.causes)
    requests(buffer, fails)
    samples(buffer, fails)
    buffer.events.append((START + SECOND // 2, "mailer", "deployment", "rolled out version 2", "{}"))
    if fails:
        buffer.events.append((START + SECOND, "billing-core", "exit", "terminated by signal 9", "{}"))
    buffer.logs.append((END + SECOND // 10, "billing-core", 17, "ERROR", LATE, None, None, "{}"))
    buffer.events.append((END + SECOND // 10, "billing-core", "restart", LATE, "{}"))
    kinds = ("gateway", "service", "postgres", "worker")
    header = EpisodeHeader(
        id=f"e{number}", entry=NAMES[0], seed=48_151_623, baseline=Window(START, START + SECOND), incident=Window(START + SECOND, END),
        components=tuple(ComponentInfo(name=n, kind=k, host=f"{n}.internal") for n, k in zip(NAMES, kinds, strict=True)),
        edges=(EdgeInfo(source=NAMES[0], target=NAMES[1]), EdgeInfo(source=NAMES[1], target=NAMES[2])), **changes,
    )
    write_episode(folder, header, buffer.tables(), truth)


def truth(fault: str = "", **changes: Any) -> Truth:
    causes = (TrueCause(component=NAMES[1], fault=fault),) if fault else ()
    verdict = "fault" if fault else "healthy"
    return Truth(scenario="secret-scenario", app="shop", verdict=verdict, causes=causes, chain=(NAMES[1], NAMES[0]), **changes)


@pytest.fixture(scope="module")
def episodes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("episodes")
    record(folder, 0, truth("process.crash"))
    record(folder, 1, truth())
    record(folder, 2, truth("process.crash", split="seeds"))
    record(folder, 3, truth("resource.cpu", visible=False))
    record(folder, 4, truth("process.crash"), status="unscorable", reason="the sandbox died")
    return folder


@pytest.fixture(scope="module")
def evidence(episodes: Path) -> Evidence:
    return gather(read_episode(episodes / "e0"))


@pytest.fixture
def env(episodes: Path) -> Iterator[InvestigateEnv]:
    made = InvestigateEnv(episodes)
    yield made
    made.close()


def ask(evidence: Evidence, tool: str, **arguments: Any) -> str:
    return Inquiry(evidence).ask(call(tool, **arguments)).text


# ── The environment ─────────────────────────────────────────────────────────────────────────────────


def test_the_conformance_checker_of_gymnasium_is_content(episodes: Path) -> None:
    made = gymnasium.make(INVESTIGATE, episodes=str(episodes), render_mode="ansi")
    check_env(made.unwrapped)
    made.close()


def test_only_scorable_episodes_of_the_split_are_asked_about(episodes: Path, env: InvestigateEnv) -> None:
    assert {env.reset(seed=i)[1]["episode"] for i in range(30)} == {"e0", "e1"}
    everything = InvestigateEnv(episodes, split=None)
    assert {everything.reset(seed=i)[1]["episode"] for i in range(40)} == {"e0", "e1", "e2"}
    with pytest.raises(InputError, match="no episode 'e9'"):
        env.reset(options={"episode": "e9"})


def test_asking_costs_and_submitting_is_scored_as_anywhere(env: InvestigateEnv) -> None:
    observation, info = env.reset(seed=1, options={"episode": "e0"})
    assert manual() in observation
    assert info["components"] == NAMES
    _, reward, terminated, truncated, after = env.step(call("logs", component="front-door"))
    assert (reward, terminated, truncated) == (0.0, False, False)
    assert after == {"tool": "logs", "calls": 1, "spent": TOOLS["logs"].cost}
    env.step(call("topology"))
    right = right_answer(truth("process.crash"))
    _, reward, terminated, truncated, after = env.step(answer(right))
    assert (terminated, truncated) == (True, False)
    assert reward == pytest.approx(1 - SPENDING * 3 / 30)
    assert after["terms"] == {**dict.fromkeys(WEIGHTS, 1.0), "spending": pytest.approx(0.1)}
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(HEALTHY)


def test_a_right_answer_at_once_scores_one(env: InvestigateEnv) -> None:
    env.reset(options={"episode": "e1"})
    assert env.step(HEALTHY)[1] == 1.0


@pytest.mark.parametrize(("calls", "cost"), [(3, 30), (20, 3)])
def test_more_than_the_budget_ends_it_with_the_reward_of_no_answer(episodes: Path, calls: int, cost: int) -> None:
    env = InvestigateEnv(episodes, calls=calls, cost=cost)
    env.reset(options={"episode": "e1"})
    for _ in range(3):
        assert env.step(call("topology"))[2] is False
    observation, reward, terminated, truncated, info = env.step(call("topology"))
    assert (reward, terminated, truncated) == (0.0, True, False)
    assert "Over budget" in observation
    assert info["reason"] == "over budget: no answer"


def test_a_budget_that_is_used_up_still_lets_one_submit(episodes: Path) -> None:
    env = InvestigateEnv(episodes, calls=1)
    env.reset(options={"episode": "e1"})
    env.step(call("alerts"))
    assert env.step(HEALTHY)[1] == pytest.approx(1 - SPENDING / 30)


@pytest.mark.parametrize(
    ("action", "taught"),
    [
        ("it was the network", "not one JSON object"),
        ("[1]", "an action is an object"),
        ("[" * 4000, "not one JSON object"),
        ('{"logs": {}}', "a tool and arguments"),
        ('{"tool": "log"}', "did you mean 'logs'"),
        ('{"tool": "logs", "arguments": 3}', "are an object, not int"),
        (call("logs", component="billing"), "did you mean 'billing-core'"),
        (call("logs", grep="x"), "component, contains, severity"),
        (call("logs", limit=0), "greater than or equal to 1"),
        ('{"tool": "logs", "arguments": {"since": NaN}}', "finite number"),
        (call("metrics"), "name a component, a metric or both"),
        (call("topology", component="mailer"), "arguments: none"),
        (call("submit"), '"verdict": "healthy"'),
        (call("submit", verdict="fault"), "1 to 3 causes"),
        (call("submit", verdict="fault", causes=[{"component": "me", "fault": "process.crash"}]), "no component 'me'"),
    ],
)
def test_what_cannot_be_read_is_taught_and_costs_one_call(env: InvestigateEnv, action: str, taught: str) -> None:
    env.reset(options={"episode": "e0"})
    observation, reward, terminated, _, info = env.step(action)
    assert observation.startswith("error: ")
    assert taught in observation
    assert (reward, terminated, info) == (0.0, False, {"tool": "", "calls": 1, "spent": 1})


_JSON = st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=8), lambda x: st.lists(x) | st.dictionaries(st.text(), x))
_ACTIONS = st.one_of(
    st.text(max_size=60),
    st.builds(json.dumps, _JSON),
    st.builds(lambda tool, arguments: json.dumps({"tool": tool, "arguments": arguments}), st.sampled_from([*TOOLS, "submit"]), _JSON),
    st.builds(
        lambda tool, component, extra: json.dumps({"tool": tool, "arguments": {**extra, "component": component}}),
        st.sampled_from(list(TOOLS)), st.sampled_from(NAMES), st.fixed_dictionaries({}, optional={
            "contains": st.text(min_size=1, max_size=3), "since": st.floats(-2, 3), "until": st.floats(-2, 3), "limit": st.integers(1, 5),
            "severity": st.sampled_from(["info", "error"]), "order": st.sampled_from(["failing", "slow"]), "metric": st.text(max_size=3),
        }),
    ),
)


@given(actions=st.lists(_ACTIONS, min_size=1, max_size=6), tokens=st.integers(100, 700))
def test_any_text_is_answered_within_bounds_and_its_cost(evidence: Evidence, actions: list[str], tokens: int) -> None:
    inquiry = Inquiry(evidence, Budget(tokens=tokens))
    for action in actions:
        calls, spent = inquiry.calls, inquiry.spent
        reply = inquiry.ask(action)
        assert len(reply.text) <= inquiry.budget.characters
        if reply.over:
            assert reply.tool == "submit"
            break
        assert inquiry.calls == calls + 1
        assert inquiry.spent - spent == (TOOLS[reply.tool].cost if reply.tool else 1)


def test_an_observation_lies_in_its_space(episodes: Path, env: InvestigateEnv) -> None:
    small = InvestigateEnv(episodes, tokens=100)
    for made in (env, small):
        observation, _ = made.reset(options={"episode": "e0"})
        assert made.observation_space.contains(observation)
        for action in (call("logs"), call("metrics", metric="o"), call("traces", limit=5), "ß" * 4000, "\x00日本"):
            assert made.observation_space.contains(made.step(action)[0])


def test_rendering_shows_what_was_asked_and_answered(episodes: Path) -> None:
    env = InvestigateEnv(episodes, render_mode="ansi")
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.render()
    env.reset(options={"episode": "e0"})
    env.step(call("topology"))
    shown = env.render()
    assert shown is not None
    assert f"> {call('topology')}" in shown
    assert "front-door (gateway" in shown


def test_make_vec_is_threaded(episodes: Path) -> None:
    made = gymnasium.make_vec(INVESTIGATE, num_envs=2, episodes=str(episodes))
    assert isinstance(made.unwrapped, ThreadedVectorEnv)
    made.reset(seed=3)
    observations, rewards, terminated, _, _ = made.step((call("topology"), HEALTHY))
    assert "front-door" in observations[0]
    assert terminated.tolist() == [False, True]
    assert rewards[0] == 0
    made.close()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "one of them"),
        ({"sandbox": "cloud"}, "known: local"),
        ({"episodes": ".", "render_mode": "human"}, "unknown render_mode"),
        ({"episodes": ".", "calls": 0}, "calls=0"),
        ({"episodes": ".", "tokens": 20}, "at least 100"),
        ({"sandbox": "local", "scenarios": "no-such-scenario"}, "no-such-scenario"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        InvestigateEnv(**arguments)


class Pool:
    """Stands for a pool of sandboxes; every run is a crash."""

    def __init__(self, size: int) -> None:
        self.closed = 0

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *reason: object) -> None:
        self.closed += 1

    def record(self, scenario: Scenario, app: App, seed: int, out: Path) -> Recorded:
        record(out, 7, truth("process.crash", visible=True))
        return Recorded(out / "e7", "ok", True, "")


def test_a_live_incident_is_asked_about_after_its_files_are_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool(1)
    monkeypatch.setattr("chaosgym.recording.pool.Pool", lambda size: pool)
    env = gymnasium.make(INVESTIGATE, sandbox="local", split=None, disable_env_checker=True)
    assert env.spec is not None
    assert env.spec.nondeterministic
    _, info = env.reset(seed=1)
    assert info["episode"] == "e7"
    assert "Connection refused" in env.step(call("logs", severity="error"))[0]
    assert float(env.step(answer(right_answer(truth("process.crash"))))[1]) > 0.99
    env.close()
    assert pool.closed == 1


@pytest.mark.sandbox
def test_a_live_environment_breaks_real_services() -> None:
    env = gymnasium.make(INVESTIGATE, sandbox="local", scenarios="*crash*", split=None)
    _, info = env.reset(seed=1)
    assert all(name in env.step(call("topology"))[0] for name in info["components"][:3])
    env.close()


# ── The reward ──────────────────────────────────────────────────────────────────────────────────────

_SOME_FAULTS = sorted(FAULT_TYPES)[::9]
_CAUSE = st.builds(Cause, component=st.sampled_from(NAMES), fault=st.sampled_from(_SOME_FAULTS), probability=st.floats(0, 1))
_ANSWERS = st.one_of(
    st.none(),
    st.just(Diagnosis(verdict="healthy")),
    st.builds(
        lambda causes, evidence: Diagnosis(verdict="fault", causes=tuple(causes), evidence=tuple(evidence)),
        st.lists(_CAUSE, min_size=1, max_size=3), st.lists(st.sampled_from(NAMES), max_size=2),
    ),
)
_TRUTHS = st.lists(st.builds(TrueCause, component=st.sampled_from(NAMES), fault=st.sampled_from(_SOME_FAULTS)), max_size=3).map(
    lambda causes: Truth(scenario="s", app="a", verdict="fault" if causes else "healthy", causes=tuple(causes), chain=NAMES[:2])
)


@given(one=_ANSWERS, other=_ANSWERS, told=_TRUTHS, shares=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_no_saving_on_calls_outranks_a_more_correct_answer(
    one: Diagnosis | None, other: Diagnosis | None, told: Truth, shares: tuple[float, float]
) -> None:
    a, b = score(one, told, NAMES), score(other, told, NAMES)
    rewards = [investigation_reward(scored, share) for scored, share in zip((a, b), shares, strict=True)]
    assert all(0 <= reward <= 1 for reward in rewards)
    if a.correctness > b.correctness + 1e-9:
        assert rewards[0] > rewards[1]


def test_spending_and_extras_weigh_less_than_the_smallest_step_of_correctness() -> None:
    assert SPENDING + sum(WEIGHTS[name] for name in EXTRAS) < WEIGHTS["family"] / 3


def test_of_two_answers_alike_the_cheaper_one_is_better() -> None:
    scored = score(right_answer(truth("process.crash")), truth("process.crash"), NAMES)
    assert investigation_reward(scored, 0.2) > investigation_reward(scored, 0.3)
    with pytest.raises(InputError, match="left no visible trace"):
        investigation_reward(score(None, truth("process.crash", visible=False), NAMES), 0.0)


# ── The tools ───────────────────────────────────────────────────────────────────────────────────────


def test_nothing_that_is_asked_tells_the_truth_or_what_came_after(evidence: Evidence, env: InvestigateEnv) -> None:
    observation, info = env.reset(seed=1, options={"episode": "e0"})
    seen = [observation, json.dumps(info)]
    for tool in ("topology", "alerts", "events", "logs", "traces"):
        seen += [ask(evidence, tool)]
    seen += [ask(evidence, "metrics", component=name) for name in NAMES] + [ask(evidence, "logs", contains=LATE)]
    text = "\n".join(seen)
    for secret in ("secret-scenario", "process.crash", "48151623", LATE, "injected", '"truth"'):
        assert secret not in text


def test_topology_names_components_calls_and_the_entry(evidence: Evidence) -> None:
    text = ask(evidence, "topology")
    assert "front-door (gateway, users enter here) calls billing-core" in text
    assert "mailer (worker)\n" in text


def test_alerts_are_what_users_see_route_by_route(evidence: Evidence) -> None:
    text = ask(evidence, "alerts")
    assert "requests to front-door: 0% -> 100% fail" in text
    assert "GET /pay/{id}: 40 requests -> 60 requests, errors 0% -> 100% (refused 503 ConnectionRefusedError)" in text


def test_events_are_chosen_by_component_and_time(evidence: Evidence) -> None:
    assert ask(evidence, "events").count(" s ") == 2
    assert "mailer" not in ask(evidence, "events", component="billing-core")
    assert "exit" not in ask(evidence, "events", until=-0.1)
    assert ask(evidence, "events", since=1).startswith("nothing matches")


def test_lines_that_say_the_same_are_counted_before_and_after(evidence: Evidence) -> None:
    text = ask(evidence, "logs")
    assert "front-door error 0 -> 60" in text
    assert "billing-core info 40 -> 0" in text
    assert "front-door" not in ask(evidence, "logs", component="billing-core")
    assert "billing-core info" not in ask(evidence, "logs", severity="warn")
    assert "40 lines of 1 kinds" in ask(evidence, "logs", contains="HANDLED")
    assert "billing-core info 20 -> 0" in ask(evidence, "logs", component="billing-core", since=-0.5)
    assert "1 more kinds" in ask(evidence, "logs", limit=1)


def test_metrics_are_of_a_component_or_of_all(evidence: Evidence) -> None:
    text = ask(evidence, "metrics", component="billing-core")
    assert "calls from front-door: 40/s, errors 0% -> 100% (refused 100%)" in text
    assert "last sample of the process: 1.70 s before the end" in text
    assert "queue.depth: 2 -> ? {message}" in text
    everyone = ask(evidence, "metrics", metric="CPU")
    assert all(f"{name} cpu, cores: 0.05" in everyone for name in NAMES)


def test_traces_show_who_called_whom_and_who_was_not_reached(evidence: Evidence) -> None:
    text = ask(evidence, "traces")
    assert text.startswith("60 failing requests in the incident window, 2 of them")
    assert "  edge -> front-door GET /pay/{id} 5 ms, 4 ms there" in text
    assert "    front-door -> billing-core GET 3 ms, left no trace there FAILED refused 503 ConnectionRefusedError" in text
    assert ask(evidence, "traces", component="mailer").startswith("nothing matches")
    assert "2 of them, the slowest first" in ask(evidence, "traces", component="billing-core", order="slow")


def test_spans_of_foreign_data_make_trees_all_the_same(tmp_path: Path) -> None:
    """Ids that are missing, repeated or run in a circle, and attributes that are no JSON."""
    buffer = TelemetryBuffer()
    ids = [("a", None), ("b", "a"), ("b", "b"), ("c", "a"), ("c", "a"), ("x", "y"), ("y", "x"), (None, None)]
    for i, (span, parent) in enumerate(ids * 20):
        at = START + SECOND + i * 1_000_000
        row = ("t", span, parent, "GET", "client", "error", None, "nowhere", None, None, "{http.route")
        buffer.spans.append((at, at + 1000, NAMES[i % 2], *row))
    header = EpisodeHeader(
        id="odd", entry=NAMES[0], baseline=Window(START, START + SECOND), incident=Window(START + SECOND, END),
        components=tuple(ComponentInfo(name=name, kind="thing") for name in NAMES[:2]),
    )
    evidence = gather(read_episode(write_episode(tmp_path, header, buffer.tables())))
    assert "front-door -> nowhere GET" in ask(evidence, "traces", limit=5)
    assert "requests to front-door: ? fail" in ask(evidence, "alerts")
    assert investigate(Inquiry(evidence)).calls > 4


def test_a_page_that_is_cut_says_so_and_how_to_ask_for_less(evidence: Evidence) -> None:
    assert "lines left out; name a component and a metric" in Inquiry(evidence, Budget(tokens=120)).ask(call("metrics", metric="e")).text
    page = cut([f"line {i} " + "x" * 300 for i in range(50)], 1000, "ask for less")
    assert len(page) <= 1000
    assert "48 of 50 lines left out; ask for less" in page or "47 of 50 lines left out; ask for less" in page


def test_an_unscorable_episode_cannot_be_asked(episodes: Path) -> None:
    with pytest.raises(InputError, match="the sandbox died"):
        gather(read_episode(episodes / "e4"))


def test_an_investigation_that_ended_answers_nothing_more(evidence: Evidence) -> None:
    inquiry = Inquiry(evidence)
    inquiry.ask(HEALTHY)
    with pytest.raises(InputError, match="has ended"):
        inquiry.ask(call("topology"))


def test_the_page_that_documents_the_tools_has_their_costs_and_arguments() -> None:
    page = (Path(__file__).parents[1] / "docs" / "investigate.md").read_text(encoding="utf-8")
    for tool in (*TOOLS.values(), None):
        name, cost, arguments = (tool.name, tool.cost, tool.arguments.model_fields) if tool else ("submit", 0, Diagnosis.model_fields)
        assert f"| `{name}` | {cost} | {', '.join(f'`{argument}`' for argument in arguments) or 'none'} |" in page


# ── The investigator ────────────────────────────────────────────────────────────────────────────────


def test_nothing_is_learned_but_what_the_answers_say(evidence: Evidence) -> None:
    inquiry = Inquiry(evidence)
    seen = learned(evidence, inquiry.answered)
    assert (seen.signals.components, seen.signals.edges, seen.logs, seen.events) == ({}, {}, (), ())
    for action in (call("metrics", component="front-door"), call("logs", component="billing-core"), call("events", since=5)):
        inquiry.ask(action)
    seen = learned(evidence, inquiry.answered)
    assert set(seen.signals.components) == {"front-door"}
    assert set(seen.signals.edges) == {("edge", "front-door"), ("front-door", "billing-core")}
    assert (seen.logs, seen.events) == ((), ())
    inquiry.ask(call("logs", contains="refused"))
    inquiry.ask(call("events"))
    seen = learned(evidence, inquiry.answered)
    assert {log.component for log in seen.logs} == {"front-door"}
    assert seen.events == evidence.findings.events


def test_what_was_cut_off_is_not_learned(evidence: Evidence) -> None:
    inquiry = Inquiry(evidence, Budget(tokens=115))
    assert "lines left out" in inquiry.ask(call("metrics", component="front-door")).text
    assert learned(evidence, inquiry.answered).signals.edges == {}


def test_the_investigator_finds_what_crashed_and_lets_the_healthy_be(episodes: Path, evidence: Evidence) -> None:
    found = investigate(Inquiry(evidence))
    assert next((c.component, c.fault) for c in found.diagnosis.ranked()) == ("billing-core", "process.crash")
    tools = [call["function"]["name"] for message in found.messages for call in message.get("tool_calls", ())]
    assert tools[:3] == ["topology", "alerts", "events"]
    assert tools[-1] == "submit"
    assert tools.count("submit") == 1
    assert investigate(Inquiry(gather(read_episode(episodes / "e1")))).diagnosis.verdict == "healthy"


@pytest.mark.parametrize("budget", [Budget(calls=1), Budget(cost=2), Budget(calls=5, cost=6), Budget(tokens=100)])
def test_the_investigator_keeps_any_budget(evidence: Evidence, budget: Budget) -> None:
    inquiry = Inquiry(evidence, budget)
    found = investigate(inquiry)
    assert not inquiry.overrun
    assert inquiry.diagnosis == found.diagnosis


def test_a_transcript_is_what_the_environment_answers(env: InvestigateEnv, evidence: Evidence) -> None:
    found = investigate(Inquiry(evidence))
    _, info = env.reset(options={"episode": "e0"})
    assert found.messages[1] == {"role": "user", "content": info["opening"]}
    reward, over = 0.0, False
    for asked, told in zip(found.messages[2::2], found.messages[3::2], strict=True):
        function = asked["tool_calls"][0]["function"]
        observation, reward, over, _, _ = env.step(write_action(function["name"], function["arguments"]))
        assert told == {"role": "tool", "name": function["name"], "content": observation}
    assert over
    scored = score(found.diagnosis, truth("process.crash"), NAMES)
    assert reward == investigation_reward(scored, found.spent / 30)


def test_the_command_prints_a_transcript(episodes: Path) -> None:
    def run(*arguments: str) -> str:
        shown = CliRunner().invoke(make_program(), ["investigate", str(episodes / "e0"), *arguments], prog_name="chaosgym")
        assert shown.exit_code == 0
        return shown.stdout

    text = run("--truth")
    assert "> logs" in text
    assert "the truth   process.crash on billing-core" in text
    assert "the truth" not in run()
    told = json.loads(run("--json"))
    assert "truth" not in told
    assert [message["role"] for message in told["messages"][:3]] == ["system", "user", "assistant"]


# ── TRL ─────────────────────────────────────────────────────────────────────────────────────────────


def tools_of(tools: InvestigateTools) -> dict[str, Callable[..., str]]:
    """The tools as TRL 1.16 finds them: `trl/trainer/grpo_trainer.py`, `_generate_and_score_completions`."""
    members = inspect.getmembers(type(tools), predicate=inspect.isfunction)
    return {name: getattr(tools, name) for name, _ in members if name not in ("reset", "get_reward") and not name.startswith("_")}


def test_trl_finds_the_tools_and_their_schemas(episodes: Path) -> None:
    from transformers.utils.chat_template_utils import get_json_schema

    found = tools_of(InvestigateTools(episodes))
    assert set(found) == {*TOOLS, "submit"}
    for name, tool in found.items():
        function = get_json_schema(tool)["function"]
        properties = function["parameters"]["properties"]
        assert function["description"]
        assert all(described["description"] for described in properties.values())
        if name in TOOLS:
            assert set(properties) == set(TOOLS[name].arguments.model_fields)
            assert f"Costs {TOOLS[name].cost}." in function["description"]
    severity = get_json_schema(found["logs"])["function"]["parameters"]["properties"]["severity"]
    assert severity["enum"] == ["debug", "info", "warn", "error", "fatal"]


def test_a_rollout_by_hand_scores_as_the_environment_does(episodes: Path, env: InvestigateEnv) -> None:
    factory = pickle.loads(pickle.dumps(functools.partial(InvestigateTools, episodes)))
    tools: InvestigateTools = factory()
    row = next(row for row in rollout_rows(episodes) if row["episode"] == "e0")
    assert tools.reset(**row).startswith("Alert: requests to front-door")
    right = right_answer(truth("process.crash")).model_dump(mode="json")
    logs = ("logs", {"component": "front-door", "severity": "warn", "limit": 3})
    given = [logs, ("traces", {}), ("events", {"until": 2.0}), ("submit", right)]
    env.reset(options={"episode": "e0"})
    reward = 0.0
    for name, arguments in given:
        observation, reward, *_ = env.step(write_action(name, arguments))
        assert tools_of(tools)[name](**arguments) == observation
    assert tools.get_reward() == reward > 0.99
    assert "has ended" in tools.topology()
    assert tools.get_reward() == reward


def test_a_rollout_without_an_answer_gets_the_reward_of_none_and_is_dropped_by_the_next(episodes: Path) -> None:
    tools = InvestigateTools(episodes, calls=2)
    tools.reset(episode="e1")
    tools.topology()
    assert tools.get_reward() == 0.0
    tools.reset(episode="e1")
    assert "1 of 2 calls" in tools.topology()
    tools.topology()
    assert "Over budget" in tools.topology()
    assert tools.get_reward() == 0.0
    tools.reset(episode="e1")
    tools.submit("healthy")
    assert tools.get_reward() == 1.0


def test_a_row_says_what_a_group_asks_about(episodes: Path) -> None:
    assert [row["episode"] for row in rollout_rows(episodes)] == ["e0", "e1"]
    tools = InvestigateTools(episodes)
    with pytest.raises(InputError, match="episode or a seed"):
        tools.reset(prompt=[])
    assert tools.reset(seed=3) == tools.reset(seed=3)


def test_infrastructure_that_fails_is_no_reward(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> Recorded:
        raise InfrastructureError("no memory left")

    pool = Pool(1)
    monkeypatch.setattr(pool, "record", fail)
    monkeypatch.setattr("chaosgym.recording.pool.Pool", lambda size: pool)
    tools = InvestigateTools(sandbox="local", split=None)
    assert "no memory left" in tools.reset(seed=1)
    assert "has ended" in tools.alerts()
    assert tools.get_reward() is None


def test_what_a_rollout_holds_is_given_back_when_it_is_abandoned(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool(1)
    monkeypatch.setattr("chaosgym.recording.pool.Pool", lambda size: pool)
    tools = InvestigateTools(sandbox="local", split=None)
    tools.reset(seed=1)
    close(tools)
    close(tools)
    assert pool.closed == 1
    assert "has ended" in tools.alerts()
    forgotten = InvestigateTools(sandbox="local", split=None)
    forgotten.reset(seed=1)
    del forgotten
    gc.collect()
    assert pool.closed == 2


def test_a_transcript_is_a_trace_for_the_chat_template_we_train_with(evidence: Evidence, episodes: Path) -> None:
    from transformers.utils.chat_template_utils import get_json_schema

    from chaosgym.training.tokenizer import build_tokenizer

    tokenizer: Any = build_tokenizer(["a text to learn from"])
    schemas = [get_json_schema(tool) for tool in tools_of(InvestigateTools(episodes)).values()]
    found = investigate(Inquiry(evidence))
    text = tokenizer.apply_chat_template(list(found.messages), tools=schemas, tokenize=False)
    assert text.count("<tool_response>") == found.calls + 1
    assert '{"name": "logs", "arguments": {"component": "front-door"}}' in text


@pytest.mark.training
@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
def test_trl_plays_rollouts_and_reads_their_reward(episodes: Path, tmp_path: Path) -> None:
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    from chaosgym.training.nano import NanoShape, make_nano
    from chaosgym.training.tokenizer import build_tokenizer

    tokenizer: Any = build_tokenizer([manual()])
    turns = [call("submit", verdict="healthy"), call("events")]

    class Scripted(GRPOTrainer):
        """Says what a model that can call tools would say; a new model from nothing cannot yet."""

        def _generate_single_turn(self, prompt_ids: Any, *others: Any, **named: Any) -> tuple[list[list[int]], None]:
            said = turns.pop().replace('"tool"', '"name"') if turns else ""
            text = f"<tool_call>\n{said}\n</tool_call><|im_end|>" if said else "<|im_end|>"
            return [tokenizer(text)["input_ids"] for _ in prompt_ids], None

    config = GRPOConfig(
        output_dir=str(tmp_path), use_cpu=True, bf16=False, max_steps=1, per_device_train_batch_size=2, num_generations=2,
        max_completion_length=1024, report_to="none", save_strategy="no", logging_steps=1,
    )
    made: list[InvestigateTools] = []

    def factory() -> InvestigateTools:
        made.append(InvestigateTools(episodes))
        return made[-1]

    rows = [row for row in rollout_rows(episodes) if row["episode"] == "e1"]
    trainer = Scripted(
        model=make_nano(NanoShape(hidden=64, layers=2, positions=16_384), tokenizer, 0), args=config, processing_class=tokenizer,
        train_dataset=Dataset.from_list(rows), environment_factory=factory,
    )
    trainer.train()
    assert [tools.get_reward() for tools in made] == [pytest.approx(1 - SPENDING / 30)] * 2
    logged = next(line for line in trainer.state.log_history if "rewards/InvestigateTools/mean" in line)
    assert logged["rewards/InvestigateTools/mean"] == pytest.approx(1 - SPENDING / 30)
    assert (logged["tools/call_frequency"], logged["tools/failure_frequency"]) == (2.0, 0.0)


def test_evidence_of_an_episode_is_read_once(episodes: Path) -> None:
    rng = np.random.default_rng(0)
    one, other = (RecordedDossiers(episodes, "train").draw(rng, {"episode": "e0"}) for _ in range(2))
    assert one.evidence is other.evidence
