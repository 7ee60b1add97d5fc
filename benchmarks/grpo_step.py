"""A GRPO (or PPO) step that computes each prompt once for all its answers, beside the same step in plain TRL.

    python benchmarks/grpo_step.py [--episodes DIR] [--method grpo] [--prompts 2] [--tokens 700] [--turns 3] [--json]

A step generates eight answers to each prompt, scores them, and moves the weights of a nano model with random weights,
whose answers are all of the greatest length. Each side runs TRL's own loop in a process of its own; the two take their
steps in turns. `speedup` is the median of the ratios of neighbouring steps, `speedup_cpu` the same in seconds of the
processor, which a busy machine disturbs less, and `memory_ratio` the ratio of the greatest resident memory.
`loss_difference` and `gradient_difference` are of one batch of answers that both are given, in float32, with other old
probabilities than the model's, as at their own the loss says nothing about the model.
Without `--episodes` two live ones are recorded first. For PPO the other side is our own trainer without sharing.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from replay import record_some  # benchmarks/replay.py

from chaosgym.errors import InputError
from chaosgym.training.config import GrpoConfig, NanoShape, PpoConfig

_GENERATIONS = 8
_WARM = 1
"""Steps of each side that don't count."""
_SIDES = ("plain", "shared")


def prepare(folder: Path, episodes: Path, tokens: int) -> None:
    """Write a model and prompts of so many tokens, of the reports of real episodes, to `folder`."""
    from chaosgym.agents.prompt import PromptFormat
    from chaosgym.training.nano import make_nano
    from chaosgym.training.tasks import draw_tasks, read_sources
    from chaosgym.training.tokenizer import build_tokenizer

    form = PromptFormat(rendering="compact", budget=tokens, system="")
    reports = [task.incident.compact for task in draw_tasks(read_sources([episodes]), 64, 0, form)]
    tokenizer = build_tokenizer(reports, 1024)
    make_nano(NanoShape(), tokenizer, 0).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    prompts: list[str] = []
    for number in range(32):
        text = "\n".join(reports[number:] + reports[:number])  # what one report lacks the next has
        prompts.append(str(tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"][: tokens - 8])))
    (folder / "prompts.json").write_text(json.dumps(prompts), encoding="utf-8")


def variety(completion_ids: list[list[int]], **columns: Any) -> list[float]:
    """A reward that costs nothing and differs: how many tokens of an answer are new in it."""
    return [len(set(ids)) / max(1, len(ids)) for ids in completion_ids]


def make_trainer(folder: Path, method: str, side: str, prompts: int, steps: int, precision: str = "auto") -> Any:
    """TRL's own trainer, or ours, set as `chaosgym train` sets it."""
    from datasets import Dataset
    from trl.trainer.grpo_trainer import GRPOTrainer

    from chaosgym.training import grpo, ppo
    from chaosgym.training.nano import NANO_ANSWER, load_model
    from chaosgym.training.optimizer import Schedule, make_optimizer, make_schedule
    from chaosgym.training.reinforcement import grpo_config
    from chaosgym.training.run import Run

    common: dict[str, Any] = {
        "model": str(folder), "episodes": (folder,), "out": folder / side, "steps": steps, "batch_size": prompts * _GENERATIONS,
        "generations": _GENERATIONS, "save_every": 10_000, "precision": precision,
    }  # fmt: skip
    config = GrpoConfig(**common) if method == "grpo" else PpoConfig(**common)
    how = grpo.method(config) if isinstance(config, GrpoConfig) else ppo.method(config)
    kind: Any = how.sharing if side == "shared" else GRPOTrainer if method == "grpo" else how.trainer
    model, tokenizer = load_model(str(folder))
    texts = json.loads((folder / "prompts.json").read_text(encoding="utf-8"))
    asked = [texts[number % len(texts)] for number in range(prompts * steps)]
    rows = Dataset.from_list([{"prompt": [{"role": "user", "content": text}]} for text in asked])
    arguments = grpo_config(config, Run(folder / side, method), how, NANO_ANSWER)
    trainer = kind(model, variety, arguments, rows, processing_class=tokenizer)
    trainer.optimizer = make_optimizer(trainer.model, 0.0, config.learning_rate, how.value_rate)
    trainer.lr_scheduler = make_schedule(trainer.optimizer, Schedule(steps, 0.0, None))
    return trainer


def serve(folder: Path, method: str, side: str, prompts: int, steps: int) -> None:
    """Take a step for each line of input and print its seconds, by the clock and of the processor; in the end the greatest memory."""
    from transformers import TrainerCallback

    from chaosgym.training.allocator import keep_freed_memory
    from chaosgym.training.callbacks import quiet

    keep_freed_memory()  # on both sides, so that it is no part of the difference

    class Turns(TrainerCallback):
        begun = (0.0, 0.0)

        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            sys.stdin.readline()
            self.begun = time.perf_counter(), time.process_time()

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            clock, processor = self.begun
            say(time.perf_counter() - clock)
            say(time.process_time() - processor)

    trainer = make_trainer(folder, method, side, prompts, steps)
    trainer.add_callback(Turns())
    quiet(trainer)
    trainer.train()
    say(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def say(number: float) -> None:
    print(f"figure {number}", flush=True)


def heard(process: subprocess.Popen[str]) -> float:
    """The next number that a side says; libraries print what they like between."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("figure "):
            return float(line.split()[1])
    raise RuntimeError(f"a side ended before its time, with {process.wait()}; its error stands above")


def in_turns(folder: Path, method: str, prompts: int, turns: int) -> dict[str, Any]:
    """Seconds of the steps of both sides, taken one after the other, and the memory of each."""
    steps = _WARM + turns
    command = [sys.executable, __file__, "--folder", str(folder), "--method", method, "--prompts", str(prompts), "--turns", str(turns)]
    sides = {
        side: subprocess.Popen([*command, "--side", side], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for side in _SIDES
    }
    seconds, worked = ({side: list[float]() for side in _SIDES} for _ in range(2))
    try:
        for _ in range(steps):
            for side, process in sides.items():
                assert process.stdin is not None
                process.stdin.write("\n")
                process.stdin.flush()
                seconds[side].append(heard(process))
                worked[side].append(heard(process))
        memory = {side: heard(process) for side, process in sides.items()}
    finally:
        for process in sides.values():
            process.kill()
            process.communicate()
    after = {name: {side: row[_WARM:] for side, row in found.items()} for name, found in (("seconds", seconds), ("worked", worked))}
    return {**after, "memory": memory}


def differences(folder: Path, method: str, prompts: int) -> tuple[float, float]:
    """Of loss and gradients on the same answers, relative, in float32."""
    import torch

    plain, shared = (make_trainer(folder, method, side, prompts, 4, "float32") for side in _SIDES)
    asked = [row for row in plain.train_dataset.select(range(prompts)) for _ in range(_GENERATIONS)]
    torch.manual_seed(0)
    batch = plain._generate_and_score_completions(asked)
    ids, mask = (torch.cat([batch[f"prompt_{kind}"], batch[f"completion_{kind}"]], 1) for kind in ("ids", "mask"))
    with torch.no_grad():
        old, _, _ = plain._get_per_token_logps_and_entropies(plain.model, ids, mask, batch["completion_ids"].size(1))
    batch["old_per_token_logps"] = old + 0.1 * torch.randn_like(old)
    found = [_loss_and_gradients(trainer, dict(batch)) for trainer in (plain, shared)]
    (loss, gradients), (mine, my_gradients) = found
    return abs(mine - loss) / abs(loss), float((my_gradients - gradients).norm() / gradients.norm())


def _loss_and_gradients(trainer: Any, batch: dict[str, Any]) -> tuple[float, Any]:
    import torch

    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    if hasattr(trainer, "critic"):
        trainer.critic.expect(0.5)
    loss = trainer._compute_loss(trainer.model, batch)
    loss.backward()
    return float(loss.detach()), torch.cat([p.grad.flatten() for p in trainer.model.parameters() if p.grad is not None])


def _ratios(plain: list[float], shared: list[float]) -> list[float]:
    return [long / short for long, short in zip(plain, shared, strict=True)]


def measure(folder: Path, method: str, prompts: int, turns: int) -> dict[str, Any]:
    """All figures."""
    found = in_turns(folder, method, prompts, turns)
    seconds, memory = found["seconds"], found["memory"]
    ratios, worked = _ratios(**seconds), _ratios(**found["worked"])
    loss, gradient = differences(folder, method, prompts)
    return {
        "speedup": round(statistics.median(ratios), 2),
        "speedup_min": round(min(ratios), 2),
        "speedup_max": round(max(ratios), 2),
        "speedup_cpu": round(statistics.median(worked), 2),
        "memory_ratio": round(memory["shared"] / memory["plain"], 3),
        "loss_difference": float(f"{loss:.2g}"),
        "gradient_difference": float(f"{gradient:.2g}"),
        "step_s_plain": round(statistics.median(seconds["plain"]), 2),
        "step_s_shared": round(statistics.median(seconds["shared"]), 2),
        "memory_mb_plain": round(memory["plain"]),
        "memory_mb_shared": round(memory["shared"]),
        "prompts": prompts,
        "answers": prompts * _GENERATIONS,
    }


@contextmanager
def folder_of(episodes: Path | None, tokens: int) -> Generator[Path]:
    """One folder with everything prepared, as long as it is needed."""
    with tempfile.TemporaryDirectory() as place:
        if episodes is None:
            episodes = Path(place) / "episodes"
            record_some(episodes, "process-crash,healthy-steady")
        prepare(Path(place), episodes, tokens)
        yield Path(place)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=Path)
    parser.add_argument("--method", choices=("grpo", "ppo"), default="grpo")
    parser.add_argument("--prompts", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=700)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--side", choices=_SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if args.side:
        serve(args.folder, args.method, args.side, args.prompts, _WARM + args.turns)
        return
    try:
        with folder_of(args.episodes, args.tokens) as folder:
            row = measure(folder, args.method, args.prompts, args.turns)
    except InputError as error:
        sys.exit(f"error: {error}")
    if args.json:
        print(json.dumps(row))
        return
    for name, value in row.items():
        print(f"{name:22s} {value}")


if __name__ == "__main__":
    main()
