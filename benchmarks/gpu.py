"""What training costs on one GPU: tokens a second, model FLOP utilisation, rollouts a second and memory, at the size of Qwen3-0.6B.

    python benchmarks/gpu.py [--steps 12] [--batch 32] [--tokens 1024] [--answer 128] [--peak-tflops N] [--json]

Weights are random, so nothing is downloaded, and what is asked and learnt is noise: the time of a step depends on its shape alone.
`sft` is the loop of `chaosgym train sft`, of sequences of `--tokens` of which all but the first are learnt; `grpo` that of `train grpo`
without its rewards: `--batch` answers of `--answer` tokens to prompts of half of `--tokens`, then an update. The first quarter of the
steps is not counted. Model FLOPs are 6 a parameter and token, and those of causal attention; activations computed again do not count.
`peak_tflops` is the dense bfloat16 rate that NVIDIA states for the card; without one known or given there is no utilisation.
It needs CUDA, so `make bench` leaves it out; `--cpu-smoke` runs the same code on tiny shapes, to see that it runs.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import statistics
import sys
import tempfile
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from chaosgym.agents.prompt import PromptFormat
from chaosgym.training.asking import AskingGRPOTrainer
from chaosgym.training.config import GrpoConfig, SftConfig
from chaosgym.training.optimizer import make_optimizer
from chaosgym.training.reinforcement import Method, grpo_config
from chaosgym.training.run import Run, open_run
from chaosgym.training.supervised import fit
from chaosgym.training.tokenizer import build_tokenizer

_PEAKS = {"H200": 989, "H100": 989, "A100": 312, "L40S": 362, "L4": 121, "A10": 125, "4090": 165}
"""Dense bfloat16 TFLOP/s by a part of the card's name; the H100 is the SXM one."""
_LARGE = {"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8}
_TINY = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}


@dataclass(frozen=True)
class Shape:
    """What is measured."""

    model: dict[str, int]
    head: int
    vocabulary: int
    steps: int
    batch: int
    tokens: int
    answer: int


@dataclass(frozen=True)
class Result:
    device: str
    torch: str
    parameters: int
    sft_step_s: float
    sft_tokens_per_s: float
    sft_mfu: float | None
    sft_memory_gb: float
    grpo_step_s: float
    grpo_rollouts_per_s: float
    grpo_tokens_per_s: float
    """Written by the model."""
    grpo_memory_gb: float
    peak_tflops: float | None


def new_model(shape: Shape, tokenizer: Any) -> Any:
    """Random float32 weights, as trained whole; products are bfloat16 on a GPU."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
    rest: dict[str, Any] = {"vocab_size": shape.vocabulary, "head_dim": shape.head, "tie_word_embeddings": True, **ends}
    return Qwen3ForCausalLM(Qwen3Config(max_position_embeddings=4096, **shape.model, **rest))


def flops_per_token(shape: Shape, parameters: int) -> float:
    """Of forward and backward; on average a token attends to half of its sequence."""
    width = shape.model["num_attention_heads"] * shape.head
    return 6 * parameters + 6 * shape.model["num_hidden_layers"] * width * shape.tokens


def seconds_a_step(run: Path) -> float:
    """Median of the steps after the first quarter, by the clock of metrics.jsonl."""
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    times = [record["seconds"] for record in records if "loss" in record]
    warm = times[len(times) // 4 :]
    return statistics.median(b - a for a, b in pairwise(warm))


def memory_gb() -> float:
    """The most since the last reset; without CUDA of the process, ever."""
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return round(peak / 1e9, 2)


def shared(shape: Shape, out: Path) -> dict[str, Any]:
    """What both configurations have; the folder of episodes is never read."""
    return {
        "episodes": [out], "out": out, "steps": shape.steps, "batch_size": shape.batch, "log_every": 1, "save_every": 10**6,
        "muon_learning_rate": 0, "learning_rate": 1e-6,
    }  # fmt: skip


def train_sft(shape: Shape, tokenizer: Any, out: Path) -> None:
    """`steps` updates on random tokens."""
    rng = random.Random(0)
    config = SftConfig.model_validate(shared(shape, out))
    rows = [[rng.randrange(shape.vocabulary) for _ in range(shape.tokens)] for _ in range(shape.steps * shape.batch)]
    sequences = [{"input_ids": ids, "labels": ids} for ids in rows]
    fit(config, open_run(config, "sft", False), new_model(shape, tokenizer), tokenizer, sequences, PromptFormat())


def train_grpo(shape: Shape, tokenizer: Any, out: Path) -> None:
    """`steps` rounds of answers and updates, with random rewards."""
    from datasets import Dataset

    from chaosgym.training.callbacks import Metrics, quiet

    rng = random.Random(0)
    config = GrpoConfig.model_validate({**shared(shape, out), "model": "random", "temperature": 1.0})
    run: Run = open_run(config, "grpo", False)
    arguments = grpo_config(config, run, Method(AskingGRPOTrainer, AskingGRPOTrainer, {"scale_rewards": "none"}), shape.answer)
    asked = [" ".join(rng.choices("abcdefgh", k=shape.tokens // 2)) for _ in range(shape.steps * shape.batch // config.generations)]

    def reward(completions: list[str], **columns: Any) -> list[float | None]:
        return [rng.random() for _ in completions]

    trainer: Any = AskingGRPOTrainer(
        new_model(shape, tokenizer), reward, arguments, Dataset.from_dict({"prompt": asked}), processing_class=tokenizer
    )
    trainer.add_callback(Metrics(run))
    trainer.optimizer = make_optimizer(trainer.model, 0, config.learning_rate)
    quiet(trainer)
    trainer.train()


def measure(shape: Shape, peak_tflops: float | None) -> Result:
    """Both loops, one after the other."""
    cuda = torch.cuda.is_available()
    name = torch.cuda.get_device_name() if cuda else "cpu"
    peak = peak_tflops or next((float(rate) for part, rate in _PEAKS.items() if part in name), None)
    tokenizer: Any = build_tokenizer(["a b c d e f g h"] * 4, 700)
    parameters = sum(p.numel() for p in new_model(shape, tokenizer).parameters())
    found: dict[str, tuple[float, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for loop in (train_sft, train_grpo):
            if cuda:
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            out = Path(folder) / loop.__name__
            loop(shape, tokenizer, out)
            found[loop.__name__] = seconds_a_step(out), memory_gb()
    (sft_s, sft_gb), (grpo_s, grpo_gb) = found["train_sft"], found["train_grpo"]
    rate = shape.batch * shape.tokens / sft_s
    return Result(
        device=name, torch=torch.__version__, parameters=parameters, sft_step_s=round(sft_s, 3), sft_tokens_per_s=round(rate, 1),
        sft_mfu=round(rate * flops_per_token(shape, parameters) / (peak * 1e12), 4) if peak else None, sft_memory_gb=sft_gb,
        grpo_step_s=round(grpo_s, 3), grpo_rollouts_per_s=round(shape.batch / grpo_s, 2),
        grpo_tokens_per_s=round(shape.batch * shape.answer / grpo_s, 1), grpo_memory_gb=grpo_gb, peak_tflops=peak,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("steps", 12), ("batch", 32), ("tokens", 1024), ("answer", 128)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--peak-tflops", type=float, help="of the card in bfloat16, where it is not known")
    parser.add_argument("--cpu-smoke", action="store_true", help="tiny shapes without CUDA; the figures say nothing")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.cpu_smoke:
        shape = Shape(_TINY, 32, 1024, steps=4, batch=8, tokens=32, answer=4)
    elif torch.cuda.is_available():
        shape = Shape(_LARGE, 128, 151_936, args.steps, args.batch, args.tokens, args.answer)
    else:
        sys.exit("error: torch sees no CUDA device, and of a CPU these figures say nothing; run it on a GPU, or see it run: --cpu-smoke")
    row = asdict(measure(shape, args.peak_tflops))
    if args.json:
        print(json.dumps(row))
        return
    for name, value in row.items():
        print(f"{name:20s} {value}")


if __name__ == "__main__":
    main()
