"""The whole line on recorded episodes: pretrain, SFT, GRPO, killed and resumed, and adapters on somebody's model."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chaosgym.agents.prompt import PromptFormat
from chaosgym.agents.slm import SlmAgent
from chaosgym.episode import read_episode
from chaosgym.errors import InputError
from chaosgym.incident import compile_incident
from chaosgym.training.arrivals import Arrivals
from chaosgym.training.calibrate import calibrate
from chaosgym.training.callbacks import TrainingStopped
from chaosgym.training.config import GrpoConfig, PretrainConfig, SftConfig
from chaosgym.training.grpo import grpo
from chaosgym.training.nano import prompt_format
from chaosgym.training.pretrain import pretrain
from chaosgym.training.rollouts import ROLLOUT_FILE, read_rollouts
from chaosgym.training.sft import sft
from chaosgym.training.tasks import Source, read_sources
from chaosgym.training.tokenizer import build_tokenizer

pytestmark = [
    pytest.mark.training,
    pytest.mark.timeout(600),
    # Of the libraries below us, about each other.
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning"),
]

Record = Callable[..., None]
NANO = {"hidden": 64, "layers": 2}


@pytest.fixture(scope="module")
def episodes(record: Record, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("episodes")
    for number in range(12):
        record(folder, number)
    return folder


def settings(episodes: Path, out: Path, **changes: Any) -> dict[str, Any]:
    return {"episodes": [episodes], "out": out, "budget": 200, "log_every": 1, **changes}


@pytest.fixture(scope="module")
def tuned(episodes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that was pretrained and then taught to answer."""
    runs = tmp_path_factory.mktemp("runs")
    read = pretrain(PretrainConfig.model_validate(settings(episodes, runs / "pretrain", steps=20, batch_size=16, nano=NANO)))
    changes = {"model": read["model"], "steps": 60, "batch_size": 16, "learning_rate": 1e-2}
    told = sft(SftConfig.model_validate(settings(episodes, runs / "sft", **changes)))
    return Path(told["model"])


def lines(run: Path, key: str) -> list[float]:
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [record[key] for record in records if key in record]


def test_a_model_from_nothing_learns_to_answer(tuned: Path, episodes: Path) -> None:
    losses = lines(tuned.parent, "loss")
    assert losses[-1] < 0.5 * losses[0]
    assert PromptFormat.load(tuned) == PromptFormat(rendering="compact", budget=200, system="", max_new_tokens=24)
    incident = compile_incident(read_episode(episodes / "e0"), 5, 200)
    answer = json.loads(SlmAgent(tuned).diagnose([incident])[0])
    assert answer["verdict"] in ("fault", "healthy")


def test_a_model_learns_how_sure_it_may_be_and_answers_as_before(record: Record, tuned: Path, episodes: Path, tmp_path: Path) -> None:
    for number in range(100, 190):
        record(tmp_path / "episodes", number)
    model = Path(shutil.copytree(tuned, tmp_path / "model"))
    with pytest.raises(InputError, match="answers to 0 kept-out episodes name a cause, and 40 are needed"):
        calibrate(model, [episodes])
    assert SlmAgent(model).format.certainty is None
    found = calibrate(model, [tmp_path / "episodes"], 0.5)
    assert 40 <= found.answers <= 3 * 90
    assert found.error_after is not None
    cases = [compile_incident(read_episode(tmp_path / f"episodes/e{number}"), 5, 200) for number in range(100, 130)]
    before, after = ([json.loads(text) for text in SlmAgent(folder).diagnose(cases)] for folder in (tuned, model))
    named = [[[(cause["component"], cause["fault"]) for cause in answer["causes"]] for answer in said] for said in (before, after)]
    assert named[0] == named[1]
    stated = [answer["causes"][0]["probability"] for answer in after if answer["causes"]]
    assert sum(stated) / len(stated) == pytest.approx(found.right, abs=0.15)
    assert stated != [answer["causes"][0]["probability"] for answer in before if answer["causes"]]
    assert prompt_format(SftConfig.model_validate(settings(episodes, tmp_path / "out", model=str(model)))).certainty is None


def test_grpo_raises_the_reward_and_logs_its_terms(record: Record, tuned: Path, episodes: Path, tmp_path: Path) -> None:
    for number in (20, 21):
        record(tmp_path / "apps", number, "process.crash", "apps")
    changes = {"model": str(tuned), "steps": 25, "batch_size": 64, "generations": 8, "pool": 6, "learning_rate": 5e-4}
    changes |= {"watched": [episodes, tmp_path / "apps"], "validate_every": 20}
    summary = grpo(GrpoConfig.model_validate(settings(episodes, tmp_path / "grpo", **changes)))
    assert summary["steps"] == 25
    rewards = lines(tmp_path / "grpo", "reward")
    assert sum(rewards[-12:]) > sum(rewards[:12])
    assert lines(tmp_path / "grpo", "term/component")
    assert lines(tmp_path / "grpo", "pass@8")
    assert len(lines(tmp_path / "grpo", "accuracy/apps")) == 3  # before, after 20 and in the end
    assert not lines(tmp_path / "grpo", "accuracy/train")
    asked = {json.loads(line)["episode"] for line in (tmp_path / "grpo/rollouts.jsonl").read_text().splitlines()}
    assert asked <= {f"e{number}" for number in range(12)}
    with pytest.raises(InputError, match="holds a run already"):
        grpo(GrpoConfig.model_validate(settings(episodes, tmp_path / "grpo", **changes)))
    assert grpo(GrpoConfig.model_validate(settings(episodes, tmp_path / "grpo", **changes)), resume=True) == summary


def test_what_arrives_is_found_once_if_it_may_be_trained_on(record: Record, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(3):
        record(tmp_path, number, "process.crash")
    arrivals = Arrivals([tmp_path], read_sources([tmp_path]), lambda name: name != "e5")
    assert arrivals() == []
    record(tmp_path, 4, "process.hang", "apps")
    for number in (3, 5, 6):
        record(tmp_path, number, "process.hang")
    (tmp_path / "e6/spans.parquet").write_bytes(b"torn")
    assert [(source.id, source.label) for source in arrivals()] == [("e3", "process.hang")]
    assert "e6" in caplog.text
    assert arrivals() == []


def test_what_one_process_cannot_read_yet_waits_for_it(record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record(tmp_path, 0, "process.crash")
    arrivals = Arrivals([tmp_path], read_sources([tmp_path]), lambda name: True)
    for number in (1, 2, 3):
        record(tmp_path, number, "process.crash")
    of_the_other = [[("e1", True), ("e3", False)], [("e2", True)]]
    monkeypatch.setattr("chaosgym.training.arrivals.gather", lambda mine: [mine, of_the_other.pop(0)])
    assert [source.id for source in arrivals()] == ["e1"]
    assert [source.id for source in arrivals()] == ["e2"]


def test_grpo_asks_about_what_comes_meanwhile(record: Record, tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    coming, look = iter(range(6, 99)), Arrivals.__call__
    for number in range(6):
        record(tmp_path / "episodes", number)

    def record_and_look(arrivals: Arrivals) -> list[Source]:
        record(tmp_path / "episodes", next(coming))
        return look(arrivals)

    monkeypatch.setattr(Arrivals, "__call__", record_and_look)
    changes = {"model": str(tuned), "steps": 6, "batch_size": 16, "generations": 2, "pool": 0, "oversample": 0, "follow": True}
    grpo(GrpoConfig.model_validate(settings(tmp_path / "episodes", tmp_path / "grpo", **changes)))
    assert lines(tmp_path / "grpo", "curriculum/episodes") == [7, 8, 9, 10, 11, 12]
    asked = {rollout.episode for rollout in read_rollouts(tmp_path / "grpo" / ROLLOUT_FILE)}
    assert asked & {f"e{number}" for number in range(6, 12)}


def test_grpo_stops_where_there_is_nothing_to_learn(
    tuned: Path, episodes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a temperature near 0 all answers to an incident are the same, and so are their rewards."""
    monkeypatch.setattr("chaosgym.training.reward._MASTERED", 2.0)  # however good they are
    changes = {"model": str(tuned), "steps": 30, "batch_size": 8, "generations": 4, "pool": 0, "temperature": 1e-4, "patience": 3}
    with pytest.raises(TrainingStopped, match="all rewards alike"):
        grpo(GrpoConfig.model_validate(settings(episodes, tmp_path / "grpo", **changes)))
    assert len(lines(tmp_path / "grpo", "reward")) <= 12


def test_the_clock_ends_a_run_early_with_a_whole_model(episodes: Path, tmp_path: Path) -> None:
    changes = {"steps": 2000, "batch_size": 4, "minutes": 0.02, "nano": NANO}
    summary = sft(SftConfig.model_validate(settings(episodes, tmp_path / "sft", **changes)))
    assert summary["out_of_time"]
    assert summary["steps"] < 2000
    assert (tmp_path / "sft" / "model" / "model.safetensors").is_file()


def last(run: Path) -> dict[str, float]:
    """What was logged about the last step, but for times."""
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    record = [record for record in found if "grad_norm" in record][-1]
    return {name: value for name, value in record.items() if not re.search("seconds?|time|epoch", name)}


CHILD = """
import sys, yaml
from chaosgym.training.config import {kind}
from chaosgym.training.{command} import {command}
if __name__ == "__main__":
    {command}({kind}.model_validate(yaml.safe_load(open(sys.argv[1]))), resume="--resume" in sys.argv)
"""


KINDS = {"sft": "SftConfig", "distill": "DistillConfig", "grpo": "GrpoConfig", "ppo": "PpoConfig"}


@pytest.mark.parametrize("command", ["sft", "distill", "grpo", "ppo"])
def test_a_killed_run_goes_on_from_its_last_checkpoint(command: str, tuned: Path, episodes: Path, tmp_path: Path) -> None:
    out = tmp_path / command
    changes: dict[str, Any] = {"model": str(tuned), "steps": 60, "batch_size": 8, "save_every": 4}
    if command == "distill":
        changes |= {"method": "logits", "teacher": f"slm:{tuned}"}
    if command in ("grpo", "ppo"):
        changes |= {"generations": 4, "pool": 6, "patience": 60}
    (tmp_path / "config.yaml").write_text(json.dumps(settings(episodes, out, **changes), default=str), encoding="utf-8")
    (tmp_path / "whole.yaml").write_text(json.dumps(settings(episodes, tmp_path / "whole", **changes), default=str), encoding="utf-8")
    (tmp_path / "child.py").write_text(CHILD.format(command=command, kind=KINDS[command]), encoding="utf-8")
    arguments = [sys.executable, str(tmp_path / "child.py"), str(tmp_path / "config.yaml")]
    child = subprocess.Popen(arguments, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        until = time.monotonic() + 240
        while not list(out.glob("checkpoint-*/trainer_state.json")) and child.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    assert not (out / "summary.json").exists()
    done = subprocess.run([*arguments, "--resume"], env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=300, check=False)
    assert done.returncode == 0
    summary = json.loads((out / "summary.json").read_text())
    assert summary["steps"] == 60
    assert summary["resumed_from"].startswith("checkpoint-")
    arguments[2] = str(tmp_path / "whole.yaml")
    subprocess.run(arguments, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=300, check=True)
    assert last(out) == pytest.approx(last(tmp_path / "whole"), rel=1e-5, abs=1e-7)
    if command in ("grpo", "ppo"):  # it asked, and was answered, what a run that nobody killed was
        assert list(read_rollouts(out / ROLLOUT_FILE)) == list(read_rollouts(tmp_path / "whole" / ROLLOUT_FILE))
        assert len(lines(out, "pool")) == 1


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Somebody's Qwen3: another tokenizer, no chaosgym.json."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    folder = tmp_path_factory.mktemp("foreign")
    tokenizer: Any = build_tokenizer(["the root cause of an incident is a component and a fault"] * 20, 800)
    heads: dict[str, Any] = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16}
    shape: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, **heads}
    model = Qwen3ForCausalLM(Qwen3Config(
        vocab_size=len(tokenizer), max_position_embeddings=8192, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id, **shape,
    ))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_adapters_train_on_anybodys_model(foreign: Path, episodes: Path, tmp_path: Path) -> None:
    changes = {"model": str(foreign), "lora": {"rank": 4}, "steps": 2, "batch_size": 4, "learning_rate": 1e-3, "muon_learning_rate": 0}
    told = sft(SftConfig.model_validate(settings(episodes, tmp_path / "sft", **changes)))
    assert (Path(told["model"]) / "adapter_config.json").is_file()
    assert PromptFormat.load(told["model"]).rendering == "readable"
    changes |= {"model": told["model"], "generations": 2, "pool": 2, "max_answer": 8, "patience": 50}
    better = grpo(GrpoConfig.model_validate(settings(episodes, tmp_path / "grpo", **changes)))
    assert better["steps"] == 2
    assert (Path(better["model"]) / "adapter_config.json").is_file()


def test_a_folder_that_is_no_model_is_refused(episodes: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no config.json, so not a model"):
        sft(SftConfig.model_validate(settings(episodes, tmp_path / "sft", model=str(tmp_path / "empty"))))
