"""Episodes kept out of training, and the choice of the model that answers them best."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from chaosgym.training.rollouts import Rollout
from chaosgym.training.tasks import Source
from chaosgym.training.validation import Best, ReportExam, divide


def _sources(count: int, first: int = 0) -> list[Source]:
    return [cast(Source, SimpleNamespace(id=f"e{number:015x}")) for number in range(first, first + count)]


@given(st.integers(0, 400), st.integers(0, 10**6), st.floats(0, 0.99))
def test_every_episode_is_on_one_side_and_always_the_same(count: int, first: int, share: float) -> None:
    sources = _sources(count, first)
    trained, kept = divide(sources, share)
    assert sorted([*trained, *kept], key=lambda s: s.id) == sources
    assert not kept or len(kept) >= 12
    assert trained or not sources
    wider, _ = divide([*sources, *_sources(100, first + count)], share)
    if kept:  # what is kept out of some is kept out of more
        assert not {s.id for s in kept} & {s.id for s in wider}


def test_the_share_is_about_what_was_asked_for() -> None:
    _, kept = divide(_sources(2000), 0.15)
    assert 240 < len(kept) < 360
    assert divide(_sources(40), 0.15)[1] == []  # too few to tell anything from luck


class _Run:
    def __init__(self, path: Path) -> None:
        self.path, self.lines = path, list[dict[str, Any]]()

    def log(self, line: dict[str, Any]) -> None:
        self.lines.append(json.loads(json.dumps(line)))


class _Judge:
    """Finds the model best when its weight is 3."""

    solved = 0.9

    def know(self, tasks: Any) -> None:
        self.known = tasks

    def rollouts(self, trainer: Any, tasks: Any, each: int) -> list[list[Rollout]]:
        reward = 1.0 - abs(3.0 - float(trainer.model.weight.item()))
        terms = {"component": float(reward > 0), "fault": 1.0}
        return [[Rollout(0, "e1", 0, "", "", reward, terms)], [Rollout(0, "e2", 0, "", "", None)]]


def _best(path: Path, model: torch.nn.Linear) -> tuple[Best, _Run]:
    run = _Run(path)
    accelerator, sampling = SimpleNamespace(unwrap_model=lambda model: model), SimpleNamespace(temperature=0.7)
    pace = {"optimizer": SimpleNamespace(state={"weight": "momentum"}), "lr_scheduler": SimpleNamespace(base_lrs=[1.0, 0.5])}
    trainer = SimpleNamespace(model=model, generation_config=sampling, accelerator=accelerator, **pace)
    exam = ReportExam(trainer, cast(Any, _Judge()), [], cast(Any, None))
    return Best(trainer, cast(Any, run), exam, every=2), run


def _set(model: torch.nn.Linear, value: float) -> None:
    with torch.no_grad():
        model.weight.fill_(value)


@pytest.mark.parametrize(("values", "best_step"), [([1, 2, 3, 5, 9, 9, 9], 2), ([3, 0, 0, 0, 0, 0, 0], 0), ([0, 0, 1, 1, 2, 2, 3], 6)])
def test_the_weights_that_answered_best_are_put_back(tmp_path: Path, values: list[float], best_step: int) -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    best, run = _best(tmp_path, model)
    for step, value in enumerate(values):
        _set(model, value)
        if step == 0:
            best.on_train_begin(None, SimpleNamespace(global_step=0), None)
        else:
            best.on_step_end(None, SimpleNamespace(global_step=step), None)
    best.on_train_end(None, SimpleNamespace(global_step=len(values) - 1), None)
    assert model.weight.item() == 3
    assert run.lines[-1]["validation/best_step"] == best_step
    asked = [line for line in run.lines if "validation/reward" in line]
    assert [line["step"] for line in asked] == [0, 2, 4, 6]
    assert [line["validation/component"] for line in asked] == [float(abs(3 - value) < 1) for value in values[::2]]
    assert {line["validation/fault"] for line in asked} == {1.0}
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_goes_on_knows_its_best_of_before(tmp_path: Path) -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    best, _ = _best(tmp_path, model)
    _set(model, 3)
    best.on_train_begin(None, SimpleNamespace(global_step=0), None)
    again, run = _best(tmp_path, model)  # the first was killed
    _set(model, 7)
    again.on_train_begin(None, SimpleNamespace(global_step=2), None)
    again.on_train_end(None, SimpleNamespace(global_step=3), None)
    assert model.weight.item() == 3
    assert run.lines[-1]["validation/best_step"] == 0


def test_what_gets_far_worse_goes_back_and_on_more_slowly(tmp_path: Path) -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    best, run = _best(tmp_path, model)
    trainer = best._trainer  # pyright: ignore[reportPrivateUsage]
    _set(model, 3)
    best.on_train_begin(None, SimpleNamespace(global_step=0), None)
    _set(model, 7)
    best.on_step_end(None, SimpleNamespace(global_step=2), None)
    assert model.weight.item() == 3
    assert trainer.lr_scheduler.base_lrs == pytest.approx([0.3, 0.15])
    assert trainer.optimizer.state == {}
    assert run.lines[-1]["validation/went_back"] == 1
