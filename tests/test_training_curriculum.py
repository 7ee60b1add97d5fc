"""What is asked next, and what is asked in place of groups that teach nothing."""

from __future__ import annotations

import json
from collections import Counter
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from chaosgym.agents.prompt import PromptFormat
from chaosgym.errors import InputError
from chaosgym.training import curriculum as module
from chaosgym.training.asking import AskingGRPOTrainer, alike
from chaosgym.training.curriculum import Curriculum
from chaosgym.training.rollouts import Rollout
from chaosgym.training.tasks import Source, Task

FORM = cast(PromptFormat, None)


def source(name: str, label: str, scenario: str = "") -> Source:
    return cast(Source, SimpleNamespace(id=name, label=label, truth=SimpleNamespace(scenario=scenario or label)))


@pytest.fixture(autouse=True)
def _unrendered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task is its source and seed: what a report looks like is tested elsewhere."""

    def make(of: Source, seed: int, form: PromptFormat) -> Task:
        return Task(of, seed, cast(Any, None), [{"role": "user", "content": f"{of.id} {seed}"}])

    monkeypatch.setattr(module, "make_task", make)


SOURCES = [source(f"{label}{n}", label, f"{label}-{n % 2}") for label in ("crash", "hang", "healthy") for n in range(4)]


def test_labels_come_alike_often_whatever_the_rates() -> None:
    curriculum = Curriculum(SOURCES, FORM, 0)
    curriculum.saw(SOURCES[0], 0.5)
    assert Counter(task.source.label for task in curriculum.draw(60)) == {"crash": 20, "hang": 20, "healthy": 20}


def test_what_is_right_half_of_the_time_is_asked_most_and_the_rest_stays_in_play() -> None:
    curriculum = Curriculum(SOURCES, FORM, 0)
    for number, rate in enumerate((0.0, 0.5, 1.0, 0.9)):
        curriculum.saw(SOURCES[number], rate)
    asked = Counter(task.source.id for task in curriculum.draw(1200) if task.source.label == "crash")
    assert asked["crash1"] > 2 * asked["crash3"] > 2 * asked["crash0"]
    assert min(asked["crash0"], asked["crash2"]) > 0.03 * 400  # a fifth of all, drawn evenly, is 5 % each


def test_without_a_look_at_the_rates_all_are_asked_alike() -> None:
    curriculum = Curriculum(SOURCES, FORM, 0, evenly=1.0)
    for number, rate in enumerate((0.0, 0.5, 1.0, 0.9)):
        curriculum.saw(SOURCES[number], rate)
    asked = Counter(task.source.id for task in curriculum.draw(1200) if task.source.label == "crash")
    assert max(asked.values()) < 1.5 * min(asked.values())


def test_what_is_asked_follows_the_model_as_it_improves() -> None:
    curriculum = Curriculum(SOURCES, FORM, 0)
    for hard, easy in ((0, 1), (2, 1)):
        curriculum.saw(SOURCES[hard], 0.0)
        curriculum.saw(SOURCES[easy], 0.5)
    before = {s.id: curriculum.weight(s) for s in SOURCES}
    for _ in range(8):
        curriculum.saw(SOURCES[1], 1.0)
        curriculum.saw(SOURCES[0], 0.5)
    assert curriculum.weight(SOURCES[1]) < 0.3 * before["crash1"]
    assert curriculum.weight(SOURCES[0]) > 5 * before["crash0"]


def test_an_episode_that_was_never_asked_is_judged_by_its_scenario_then_its_label() -> None:
    curriculum = Curriculum(SOURCES, FORM, 0)
    assert curriculum.rate(SOURCES[3]) == 0.5
    curriculum.saw(SOURCES[0], 0.0)
    assert curriculum.rate(SOURCES[3]) == 0.0  # of its label
    curriculum.saw(SOURCES[1], 1.0)
    assert curriculum.rate(SOURCES[3]) == 1.0  # of its scenario
    curriculum.saw(SOURCES[3], 0.25)
    assert curriculum.rate(SOURCES[3]) == 0.25
    assert curriculum.rate(SOURCES[4]) == 0.5
    figures = curriculum.figures()
    assert figures["curriculum/hard"] == pytest.approx(2 / 12, abs=1e-3)
    assert figures["curriculum/easy"] == pytest.approx(1 / 12, abs=1e-3)


def test_what_comes_in_is_asked_and_the_oldest_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST", 4)
    coming = [[], [source("crash4", "crash"), source("leak0", "leak")], []]
    curriculum = Curriculum(SOURCES, FORM, 0, evenly=1.0, fresh=lambda: coming.pop(0))
    curriculum.saw(SOURCES[0], 0.5)
    assert not {"crash4", "leak0"} & {task.source.id for task in curriculum.draw(60)}
    asked = Counter(task.source.id for task in curriculum.draw(60))
    assert asked["leak0"] == 15  # one of four labels
    assert asked["crash4"]
    assert not asked["crash0"]
    assert curriculum.figures()["curriculum/episodes"] == 13
    assert "episode crash0" not in curriculum.state()["attributes"]["rates"]


@given(st.integers(0, 99), st.lists(st.tuples(st.integers(0, 11), st.floats(0, 1)), max_size=20), st.integers(0, 9), st.integers(1, 9))
def test_a_restored_curriculum_asks_what_it_would_have_asked(seed: int, seen: list[tuple[int, float]], first: int, count: int) -> None:
    one = Curriculum(SOURCES, FORM, seed)
    one.draw(first)
    for number, rate in seen:
        one.saw(SOURCES[number], rate)
    kept = json.loads(json.dumps(one.state()))
    other = Curriculum(SOURCES, FORM, seed)
    other.restore(kept)
    assert [task.messages for task in other.draw(count)] == [task.messages for task in one.draw(count)]


def test_processes_ask_together_what_one_would_ask() -> None:
    alone, parts = Curriculum(SOURCES, FORM, 0), [Curriculum(SOURCES, FORM, 0, process, 3) for process in range(3)]
    for count in (4, 1, 2):
        drawn = [task.messages for part in parts for task in part.draw(count)]
        assert drawn == [task.messages for task in alone.draw(3 * count)]


def test_what_all_saw_is_learnt_in_order_of_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "gather", lambda mine: [[("crash0", 1.0)], mine])
    one, other = Curriculum(SOURCES, FORM, 0), Curriculum(SOURCES, FORM, 0)
    one.saw_everywhere([(SOURCES[0], 0.0)])
    other.saw(SOURCES[0], 1.0)
    other.saw(SOURCES[0], 0.0)
    assert one.state() == other.state()


def test_a_checkpoint_without_one_is_refused() -> None:
    begun = SimpleNamespace(global_step=5, stateful_callbacks={})
    with pytest.raises(InputError, match="no curriculum in it"):
        Curriculum(SOURCES, FORM, 0).on_train_begin(None, begun, None)
    Curriculum(SOURCES, FORM, 0).on_train_begin(None, SimpleNamespace(global_step=0, stateful_callbacks={}), None)


@pytest.mark.parametrize(("rewards", "dull"), [
    ([0.5, 0.5], True), ([0.5, 0.6], False), ([None, None], True), ([None, 0.4], True), ([None, 0.4, 0.5], False), ([0.0, None, 0.0], True),
])
def test_a_group_is_dull_when_nothing_scored_differs(rewards: list[float | None], dull: bool) -> None:
    assert alike(rewards) == dull


class _Judge:
    """An answer is its reward, or `none`."""

    solved = 0.9

    def know(self, tasks: Any) -> None:
        pass

    def rollout(self, text: str, task: Task) -> Rollout:
        return Rollout(0, task.source.id, task.seed, text, text, None if text == "none" else float(text))


class _Trainer(AskingGRPOTrainer):
    """Generation by table: which rewards the two answers to each episode earn."""

    def __init__(self, rewards: dict[str, tuple[str, str]], oversample: float) -> None:
        self.num_generations, self.table, self.calls = 2, rewards, list[int]()
        self.accelerator: Any = SimpleNamespace(device=torch.device("cpu"), gather=lambda value: value)
        self.logged: dict[str, float] = {}
        self.drawn = Curriculum([source(name, "crash") for name in rewards], FORM, 1)
        self.ask(self.drawn, cast(Any, _Judge()), oversample)

    def _log_metric(self, name: str, value: float) -> None:
        self.logged[name] = value


@pytest.fixture
def _table(monkeypatch: pytest.MonkeyPatch) -> None:
    """TRL's part: answer each prompt, and hand over what the rewards are asked about."""

    def generate(self: _Trainer, prompts: list[Any]) -> Any:
        self.calls.append(len(prompts) // 2)
        names = [prompt[0]["content"].split()[0] for prompt in prompts]
        completions = [[{"role": "assistant", "content": self.table[name][i % 2]}] for i, name in enumerate(names)]
        ids = [[i] for i in range(100 * len(self.calls), 100 * len(self.calls) + len(prompts))]
        return [[name] for name in names], ids, None, completions, None, {}, None, []

    def score(self: _Trainer, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        prompts = [row["prompt"] for row in inputs]
        made = self._generate(prompts)  # pyright: ignore[reportPrivateUsage]
        return {"inputs": inputs, "prompts": prompts, "made": made}

    monkeypatch.setattr("trl.trainer.grpo_trainer.GRPOTrainer._generate", generate)
    monkeypatch.setattr("trl.trainer.grpo_trainer.GRPOTrainer._generate_and_score_completions", score)


MIXED = {"good": ("1.0", "0.3"), "easy": ("1.0", "1.0"), "hard": ("0.0", "0.0"), "broken": ("none", "none"), "half": ("none", "0.3")}


@pytest.mark.usefixtures("_table")
def test_groups_that_teach_nothing_are_replaced_everywhere() -> None:
    trainer = _Trainer(MIXED, oversample=8.0)
    batch = trainer._generate_and_score_completions([{"prompt": [], "task": ""}] * 8)  # pyright: ignore[reportPrivateUsage]
    names = [row["task"].split()[0] for row in batch["inputs"]]
    assert names == ["good"] * 8
    assert [prompt[0]["content"].split()[0] for prompt in batch["prompts"]] == names
    assert [name for (name,) in batch["made"][0]] == names
    assert [completion[0]["content"] for completion in batch["made"][3]] == ["1.0", "0.3"] * 4
    assert len({ids[0] for ids in batch["made"][1]}) == 8  # answers of groups of their own
    assert trainer.logged["zero_variance/share"] == trainer.logged["zero_variance/replaced"] > 0
    assert trainer.drawn.rate(source("easy", "crash")) == 1.0
    assert trainer.drawn.rate(source("good", "crash")) == 0.5
    assert "episode broken" not in trainer.drawn.state()["attributes"]["rates"]  # nothing is known of what cannot be scored


@pytest.mark.usefixtures("_table")
@pytest.mark.parametrize(("oversample", "spare"), [(0.0, 0), (0.5, 2), (2.0, 8)])
def test_replacement_has_bounds(oversample: float, spare: int) -> None:
    trainer = _Trainer({"easy": ("1.0", "1.0"), "hard": ("0.0", "0.0")}, oversample)
    batch = trainer._generate_and_score_completions([{"prompt": [], "task": ""}] * 8)  # pyright: ignore[reportPrivateUsage]
    assert (trainer.calls[0], sum(trainer.calls[1:])) == (4, spare)
    assert len(batch["inputs"]) == 8
    assert trainer.logged["zero_variance/share"] == 1.0
    assert trainer.logged["zero_variance/replaced"] == 0.0
