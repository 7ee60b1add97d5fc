"""Distillation: what of a teacher's answers is learnt, who may teach whom, and that students come nearer to their teachers."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from chaosgym.agents.answers import ALL_WELL, blame
from chaosgym.agents.prompt import PromptFormat
from chaosgym.diagnosis import parse_diagnosis
from chaosgym.errors import InputError
from chaosgym.incident.findings import Incident
from chaosgym.training.callbacks import TrainingStopped
from chaosgym.training.config import DistillConfig, PretrainConfig, SftConfig
from chaosgym.training.distill import distill
from chaosgym.training.divergence import Endless, refuse_strangers
from chaosgym.training.nano import load_model
from chaosgym.training.pretrain import pretrain
from chaosgym.training.sft import sft
from chaosgym.training.supervised import answer_sequence
from chaosgym.training.tasks import Source, in_words, make_task, read_sources, right_answer
from chaosgym.training.teacher import ANSWER_FILE, Answer, ask, best_answers, figures, read_answers
from chaosgym.training.tokenizer import build_tokenizer
from chaosgym.training.validation import divide

Record = Callable[..., None]
COMPACT = PromptFormat(rendering="compact", budget=200, system="", max_new_tokens=24)


@pytest.fixture(scope="module")
def episodes(record: Record, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("episodes")
    for number in range(12):
        record(folder, number)
    return folder


@pytest.fixture(scope="module")
def sources(episodes: Path) -> list[Source]:
    return read_sources([episodes])


def config(episodes: Path, out: Path, **changes: Any) -> DistillConfig:
    return DistillConfig.model_validate({"episodes": [episodes], "out": out, "teacher": "rules", "budget": 200, **changes})


# ── what is learnt ──────────────────────────────────────────────────────────────────────────────────


class Student:
    """Right about a crash every second time it is asked, of a hang only the component, and never about anything else."""

    name = "student"

    def __init__(self) -> None:
        self.asked = list[tuple[str, str]]()

    def diagnose(self, incidents: Sequence[Incident]) -> list[str]:
        return [self._answer(incident) for incident in incidents]

    def _answer(self, incident: Incident) -> str:
        number = len([name for name, _ in self.asked if name == incident.components[0]])
        self.asked.append((incident.components[0], incident.compact))
        episode = int(incident.components[0].rsplit("-")[-1])
        culprit = incident.components[1 + episode % 2]
        sure = 0.2 if number < 2 else 1.0
        return blame((culprit, "process.crash", sure)) if number % 2 else "I wonder"


def of(sources: Sequence[Source], label: str) -> list[Source]:
    return [source for source in sources if source.label == label]


def test_the_better_answers_are_kept(sources: list[Source], tmp_path: Path) -> None:
    student, everything = Student(), [*of(sources, "process.crash"), *of(sources, "process.hang")]
    answers = ask(student, "student", everything, 4, tmp_path / ANSWER_FILE)
    assert len({report for _, report in student.asked}) == len(answers) == 4 * len(everything)  # each time in other words
    kept = best_answers(answers, 0.9, 2)
    assert set(kept) == {source.id for source in of(sources, "process.crash")}
    for source in of(sources, "process.crash"):
        (only,) = kept[source.id]  # two answers that say the same are one
        assert (only.causes[0].component, only.causes[0].fault) == (source.truth.causes[0].component, "process.crash")
        assert only.causes[0].probability == 1.0  # the surer one earned more
    found = figures(answers, everything, 0.9, kept)
    assert (found["accepted/process.crash"], found["accepted/process.hang"]) == (0.5, 0.0)
    assert (found["teacher/kept"], found["teacher/accepted"], found["teacher/answers"]) == (0.5, 0.25, 4 * len(everything))
    assert 0 < found["teacher/reward"] < 0.5


def test_different_answers_are_kept_the_best_first() -> None:
    def answer(text: str, reward: float, seed: int) -> Answer:
        return Answer("t", "e1", seed, text, reward, {})

    a, b = blame(("x", "process.crash", 0.9)), blame(("x", "process.crash", 0.9), ("y", "process.hang", 0.1))
    answers = [answer("no JSON", 1.0, 0), answer(b, 0.91, 1), answer(a, 0.97, 2), answer(ALL_WELL, 0.2, 3)]
    assert best_answers(answers, 0.9, 5) == {"e1": (parse_diagnosis(a), parse_diagnosis(b))}
    assert best_answers(answers, 0.9, 1) == {"e1": (parse_diagnosis(a),)}
    assert best_answers(answers, 0.98, 1) == {}


def test_nothing_is_asked_twice(sources: list[Source], tmp_path: Path) -> None:
    path, first, second = tmp_path / ANSWER_FILE, Student(), Student()
    before = ask(first, "student", sources[:5], 3, path)
    path.write_bytes(path.read_bytes()[:-40])  # killed while it wrote the last line
    after = ask(second, "student", sources[:5], 3, path)
    assert len(second.asked) == 1
    assert [(a.episode, a.seed) for a in after] == [(a.episode, a.seed) for a in before]
    assert after[:-1] == before[:-1]
    assert list(read_answers(path)) == after
    more, other = Student(), Student()
    ask(more, "student", sources[:6], 4, path)
    assert len(more.asked) == 6 * 4 - 5 * 3
    ask(other, "another", sources[:1], 1, path)
    assert len(other.asked) == 1


@given(st.lists(st.tuples(st.text(), st.floats(0, 1)), max_size=5))
def test_answers_are_read_as_they_were_written(tmp_path_factory: pytest.TempPathFactory, written: list[tuple[str, float]]) -> None:
    path = tmp_path_factory.mktemp("answers") / ANSWER_FILE
    answers = [Answer("t", "e", seed, text, reward, {"format": 1.0}) for seed, (text, reward) in enumerate(written)]
    path.write_text("".join(json.dumps(dataclasses.asdict(a)) + "\n" for a in answers), encoding="utf-8")
    assert list(read_answers(path)) == answers


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    (tmp_path / ANSWER_FILE).write_text('{"episode": "e1"}\n')
    with pytest.raises(InputError, match=r"answers.jsonl:1: no answer of a teacher .* remove it to ask again"):
        list(read_answers(tmp_path / ANSWER_FILE))


@pytest.mark.parametrize("rendering", ["compact", "readable"])
def test_an_answer_fits_every_rendering_of_its_incident(sources: list[Source], rendering: str) -> None:
    form = COMPACT.model_copy(update={"rendering": rendering})
    source = of(sources, "process.crash")[0]
    culprit = source.truth.causes[0].component
    diagnosis = parse_diagnosis(blame((culprit, "process.crash", 0.9), evidence=(f"{culprit} is gone",)))
    assert diagnosis is not None
    for seed in range(3):
        task = make_task(source, seed, form)
        read = parse_diagnosis(form.read(in_words(diagnosis, task, form), task.incident))
        assert read == (diagnosis if rendering == "readable" else diagnosis.model_copy(update={"evidence": ()}))


def test_a_teacher_that_is_never_good_enough_is_refused(episodes: Path, tmp_path: Path) -> None:
    faults = tmp_path / "faults"
    for number in (0, 1):
        shutil.copytree(episodes / f"e{number}", faults / f"e{number}")
    with pytest.raises(InputError, match=r"'null': none of its 8 answers earned threshold 0.9, the best 0.\d\d; take a better teacher"):
        distill(config(faults, tmp_path / "run", teacher="null"))
    lowered = tmp_path / "lowered"
    lowered.mkdir()
    shutil.copy(tmp_path / "run" / ANSWER_FILE, lowered)
    assert len(ask(Student(), "null", read_sources([faults]), 4, lowered / ANSWER_FILE)) == 8
    assert len(list(read_answers(lowered / ANSWER_FILE))) == 8


def test_nobody_is_asked_about_kept_out_episodes(
    sources: list[Source], episodes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = [dataclasses.replace(of(sources, "process.hang")[0], id=f"m{number}") for number in range(120)]
    trained, kept_out = divide(many, 0.15)
    assert len(kept_out) >= 12
    monkeypatch.setattr("chaosgym.training.distill.read_sources", lambda folders: many)
    with pytest.raises(InputError, match=f"none of its {len(trained)} answers"):
        distill(config(episodes, tmp_path / "run", teacher="null", answers=1))
    assert [a.episode for a in read_answers(tmp_path / "run" / ANSWER_FILE)] == [source.id for source in trained]


# ── who may teach whom ──────────────────────────────────────────────────────────────────────────────


def speaker(folder: Path, text: str = "one two three", rendering: str = "compact", template: str | None = None) -> Path:
    """All of a model folder but the weights."""
    tokenizer: Any = build_tokenizer([text] * 20, 700)
    tokenizer.chat_template = template or tokenizer.chat_template
    tokenizer.save_pretrained(folder)
    COMPACT.model_copy(update={"rendering": rendering}).save(folder)
    return folder


def pair(student: Path, teacher: Path) -> DistillConfig:
    return config(Path("episodes"), Path("out"), method="logits", model=str(student), teacher=f"slm:{teacher}")


def test_another_vocabulary_is_refused(tmp_path: Path) -> None:
    student, words = speaker(tmp_path / "student"), "chaos engineering breaks systems on purpose"
    refuse_strangers(pair(student, speaker(tmp_path / "same")))
    with pytest.raises(InputError, match=r"its vocabulary .* is not that of model .*; pretrain a student with `vocabulary_of: "):
        refuse_strangers(pair(student, speaker(tmp_path / "other", words)))


def test_another_chat_template_is_refused(tmp_path: Path) -> None:
    other = speaker(tmp_path / "other", template="{% for m in messages %}{{ m['content'] }}{% endfor %}")
    with pytest.raises(InputError, match=r"its chat template is not that of model .*; take another size of the same family"):
        refuse_strangers(pair(speaker(tmp_path / "student"), other))


def test_another_kind_of_report_is_refused(tmp_path: Path) -> None:
    other = speaker(tmp_path / "other", rendering="readable")
    with pytest.raises(InputError, match=r"reads readable reports after no instruction, and model .* compact reports"):
        refuse_strangers(pair(speaker(tmp_path / "student"), other))


def test_strangers_leave_no_run_behind(tmp_path: Path, episodes: Path) -> None:
    student, teacher = speaker(tmp_path / "student"), speaker(tmp_path / "other", "chaos engineering breaks systems on purpose")
    with pytest.raises(InputError, match="its vocabulary"):
        distill(config(episodes, tmp_path / "run", method="logits", model=str(student), teacher=f"slm:{teacher}"))
    with pytest.raises(InputError, match="did you mean 'rules'"):
        distill(config(episodes, tmp_path / "run", teacher="rule"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "logits", "model": "m"}, "tells no probabilities: name a local model as slm:FOLDER"),
        ({"method": "logits", "teacher": "slm:t"}, "makes a vocabulary of its own"),
        ({"kept": 5}, "kept 5 is more than the 4 answers"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config(Path("episodes"), Path("out"), **changes)


def test_a_student_that_only_babbles_is_stopped() -> None:
    guard, control = Endless(), SimpleNamespace(should_training_stop=False)
    for step, cut in ((5, 1.0), (20, 0.9), (30, 1.0), (45, 1.0), (49, None)):
        guard.on_log(None, SimpleNamespace(global_step=step), control, {"loss": 0.1} if cut is None else {"completions/clipped_ratio": cut})
    guard.check()
    guard.on_log(None, SimpleNamespace(global_step=50), control, {"completions/clipped_ratio": 1.0})
    assert control.should_training_stop
    with pytest.raises(TrainingStopped, match=r"no answer of the student came to its end since step 30.*run `chaosgym train sft`"):
        guard.check()


# ── students come nearer to their teachers ──────────────────────────────────────────────────────────

@pytest.fixture(scope="module")
def others(record: Record, tmp_path_factory: pytest.TempPathFactory) -> list[Source]:
    """Episodes that nobody is trained on."""
    folder = tmp_path_factory.mktemp("others")
    for number in range(20, 26):
        record(folder, number)
    return read_sources([folder])


def settings(episodes: Path, out: Path, **changes: Any) -> dict[str, Any]:
    return {"episodes": [episodes], "out": out, "budget": 200, "batch_size": 16, "log_every": 1, **changes}


@pytest.fixture(scope="module")
def teacher(episodes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that answers."""
    runs = tmp_path_factory.mktemp("teacher")
    read = pretrain(PretrainConfig.model_validate(settings(episodes, runs / "pretrain", steps=20, nano={"hidden": 96, "layers": 2})))
    return Path(sft(SftConfig.model_validate(settings(episodes, runs / "sft", model=read["model"], steps=60, learning_rate=1e-2)))["model"])


@pytest.fixture(scope="module")
def student(teacher: Path, episodes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A smaller one, that has just learnt how an answer goes."""
    runs = tmp_path_factory.mktemp("student")
    changes: dict[str, Any] = {"steps": 20, "nano": {"hidden": 64, "layers": 2}, "vocabulary_of": teacher}
    read = pretrain(PretrainConfig.model_validate(settings(episodes, runs / "pretrain", **changes)))
    return Path(sft(SftConfig.model_validate(settings(episodes, runs / "sft", model=read["model"], steps=12, learning_rate=1e-2)))["model"])


def log_probabilities(folder: Path, sources: Sequence[Source]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """At each token of the right answers: how likely the model finds every token, and which comes."""
    model, tokenizer = load_model(str(folder))
    for source in sources:
        for seed in (901, 902):
            task = make_task(source, seed, COMPACT)
            row = answer_sequence(tokenizer, task.messages, right_answer(task, COMPACT, 0.9))
            labels = torch.tensor(row["labels"][1:])
            with torch.inference_mode():
                logits = model(input_ids=torch.tensor([row["input_ids"]])).logits[0, :-1]
            yield logits[labels >= 0].log_softmax(-1), labels[labels >= 0]


def loss(folder: Path, sources: Sequence[Source]) -> float:
    found = [words[range(len(next_)), next_].mean() for words, next_ in log_probabilities(folder, sources)]
    return -float(torch.stack(found).mean())


def distance(teacher: Path, student: Path, sources: Sequence[Source]) -> float:
    """Mean forward KL divergence."""
    both = zip(log_probabilities(teacher, sources), log_probabilities(student, sources), strict=True)
    return float(torch.stack([(a.exp() * (a - b)).sum(-1).mean() for (a, _), (b, _) in both]).mean())


@pytest.mark.training
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_student_learns_what_its_teacher_answered_well(
    student: Path, teacher: Path, episodes: Path, others: list[Source], tmp_path: Path
) -> None:
    changes = {"model": str(student), "teacher": f"slm:{teacher}", "steps": 30, "learning_rate": 1e-2, "answers": 2}
    asked = DistillConfig.model_validate(settings(episodes, tmp_path / "run", **changes))
    told = distill(asked)
    assert told["steps"] == 30
    assert loss(Path(told["model"]), others) < 0.8 * loss(student, others)
    first = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    assert first["teacher/answers"] == 24
    assert first["teacher/kept"] >= 0.5
    assert distill(asked, resume=True) == told


@pytest.mark.training
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_student_comes_nearer_to_a_larger_teacher(
    student: Path, teacher: Path, episodes: Path, others: list[Source], tmp_path: Path
) -> None:
    changes = {"method": "logits", "model": str(student), "teacher": f"slm:{teacher}", "steps": 40}
    told = distill(DistillConfig.model_validate(settings(episodes, tmp_path / "run", **changes)))
    before, after = (distance(teacher, folder, others) for folder in (student, Path(told["model"])))
    assert after < 0.8 * before
    losses = [line["loss"] for line in map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) if "loss" in line]
    assert sum(losses[-5:]) < sum(losses[:5])
