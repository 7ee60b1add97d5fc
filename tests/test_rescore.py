"""Rollouts are kept whole, bounded and in order, and another reward can be put to them later without touching them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from chaosgym.agents.prompt import PromptFormat
from chaosgym.cli.program import make_program
from chaosgym.diagnosis import Cause, Diagnosis
from chaosgym.episode import ComponentInfo, EdgeInfo, EpisodeHeader, Window, write_episode
from chaosgym.errors import InputError
from chaosgym.rewards import WEIGHTS, score
from chaosgym.telemetry.store import TelemetryBuffer
from chaosgym.training.rescore import Change, rescore
from chaosgym.training.rollouts import ROLLOUT_FILE, Rollout, RolloutFile, read_rollouts
from chaosgym.truth import TrueCause, Truth

NAMES = ("front", "billing", "cart")
TRUTH = Truth(
    scenario="crash", app="shop", verdict="fault", causes=(TrueCause(component="billing", fault="process.crash"),),
    chain=("billing", "front"),
)


def answer(component: str, fault: str = "process.crash", probability: float = 0.9) -> str:
    causes = (Cause(component=component, fault=fault, probability=probability),)
    return Diagnosis(verdict="fault", causes=causes).to_json()


RIGHT, NEAR, WRONG, NOTHING = answer("billing"), answer("billing", "process.hang"), answer("cart", "process.hang"), "?"


def rollout(step: int, text: str, episode: str = "e1", **changes: Any) -> Rollout:
    """As the present reward would have it."""
    found = score(text, TRUTH, NAMES)
    values: dict[str, Any] = {"reward": found.total, "terms": found.terms, **changes}
    return Rollout(step=step, episode=episode, seed=7, text=text, answer=text, **values)


@pytest.fixture
def episodes(tmp_path: Path) -> Path:
    """Two episodes, the second of which turned out to show nothing."""
    folder = tmp_path / "episodes"
    for number, visible in ((1, True), (2, False)):
        header = EpisodeHeader(
            id=f"e{number}", entry="front", components=tuple(ComponentInfo(name=name, kind="service") for name in NAMES),
            edges=(EdgeInfo(source="front", target="billing"),), baseline=Window(0, 1), incident=Window(2, 3),
        )
        write_episode(folder, header, TelemetryBuffer().tables(), TRUTH.model_copy(update={"visible": visible}))
    return folder


def make_run(folder: Path, episodes: Path, steps: Sequence[Sequence[Rollout]]) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"command": "grpo", "config": {"episodes": [str(episodes)]}}))
    for rollouts in steps:
        RolloutFile(folder / ROLLOUT_FILE, 10**6, 10**6).add(rollouts)
    return folder


def test_the_same_reward_changes_nothing(episodes: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", episodes, [[rollout(step, text) for text in (RIGHT, NEAR, WRONG, NOTHING)] for step in (0, 1)])
    found = rescore(run)
    assert (found.answers, found.steps, found.groups, found.moved, found.moved_groups) == (8, 2, 2, 0, 0)
    assert [change.term for change in found.changes] == ["total", *WEIGHTS]
    assert all(change.before == change.now and change.changed == 0 for change in found.changes)
    assert next(change.now for change in found.changes if change.term == "component") == 0.5


def test_another_reward_then_shows_in_means_and_ranks(episodes: Path, tmp_path: Path) -> None:
    """It paid .5 for whatever was readable and knew a term `length`: by it RIGHT, NEAR and WRONG shared the first rank."""
    then: dict[str, Any] = {"reward": 0.5, "terms": {"format": 1.0, "length": 0.25}}
    group = [rollout(0, text, **then) for text in (RIGHT, NEAR, WRONG)] + [rollout(0, NOTHING, reward=0.0, terms={"format": 0.0})]
    run = make_run(tmp_path / "run", episodes, [group, [rollout(1, RIGHT), rollout(1, WRONG)]])
    found = rescore(run)
    assert (found.moved, found.moved_groups, found.groups) == (2, 1, 2)  # NEAR is second now and WRONG third; the others stay
    by_term = {change.term: change for change in found.changes}
    totals = [score(text, TRUTH, NAMES).total or 0.0 for text in (RIGHT, NEAR, WRONG, NOTHING, RIGHT, WRONG)]
    assert by_term["total"].now == pytest.approx(sum(totals) / 6)
    assert by_term["total"].before == pytest.approx((0.5 * 3 + totals[0] + totals[2]) / 6)
    assert by_term["total"].changed == 3
    assert by_term["length"] == Change("length", 0.25, None, 0)
    assert (by_term["format"].changed, by_term["fault"].changed) == (0, 0)


def test_what_may_not_be_scored_and_what_is_gone_is_left_out_and_counted(episodes: Path, tmp_path: Path) -> None:
    rollouts = [rollout(0, RIGHT), rollout(0, RIGHT, "e2"), rollout(0, RIGHT, "e3"), rollout(0, WRONG, reward=None, terms={})]
    found = rescore(make_run(tmp_path / "run", episodes, [rollouts]))
    assert (found.answers, found.missing, found.unscorable, found.groups) == (4, 1, 2, 1)
    assert found.changes[0].now == score(RIGHT, TRUTH, NAMES).total


def test_the_command_prints_and_never_modifies(episodes: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", episodes, [[rollout(0, RIGHT, reward=0.1), rollout(0, WRONG, reward=0.2), rollout(0, NEAR, "e3")]])
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in sorted(run.iterdir())}
    shown = CliRunner().invoke(make_program(), ["rescore", str(run)])
    assert shown.exit_code == 0, shown.output
    assert "component" in shown.output
    assert "2 answers of 1 steps; 2 changed rank, in 1 of 1 groups; left out: 1 of episodes that are not there" in shown.output
    told = json.loads(CliRunner().invoke(make_program(), ["rescore", str(run), "--json"]).stdout)
    assert (told["answers"], told["moved"], told["missing"]) == (3, 2, 1)
    assert told["changes"][0]["before"] == pytest.approx(0.15)
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in sorted(run.iterdir())} == before


def test_episodes_that_moved_are_named(episodes: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", tmp_path / "elsewhere", [[rollout(0, RIGHT)]])
    with pytest.raises(InputError, match="cannot list episodes"):
        rescore(run)
    assert rescore(run, [episodes]).answers == 1
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"none of the episodes of .* is there; name the folders"):
        rescore(run, [tmp_path / "empty"])
    (run / "config.json").unlink()
    with pytest.raises(InputError, match="does not tell the run's episodes"):
        rescore(run)


def test_a_run_without_rollouts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no rollouts can be read"):
        rescore(tmp_path)
    (tmp_path / ROLLOUT_FILE).touch()
    with pytest.raises(InputError, match="empty"):
        rescore(tmp_path)


def test_a_line_cut_short_at_the_end_is_left_out_and_one_in_between_is_an_error(tmp_path: Path) -> None:
    file = RolloutFile(tmp_path / ROLLOUT_FILE, 10**6)
    file.add([rollout(0, RIGHT), rollout(0, WRONG)])
    whole = file.path.read_bytes()
    file.path.write_bytes(whole[:-9])
    assert list(read_rollouts(file.path)) == [rollout(0, RIGHT)]
    file.path.write_bytes(b"{}\n" + whole)
    with pytest.raises(InputError, match=r"rollouts.jsonl:1: no rollout"):
        list(read_rollouts(file.path))


@given(st.text() | st.just("\ud800"), st.none() | st.floats(0, 1))
def test_any_answer_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, text: str, reward: float | None) -> None:
    file = RolloutFile(tmp_path_factory.mktemp("run") / ROLLOUT_FILE, 10**6)
    stored = [Rollout(3, "e1", -2, text, text, reward), Rollout(3, "e1", -2, text, f"read {text}", reward, {"format": 1.0})]
    file.add(stored)
    assert list(read_rollouts(file.path)) == stored


def test_a_full_file_loses_every_second_step_and_stays_within_its_bound(tmp_path: Path) -> None:
    path = tmp_path / ROLLOUT_FILE
    file = RolloutFile(path, 6000)
    for step in range(0, 200, 2):
        if step == 120:
            file = RolloutFile(path, 6000, first_step=step)  # a run that goes on keeps its pace
        file.add([rollout(step, RIGHT), rollout(step, WRONG)])
        assert path.stat().st_size <= 6000
    steps = [r.step for r in read_rollouts(path)]
    assert steps == sorted(steps)
    assert all(steps.count(step) == 2 for step in set(steps))
    gaps = {b - a for a, b in zip(steps[::2], steps[2::2], strict=False)}
    assert len(gaps) == 1  # evenly over the run
    assert steps[0] == 0
    assert steps[-1] + gaps.pop() >= 200
    held = path.read_bytes()
    file.add([rollout(300, RIGHT)] * 100)  # larger than the file may be
    assert len(held) / 3 < path.stat().st_size <= 6000


def test_a_run_that_goes_on_drops_what_comes_again(tmp_path: Path) -> None:
    path = tmp_path / ROLLOUT_FILE
    first = RolloutFile(path, 10**6)
    for step in range(6):
        first.add([rollout(step, RIGHT)])
    RolloutFile(path, 10**6, first_step=4).add([rollout(4, WRONG)])
    assert [(r.step, r.text) for r in read_rollouts(path)] == [*((step, RIGHT) for step in range(4)), (4, WRONG)]


def test_the_judge_keeps_what_is_answered_in_training_alone(tmp_path: Path) -> None:
    """With the names put back: the handles of a compact report mean something to its rendering only."""
    from chaosgym.training.reward import Judge
    from chaosgym.training.tasks import Source, Task

    judge = Judge(PromptFormat(rendering="compact", budget=350, system="", max_new_tokens=24))
    incident: Any = SimpleNamespace(handles={"c3": "billing", "c5": "cart"}, components=NAMES)
    task = Task(Source("e1", SimpleNamespace(), TRUTH), 7, incident, [])  # pyright: ignore[reportArgumentType]
    judge.know([task])
    judge.kept = RolloutFile(tmp_path / ROLLOUT_FILE, 10**6)
    key = Judge.key(task)
    judge([answer("c3")], [key])
    assert not judge.kept.path.exists()
    rewards = judge([answer("c3"), [{"content": answer("c5")}]], [key, key], trainer_state=SimpleNamespace(global_step=12))
    kept = list(read_rollouts(judge.kept.path))
    assert [(r.step, r.episode, r.seed, r.text, r.answer, r.reward) for r in kept] == [
        (12, "e1", 7, answer("c3"), RIGHT, rewards[0]), (12, "e1", 7, answer("c5"), answer("cart"), rewards[1]),
    ]
    assert kept[0].terms["component"] == 1.0
