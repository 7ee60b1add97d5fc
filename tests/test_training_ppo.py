"""PPO: advantages and value loss against what can be computed by hand, the value head, and the line on recorded episodes."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from chaosgym.agents.slm import SlmAgent
from chaosgym.episode import read_episode
from chaosgym.errors import InputError
from chaosgym.incident import compile_incident
from chaosgym.training.config import NanoShape, PpoConfig, PretrainConfig, SftConfig
from chaosgym.training.gae import advantages, at_the_end, explained_variance, value_loss, whiten
from chaosgym.training.nano import make_nano
from chaosgym.training.optimizer import MuonAdamW, make_optimizer
from chaosgym.training.ppo import method, ppo
from chaosgym.training.pretrain import pretrain
from chaosgym.training.rescore import rescore
from chaosgym.training.rollouts import ROLLOUT_FILE, read_rollouts
from chaosgym.training.run import open_run
from chaosgym.training.sft import sft
from chaosgym.training.tokenizer import build_tokenizer

# ── What is computed ────────────────────────────────────────────────────────────────────────────────
Record = Callable[..., None]


def test_advantages_of_three_tokens_by_hand() -> None:
    """delta = (0 + .9 * .6 - .5, 0 + .9 * .8 - .6, 1 - .8) = (.04, .12, .2); trace * discount = .45."""
    found = advantages(torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[0.5, 0.6, 0.8]]), torch.ones(1, 3), 0.9, 0.5)
    last, middle = 0.2, 0.12 + 0.45 * 0.2
    torch.testing.assert_close(found, torch.tensor([[0.04 + 0.45 * middle, middle, last]]))


@pytest.mark.parametrize(("trace", "expected"), [(1.0, [1.0 - 0.7, 1.0 - 0.9, 1.0 - 0.6]), (0.0, [0.9 - 0.7, 0.6 - 0.9, 1.0 - 0.6])])
def test_the_ends_of_lambda_are_what_came_of_it_and_one_step_ahead(trace: float, expected: list[float]) -> None:
    """At 1 the reward to come less the value, at 0 the next value less this one."""
    found = advantages(torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[0.7, 0.9, 0.6]]), torch.ones(1, 3), 1.0, trace)
    torch.testing.assert_close(found, torch.tensor([expected]))


def test_with_values_of_nothing_advantages_decay_from_the_reward() -> None:
    """V = 0: A_t = (discount * trace)^(T - 1 - t) times the reward at the end."""
    length = 12
    rewards = at_the_end(torch.tensor([2.0]), torch.ones(1, length))
    found = advantages(rewards, torch.zeros(1, length), torch.ones(1, length), 0.9, 0.8)
    torch.testing.assert_close(found[0], 2.0 * 0.72 ** torch.arange(length - 1, -1, -1).float())


def naive(rewards: list[float], values: list[float], discount: float, trace: float) -> list[float]:
    """Equation 16 as it stands: for each token a sum over all that follow."""
    ahead = [*values, 0.0][1:]
    deltas = [r + discount * n - v for r, n, v in zip(rewards, ahead, values, strict=True)]
    return [sum((discount * trace) ** (later - t) * deltas[later] for later in range(t, len(deltas))) for t in range(len(deltas))]


@st.composite
def trajectories(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rewards, values and which tokens the model wrote, (B, T)."""
    rows, width = draw(st.integers(1, 4)), draw(st.integers(1, 9))
    numbers = st.lists(st.floats(-2, 2, width=32), min_size=rows * width, max_size=rows * width)
    mask = draw(st.lists(st.booleans(), min_size=rows * width, max_size=rows * width))
    rewards, values = (torch.tensor(draw(numbers), dtype=torch.float64).view(rows, width) for _ in range(2))
    return rewards, values, torch.tensor(mask).long().view(rows, width)


@given(trajectories(), st.floats(0, 1), st.floats(0, 1))
def test_advantages_are_those_of_the_tokens_that_the_model_wrote(
    drawn: tuple[torch.Tensor, torch.Tensor, torch.Tensor], discount: float, trace: float
) -> None:
    """Whatever stands between them, a padding or the words of a tool, is as if it were not there."""
    rewards, values, mask = drawn
    found = advantages(rewards, values, mask, discount, trace)
    assert bool((found[mask == 0] == 0).all())
    for row in range(len(mask)):
        there = mask[row].bool()
        expected = naive(rewards[row][there].tolist(), values[row][there].tolist(), discount, trace)
        torch.testing.assert_close(found[row][there], torch.tensor(expected, dtype=torch.float64), atol=1e-9, rtol=1e-9)


@given(trajectories(), st.floats(0, 1), st.floats(0, 1))
def test_advantages_by_turn_are_of_decisions_that_may_take_many_tokens(
    drawn: tuple[torch.Tensor, torch.Tensor, torch.Tensor], discount: float, trace: float
) -> None:
    """Equation 16 with a trace that fades from one turn to the next alone."""
    rewards, values, mask = drawn
    found = advantages(rewards, values, mask, discount, trace, by_turn=True)
    for row in range(len(mask)):
        columns = [t for t in range(mask.size(1)) if mask[row, t]]
        for first in columns:
            expected, factor = 0.0, 1.0
            for t, later in zip(columns, [*columns[1:], None], strict=True):
                if t < first:
                    continue
                ahead = values[row, later] if later is not None else 0.0
                expected += factor * float(rewards[row, t] + discount * ahead - values[row, t])
                factor *= discount * (1.0 if later == t + 1 else trace)
            assert float(found[row, first]) == pytest.approx(expected, abs=1e-9)


def test_a_turn_of_two_tokens_by_hand() -> None:
    """deltas (.1, .1, -, .3); the trace, a half, fades between the second and the last token alone."""
    mask = torch.tensor([[1, 1, 0, 1]])
    found = advantages(torch.tensor([[0.0, 0.0, 0.0, 1.0]]), torch.tensor([[0.5, 0.6, 9.0, 0.7]]), mask, 1.0, 0.5, by_turn=True)
    torch.testing.assert_close(found, torch.tensor([[0.1 + 0.1 + 0.5 * 0.3, 0.1 + 0.5 * 0.3, 0.0, 0.3]]))


@pytest.mark.parametrize(("changes", "by_turn"), [({}, False), ({"task": "investigate"}, True), ({"gae_step": "turn"}, True),
                                                  ({"task": "investigate", "gae_step": "token"}, False)])  # fmt: skip
def test_an_investigation_counts_in_turns_unless_told_otherwise(changes: dict[str, Any], by_turn: bool) -> None:
    how: Any = method(PpoConfig(model="m", episodes=(Path("e"),), out=Path("o"), **changes)).sharing
    assert how.keywords["estimation"].by_turn is by_turn


def test_the_reward_stands_at_the_last_token_that_the_model_wrote() -> None:
    mask = torch.tensor([[1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]])
    found = at_the_end(torch.tensor([0.5, -1.0, 3.0]), mask)
    assert found.tolist() == [[0.0, 0.5, 0.0, 0.0], [0.0, 0.0, -1.0, 0.0], [0.0] * 4]


@given(trajectories())
def test_whitened_values_have_mean_0_and_deviation_1(drawn: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
    _, values, mask = drawn
    found = whiten(values, mask)
    there = mask.bool()
    assert bool((found[~there] == 0).all())
    if int(there.sum()) and float(values[there].var(correction=0)) > 1e-6:
        assert float(found[there].mean()) == pytest.approx(0, abs=1e-6)
        assert float(found[there].std(correction=0)) == pytest.approx(1, abs=1e-3)


def test_the_value_loss_by_hand() -> None:
    """Clip .2. Within it: half the square. Moved too far towards the return: the clipped error counts, without a gradient.
    Moved too far away from it: the error as it is. Not written by the model: nothing."""
    old = torch.zeros(1, 4)
    values = torch.tensor([[0.1, 0.5, -0.5, 9.0]], requires_grad=True)
    returns = torch.ones(1, 4)
    total, clipped = value_loss(values, old, returns, torch.tensor([[1, 1, 1, 0]]), 0.2)
    assert float(total.detach()) == pytest.approx(0.5 * (0.9**2 + 0.8**2 + 1.5**2))
    assert float(clipped) == pytest.approx(1 / 3)
    total.backward()
    assert values.grad is not None
    assert values.grad[0].tolist() == pytest.approx([-0.9, 0.0, -1.5, 0.0])


def test_explained_variance_is_1_for_the_truth_0_for_a_constant_and_less_for_worse() -> None:
    returns, mask = torch.tensor([[0.0, 1.0, 1.0, 7.0]]), torch.tensor([[1, 1, 1, 0]])
    assert explained_variance(returns, returns, mask) == pytest.approx(1)
    assert explained_variance(torch.full((1, 4), 0.4), returns, mask) == pytest.approx(0, abs=1e-6)
    assert explained_variance(1 - returns, returns, mask) == pytest.approx(-3)
    assert str(explained_variance(returns, torch.ones(1, 4), mask)) == "nan"


# ── The value head ──────────────────────────────────────────────────────────────────────────────────
def tiny_model() -> Any:
    from transformers import Qwen3Config, Qwen3ForCausalLM
    from trl.trainer.utils import add_fused_lm_head

    torch.manual_seed(0)
    heads: dict[str, Any] = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16}
    shape: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, **heads}
    model = Qwen3ForCausalLM(Qwen3Config(vocab_size=64, tie_word_embeddings=True, **shape)).eval()
    add_fused_lm_head(model, temperature=0.7, outputs=("log_probs", "entropy"))
    return model


def with_critic(seed: int = 1) -> tuple[Any, Any]:
    from chaosgym.training.critic import Critic

    model = tiny_model()
    critic = Critic(model)
    torch.manual_seed(seed)
    torch.nn.init.normal_(critic.head.weight)
    return model, critic


def test_a_value_is_of_the_state_before_its_token() -> None:
    """A later token changes no earlier value; the columns are those of TRL's log-probabilities."""
    model, critic = with_critic()
    ids = torch.randint(1, 64, (2, 7), generator=torch.Generator().manual_seed(3))
    other = ids.clone()
    other[:, 5] = (ids[:, 5] + 1) % 64
    scored: Any = [model(input_ids=x, attention_mask=torch.ones_like(x), labels=x, fused_lm_head=True) for x in (ids, other)]
    first, second = critic.take()
    assert first.shape == scored[0].log_probs.shape == (2, 6)
    torch.testing.assert_close(scored[0].state_values, first)
    torch.testing.assert_close(first[:, :5], second[:, :5])
    assert not torch.allclose(first[:, 5], second[:, 5])
    assert critic.take() == []


def test_the_head_neither_changes_generation_nor_the_saved_weights(tmp_path: Path) -> None:
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    plain, (model, critic) = tiny_model(), with_critic()
    prompt = torch.tensor([[5, 6, 7]])
    assert torch.equal(*(m.generate(prompt, max_new_tokens=5, do_sample=False, pad_token_id=0) for m in (plain, model)))
    assert critic.take() == []
    model.save_pretrained(tmp_path)
    critic.save(tmp_path)
    assert not [name for name in load_file(tmp_path / "model.safetensors") if "value" in name]
    again: Any = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert not hasattr(again, "value_head")


def test_the_value_head_survives_save_and_load(tmp_path: Path) -> None:
    _, critic = with_critic()
    critic.save(tmp_path)
    _, other = with_critic(seed=2)
    assert not torch.equal(critic.head.weight, other.head.weight)
    other.load(tmp_path)
    assert torch.equal(critic.head.weight, other.head.weight)
    (tmp_path / "value_head.safetensors").write_bytes(b"no")
    with pytest.raises(InputError, match="no value head of this model"):
        other.load(tmp_path)


def test_muon_leaves_the_value_head_to_adamw() -> None:
    model, critic = with_critic()
    optimizer = make_optimizer(model, 0.02, 1e-3)
    assert isinstance(optimizer, MuonAdamW)
    assert any(p is critic.head.weight for p in optimizer.param_groups[-1]["params"])


def test_values_of_shared_prompts_are_those_of_whole_rows() -> None:
    from chaosgym.training.critic import PPOTrainer, SharedPrefixPPOTrainer

    model, critic = with_critic()
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(1, 64, (3, 4, 17), generator=generator)
    ids[:, :, :12] = ids[:, :1, :12].clone()
    mask = torch.ones_like(ids)
    for number in range(4):
        mask[:, number, 13 + number :] = 0
        mask[min(number, 2), :, : 2 * number] = 0
    order = torch.randperm(12, generator=generator)
    ids, mask = (ids * mask).flatten(0, 1)[order], mask.flatten(0, 1)[order]
    found: list[torch.Tensor] = []
    for kind in (PPOTrainer, SharedPrefixPPOTrainer):
        trainer: Any = kind.__new__(kind)
        trainer.accelerator = SimpleNamespace(autocast=contextlib.nullcontext, is_main_process=True)
        trainer.critic, trainer._passes = critic, []
        trainer._get_per_token_logps_and_entropies(model, ids, mask, 5, batch_size=6, compute_entropy=True)
        found.append(trainer._passes.pop())
    there = mask[:, 12:].bool()
    assert found[0].shape == (12, 5)
    torch.testing.assert_close(found[0][there], found[1][there], atol=1e-5, rtol=1e-5)


# ── The line ────────────────────────────────────────────────────────────────────────────────────────
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
    """A small model that was pretrained and then taught to answer."""
    runs, shape = tmp_path_factory.mktemp("runs"), {"hidden": 64, "layers": 2}
    read = pretrain(PretrainConfig.model_validate(settings(episodes, runs / "pretrain", steps=20, batch_size=16, nano=shape)))
    changes = {"model": read["model"], "steps": 60, "batch_size": 16, "learning_rate": 1e-2}
    return Path(sft(SftConfig.model_validate(settings(episodes, runs / "sft", **changes)))["model"])


def logged(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def column(run: Path, key: str) -> list[float]:
    return [line[key] for line in logged(run) if key in line]


def line(*marks: Any) -> Any:
    """Marks of tests that train; the warnings are of the libraries below us, about each other."""

    def marked(test: Any) -> Any:
        quiet = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
        for mark in (pytest.mark.training, pytest.mark.timeout(600), quiet, *marks):
            test = mark(test)
        return test

    return marked


@line()
def test_ppo_learns_to_write_what_is_rewarded(tmp_path: Path) -> None:
    """A model of a few thousand parameters, random, rewarded for the share of one half of the vocabulary in its answers."""
    from datasets import Dataset
    from trl import GRPOConfig

    from chaosgym.training.critic import Estimation, PPOTrainer

    tokenizer: Any = build_tokenizer(["a b c d"] * 4, 700)
    model: Any = make_nano(NanoShape(hidden=32, layers=1), tokenizer, seed=0)
    half = len(tokenizer) // 2

    def share(completion_ids: list[list[int]], **columns: Any) -> list[float]:
        return [sum(token < half for token in ids) / len(ids) for ids in completion_ids]

    args = GRPOConfig(
        str(tmp_path), per_device_train_batch_size=32, num_generations=2, num_iterations=2, max_steps=60, max_completion_length=8,
        learning_rate=1e-2, lr_scheduler_type="constant", logging_steps=1, report_to="none", save_strategy="no", use_cpu=True,
        bf16=False, activation_checkpointing=False, disable_tqdm=True, loss_type="dapo",
    )
    data = Dataset.from_dict({"prompt": ["a b", "c d", "b c", "d a"] * 8})
    trainer: Any = PPOTrainer(
        model, share, args, data, processing_class=tokenizer, estimation=Estimation(1.0, 0.95, False, True, 0.2, 0.1)
    )
    trainer.train()
    rewards = [log["reward"] for log in trainer.state.log_history if "reward" in log]
    assert len(rewards) == 30
    assert sum(rewards[:3]) / 3 < 0.7
    assert sum(rewards[-3:]) / 3 > 0.9


@line()
def test_ppo_learns_what_to_expect_and_keeps_what_was_answered(tuned: Path, episodes: Path, tmp_path: Path) -> None:
    out = tmp_path / "ppo"
    changes = {"model": str(tuned), "steps": 80, "epochs": 2, "batch_size": 32, "pool": 6, "beta": 0.01}
    config = PpoConfig.model_validate(settings(episodes, out, **changes))
    summary = ppo(config)
    assert summary["steps"] == 80
    rewards = column(out, "reward")
    assert len(rewards) == 40  # of 80 updates: one batch of answers for two
    for key in ("explained_variance", "value", "value_loss", "value_clip_fraction", "clip_ratio/region_mean", "entropy", "kl"):
        assert column(out, key), key
    losses = column(out, "value_loss")
    assert sum(losses[-10:]) < sum(losses[:10])
    rollouts = list(read_rollouts(out / ROLLOUT_FILE))
    assert len(rollouts) == 40 * 32
    assert {rollout.step for rollout in rollouts} == set(range(0, 80, 2))
    found = rescore(out)
    assert (found.answers, found.missing, found.unscorable, found.moved) == (1280, 0, 0, 0)
    assert all(change.before == pytest.approx(change.now) and not change.changed for change in found.changes)
    assert found.changes[0].now == pytest.approx(sum(rewards) / len(rewards), abs=1e-4)
    incident = compile_incident(read_episode(episodes / "e0"), 5, 200)
    assert json.loads(SlmAgent(Path(summary["model"])).diagnose([incident])[0])["verdict"] in ("fault", "healthy")
    assert ppo(config, resume=True) == summary


@line()
def test_a_run_goes_on_from_its_checkpoint_with_its_value_head(tuned: Path, episodes: Path, tmp_path: Path) -> None:
    """What a run that is killed after step 6 leaves: no model, no summary, rollouts of later steps."""
    from safetensors.torch import load_file

    out = tmp_path / "ppo"
    changes = {"model": str(tuned), "steps": 9, "epochs": 2, "batch_size": 8, "save_every": 3, "pool": 0, "patience": 60}
    config = PpoConfig.model_validate(settings(episodes, out, **changes))
    ppo(config)
    shutil.rmtree(out / "checkpoint-9")
    shutil.rmtree(out / "model")
    (out / "summary.json").unlink()
    saved = load_file(out / "checkpoint-6" / "value_head.safetensors")
    assert bool(saved["bias"].any())
    before = list(read_rollouts(out / ROLLOUT_FILE))
    summary = ppo(config, resume=True)
    assert (summary["steps"], summary["resumed_from"]) == (9, "checkpoint-6")
    after = load_file(out / "model" / "value_head.safetensors")
    assert 0 < float((after["bias"] - saved["bias"]).abs()) < 0.1  # it went on from there
    rollouts = list(read_rollouts(out / ROLLOUT_FILE))
    assert [r for r in rollouts if r.step < 6] == [r for r in before if r.step < 6]
    assert {r.step for r in rollouts} == {0, 2, 4, 6, 8}


@line()
def test_ppo_goes_on_with_the_value_head_of_its_model(tuned: Path, episodes: Path, tmp_path: Path) -> None:
    changes = {"model": str(tuned), "steps": 4, "batch_size": 8, "pool": 0, "learning_rate": 1e-3}
    first = ppo(PpoConfig.model_validate(settings(episodes, tmp_path / "one", **changes)))
    changes |= {"model": first["model"], "learning_rate": 1e-9, "value_learning_rate": 1e-9, "steps": 2, "rollout_megabytes": 0}
    second = ppo(PpoConfig.model_validate(settings(episodes, tmp_path / "two", **changes)))
    from safetensors.torch import load_file

    heads = [load_file(Path(found["model"]) / "value_head.safetensors") for found in (first, second)]
    torch.testing.assert_close(heads[0], heads[1], atol=1e-6, rtol=0)
    assert not (tmp_path / "two" / ROLLOUT_FILE).exists()


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


@line()
def test_adapters_train_with_a_whole_value_head_and_go_on(foreign: Path, episodes: Path, tmp_path: Path) -> None:
    """KL is to the model without its adapters, whose pass through the head must not be taken for the policy's."""
    from safetensors.torch import load_file, save_file

    started, out = tmp_path / "started", tmp_path / "ppo"
    shutil.copytree(foreign, started)  # with a head that expects something, since this model earns nothing
    save_file({"weight": torch.full((1, 32), 0.1), "bias": torch.tensor([0.5])}, started / "value_head.safetensors")
    changes: dict[str, Any] = {
        "model": str(started), "lora": {"rank": 4}, "steps": 4, "batch_size": 4, "micro_batch_size": 2, "generations": 2, "pool": 2,
        "max_answer": 8, "patience": 50, "beta": 0.05, "learning_rate": 1e-2, "save_every": 2,
    }
    config = PpoConfig.model_validate(settings(episodes, out, **changes))
    told = ppo(config)
    assert told["steps"] == 4
    model = Path(told["model"])
    assert (model / "adapter_config.json").is_file()
    assert not [name for name in load_file(model / "adapter_model.safetensors") if "value" in name]
    first = load_file(out / "checkpoint-2" / "value_head.safetensors")
    shutil.rmtree(out / "checkpoint-4")
    (out / "summary.json").unlink()
    assert ppo(config, resume=True)["resumed_from"] == "checkpoint-2"
    assert not torch.equal(first["bias"], load_file(model / "value_head.safetensors")["bias"])
    # Trained whole from the merged adapters, KL is to these and not to the base that bears their name.
    changes |= {"model": str(model), "lora": None, "steps": 1, "epochs": 1}
    ppo(PpoConfig.model_validate(settings(episodes, tmp_path / "whole", **changes)))
    assert column(tmp_path / "whole", "kl")[0] == pytest.approx(0, abs=1e-6)


def test_a_run_of_another_command_is_refused(tmp_path: Path) -> None:
    open_run(PpoConfig.model_validate({"model": "m", "episodes": ["e"], "out": tmp_path / "a"}), "ppo", resume=False)
    with pytest.raises(InputError, match="was begun by `ppo`"):
        open_run(PpoConfig.model_validate({"model": "m", "episodes": ["e"], "out": tmp_path / "a"}), "grpo", resume=True)
