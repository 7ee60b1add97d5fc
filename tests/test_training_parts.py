"""Tasks, reward, run directory, optimizer and shared prompts: the parts of training, each by itself."""

from __future__ import annotations

import contextlib
import copy
import inspect
import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
import torch

from chaosgym.agents.prompt import PromptFormat
from chaosgym.diagnosis import Cause, Diagnosis
from chaosgym.episode import ComponentInfo, EdgeInfo, EpisodeHeader, Window, write_episode
from chaosgym.errors import InputError
from chaosgym.rewards import WEIGHTS, score
from chaosgym.telemetry.store import TelemetryBuffer
from chaosgym.training.callbacks import FiniteLoss, TrainingStopped
from chaosgym.training.config import SftConfig
from chaosgym.training.optimizer import MuonAdamW, Schedule, make_optimizer, make_schedule
from chaosgym.training.reward import Judge, Variance
from chaosgym.training.run import open_run
from chaosgym.training.tasks import Source, draw_tasks, in_turn, make_task, read_sources, right_answer
from chaosgym.truth import TrueCause, Truth

SECOND = 10**9
START = 1_790_000_000 * SECOND
COMPACT = PromptFormat(rendering="compact", budget=350, system="", max_new_tokens=24)


def record(folder: Path, number: int, culprit: str, fault: str, *, status: Literal["ok", "unscorable"] = "ok", **changes: Any) -> None:
    """One episode of a gateway with two services, of which one may refuse its calls."""
    buffer = TelemetryBuffer()
    names = ("front-door", "billing-core", "cart-api")
    for i in range(80):
        at, peer = START + i * SECOND // 40, names[1 + i % 2]
        bad = fault != "" and peer == culprit and i >= 40
        error, http = ("ConnectionRefusedError", 503) if bad else (None, 200)
        row = (f"t{i}", f"c{i}", None, "GET", "client", "error" if bad else "unset", error, f"{peer}.internal", http, error, "{}")
        buffer.spans.append((at, at + 4_000_000, names[0], *row))
    header = EpisodeHeader(
        id=f"e{number}", entry=names[0], baseline=Window(START, START + SECOND), incident=Window(START + SECOND, START + 2 * SECOND),
        components=tuple(ComponentInfo(name=n, kind="service", host=f"{n}.internal") for n in names),
        edges=tuple(EdgeInfo(source=names[0], target=n) for n in names[1:]),
        status=status, reason="" if status == "ok" else "the sandbox died",
    )
    causes = (TrueCause(component=culprit, fault=fault),) if fault else ()
    truth = Truth(scenario=fault or "calm", app="shop", verdict="fault" if fault else "healthy", causes=causes, **changes)
    write_episode(folder, header, buffer.tables(), truth)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("episodes")
    record(path, 0, "billing-core", "process.crash")
    record(path, 1, "cart-api", "process.crash")
    record(path, 2, "billing-core", "process.crash")
    record(path, 3, "", "")
    record(path, 4, "cart-api", "process.hang", split="seeds")
    record(path, 5, "cart-api", "process.hang", visible=False)
    record(path, 6, "cart-api", "process.hang", status="unscorable")
    return path


@pytest.fixture(scope="module")
def sources(folder: Path) -> list[Source]:
    return read_sources([folder])


def test_only_good_episodes_of_the_training_split_are_read(sources: list[Source], tmp_path: Path) -> None:
    assert [source.id for source in sources] == ["e0", "e1", "e2", "e3"]
    record(tmp_path, 0, "cart-api", "process.hang", split="seeds")
    record(tmp_path, 1, "cart-api", "process.hang", visible=False)
    with pytest.raises(InputError, match=r"nothing to train on \(1 of split seeds, 1 invisible\)"):
        read_sources([tmp_path])


def test_labels_are_drawn_alike_and_every_rendering_is_another(sources: list[Source]) -> None:
    tasks = list(draw_tasks(sources, 40, 1, COMPACT))
    assert Counter(task.source.label for task in tasks) == {"process.crash": 20, "healthy": 20}
    assert len({task.incident.compact for task in tasks}) == 40
    assert [t.incident.compact for t in draw_tasks(sources, 40, 1, COMPACT)] == [t.incident.compact for t in tasks]


@pytest.mark.parametrize("rendering", ["compact", "readable"])
def test_the_right_answer_earns_what_can_be_earned(sources: list[Source], rendering: str) -> None:
    form = COMPACT.model_copy(update={"rendering": rendering})
    for source in sources:
        task = make_task(source, 7, form)
        answer = right_answer(task, form, 1.0)
        total = score(form.read(answer, task.incident), source.truth, task.incident.components).total
        assert total is not None
        assert total >= 1 - WEIGHTS["evidence"]


def test_the_judge_scores_by_task_and_logs_every_term(sources: list[Source]) -> None:
    judge, logged = Judge(COMPACT), dict[str, float]()
    tasks = [make_task(source, 1, COMPACT) for source in sources[:2]]
    judge.know(tasks)
    completions = [[{"role": "assistant", "content": right_answer(tasks[0], COMPACT, 0.9)}], [{"role": "assistant", "content": "?"}]]
    first, second = judge(completions, [Judge.key(task) for task in tasks], logged.__setitem__, trainer_state=None)
    assert first is not None
    assert first > 0.95
    assert second == 0.0
    assert set(logged) == {f"term/{name}" for name in WEIGHTS}
    assert logged["term/component"] == 0.5
    assert judge.unreadable["process.crash"] == 1


def test_healthy_is_one_in_ten_however_many_faults_there_are() -> None:
    assert in_turn(["process.crash", "healthy"]) == ["healthy", "process.crash"]
    turn = in_turn([*(f"family.fault{n}" for n in range(72)), "healthy"])
    assert (len(turn), turn.count("healthy"), len(set(turn))) == (80, 8, 73)
    assert in_turn(["b", "a"]) == ["a", "b"]


def test_a_sparse_reward_pays_nothing_for_half_an_answer(sources: list[Source]) -> None:
    task = make_task(sources[0], 1, COMPACT)
    right, half = right_answer(task, COMPACT, 0.9), right_answer(task, COMPACT, 0.9).replace("process.crash", "process.hang")
    shaped, sparse = Judge(COMPACT), Judge(COMPACT, sparse=True)
    assert [sparse.rollout(text, task).reward for text in (right, half)] == [1.0, 0.0]
    assert 0.5 < (shaped.rollout(half, task).reward or 0) < shaped.solved
    assert sparse.rollout(half, task).terms == shaped.rollout(half, task).terms


def test_an_invisible_fault_has_no_reward(sources: list[Source]) -> None:
    truth = sources[0].truth.model_copy(update={"visible": False})
    task = make_task(Source("e9", sources[0].findings, truth), 0, COMPACT)
    judge = Judge(COMPACT)
    judge.know([task])
    logged = dict[str, float]()
    assert judge(["{}"], [Judge.key(task)], logged.__setitem__) == [None]
    assert logged == {}
    assert judge.rollout("{}", task).reward is None


def stopped_after(judge: Judge, logs: list[dict[str, float]], patience: int) -> Variance:
    guard, control = Variance(judge, patience), SimpleNamespace(should_training_stop=False)
    for line in logs:
        guard.on_log(SimpleNamespace(logging_steps=1), None, control, line)
    assert control.should_training_stop == bool(guard.reason)
    return guard


def test_the_guard_stops_when_rewards_stay_alike_and_says_why(sources: list[Source]) -> None:
    judge = Judge(COMPACT)
    tasks = [make_task(sources[0], 1, COMPACT)]
    judge.know(tasks)
    alike, different = {"frac_reward_zero_std": 1.0, "reward": 0.0}, {"frac_reward_zero_std": 0.5, "reward": 0.3}
    assert not stopped_after(judge, [alike, alike, different, alike, {"loss": 1.0}], 3).reason
    judge(["nonsense"] * 4, [Judge.key(tasks[0])] * 4)
    guard = stopped_after(judge, [alike] * 3, 3)
    with pytest.raises(TrainingStopped, match=r"4 of 4 answers are no readable diagnosis, most of scenario process.crash"):
        guard.check()


def test_the_guard_ends_training_in_good_order_when_all_answers_are_right(sources: list[Source]) -> None:
    judge, control = Judge(COMPACT), SimpleNamespace(should_training_stop=False)
    guard = Variance(judge, 3)
    for _ in range(3):
        guard.on_log(SimpleNamespace(logging_steps=1), None, control, {"frac_reward_zero_std": 1.0, "reward": 0.98})
    assert control.should_training_stop
    guard.check()


def test_a_loss_that_is_no_number_stops_training() -> None:
    guard, control = FiniteLoss(), SimpleNamespace(should_training_stop=False)
    guard.on_log(None, SimpleNamespace(global_step=4), control, {"loss": float("nan")})
    assert control.should_training_stop
    with pytest.raises(TrainingStopped, match="the loss is nan at step 4"):
        guard.check()


def config(out: Path, **changes: Any) -> SftConfig:
    return SftConfig.model_validate({"episodes": ["episodes"], "out": out, **changes})


def test_a_run_directory_is_begun_once_and_resumed_unchanged(tmp_path: Path) -> None:
    out = tmp_path / "runs" / "a"
    run = open_run(config(out), "sft", resume=False)
    run.log({"step": 1, "loss": 0.5})
    assert json.loads((out / "config.json").read_text())["config"]["steps"] == 200
    assert (tmp_path / "runs" / "latest").resolve() == out.resolve()
    with pytest.raises(InputError, match="holds a run already; pass --resume"):
        open_run(config(out), "sft", resume=False)
    with pytest.raises(InputError, match=r"learning_rate \(0.003 then, 0.1 now\), steps \(200 then, 3 now\)"):
        open_run(config(out, steps=3, learning_rate=0.1), "sft", resume=True)
    with pytest.raises(InputError, match="was begun by `sft`"):
        open_run(config(out), "pretrain", resume=True)
    again = open_run(config(out, log_every=1), "sft", resume=True)
    assert again.summary() is None
    assert again.finish({"steps": 3})["steps"] == 3
    assert again.summary() == {"command": "sft", "out": str(out), "model": str(out / "model"), "steps": 3}


def test_a_checkpoint_counts_only_when_it_is_whole(tmp_path: Path) -> None:
    run = open_run(config(tmp_path / "a"), "sft", resume=False)
    assert run.checkpoint() is None
    for step, whole in ((50, True), (100, True), (150, False)):
        (run.path / f"checkpoint-{step}").mkdir()
        if whole:
            (run.path / f"checkpoint-{step}" / "trainer_state.json").write_text("{}")
    assert run.checkpoint() == run.path / "checkpoint-100"


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4))


def descend(model: torch.nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> float:
    x, y, loss = torch.randn(64, 8, generator=torch.Generator().manual_seed(1)), torch.arange(64) % 4, torch.tensor(0.0)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
    return float(loss.detach())


def test_muon_takes_the_matrices_and_adamw_the_rest() -> None:
    model = network()
    optimizer = make_optimizer(model, 0.02, 1e-3)
    assert isinstance(optimizer, MuonAdamW)
    assert [len(group["params"]) for group in optimizer.param_groups] == [2, 2]
    assert descend(model, optimizer, 30) < descend(network(), make_optimizer(network(), 0.0, 1e-3), 1)
    assert isinstance(make_optimizer(model, 0.0, 1e-3), torch.optim.AdamW)


def test_a_restored_optimizer_goes_on_as_if_nothing_had_happened() -> None:
    one = network()
    first = make_optimizer(one, 0.02, 1e-3)
    descend(one, first, 3)
    other = network()
    other.load_state_dict(one.state_dict())
    second = make_optimizer(other, 0.5, 0.5)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert descend(one, first, 5) == pytest.approx(descend(other, second, 5), rel=1e-6)


def test_the_schedule_rises_falls_and_keeps_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    by_steps = Schedule(100, 0.1, None)
    factors = [by_steps(step) for step in range(101)]
    assert factors[0] == pytest.approx(0.1)
    assert factors.index(max(factors)) in range(8, 12)
    assert factors[-1] == pytest.approx(0.1)
    limited = Schedule(100, 0.1, 60.0)
    optimizer = make_optimizer(network(), 0.0, 1.0)
    scheduler = make_schedule(optimizer, limited)
    optimizer.step()
    now[0] += 60.0
    scheduler.step()
    assert limited.out_of_time
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1)
    resumed = Schedule(100, 0.1, 60.0)
    make_schedule(make_optimizer(network(), 0.0, 1.0), resumed).load_state_dict(scheduler.state_dict())
    assert resumed.out_of_time


def tiny_model(vocabulary: int = 64) -> Any:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    heads: dict[str, Any] = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16}
    shape: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, **heads}
    return Qwen3ForCausalLM(Qwen3Config(vocab_size=vocabulary, tie_word_embeddings=True, **shape)).eval()


def answers_to_prompts(prompts: int, generations: int, width: int, answer: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A shuffled batch as GRPO makes it: prompts padded on the left, answers on the right."""
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(1, 64, (prompts, generations, width + answer), generator=generator)
    ids[:, :, :width] = ids[:, :1, :width].clone()
    mask = torch.ones_like(ids)
    for number in range(prompts):
        mask[number, :, : 2 * number] = 0
    for number in range(generations):
        mask[:, number, width + 1 + number % answer :] = 0
    order = torch.randperm(prompts * generations, generator=generator)
    return (ids * mask).flatten(0, 1)[order], mask.flatten(0, 1)[order]


def test_shared_prompts_give_the_numbers_of_trl() -> None:
    from trl import GRPOTrainer
    from trl.trainer.utils import add_fused_lm_head

    from chaosgym.training.prefix import SharedPrefixGRPOTrainer

    model = tiny_model()
    add_fused_lm_head(model, temperature=0.7, outputs=("log_probs", "entropy"))
    trainer: Any = SharedPrefixGRPOTrainer.__new__(SharedPrefixGRPOTrainer)
    trainer.accelerator = SimpleNamespace(autocast=contextlib.nullcontext)
    ids, mask = answers_to_prompts(3, 4, 12, 5)
    plain = inspect.unwrap(vars(GRPOTrainer)["_get_per_token_logps_and_entropies"])
    expected = plain(trainer, model, ids, mask, 5, compute_entropy=True)
    found = trainer._get_per_token_logps_and_entropies(model, ids, mask, 5, compute_entropy=True)
    there = mask[:, 12:].bool()
    for mine, theirs in zip(found[:2], expected[:2], strict=True):
        torch.testing.assert_close(mine[there], theirs[there], atol=1e-5, rtol=1e-5)


def test_groups_of_unequal_size_are_left_to_trl() -> None:
    from chaosgym.training.prefix import pack

    ids, mask = answers_to_prompts(2, 4, 6, 3)
    assert pack(ids, mask, 3) is not None
    assert pack(ids[:-1], mask[:-1], 3) is None


def test_answers_from_a_shared_prompt_are_those_of_plain_generation() -> None:
    from transformers import GenerationConfig

    from chaosgym.training.decoding import decode

    model, prompts = tiny_model(), [(5, 6, 7, 8, 9), (3, 4), (11, 12, 13)]
    ids = torch.tensor([[0] * (5 - len(prompt)) + list(prompt) for prompt in prompts]).repeat_interleave(4, 0)
    for how in ({"do_sample": False}, {"do_sample": True, "temperature": 0.7, "top_k": 0}):
        config = GenerationConfig(max_new_tokens=6, pad_token_id=0, eos_token_id=list(range(50, 64)), **how)
        torch.manual_seed(0)
        expected = model.generate(ids, attention_mask=(ids > 0).long(), generation_config=config)[:, 5:]
        torch.manual_seed(0)
        with torch.no_grad():
            found = decode(model, prompts, 4, config, "cpu").flatten(0, 1)
        assert found.tolist() == expected.tolist()
    assert (found == 0).any()
    assert len({tuple(answer) for answer in found.tolist()}) > 3


def test_prompts_asked_unequally_often_are_answered_in_the_order_asked() -> None:
    from transformers import GenerationConfig

    from chaosgym.training.prefix import SharedPrefixGRPOTrainer

    model = tiny_model()
    trainer: Any = SharedPrefixGRPOTrainer.__new__(SharedPrefixGRPOTrainer)
    trainer.accelerator = SimpleNamespace(device=torch.device("cpu"))
    trainer.eos_token_ids = [63]
    trainer.generation_config = GenerationConfig(max_new_tokens=6, do_sample=False, pad_token_id=0, eos_token_id=[63])
    asked = [(5, 6, 7, 8, 9), (3, 4), (5, 6, 7, 8, 9), (11, 12, 13)]
    for prompt, answer in zip(asked, trainer._answers(model, asked), strict=True):
        alone = model.generate(torch.tensor([prompt]), generation_config=trainer.generation_config)[0, len(prompt) :].tolist()
        assert answer == trainer._until_end(alone)


def test_several_causes_are_answered_in_order() -> None:
    truth = Truth(scenario="s", app="a", verdict="fault", causes=tuple(TrueCause(component=c, fault="process.crash") for c in ("a", "b")))
    incident: Any = SimpleNamespace(handles={"c3": "a", "c9": "b"})
    task: Any = SimpleNamespace(source=SimpleNamespace(truth=truth), incident=incident)
    answer = right_answer(task, COMPACT, 0.9)
    assert answer.index("c3") < answer.index("c9")
    assert Diagnosis.model_validate_json(answer).causes[0] == Cause(component="c3", fault="process.crash", probability=0.9)


def test_the_loss_on_answers_is_that_of_trl(tmp_path: Path) -> None:
    from datasets import Dataset
    from trl import SFTConfig as TrlConfig
    from trl import SFTTrainer

    from chaosgym.training.answers import AnswerTrainer, Collator
    from chaosgym.training.tokenizer import build_tokenizer

    rows = [{"input_ids": list(range(5, 9 + n)), "labels": [-100] * 3 + list(range(8, 9 + n))} for n in range(4)]
    args = TrlConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to="none", dataset_kwargs={"skip_prepare_dataset": True},
                     activation_checkpointing=False)
    common: Any = {"args": args, "train_dataset": Dataset.from_list(rows), "processing_class": build_tokenizer(["a"], 700)}
    model = tiny_model(1024)
    mine: Any = AnswerTrainer(model, data_collator=Collator(0), **common)
    found = float(mine.compute_loss(model, mine.data_collator(rows)).detach())
    theirs: Any = SFTTrainer(model, **common)
    expected = float(theirs.compute_loss(model, theirs.data_collator(rows)).detach())
    assert found == pytest.approx(expected, rel=1e-5)
